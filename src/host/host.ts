/**
 * The five ports through which the mesh meets the outside world.
 *
 * Everything that can surprise (time, chance, disk, network, processes) is
 * behind one of these; `sim/` offers the same five from one seed.
 */
import type { PeerId } from "../base/ids.ts";

export interface Host {
  readonly clock: Clock;
  readonly random: Random;
  readonly disk: Disk;
  readonly network: Network;
  readonly processes: Processes;
}

export interface Clock {
  /** Monotonic milliseconds, fractional, from an arbitrary origin. Leases and durations use this. */
  nowMs(): number;
  /** Milliseconds since the Unix epoch. For people and certificates, never for order. */
  wallMs(): number;
  /** Waits. Rejects with `signal.reason` if that comes first. */
  sleep(durationMs: number, signal: AbortSignal): Promise<void>;
  /**
   * Runs with a signal that aborts when `parent` does or after `durationMs`.
   * Rejects with `MeshError("deadline")` in the latter case. Leaves no listener behind.
   */
  withDeadline<T>(
    parent: AbortSignal,
    durationMs: number,
    run: (signal: AbortSignal) => Promise<T>,
  ): Promise<T>;
}

export interface Random {
  bytes(count: number): Uint8Array;
  /** A whole number in [0, bound). */
  below(bound: number): number;
}

export interface FileStat {
  readonly kind: "file" | "directory" | "symlink" | "other";
  readonly sizeBytes: number;
  readonly mtimeNs: bigint;
  readonly ctimeNs: bigint;
  readonly inode: bigint;
  /** Permission bits, 0o000 to 0o7777. */
  readonly mode: number;
}

/**
 * Files. Paths are absolute. Failures: `MeshError` "no-space" for ENOSPC/EDQUOT, else "io"
 * with the errno name at the start of the message and the original error as `cause`.
 */
export interface Disk {
  read(path: string): Promise<Uint8Array>;
  readRange(path: string, offset: number, lengthBytes: number): Promise<Uint8Array>;
  /** Whole or not at all: a temporary file in the same folder, then a rename. */
  writeAtomic(
    path: string,
    bytes: Uint8Array,
    options: { readonly mode: number; readonly sync: boolean },
  ): Promise<void>;
  /** A file written in pieces; its name stays a temporary one until `commit`. */
  createFile(temporaryPath: string, mode: number): Promise<FileWriter>;
  append(path: string, bytes: Uint8Array): Promise<void>;
  /** Does not follow a final symlink. Undefined when there is nothing. */
  stat(path: string): Promise<FileStat | undefined>;
  /** The names in a folder, sorted by code unit; undefined when there is no such folder. */
  list(path: string): Promise<readonly DirectoryEntry[] | undefined>;
  /** Makes the folder and its parents; no error when it is there. */
  makeDirectory(path: string): Promise<void>;
  /** Removes a file, symlink or whole folder; no error when it is not there. */
  remove(path: string): Promise<void>;
  rename(from: string, to: string): Promise<void>;
  /** Hard link. Code "io" with EXDEV, EMLINK or EEXIST at the start of the message. */
  link(from: string, to: string): Promise<void>;
  symlink(target: string, path: string): Promise<void>;
  readLink(path: string): Promise<string>;
  copy(from: string, to: string, mode: number): Promise<void>;
  /** A path in the folder of `path` that nobody else uses, for a file that is not finished yet. */
  temporaryNear(path: string): string;
  chmod(path: string, mode: number): Promise<void>;
  /** Last use, for eviction. */
  touch(path: string): Promise<void>;
  /** Resolves symlinks; undefined when something on the way is missing. */
  realPath(path: string): Promise<string | undefined>;
  /** Bytes free to this user on the file system of `path`. */
  freeBytes(path: string): Promise<number>;

  /**
   * Same as `stat`, at once. A synchronous stat costs about 3 µs where an asynchronous one costs
   * 50, and a compile needs hundreds: for look-ups of cached paths only.
   */
  statNow(path: string): FileStat | undefined;
  /** Same as `stat`, at once, following symlinks. */
  statFollowNow(path: string): FileStat | undefined;
  /** Same as `read`, at once: for files of at most about 1 MiB. */
  readNow(path: string): Uint8Array;
  readLinkNow(path: string): string;
  /** Same as `list`, at once: for folders of a few hundred names. */
  listNow(path: string): readonly DirectoryEntry[] | undefined;
}

export interface DirectoryEntry {
  readonly name: string;
  readonly kind: FileStat["kind"];
}

export interface FileWriter {
  write(bytes: Uint8Array): Promise<void>;
  /** Closes and renames to `finalPath`; with `sync`, the bytes are on the disk first. */
  commit(finalPath: string, options: { readonly sync: boolean }): Promise<void>;
  /** Closes and removes. Harmless after `commit`. */
  discard(): Promise<void>;
}

/**
 * Authenticated peers and streams between them. Every peer seen here has proved its id and
 * holds the mesh key; nobody else gets this far.
 */
export interface Network {
  readonly self: PeerId;
  /** Addresses others can dial, each ending in `/p2p/<self>`. */
  listenAddrs(): readonly string[];
  /** Connects to an address. Codes: "peer-gone", "wrong-mesh", "deadline", "refused". */
  connect(addr: string, signal: AbortSignal): Promise<PeerId>;
  /** Opens a stream to a connected peer. Codes: "peer-gone", "unsupported", "limit". */
  open(peer: PeerId, protocol: string, signal: AbortSignal): Promise<Stream>;
  /** Hands every stream that a peer opens for `protocol` to `onStream`. */
  serve(protocol: string, onStream: (peer: PeerId, stream: Stream) => void): void;
  peers(): readonly PeerId[];
  /** The address this peer was reached at, or came from; for people. */
  addrOf(peer: PeerId): string | undefined;
  onChange(listener: (change: PeerChange) => void): void;
  /** Peers that discovery found and nobody has dialled yet. */
  onFound(listener: (addrs: readonly string[]) => void): void;
  disconnect(peer: PeerId): Promise<void>;
  /** Tells the DHT that this node belongs to `topic`. */
  announce(topic: Uint8Array, signal: AbortSignal): Promise<void>;
  /** Addresses of nodes that announced `topic`. Ends by itself. */
  find(topic: Uint8Array, signal: AbortSignal): AsyncIterable<readonly string[]>;
  close(): Promise<void>;
}

export interface PeerChange {
  readonly peer: PeerId;
  readonly at: "connected" | "disconnected";
}

/** Largest single `send`: larger ones delay everything behind them (head-of-line). */
export const sendMaxBytes: number = 256 * 1024;

/** Ordered, reliable bytes between two peers. */
export interface Stream {
  readonly protocol: string;
  /**
   * Queues at most `sendMaxBytes`. The bytes belong to the stream afterwards.
   * @returns false when the caller should await `drained` before sending more.
   * @throws MeshError "peer-gone" once the stream is closed.
   */
  send(bytes: Uint8Array): boolean;
  /** Resolves when the send queue is empty enough for more, or at once if it is. */
  drained(signal: AbortSignal): Promise<void>;
  /** Starts delivery: bytes as they come, in pieces of any size. Call once. */
  receive(onBytes: (bytes: Uint8Array) => void): void;
  /** Resolves once, when no more bytes will come; never rejects. */
  readonly ended: Promise<StreamEnd>;
  /** Sends what is queued, then ends both directions. */
  close(): Promise<void>;
  /** Ends now, dropping what is queued; the other side sees "reset". */
  reset(reason: string): void;
}

export interface StreamEnd {
  readonly how: "closed" | "reset";
  readonly reason: string;
}

export interface RunSpec {
  readonly argv: readonly [string, ...string[]];
  readonly env: Readonly<Record<string, string>>;
  readonly cwd: string;
  /** Kills the whole process group after this long. */
  readonly timeoutMs: number;
  /** Bytes of stdout and stderr each that are kept; a process that prints more is killed. */
  readonly outputMaxBytes: number;
  /** Called with each piece of stderr as it is printed. */
  readonly onStderr?: (bytes: Uint8Array) => void;
  readonly stdin?: Uint8Array;
}

export interface RunResult {
  /** 0 to 255; 128 + n when killed by signal n, as shells report it. */
  readonly exitCode: number;
  readonly signal: string | undefined;
  readonly timedOut: boolean;
  readonly outputOverflow: boolean;
  readonly stdout: Uint8Array;
  readonly stderr: Uint8Array;
  readonly wallMs: number;
  /** User + system time of the tree where the platform tells, else undefined. */
  readonly cpuMs: number | undefined;
}

/** Child processes. Each runs in a process group of its own, which dies with this node. */
export interface Processes {
  /**
   * Runs to the end. Aborting `signal` kills the group (SIGKILL) and rejects with its reason once
   * nothing of it is left. Code "io" when it cannot be started, errno first (ENOENT, EACCES).
   */
  run(spec: RunSpec, signal: AbortSignal): Promise<RunResult>;
  /** How busy the machine is with everybody's processes. Cheap: read it as often as needed. */
  vitals(): Vitals;
  close(): Promise<void>;
}

export interface Vitals {
  readonly cores: number;
  /** Processes and threads that run or wait for a core at this moment, without the reader. */
  readonly runnable: number;
  /** What new processes can have without anything being swapped out. */
  readonly memoryFreeBytes: number;
}
