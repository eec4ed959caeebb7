/**
 * Which mesh this node belongs to, and the peers it met there, so that a restarted node finds its
 * mesh without being told again.
 *
 * Remembers at most `rememberedMax` peers, the most recently seen, and forgets those unseen for
 * 30 days, save the newest few: a clock that is wrong once must not lose the mesh. Knows nothing
 * about connections.
 */

import { MeshError, messageOf } from "../base/errors.ts";
import type { Emit } from "../base/events.ts";
import type { PeerId } from "../base/ids.ts";
import type { Clock, Disk, Random } from "../host/host.ts";
import { addrsNaming } from "./address.ts";
import { type Invite, meshKeyBytes } from "./invite.ts";
import {
  type MeshFile,
  meshFilePath,
  nodeNameMaxChars,
  type RememberedPeer,
  readMeshFile,
  rememberedMax,
  writeMeshFile,
} from "./mesh-file.ts";
import { plainName } from "./name.ts";

export interface Membership {
  readonly meshKey: Uint8Array;
  readonly name: string;
  readonly roles: readonly string[];
  /** True when this start made the mesh: there was neither a file nor an invite. */
  readonly created: boolean;
  /** Most recently seen first. */
  peers(): readonly RememberedPeer[];
  /** Notes that a member was seen just now. Written to disk soon. */
  seen(peer: PeerId, addrs: readonly string[]): void;
  /** Resolves when everything noted is on the disk, or the disk has refused it. */
  close(): Promise<void>;
}

export interface MembershipDeps {
  readonly disk: Disk;
  readonly clock: Clock;
  readonly random: Random;
  readonly emit: Emit;
}

export interface MembershipOptions {
  readonly dataDir: string;
  /** Joins the mesh it is for. */
  readonly invite: Invite | undefined;
  /** A name given now; it is kept for later starts. */
  readonly name: string | undefined;
  /** The name where none was ever given. */
  readonly nameDefault: string;
}

const forgetAfterMs = 30 * 24 * 60 * 60 * 1000;
/** Kept however long ago they were seen. */
const keptMin = 4;
/** When peers were last seen is written again after this, for a node that never says goodbye. */
const refreshMs = 60 * 60 * 1000;
const writePauseMs = 1000;

/**
 * Reads the mesh this data directory belongs to, joins the invite's, or makes a new one.
 * Codes: "wrong-mesh" when the directory belongs to another mesh than the invite, "malformed" when
 * its file is damaged, "io" and "no-space" from the disk.
 */
export async function createMembership(
  deps: MembershipDeps,
  options: MembershipOptions,
): Promise<Membership> {
  const path = meshFilePath(options.dataDir);
  const found = await readMeshFile(deps.disk, path);
  const file = chooseMesh(deps, options, found);
  const isNews = options.invite !== undefined || file.name !== found?.name;
  // A full disk must not keep a node from starting that has nothing new to write.
  if (isNews) await writeMeshFile(deps.disk, path, file);
  const memory = createMemory(deps, path, file);
  return {
    meshKey: file.meshKey,
    name: file.name,
    roles: file.roles,
    created: found === undefined && options.invite === undefined,
    ...memory,
  };
}

function chooseMesh(
  { clock, random }: MembershipDeps,
  { dataDir, invite, name, nameDefault }: MembershipOptions,
  found: MeshFile | undefined,
): MeshFile {
  if (found !== undefined && invite !== undefined && !sameKey(found.meshKey, invite.meshKey)) {
    throw new MeshError(
      "wrong-mesh",
      `${dataDir} belongs to another mesh than this invite: ` +
        "join with a new --data-dir, or remove this one to leave its mesh",
    );
  }
  const nowWallMs = clock.wallMs();
  const peers = new Map((found?.peers ?? []).map((known) => [known.peer, known]));
  if (invite !== undefined) {
    const { inviter, addrs } = invite;
    peers.set(inviter, { peer: inviter, addrs, lastSeenWallMs: nowWallMs });
  }
  return {
    meshKey: invite?.meshKey ?? found?.meshKey ?? random.bytes(meshKeyBytes),
    name: plainName(name ?? found?.name ?? nameDefault, nodeNameMaxChars) || "node",
    roles: found?.roles ?? ["member"],
    peers: newest([...peers.values()], nowWallMs),
  };
}

function createMemory(
  { disk, clock, emit }: MembershipDeps,
  path: string,
  file: MeshFile,
): Pick<Membership, "peers" | "seen" | "close"> {
  const peers = new Map(file.peers.map((known) => [known.peer, known]));
  const closed = new AbortController();
  let dirty = false;
  let wroteAtMs = clock.nowMs();
  let writing: Promise<void> | undefined;

  const sorted = (): readonly RememberedPeer[] => newest([...peers.values()], clock.wallMs());

  async function write(): Promise<void> {
    dirty = false;
    wroteAtMs = clock.nowMs();
    try {
      await writeMeshFile(disk, path, { ...file, peers: sorted() });
    } catch (error) {
      // The node works on with what it has in memory; only a later start would know less.
      const message = `could not note the peers of this mesh in ${path}: ${messageOf(error)}`;
      emit({ event: "log", level: "warn", message });
    }
  }

  async function writeWhileDirty(): Promise<void> {
    while (dirty && !closed.signal.aborted) {
      await write();
      // Many peers join at once when a node starts: one write for all that came meanwhile.
      await clock.sleep(writePauseMs, closed.signal).catch(() => {});
    }
    writing = undefined;
  }

  return {
    peers: sorted,
    seen(peer, addrs) {
      const before = peers.get(peer);
      const lastSeenWallMs = clock.wallMs();
      const given = addrsNaming(peer, addrs);
      const addrsKept = given.length > 0 ? given : (before?.addrs ?? []);
      peers.set(peer, { peer, addrs: addrsKept, lastSeenWallMs });
      if (peers.size > rememberedMax) {
        const kept = new Set(sorted().map((known) => known.peer));
        for (const id of peers.keys()) if (!kept.has(id)) peers.delete(id);
      }
      const stale = before === undefined || clock.nowMs() - wroteAtMs >= refreshMs;
      if (!stale && before?.addrs.join() === addrsKept.join()) return;
      dirty = true;
      if (!closed.signal.aborted) writing ??= writeWhileDirty();
    },
    async close() {
      closed.abort();
      await writing;
      await write();
    },
  };
}

function newest(peers: readonly RememberedPeer[], nowWallMs: number): readonly RememberedPeer[] {
  return peers
    .toSorted((a, b) => b.lastSeenWallMs - a.lastSeenWallMs || (a.peer < b.peer ? -1 : 1))
    .filter((known, index) => index < keptMin || nowWallMs - known.lastSeenWallMs < forgetAfterMs)
    .slice(0, rememberedMax);
}

function sameKey(a: Uint8Array, b: Uint8Array): boolean {
  return Buffer.compare(a, b) === 0;
}
