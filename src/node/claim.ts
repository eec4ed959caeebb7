/**
 * Takes a data directory for one node: no other process gets it until it is released.
 *
 * The control socket is the lock, bound before anything in the directory is read or removed. It
 * knows nothing of what the directory holds but whether a node may have put it there.
 */
import { dirname, join } from "node:path";
import { isMeshError, MeshError, messageOf } from "../base/errors.ts";
import { temporaryPrefix } from "../host/disk.ts";
import type { Disk } from "../host/host.ts";
import { type Answer, serveControl } from "./control-server.ts";
import { isOwn, makeSocketFolder, type NodePaths, socketsLieElsewhere } from "./paths.ts";

export interface Claim {
  /** Answers calls from now on; those that came before have been waiting for it. */
  serve(answer: Answer): void;
  /** Lets another node have the directory; calls that still wait fail with `why`. */
  release(why: MeshError): Promise<void>;
}

/**
 * Codes: "in-use" (another node has it), "usage" (it holds something else), "refused" (the folder
 * of its sockets is not ours), "io" and "no-space" (it cannot be written).
 */
export async function claimDirectory(disk: Disk, paths: NodePaths): Promise<Claim> {
  const { dataDir, controlSocket } = paths;
  try {
    await makeOwn(disk, dataDir);
    if (socketsLieElsewhere(paths)) makeSocketFolder(dirname(controlSocket));
    const claim = await hold(controlSocket);
    try {
      const probe = join(dataDir, probeName);
      await disk.writeAtomic(probe, new Uint8Array(1), { mode: 0o600, sync: false });
      await disk.remove(probe);
    } catch (error) {
      await claim.release(new MeshError("io", messageOf(error), { cause: error }));
      throw error;
    }
    return claim;
  } catch (error) {
    if (isMeshError(error, "in-use", "usage", "refused")) throw error;
    const code = isMeshError(error) ? error.code : "io";
    throw new MeshError(
      code,
      `cannot use the data directory ${dataDir}: ${messageOf(error)}; choose another with --data-dir`,
      { cause: error },
    );
  }
}

async function hold(controlSocket: string): Promise<Claim> {
  const ready = Promise.withResolvers<Answer>();
  // Nobody need be waiting when it fails.
  ready.promise.catch(() => {});
  const server = await serveControl(controlSocket, async (request, session) => {
    const answer = await ready.promise;
    session.signal.throwIfAborted();
    return answer(request, session);
  });
  return {
    serve: ready.resolve,
    async release(why) {
      ready.reject(why);
      // Those who waited are told before their connections are closed.
      await new Promise((resolve) => setImmediate(resolve));
      await server.close();
    },
  };
}

/** Whose directory it is decides: 0700 on a folder like /tmp would break the machine. */
async function makeOwn(disk: Disk, dataDir: string): Promise<void> {
  // Not `stat`: a symlink to a larger disk is as good as a folder.
  const place = await disk.realPath(dataDir);
  if (place === undefined) await disk.makeDirectory(dataDir);
  else if (!(await isNodes(disk, place))) {
    throw new MeshError(
      "usage",
      `${dataDir} is not empty and is not a node's data directory; choose another with --data-dir`,
    );
  }
  await disk.chmod(dataDir, 0o700);
}

/** Any of these was put there by a node. */
const marks: ReadonlySet<string> = new Set(["identity.key", "mesh.json", "quarantine"]);

const probeName = ".write-test";

/** What a node leaves that was killed before it had a key; and what a new file system holds. */
const traces: ReadonlySet<string> = new Set([
  "control.sock",
  "shim.sock",
  "node.log",
  probeName,
  "lost+found",
]);

async function isNodes(disk: Disk, place: string): Promise<boolean> {
  const names = ((await disk.list(place)) ?? []).map(({ name }) => name);
  if (names.some((name) => marks.has(name))) return true;
  const isTrace = (name: string) => traces.has(name) || name.startsWith(temporaryPrefix);
  if (!names.every(isTrace)) return false;
  if (isOwn(place)) return true;
  throw new MeshError(
    "usage",
    `${place} belongs to another user; choose another data directory with --data-dir`,
  );
}
