/**
 * The simulated disk: a host's files behind the Disk port, with time and faults.
 *
 * The files belong to the host, the port to one life of it: a restarted host finds what the last
 * one left. Every operation takes effect in one event, except that a file written atomically is
 * for a while there under its temporary name, as on a real disk.
 */
import { dirname, join } from "node:path";
import { MeshError } from "../base/errors.ts";
import { temporaryPrefix } from "../host/disk.ts";
import { failing, failingNow, orUndefined } from "../host/disk-failure.ts";
import type { DirectoryEntry, Disk, FileStat, FileWriter } from "../host/host.ts";
import { createFiles, errno, type FileNode, type Files, type FileTreeNode } from "./files.ts";
import type { SeededRandom } from "./random.ts";
import type { Machine, Timeline } from "./time.ts";

export interface SimDiskOptions {
  readonly operationMs: number;
  readonly bytesPerMs: number;
  readonly capacityBytes: number;
}

/** The disk of one host, across its lives. */
export interface SimDisk {
  readonly files: Files;
  /** The port for one life of the host: for its node, or for the commands that it runs. */
  mount(machine: Machine, reader: "node" | "command"): Disk;
  /**
   * How likely a node's read of a file below `folder` is to come back with one bit flipped, 0 to 1.
   * The file stays as it is.
   */
  setFlipChance(chance: number, folder: string): void;
  /** How many times longer every operation takes from now on. */
  setSlowness(factor: number): void;
  /** Flips one bit of the file itself; its times tell, unless it is done silently. */
  corrupt(path: string, how: "visibly" | "silently"): void;
  /**
   * What a loss of power does: each file that was not synced keeps all of its bytes or only the
   * first few, by chance. Names survive, as with a journal of metadata.
   */
  losePower(): void;
}

export interface DiskWorld {
  readonly timeline: Timeline;
  readonly random: SeededRandom;
  /** Wall time of the host. */
  readonly wallMs: () => number;
}

export function createSimDisk(world: DiskWorld, options: SimDiskOptions): SimDisk {
  const { timeline, random } = world;
  const nowNs = (): bigint => BigInt(Math.round(world.wallMs() * 1e6));
  const files = createFiles(nowNs, options.capacityBytes);
  let flips = { chance: 0, folder: "/" };
  let slowness = 1;

  /** A copy for the reader, spoilt if chance will have it. */
  function readable(path: string, bytes: Uint8Array): Uint8Array {
    const copy = new Uint8Array(bytes);
    if (flips.chance > 0 && path.startsWith(flips.folder) && random.chance(flips.chance))
      flipBit(copy, random);
    return copy;
  }

  return {
    files,
    mount(machine, reader) {
      const passing = (kind: string, sizeBytes: number): Promise<void> => {
        const durationMs = (options.operationMs + sizeBytes / options.bytesPerMs) * slowness;
        return timeline.pass(machine, durationMs * random.between(0.8, 1.2), `disk.${kind}`);
      };
      return createPort({
        files,
        passing,
        readable: reader === "node" ? readable : (_path, bytes) => new Uint8Array(bytes),
        lifeName: `${random.below(2 ** 32)}`,
      });
    },
    setFlipChance(chance, folder) {
      flips = { chance, folder };
    },
    setSlowness(factor) {
      slowness = factor;
    },
    corrupt(path, how) {
      const file = files.file(path);
      const copy = new Uint8Array(file.bytes);
      flipBit(copy, random);
      file.bytes = copy;
      if (how === "visibly") files.touch(path);
    },
    losePower() {
      for (const file of files.all()) {
        if (!file.isSynced && random.chance(0.5))
          files.setBytes(file, file.bytes.slice(0, random.below(file.bytes.byteLength + 1)));
        file.isSynced = true;
      }
    },
  };
}

function flipBit(bytes: Uint8Array, random: SeededRandom): void {
  const index = random.below(bytes.byteLength);
  bytes[index] = (bytes[index] ?? 0) ^ (1 << random.below(8));
}

interface Port {
  readonly files: Files;
  readonly passing: (kind: string, sizeBytes: number) => Promise<void>;
  readonly readable: (path: string, bytes: Uint8Array) => Uint8Array;
  /** Keeps temporary names of one life apart from those of the next. */
  readonly lifeName: string;
}

function createPort(port: Port): Disk {
  return { ...createContents(port), ...createNames(port), ...createLookups(port) };
}

function createContents(
  port: Port,
): Pick<
  Disk,
  "read" | "readRange" | "writeAtomic" | "createFile" | "append" | "copy" | "temporaryNear"
> {
  const { files, passing, readable } = port;
  let temporaryCount = 0;

  const temporaryNear = (path: string): string =>
    join(dirname(path), `${temporaryPrefix}${port.lifeName}-${temporaryCount++}`);

  async function replace(
    path: string,
    mode: number,
    sync: boolean,
    contents: () => Uint8Array,
  ): Promise<void> {
    const temporary = temporaryNear(path);
    await passing("create", 0);
    const file = files.create(temporary, mode);
    try {
      const bytes = contents();
      await passing("write", bytes.byteLength);
      files.setBytes(file, new Uint8Array(bytes));
      file.isSynced = sync;
      files.rename(temporary, path);
    } catch (error) {
      files.remove(temporary);
      throw error;
    }
  }

  return {
    read: (path) =>
      failing("read", path, async () => {
        await passing("read", sizeOf(files, path));
        return readable(path, files.file(path).bytes);
      }),
    readRange: (path, offset, lengthBytes) =>
      failing("read", path, async () => {
        await passing("read", lengthBytes);
        return readable(path, files.file(path).bytes.subarray(offset, offset + lengthBytes));
      }),
    writeAtomic(path, bytes, { mode, sync }) {
      // The caller may use the bytes again once the call has returned its promise.
      const kept = new Uint8Array(bytes);
      return failing("write", path, () => replace(path, mode, sync, () => kept));
    },
    temporaryNear,
    createFile: (temporaryPath, mode) => createWriter(port, temporaryPath, mode),
    append(path, bytes) {
      const kept = new Uint8Array(bytes);
      return failing("append to", path, async () => {
        await passing("append", kept.byteLength);
        const existing = files.find(path, true);
        const file = existing === undefined ? files.create(path, 0o644) : files.file(path);
        files.setBytes(file, joined(file.bytes, kept));
      });
    },
    copy: (from, to, mode) =>
      failing("copy to", to, () =>
        // By the system itself, and nobody looks at what it copied.
        replace(to, mode, false, () => files.file(from).bytes),
      ),
  };
}

function sizeOf(files: Files, path: string): number {
  const node = files.find(path, true);
  return node?.kind === "file" ? node.bytes.byteLength : 0;
}

function joined(first: Uint8Array, second: Uint8Array): Uint8Array {
  const both = new Uint8Array(first.byteLength + second.byteLength);
  both.set(first);
  both.set(second, first.byteLength);
  return both;
}

async function createWriter(port: Port, temporaryPath: string, mode: number): Promise<FileWriter> {
  const { files, passing } = port;
  const file: FileNode = await failing("create", temporaryPath, async () => {
    await passing("create", 0);
    return files.create(temporaryPath, mode);
  });
  let at: "open" | "committed" | "discarded" = "open";
  let failed: unknown;
  let last: Promise<void> = Promise.resolve();

  async function discard(): Promise<void> {
    if (at !== "open") return;
    at = "discarded";
    await last.catch(() => {});
    await passing("remove", 0);
    files.remove(temporaryPath);
  }

  return {
    write(bytes) {
      const kept = new Uint8Array(bytes);
      last = last
        .then(() =>
          failing("write", temporaryPath, async () => {
            await passing("write", kept.byteLength);
            files.setBytes(file, joined(file.bytes, kept));
          }),
        )
        .catch((error: unknown) => {
          failed ??= error;
          throw error;
        });
      return last;
    },
    async commit(finalPath, { sync }) {
      if (at !== "open") throw new MeshError("io", `EBADF: ${temporaryPath} is ${at}`);
      await last.catch(() => {});
      try {
        if (failed !== undefined) throw failed;
        await failing("finish", finalPath, async () => {
          await passing("rename", 0);
          if (sync) file.isSynced = true;
          files.rename(temporaryPath, finalPath);
        });
      } catch (error) {
        await discard();
        throw error;
      }
      at = "committed";
    },
    discard,
  };
}

function createNames({
  files,
  passing,
}: Port): Pick<
  Disk,
  "makeDirectory" | "remove" | "rename" | "link" | "symlink" | "chmod" | "touch"
> {
  const change = (what: string, path: string, run: () => void): Promise<void> =>
    failing(what, path, async () => {
      await passing("change", 0);
      run();
    });
  return {
    makeDirectory: (path) => change("make folder", path, () => files.makeFolders(path)),
    remove: (path) => change("remove", path, () => files.remove(path)),
    rename: (from, to) => change("rename to", to, () => files.rename(from, to)),
    link: (from, to) => change("link", to, () => files.link(from, to)),
    symlink: (target, path) => change("make symlink", path, () => files.symlink(target, path)),
    chmod: (path, mode) => change("change mode of", path, () => files.setMode(path, mode)),
    touch: (path) => change("touch", path, () => files.touch(path)),
  };
}

function createLookups({
  files,
  passing,
  readable,
}: Port): Pick<
  Disk,
  | "stat"
  | "list"
  | "listNow"
  | "realPath"
  | "freeBytes"
  | "readLink"
  | "statNow"
  | "statFollowNow"
  | "readNow"
  | "readLinkNow"
> {
  const look = <T>(what: string, path: string, run: () => T): Promise<T> =>
    failing(what, path, async () => {
      await passing("look", 0);
      return run();
    });
  const statNow = (path: string, follow: boolean): FileStat | undefined => {
    const node = files.find(path, follow);
    return node && toFileStat(node);
  };
  const entriesAt = (path: string): readonly DirectoryEntry[] | undefined => {
    const node = files.find(path, true);
    return node?.kind === "directory" ? entriesOf(node.entries) : undefined;
  };
  const linkTarget = (path: string): string => {
    const node = files.get(path, false);
    if (node.kind !== "symlink") throw errno("EINVAL");
    return node.target;
  };
  return {
    stat: (path) => look("look at", path, () => statNow(path, false)),
    list: (path) => look("list", path, () => entriesAt(path)),
    realPath: (path) =>
      failing("resolve", path, () => orUndefined(passing("look", 0).then(() => files.real(path)))),
    freeBytes: (path) =>
      look("ask for free space at", path, () => {
        files.get(path, true);
        return files.freeBytes();
      }),
    readLink: (path) => look("read symlink", path, () => linkTarget(path)),
    statNow: (path) => failingNow("look at", path, () => statNow(path, false)),
    statFollowNow: (path) => failingNow("look at", path, () => statNow(path, true)),
    readNow: (path) => failingNow("read", path, () => readable(path, files.file(path).bytes)),
    listNow: (path) => failingNow("list", path, () => entriesAt(path)),
    readLinkNow: (path) => failingNow("read symlink", path, () => linkTarget(path)),
  };
}

function entriesOf(entries: ReadonlyMap<string, FileTreeNode>): readonly DirectoryEntry[] {
  return [...entries]
    .map(([name, { kind }]) => ({ name, kind }))
    .sort((left, right) => (left.name < right.name ? -1 : 1));
}

function toFileStat(node: FileTreeNode): FileStat {
  const { kind, inode, mode, mtimeNs, ctimeNs } = node;
  const sizeBytes =
    kind === "file"
      ? node.bytes.byteLength
      : kind === "symlink"
        ? Buffer.byteLength(node.target)
        : 4096;
  return { kind, sizeBytes, inode, mode, mtimeNs, ctimeNs };
}
