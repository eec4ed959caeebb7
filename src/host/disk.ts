/**
 * Files: the machine's file systems.
 *
 * Whoever opens a path sees a whole file or none, also when the disk is full or the
 * power fails. It knows nothing about what the files mean.
 */
import { randomBytes } from "node:crypto";
import * as fs from "node:fs";
import { dirname, join } from "node:path";
import { promisify } from "node:util";
import { errnoOf, failing, failingNow, failure, orUndefined } from "./disk-failure.ts";
import {
  createNew,
  readRange,
  readWhole,
  readWholeNow,
  toRead,
  withFile,
  writeAll,
} from "./file.ts";
import {
  createNow,
  createWriter,
  replaceNow,
  syncFolder,
  writeNowMaxBytes,
} from "./file-writer.ts";
import type { DirectoryEntry, Disk, FileStat } from "./host.ts";

/**
 * How the names of files that are not finished begin. One that is older than this process was
 * left by a crash and may be removed.
 */
export const temporaryPrefix: string = ".mesh-tmp-";

/**
 * Files held open at once by reads and writes; more wait their turn. The thread pool has four
 * threads, so more would only use up descriptors.
 */
const openMax = 64;

const { O_WRONLY, O_CREAT, O_APPEND, COPYFILE_EXCL, COPYFILE_FICLONE } = fs.constants;
const appendOrCreate = O_WRONLY | O_CREAT | O_APPEND;
/** Shares the blocks where the file system can, else copies. */
const copyNew = COPYFILE_EXCL | COPYFILE_FICLONE;

/** Calls with callbacks cost half of what `fs/promises` takes: no FileHandle is made. */
const call = {
  open: promisify(fs.open),
  close: promisify(fs.close),
  fsync: promisify(fs.fsync),
  fchmod: promisify(fs.fchmod),
  lstat: promisify(fs.lstat),
  stat: promisify(fs.stat),
  rename: promisify(fs.rename),
  unlink: promisify(fs.unlink),
  link: promisify(fs.link),
  symlink: promisify(fs.symlink),
  readlink: promisify(fs.readlink),
  readdir: promisify(fs.readdir),
  chmod: promisify(fs.chmod),
  utimes: promisify(fs.utimes),
  copyFile: promisify(fs.copyFile),
  statfs: promisify(fs.statfs),
  realpath: promisify(fs.realpath.native),
  rm: promisify(fs.rm),
};

/**
 * The machine's disk. `onTemporary` is told how the paths of unfinished files begin, before there
 * are any: with a name that `ownTemporaryPrefix` matches.
 */
export function createDisk(onTemporary: (pathPrefix: string) => void = () => {}): Disk {
  const turns = createTurns(openMax);
  const temporaryNear = createTemporaryNames(onTemporary);

  /** Makes a file beside `path` with `fill`, then moves it over `path`; on failure nothing stays. */
  async function replace(path: string, fill: (temporary: string) => Promise<void>): Promise<void> {
    const temporary = temporaryNear(path);
    try {
      await fill(temporary);
      await call.rename(temporary, path);
    } catch (error) {
      await call.unlink(temporary).catch(() => {});
      throw error;
    }
  }

  return {
    read: (path) =>
      failing("read", path, () => turns.take(() => withFile(path, toRead, 0, readWhole))),
    readRange: (path, offset, lengthBytes) =>
      failing("read", path, () =>
        turns.take(() => withFile(path, toRead, 0, (file) => readRange(file, offset, lengthBytes))),
      ),
    writeAtomic: (path, bytes, { mode, sync }) =>
      failing("write", path, async () => {
        if (!sync && bytes.byteLength <= writeNowMaxBytes) {
          replaceNow(temporaryNear(path), path, (temporary) => createNow(temporary, bytes, mode));
          return;
        }
        await turns.take(async () => {
          await replace(path, (temporary) =>
            withFile(temporary, createNew, mode, async (file) => {
              await call.fchmod(file, mode);
              await writeAll(file, bytes, 0);
              if (sync) await call.fsync(file);
            }),
          );
          if (sync) await syncFolder(dirname(path));
        });
      }),
    createFile: (temporaryPath, mode) => createWriter(temporaryPath, mode),
    temporaryNear,
    append: (path, bytes) =>
      failing("append to", path, () =>
        turns.take(() =>
          withFile(path, appendOrCreate, 0o666, (file) => writeAll(file, bytes, null)),
        ),
      ),
    copy: (from, to, mode) =>
      failing("copy to", to, async () => {
        // Never onto the file that is there: its inode may be linked elsewhere, in a store for one.
        if (fs.statSync(from).size <= writeNowMaxBytes) {
          replaceNow(temporaryNear(to), to, (temporary) => {
            fs.copyFileSync(from, temporary, copyNew);
            fs.chmodSync(temporary, mode);
          });
          return;
        }
        await replace(to, async (temporary) => {
          await call.copyFile(from, temporary, copyNew);
          await call.chmod(temporary, mode);
        });
      }),
    ...createNaming(),
    ...createLookups(),
  };
}

/** The operations that change names and modes, not contents. */
function createNaming(): Pick<
  Disk,
  "makeDirectory" | "remove" | "rename" | "link" | "symlink" | "readLink" | "chmod" | "touch"
> {
  return {
    makeDirectory: (path) => failing("make folder", path, () => makeFolder(path)),
    remove: (path) => failing("remove", path, () => removeAll(path)),
    rename: (from, to) => failing("rename to", to, async () => fs.renameSync(from, to)),
    link: (from, to) => failing("link", to, () => call.link(from, to)),
    symlink: (target, path) => failing("make symlink", path, () => call.symlink(target, path)),
    readLink: (path) => failing("read symlink", path, () => call.readlink(path)),
    chmod: (path, mode) => failing("change mode of", path, () => call.chmod(path, mode)),
    touch: (path) =>
      failing("touch", path, () => {
        // Not whole milliseconds: times tell that a file has changed, and a program that puts them
        // back as they were often knows no finer ones.
        const nowSeconds = (Date.now() + (performance.now() % 1)) / 1000;
        return call.utimes(path, nowSeconds, nowSeconds);
      }),
  };
}

/** The operations that only look. */
function createLookups(): Pick<
  Disk,
  | "stat"
  | "list"
  | "listNow"
  | "realPath"
  | "freeBytes"
  | "statNow"
  | "statFollowNow"
  | "readNow"
  | "readLinkNow"
> {
  return {
    stat: (path) =>
      failing("look at", path, async () => {
        const found = await orUndefined(call.lstat(path, { bigint: true }));
        return found && toFileStat(found);
      }),
    list: (path) =>
      failing("list", path, async () => {
        const found = await orUndefined(call.readdir(path, { withFileTypes: true }));
        return found?.map(toEntry).sort(byName);
      }),
    realPath: (path) => failing("resolve", path, () => orUndefined(call.realpath(path))),
    freeBytes: (path) =>
      failing("ask for free space at", path, async () => {
        const found = await call.statfs(path);
        return found.bavail * found.bsize;
      }),
    statNow: (path) => statNow(fs.lstatSync, path),
    statFollowNow: (path) => statNow(fs.statSync, path),
    readNow: (path) => failingNow("read", path, () => readWholeNow(path)),
    listNow: (path) => failingNow("list", path, () => listNow(path)?.map(toEntry).sort(byName)),
    readLinkNow: (path) => failingNow("read symlink", path, () => fs.readlinkSync(path)),
  };
}

/**
 * Removes, whatever permissions the folders have: what a task left behind may be a folder that
 * even its owner may not enter.
 */
async function removeAll(path: string): Promise<void> {
  try {
    await call.rm(path, { recursive: true, force: true });
  } catch (error) {
    if (!["EACCES", "EPERM"].includes(errnoOf(error))) throw error;
    await openFolders(path);
    await call.rm(path, { recursive: true, force: true });
  }
}

async function openFolders(path: string): Promise<void> {
  if (!(await orUndefined(call.lstat(path)))?.isDirectory()) return;
  await call.chmod(path, 0o700);
  for (const entry of await call.readdir(path, { withFileTypes: true }))
    if (entry.isDirectory()) await openFolders(join(path, entry.name));
}

function statNow(
  look: typeof fs.lstatSync | typeof fs.statSync,
  path: string,
): FileStat | undefined {
  try {
    const found = look(path, { bigint: true, throwIfNoEntry: false });
    return found && toFileStat(found);
  } catch (error) {
    // `throwIfNoEntry` covers ENOTDIR only when links are followed.
    if (errnoOf(error) === "ENOTDIR") return undefined;
    throw failure("look at", path, error);
  }
}

/** Undefined when there is nothing: what is no folder is a failure, as it is for `list`. */
function listNow(path: string): fs.Dirent[] | undefined {
  try {
    return fs.readdirSync(path, { withFileTypes: true });
  } catch (error) {
    if (errnoOf(error) === "ENOENT") return undefined;
    throw error;
  }
}

function toFileStat(found: fs.BigIntStats): FileStat {
  return {
    kind: kindOf(found),
    sizeBytes: Number(found.size),
    mtimeNs: found.mtimeNs,
    ctimeNs: found.ctimeNs,
    inode: found.ino,
    mode: Number(found.mode) & 0o7777,
  };
}

function toEntry(entry: fs.Dirent): DirectoryEntry {
  return { name: entry.name, kind: kindOf(entry) };
}

function kindOf(found: fs.BigIntStats | fs.Dirent): FileStat["kind"] {
  if (found.isFile()) return "file";
  if (found.isDirectory()) return "directory";
  return found.isSymbolicLink() ? "symlink" : "other";
}

function byName(left: DirectoryEntry, right: DirectoryEntry): number {
  if (left.name === right.name) return 0;
  return left.name < right.name ? -1 : 1;
}

/** How all temporary names of one process begin, and those of no other. */
export const ownTemporaryPrefix: RegExp = /^\.mesh-tmp-\d+-[0-9a-f]{12}-$/;

/** Unique among all processes: a process id is used again, a random half is not. */
function createTemporaryNames(onPrefix: (pathPrefix: string) => void): (path: string) => string {
  const own = `${temporaryPrefix}${process.pid}-${randomBytes(6).toString("hex")}-`;
  let count = 0;
  return (path) => {
    const prefix = join(dirname(path), own);
    onPrefix(prefix);
    return `${prefix}${count++}`;
  };
}

interface Turns {
  take<T>(run: () => Promise<T>): Promise<T>;
}

/** Lets `max` run at once, the others in the order they came. */
function createTurns(max: number): Turns {
  let running = 0;
  const waiting: (() => void)[] = [];
  return {
    async take(run) {
      if (running >= max) await new Promise<void>((resolve) => waiting.push(resolve));
      else running++;
      try {
        return await run();
      } finally {
        const next = waiting.shift();
        if (next === undefined) running--;
        else next();
      }
    },
  };
}

/**
 * Not `mkdir` with `recursive`: where a parent is there and still answers ENOENT, as in /proc,
 * Node 24 tries again for ever, at full speed.
 */
async function makeFolder(path: string): Promise<void> {
  // A second try, because somebody else may have made the parent between our two looks.
  for (const lastTry of [false, true]) {
    try {
      fs.mkdirSync(path);
      return;
    } catch (error) {
      if (!(error instanceof Error && "code" in error)) throw error;
      if (error.code === "EEXIST" && (await call.stat(path)).isDirectory()) return;
      const parent = dirname(path);
      if (error.code !== "ENOENT" || parent === path || lastTry) throw error;
      const parentExists = await call.stat(parent).then(
        () => true,
        () => false,
      );
      if (!parentExists) await makeFolder(parent);
    }
  }
}
