/**
 * The files behind the shelf: written, verified, evicted and quarantined here and nowhere else.
 */
import { dirname, join } from "node:path";
import { type Digest, hashHexOf, makeDigest, sizeBytesOf } from "../base/digest.ts";
import { isMeshError, MeshError } from "../base/errors.ts";
import type { Clock, Disk, FileStat, FileWriter } from "../host/host.ts";
import { blobFolder, blobMode, blobPath, isErrno, matches, readMatching } from "./files.ts";
import type { Shelf, Slot } from "./shelf.ts";

/** How files that are being written are named in `tmp/`: leftovers of a crash are known by it. */
export const temporaryPrefix: string = "blob-";
/** Corrupt files kept for somebody to look at; more are deleted. */
const quarantineMax = 32;
/** A file's time of last use may be this old: it only orders eviction after a restart. */
const useStepMs = 3_600_000;
/** Room made beyond the blob itself when the disk is full, so that the next one fits as well. */
const fullDiskMarginBytes = 16 * 1024 * 1024;

export interface ShelvedDeps {
  readonly disk: Disk;
  readonly clock: Clock;
  readonly shelf: Shelf;
}

export interface ShelvedOptions {
  readonly blobs: string;
  readonly quarantine: string;
  readonly tmp: string;
  readonly sync: boolean;
  readonly quotaBytes: number;
  /** Files in quarantine already. */
  readonly quarantined: number;
}

export interface Shelved {
  /** Sets room aside and opens a temporary file. Code "no-space". */
  begin(sizeBytes: number): Promise<Arriving>;
  /**
   * Where the blob lies, once its bytes are known to be right. Undefined when it is not here.
   * Code "blob-corrupt" when the bytes were wrong: the file is then in quarantine.
   */
  trusted(digest: Digest): Promise<string | undefined>;
  /** The bytes, hashed. Otherwise like `trusted`. */
  read(digest: Digest): Promise<Uint8Array | undefined>;
  /** Its bytes turned out to be wrong: the file goes to quarantine. Rejects with "blob-corrupt". */
  condemn(digest: Digest): Promise<void>;
  /** Says that the file turned out to be gone. */
  forget(digest: Digest): void;
  remove(slots: readonly Slot[]): Promise<number>;
  verify(slot: Slot): Promise<Digest | undefined>;
  quarantined(): number;
}

/** A file on its way onto the shelf. */
export interface Arriving {
  write(bytes: Uint8Array): Promise<void>;
  /** Gives the file its final name. The caller has checked that it holds `digest`. */
  keep(digest: Digest): Promise<void>;
  /** Leaves nothing behind. Harmless after `keep`. */
  discard(): Promise<void>;
}

export function createShelved(deps: ShelvedDeps, options: ShelvedOptions): Shelved {
  const { disk, shelf } = deps;
  const removing = new Map<string, Promise<void>>();
  let quarantined = options.quarantined;

  async function remove(slots: readonly Slot[]): Promise<number> {
    let freedBytes = 0;
    for (const { hashHex, sizeBytes } of slots) {
      // Remembered, because the same blob may come back before its old file is gone.
      const removal = disk.remove(blobPath(options.blobs, hashHex));
      removing.set(hashHex, removal);
      try {
        await removal;
      } finally {
        removing.delete(hashHex);
      }
      freedBytes += sizeBytes;
    }
    return freedBytes;
  }

  async function quarantine(slot: Slot): Promise<void> {
    shelf.remove(slot);
    const path = blobPath(options.blobs, slot.hashHex);
    quarantined += 1;
    if (quarantined > quarantineMax) return disk.remove(path);
    const kept = join(options.quarantine, `${slot.hashHex}-${quarantined}`);
    await disk.rename(path, kept).catch(gone);
  }

  const checks = createChecks(deps, options.blobs, quarantine);
  return {
    begin: createBegin(deps, options, removing, remove),
    ...checks,
    forget(digest) {
      const slot = shelf.find(digest);
      if (slot !== undefined) shelf.remove(slot);
    },
    remove,
    quarantined: () => quarantined,
  };
}

/** Lets a missing file pass: somebody else removed it, which is what was wanted. */
function gone(error: unknown): void {
  if (!isErrno(error, "ENOENT")) throw error;
}

function createBegin(
  { disk, clock, shelf }: ShelvedDeps,
  options: ShelvedOptions,
  removing: ReadonlyMap<string, Promise<void>>,
  remove: Shelved["remove"],
): Shelved["begin"] {
  const folders = new Map<string, Promise<void>>();
  let count = 0;

  /** Makes a folder once, and its parent before it: many blobs come at the same time. */
  function folderFor(hashHex: string): Promise<void> {
    const folder = blobFolder(options.blobs, hashHex);
    const outer = makeOnce(dirname(folder), Promise.resolve());
    return makeOnce(folder, outer);
  }

  function makeOnce(folder: string, parent: Promise<void>): Promise<void> {
    const made =
      folders.get(folder) ??
      parent
        .then(() => disk.makeDirectory(folder))
        .catch((error: unknown) => {
          folders.delete(folder);
          throw error;
        });
    folders.set(folder, made);
    return made;
  }

  async function place(file: Pick<FileWriter, "commit">, digest: Digest): Promise<void> {
    const hashHex = hashHexOf(digest);
    await removing.get(hashHex)?.catch(() => {});
    await folderFor(hashHex);
    const path = blobPath(options.blobs, hashHex);
    try {
      await file.commit(path, { sync: options.sync });
    } catch (error) {
      // The folder may have been removed behind our back; the next blob makes it again.
      folders.clear();
      throw error;
    }
    const stat = disk.statNow(path);
    const sizeBytes = sizeBytesOf(digest);
    shelf.add({ hashHex, sizeBytes, seen: stat, usedWallMs: clock.wallMs() });
  }

  return async (sizeBytes) => {
    const victims = shelf.reserve(sizeBytes);
    if (victims === undefined) throw full(options.quotaBytes, sizeBytes);
    let open = true;
    const release = (): void => {
      if (open) shelf.release(sizeBytes);
      open = false;
    };
    /** A full disk is not cured by waiting: blobs nobody uses go, so that the next try may fit. */
    const giveUp = async (error: unknown): Promise<never> => {
      release();
      if (isMeshError(error, "no-space")) {
        const targetBytes = shelf.bytes - sizeBytes - fullDiskMarginBytes;
        await remove(shelf.shrinkTo(Math.max(0, targetBytes)));
      }
      throw error;
    };
    count += 1;
    const temporary = join(options.tmp, `${temporaryPrefix}${count}`);
    const file = await remove(victims)
      .then(() => disk.createFile(temporary, blobMode))
      .catch(giveUp);
    const discard = async (): Promise<void> => {
      release();
      await file.discard();
    };
    const orDiscard = async (error: unknown): Promise<never> => {
      await file.discard();
      return giveUp(error);
    };
    return {
      write: (bytes) => file.write(bytes).catch(orDiscard),
      async keep(digest) {
        await place(file, digest).catch(orDiscard);
        release();
      },
      discard,
    };
  };
}

function full(quotaBytes: number, sizeBytes: number): MeshError {
  return new MeshError(
    "no-space",
    `no room for ${sizeBytes} bytes: the store's ${quotaBytes} are full of blobs in use; raise --cache-size`,
  );
}

type Checks = Pick<Shelved, "trusted" | "read" | "condemn" | "verify">;

/** Verifies files when they have to be, and remembers what they looked like then. */
function createChecks(
  { disk, clock, shelf }: ShelvedDeps,
  blobs: string,
  quarantine: (slot: Slot) => Promise<void>,
): Checks {
  /** Verifications under way: many readers of a large blob hash it once. */
  const verifying = new Map<Slot, Promise<boolean>>();

  async function corrupt(slot: Slot): Promise<never> {
    await quarantine(slot);
    const digest = makeDigest(slot.hashHex, slot.sizeBytes);
    throw new MeshError("blob-corrupt", `blob ${digest} was damaged on disk; it is in quarantine`);
  }

  async function hashNow(slot: Slot, stat: FileStat): Promise<boolean> {
    const digest = makeDigest(slot.hashHex, slot.sizeBytes);
    if (stat.sizeBytes !== slot.sizeBytes) return false;
    const right = await matches(disk, blobPath(blobs, slot.hashHex), digest);
    if (right) slot.seen = stat;
    return right;
  }

  function hash(slot: Slot, stat: FileStat): Promise<boolean> {
    const before = verifying.get(slot);
    if (before !== undefined) return before;
    const check = hashNow(slot, stat).finally(() => verifying.delete(slot));
    verifying.set(slot, check);
    return check;
  }

  /** Writes the time of use to disk now and then; what the file looks like changes with it. */
  async function markUse(slot: Slot, path: string): Promise<void> {
    shelf.use(slot);
    if (clock.wallMs() - slot.usedWallMs < useStepMs) return;
    slot.usedWallMs = clock.wallMs();
    if (slot.seen === undefined || !isSeen(slot, disk.statNow(path))) return;
    await disk.touch(path);
    slot.seen = disk.statNow(path);
  }

  /** Runs on the blob's file; a file that is gone counts as a blob that is not here. */
  async function using<T>(
    digest: Digest,
    run: (slot: Slot, path: string) => Promise<T>,
  ): Promise<T | undefined> {
    const slot = shelf.find(digest);
    if (slot === undefined) return undefined;
    try {
      return await run(slot, blobPath(blobs, slot.hashHex));
    } catch (error) {
      if (!isErrno(error, "ENOENT", "ENOTDIR")) throw error;
      shelf.remove(slot);
      return undefined;
    }
  }

  async function assertRight(slot: Slot, path: string): Promise<boolean> {
    const stat = disk.statNow(path);
    if (stat === undefined) {
      shelf.remove(slot);
      return false;
    }
    if (!isSeen(slot, stat) && !(await hash(slot, stat))) await corrupt(slot);
    return true;
  }

  return {
    trusted: (digest) =>
      using(digest, async (slot, path) => {
        if (!(await assertRight(slot, path))) return undefined;
        await markUse(slot, path);
        return path;
      }),
    read: (digest) =>
      using(digest, async (slot, path) => {
        const stat = disk.statNow(path);
        const bytes = await readMatching(disk, path, digest);
        if (bytes === undefined) return corrupt(slot);
        slot.seen = stat;
        await markUse(slot, path);
        return bytes;
      }),
    async condemn(digest) {
      const slot = shelf.find(digest);
      if (slot !== undefined) await corrupt(slot);
    },
    async verify(slot) {
      const digest = makeDigest(slot.hashHex, slot.sizeBytes);
      slot.seen = undefined;
      try {
        await using(digest, assertRight);
        return undefined;
      } catch (error) {
        if (isMeshError(error, "blob-corrupt")) return digest;
        throw error;
      }
    },
  };
}

function isSeen({ seen, sizeBytes }: Slot, stat: FileStat | undefined): boolean {
  return (
    seen !== undefined &&
    stat !== undefined &&
    stat.kind === "file" &&
    stat.sizeBytes === sizeBytes &&
    stat.mtimeNs === seen.mtimeNs &&
    stat.inode === seen.inode
  );
}
