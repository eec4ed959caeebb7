/**
 * Bytes by digest, on disk: `blobs/<2>/<2>/<hex>`.
 *
 * A blob is whole under its final name or not there at all. Files are mode 0555, because inputs
 * are hard-linked from here and one inode cannot be executable for one action only. Nothing is
 * trusted that this process has not verified: what the start-up scan finds is hashed on first use,
 * and again whenever its file looks different from when it was last right.
 * This file does not know about peers: fetching is `exchange.ts`.
 */
import { join } from "node:path";
import { createHasher, type Digest, digestOf, emptyDigest, sizeBytesOf } from "../base/digest.ts";
import { isMeshError, MeshError } from "../base/errors.ts";
import type { Clock, Disk } from "../host/host.ts";
import { type Adopted, createAdopted } from "./adopted.ts";
import { blobMode, copyMatching, isErrno, pieceBytes, scanBlobs } from "./files.ts";
import { createLanes } from "./lanes.ts";
import { createShelf, type Shelf } from "./shelf.ts";
import { createShelved, type Shelved, temporaryPrefix } from "./shelved.ts";

export interface BlobStore {
  /** Whether `read` would find the bytes. Answers from memory. */
  has(digest: Digest): boolean;
  /** Stores bytes. Code "no-space" when the disk or the quota is full of pinned blobs. */
  put(bytes: Uint8Array): Promise<Digest>;
  /** Copies a file into the store. */
  putFile(path: string): Promise<Digest>;
  /**
   * Remembers that `path` held these bytes just now, without copying them. Reads verify; once the
   * file has changed, the blob counts as missing. For sources, headers and compilers of this
   * machine, which would otherwise be copied for nothing.
   */
  adopt(digest: Digest, path: string): void;
  /** The bytes, verified. Codes: "blob-missing", "blob-corrupt" (the file is then quarantined). */
  read(digest: Digest): Promise<Uint8Array>;
  /** Part of a blob, not verified by itself: for serving ranges of blobs verified before. */
  readRange(digest: Digest, offset: number, lengthBytes: number): Promise<Uint8Array>;
  /** Starts a blob that arrives in pieces; it appears only if the bytes match the digest. */
  receive(digest: Digest): Promise<BlobWriter>;
  /** Puts the blob at `path` read-only: a hard link, or a copy where links are impossible. */
  link(digest: Digest, path: string): Promise<void>;
  /** Puts a writable, verified copy of the blob at `path`, atomically, replacing what is there. */
  copyTo(digest: Digest, path: string, mode: number): Promise<void>;
  /** Keeps blobs from eviction until released. Pinning a missing digest is allowed. */
  pin(digests: Iterable<Digest>): Pin;
  stats(): StoreStats;
  /** Re-reads every blob; corrupt ones are quarantined. */
  verify(
    signal: AbortSignal,
  ): Promise<{ readonly checked: number; readonly corrupt: readonly Digest[] }>;
  /** Evicts least recently used blobs until the store is below its quota. Returns freed bytes. */
  collect(signal: AbortSignal): Promise<number>;
}

export interface BlobWriter {
  write(bytes: Uint8Array): Promise<void>;
  /** Code "blob-corrupt" when what was written is not what the digest names. */
  commit(): Promise<void>;
  discard(): Promise<void>;
}

export interface Pin {
  release(): void;
}

export interface StoreStats {
  readonly blobs: number;
  readonly bytes: number;
  readonly quotaBytes: number;
  readonly pinned: number;
  readonly quarantined: number;
}

export interface BlobStoreDeps {
  readonly disk: Disk;
  readonly clock: Clock;
}

export interface BlobStoreOptions {
  /** The node's data directory: `blobs/`, `quarantine/` and `tmp/` lie in it. */
  readonly directory: string;
  /** Bytes of blobs on disk; adopted files do not count. */
  readonly quotaBytes: number;
  /**
   * Whether a blob is forced to the disk before it counts as stored. "never" is safe: after a
   * crash every blob is verified before its first use, and one that was torn is fetched again.
   */
  readonly sync: "never" | "always";
}

/** Opens the store, or makes it. What a crash left half-written is removed. */
export async function createBlobStore(
  deps: BlobStoreDeps,
  options: BlobStoreOptions,
  signal: AbortSignal,
): Promise<BlobStore> {
  const { disk } = deps;
  const { directory, quotaBytes } = options;
  const blobs = join(directory, "blobs");
  const quarantine = join(directory, "quarantine");
  const tmp = join(directory, "tmp");
  for (const path of [blobs, quarantine, tmp]) await disk.makeDirectory(path);
  for (const { name } of (await disk.list(tmp)) ?? []) {
    if (name.startsWith(temporaryPrefix)) await disk.remove(join(tmp, name));
  }
  const shelf = createShelf({ quotaBytes });
  for (const slot of await scanBlobs(disk, blobs, signal)) shelf.add(slot);
  const quarantined = ((await disk.list(quarantine)) ?? []).length;
  const sync = options.sync === "always";
  const shelved = createShelved(
    { ...deps, shelf },
    { blobs, quarantine, tmp, sync, quotaBytes, quarantined },
  );
  const parts: Parts = { disk, shelf, shelved, adopted: createAdopted(deps) };
  return {
    has: (digest) =>
      digest === emptyDigest || shelf.find(digest) !== undefined || parts.adopted.has(digest),
    adopt(digest, path) {
      if (digest !== emptyDigest && shelf.find(digest) === undefined) {
        parts.adopted.add(digest, path);
      }
    },
    pin: (digests) => shelf.pin(digests),
    stats: () => ({
      blobs: shelf.blobs,
      bytes: shelf.bytes,
      quotaBytes,
      pinned: shelf.pinned,
      quarantined: shelved.quarantined(),
    }),
    ...createReading(parts),
    ...createPlacing(parts),
    ...createStoring(parts),
    ...createUpkeep(parts, quotaBytes),
  };
}

interface Parts {
  readonly disk: Disk;
  readonly shelf: Shelf;
  readonly shelved: Shelved;
  readonly adopted: Adopted;
}

/** Small blobs written at a time, each with a file open; more wait. */
const putWidth = 32;

const noBytes = new Uint8Array(0);

function missing(digest: Digest): MeshError {
  return new MeshError("blob-missing", `blob ${digest} is not in the store`);
}

function createReading({ disk, shelved, adopted }: Parts): Pick<BlobStore, "read" | "readRange"> {
  return {
    async read(digest) {
      if (digest === emptyDigest) return noBytes;
      const bytes = (await shelved.read(digest)) ?? (await adopted.read(digest));
      if (bytes === undefined) throw missing(digest);
      return bytes;
    },
    async readRange(digest, offset, lengthBytes) {
      const path = digest === emptyDigest ? undefined : await shelved.trusted(digest);
      if (digest === emptyDigest) return noBytes;
      if (path === undefined) {
        const bytes = await adopted.readRange(digest, offset, lengthBytes);
        if (bytes === undefined) throw missing(digest);
        return bytes;
      }
      try {
        return await disk.readRange(path, offset, lengthBytes);
      } catch (error) {
        if (!isErrno(error, "ENOENT")) throw error;
        shelved.forget(digest);
        throw missing(digest);
      }
    },
  };
}

/** Blobs as files elsewhere. */
function createPlacing({ disk, shelved, adopted }: Parts): Pick<BlobStore, "link" | "copyTo"> {
  /** Runs on the stored file, or makes a verified copy of the adopted one. */
  async function place(
    digest: Digest,
    to: string,
    mode: number,
    run: (from: string) => Promise<void>,
  ): Promise<void> {
    if (digest === emptyDigest) return disk.writeAtomic(to, noBytes, { mode, sync: false });
    const from = await shelved.trusted(digest);
    if (from !== undefined) return run(from);
    if (!(await adopted.copyTo(digest, to, mode))) throw missing(digest);
  }

  /** Whoever gets a copy keeps it: a disk may have rotted since the blob was looked at last. */
  async function copyStored(from: string, digest: Digest, to: string, mode: number): Promise<void> {
    try {
      await copyMatching(disk, from, digest, to, mode);
    } catch (error) {
      if (isMeshError(error, "blob-missing")) await shelved.condemn(digest);
      throw error;
    }
  }

  return {
    link: (digest, path) =>
      place(digest, path, blobMode, async (from) => {
        try {
          await disk.link(from, path);
        } catch (error) {
          // Another file system, an inode with too many links, or one without links at all.
          if (!isErrno(error, "EXDEV", "EMLINK", "EPERM", "ENOTSUP", "EOPNOTSUPP")) throw error;
          await disk.copy(from, path, blobMode);
        }
      }),
    copyTo: (digest, path, mode) =>
      place(digest, path, mode, (from) => copyStored(from, digest, path, mode)),
  };
}

function createStoring(parts: Parts): Pick<BlobStore, "put" | "putFile" | "receive"> {
  const { disk, shelf, shelved } = parts;
  /** Blobs being put: the same bytes twice at a time are written once. */
  const arriving = new Map<Digest, Promise<void>>();

  const lanes = createLanes(putWidth);

  async function write(digest: Digest, bytes: Uint8Array): Promise<void> {
    const file = await shelved.begin(bytes.byteLength);
    await file.write(bytes);
    await file.keep(digest);
  }

  function writeOnce(digest: Digest, bytes: Uint8Array): Promise<void> {
    const before = arriving.get(digest);
    if (before !== undefined) return before;
    const writing = lanes
      .take(() => write(digest, bytes))
      .catch((error: unknown) => {
        // On a full disk the first try made room.
        if (!isMeshError(error, "no-space")) throw error;
        return write(digest, bytes);
      })
      .finally(() => arriving.delete(digest));
    arriving.set(digest, writing);
    return writing;
  }

  async function put(bytes: Uint8Array): Promise<Digest> {
    const digest = digestOf(bytes);
    const slot = shelf.find(digest);
    if (slot !== undefined) shelf.use(slot);
    else if (digest !== emptyDigest) await writeOnce(digest, bytes);
    return digest;
  }

  return {
    put,
    async putFile(path) {
      const stat = disk.statFollowNow(path);
      if (stat?.kind !== "file") {
        throw new MeshError("io", `ENOENT: ${JSON.stringify(path)} is no file`);
      }
      if (stat.sizeBytes <= pieceBytes) return put(await disk.read(path));
      return putLarge(parts, path, stat.sizeBytes);
    },
    receive: (digest) => receive(parts, digest),
  };
}

/** Copies a file of any size; what counts is what was read, should it change meanwhile. */
async function putLarge(
  { disk, shelf, shelved }: Parts,
  path: string,
  sizeBytes: number,
): Promise<Digest> {
  const file = await shelved.begin(sizeBytes);
  try {
    const hasher = createHasher();
    for (let offset = 0; offset < sizeBytes; ) {
      const piece = await disk.readRange(path, offset, Math.min(pieceBytes, sizeBytes - offset));
      if (piece.byteLength === 0) break;
      hasher.update(piece);
      await file.write(piece);
      offset += piece.byteLength;
    }
    const digest = hasher.digest();
    if (digest !== emptyDigest && shelf.find(digest) === undefined) await file.keep(digest);
    return digest;
  } finally {
    await file.discard();
  }
}

async function receive({ shelf, shelved }: Parts, digest: Digest): Promise<BlobWriter> {
  const sizeBytes = sizeBytesOf(digest);
  const file = await shelved.begin(sizeBytes);
  const hasher = createHasher();
  let writtenBytes = 0;
  return {
    async write(bytes) {
      writtenBytes += bytes.byteLength;
      if (writtenBytes > sizeBytes) {
        await file.discard();
        throw new MeshError("blob-corrupt", `blob ${digest} comes with more bytes than it has`);
      }
      hasher.update(bytes);
      await file.write(bytes);
    },
    async commit() {
      if (hasher.digest() !== digest) {
        await file.discard();
        throw new MeshError("blob-corrupt", `the bytes that came are not blob ${digest}`);
      }
      if (digest === emptyDigest || shelf.find(digest) !== undefined) await file.discard();
      else await file.keep(digest);
    },
    discard: () => file.discard(),
  };
}

function createUpkeep(
  { shelf, shelved }: Parts,
  quotaBytes: number,
): Pick<BlobStore, "verify" | "collect"> {
  return {
    async verify(signal) {
      const corrupt: Digest[] = [];
      let checked = 0;
      for (const slot of [...shelf.slots()]) {
        signal.throwIfAborted();
        const found = await shelved.verify(slot);
        if (found !== undefined) corrupt.push(found);
        checked += 1;
      }
      return { checked, corrupt };
    },
    async collect(signal) {
      signal.throwIfAborted();
      return shelved.remove(shelf.shrinkTo(quotaBytes));
    },
  };
}
