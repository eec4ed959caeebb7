/**
 * Where a node's state lies: every path inside a data directory, from its name alone.
 *
 * Names touch no disk: who uses a path makes sure that it is there and that it belongs to this
 * user. The two questions about that which the disk port cannot answer, for it knows no owners,
 * are answered here.
 */
import { lstatSync, mkdirSync, statSync } from "node:fs";
import { userInfo } from "node:os";
import { dirname, join, resolve } from "node:path";
import { digestOf, hashHexOf } from "../base/digest.ts";
import { MeshError } from "../base/errors.ts";

export interface NodePaths {
  readonly dataDir: string;
  /** CLI to node, JSON lines. */
  readonly controlSocket: string;
  /** Compiler shim to node. */
  readonly shimSocket: string;
  /** The key this node is known by; 0600. */
  readonly identity: string;
  /** The mesh's key and the peers met so far; 0600. */
  readonly meshFile: string;
  readonly blobs: string;
  /** Records of known results. */
  readonly results: string;
  /** Durations of tasks, and what comes behind what. */
  readonly learned: string;
  /** Where this node may leave files unfinished, in users' folders above all. */
  readonly unfinished: string;
  readonly quarantine: string;
  readonly tmp: string;
  /** The compiled shim and its folder of compiler names. */
  readonly shim: string;
  readonly log: string;
}

/** A socket's path is cut off by the system at 104 (macOS) or 108 (Linux) bytes. */
export const socketPathMaxBytes: number = 100;

export function nodePaths(dataDir: string): NodePaths {
  const root = resolve(dataDir);
  return {
    dataDir: root,
    controlSocket: socketPath(root, "control.sock"),
    shimSocket: socketPath(root, "shim.sock"),
    identity: join(root, "identity.key"),
    meshFile: join(root, "mesh.json"),
    blobs: join(root, "blobs"),
    results: join(root, "results"),
    learned: join(root, "learned.json"),
    unfinished: join(root, "unfinished.log"),
    quarantine: join(root, "quarantine"),
    tmp: join(root, "tmp"),
    shim: join(root, "shim"),
    log: join(root, "node.log"),
  };
}

export function controlSocketPath(dataDir: string): string {
  return nodePaths(dataDir).controlSocket;
}

/**
 * Whether the sockets lie outside the data directory. Their folder has a name that anybody can
 * guess, so the node makes it with mode 0700 and both sides refuse one of another owner or mode.
 */
export function socketsLieElsewhere(paths: NodePaths): boolean {
  return dirname(paths.controlSocket) !== paths.dataDir;
}

/**
 * False when there is no such folder. The name of a socket folder can be guessed, and its answers
 * name programs to run.
 * @throws MeshError "refused" when it is no folder of this user's own with mode 0700.
 */
export function isSocketFolder(path: string): boolean {
  const found = lstatSync(path, { throwIfNoEntry: false });
  if (found === undefined) return false;
  const uid = process.getuid?.() ?? found.uid;
  const trouble = !found.isDirectory()
    ? "is no folder"
    : found.uid !== uid
      ? `belongs to another user (uid ${found.uid})`
      : (found.mode & 0o777) !== 0o700
        ? `has mode ${(found.mode & 0o777).toString(8)}, not 700`
        : undefined;
  if (trouble === undefined) return true;
  throw new MeshError(
    "refused",
    `${path} is for this node's sockets, but ${trouble}: remove it, ` +
      "or choose a data directory with a shorter path (--data-dir, MESH_DIR)",
  );
}

/** Codes as `isSocketFolder`. */
export function makeSocketFolder(path: string): void {
  // With its mode from the first moment: another start may be looking at it.
  if (!isSocketFolder(path)) mkdirSync(path, { recursive: true, mode: 0o700 });
  isSocketFolder(path);
}

/** Whether a file or folder, or what a symlink leads to, belongs to the user we run as. */
export function isOwn(path: string): boolean {
  return process.getuid === undefined || statSync(path).uid === process.getuid();
}

function socketPath(root: string, name: string): string {
  const path = join(root, name);
  // Both sockets move together, so that one folder has to be watched over and not two.
  if (Buffer.byteLength(join(root, "control.sock")) <= socketPathMaxBytes) return path;
  // Not os.tmpdir(): that follows TMPDIR, which differs between the node's shell and the build's.
  const user = userInfo().uid;
  return join("/tmp", `mesh-${user}-${hashHexOf(digestOf(Buffer.from(root))).slice(0, 16)}`, name);
}
