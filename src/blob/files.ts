/**
 * How blobs lie on disk, and reading files with their digest checked. Knows nothing of quotas.
 */
import { join } from "node:path";
import { createHasher, type Digest, digestOf, sizeBytesOf } from "../base/digest.ts";
import { isMeshError, MeshError } from "../base/errors.ts";
import type { Disk, FileStat } from "../host/host.ts";
import { createLanes } from "./lanes.ts";
import type { Slot } from "./shelf.ts";

/** Up to here a file is read at once: the wait for a thread costs more than the read. */
const readNowMaxBytes = 256 * 1024;
/** Larger files are read and hashed in such pieces: about 0.2 ms of hashing each. */
export const pieceBytes: number = 1024 * 1024;

/** Blobs are inputs of any action, and one inode has one mode: readable and executable by all. */
export const blobMode = 0o555;

/** Folders listed at a time by the start-up scan. */
const scanWidth = 32;

const hashShape = /^[0-9a-f]{64}$/;
const shelfShape = /^[0-9a-f]{2}$/;

export function blobFolder(root: string, hashHex: string): string {
  return join(root, hashHex.slice(0, 2), hashHex.slice(2, 4));
}

export function blobPath(root: string, hashHex: string): string {
  return join(blobFolder(root, hashHex), hashHex);
}

/** Whether an "io" failure carries one of these errnos. */
export function isErrno(error: unknown, ...names: readonly string[]): boolean {
  return isMeshError(error, "io") && names.some((name) => error.message.startsWith(name));
}

/** What is at a path, or undefined: also when this node may not look there. */
export function statOrNothing(disk: Disk, path: string): FileStat | undefined {
  try {
    return disk.statFollowNow(path);
  } catch (error) {
    if (isMeshError(error, "io")) return undefined;
    throw error;
  }
}

/**
 * Reads a file that should hold `digest`. Undefined when it holds something else. A large file is
 * read in pieces, so that hashing never holds the event loop for long.
 */
export async function readMatching(
  disk: Disk,
  path: string,
  digest: Digest,
): Promise<Uint8Array | undefined> {
  const sizeBytes = sizeBytesOf(digest);
  if (sizeBytes <= pieceBytes) {
    const bytes = sizeBytes <= readNowMaxBytes ? disk.readNow(path) : await disk.read(path);
    return digestOf(bytes) === digest ? bytes : undefined;
  }
  const bytes = new Uint8Array(sizeBytes);
  const found = await hashFile(disk, path, sizeBytes, (piece, offset) => {
    bytes.set(piece, offset);
  });
  return found === digest ? bytes : undefined;
}

/** Whether a file holds `digest`, whatever its size, in little memory. */
export async function matches(disk: Disk, path: string, digest: Digest): Promise<boolean> {
  const sizeBytes = sizeBytesOf(digest);
  if (sizeBytes <= readNowMaxBytes) return digestOf(disk.readNow(path)) === digest;
  return (await hashFile(disk, path, sizeBytes, () => {})) === digest;
}

/** The digest of a file's first `sizeBytes` bytes, or of all of them when there are fewer. */
async function hashFile(
  disk: Disk,
  path: string,
  sizeBytes: number,
  onPiece: (piece: Uint8Array, offset: number) => Promise<void> | void,
): Promise<Digest> {
  const hasher = createHasher();
  for (let offset = 0; offset < sizeBytes; ) {
    const want = Math.min(pieceBytes, sizeBytes - offset);
    const piece = await disk.readRange(path, offset, want);
    if (piece.byteLength === 0) break;
    hasher.update(piece);
    await onPiece(piece, offset);
    offset += piece.byteLength;
  }
  return hasher.digest();
}

/**
 * Copies a file that should hold `digest`: whole at `to`, or not at all.
 * Code "blob-missing" when it holds something else.
 */
export async function copyMatching(
  disk: Disk,
  from: string,
  digest: Digest,
  to: string,
  mode: number,
): Promise<void> {
  const sizeBytes = sizeBytesOf(digest);
  if (sizeBytes <= pieceBytes) {
    const bytes = await readMatching(disk, from, digest);
    if (bytes === undefined) throw changed(from, digest);
    return disk.writeAtomic(to, bytes, { mode, sync: false });
  }
  // The system copies faster than pieces do that go through here, or shares the blocks.
  const temporary = disk.temporaryNear(to);
  try {
    await disk.copy(from, temporary, mode);
    if (!(await matches(disk, temporary, digest))) throw changed(from, digest);
    await disk.rename(temporary, to);
  } catch (error) {
    await disk.remove(temporary).catch(() => {});
    throw error;
  }
}

function changed(path: string, digest: Digest): MeshError {
  return new MeshError("blob-missing", `${JSON.stringify(path)} no longer holds ${digest}`);
}

/** Every blob found on disk, least recently used first; none of them verified yet. */
export async function scanBlobs(
  disk: Disk,
  root: string,
  signal: AbortSignal,
): Promise<readonly Slot[]> {
  const found: { readonly slot: Slot; readonly mtimeNs: bigint }[] = [];
  const outer = await folders(disk, root);
  const lanes = createLanes(scanWidth);
  const scanFolder = async (folder: string): Promise<void> => {
    for (const inner of await folders(disk, folder)) {
      signal.throwIfAborted();
      for (const { name } of (await disk.list(inner)) ?? []) {
        const stat = hashShape.test(name) ? disk.statNow(join(inner, name)) : undefined;
        if (stat?.kind !== "file") continue;
        found.push({ slot: slotOf(name, stat), mtimeNs: stat.mtimeNs });
      }
    }
  };
  await Promise.all(outer.map((folder) => lanes.take(() => scanFolder(folder))));
  found.sort((a, b) => (a.mtimeNs < b.mtimeNs ? -1 : a.mtimeNs > b.mtimeNs ? 1 : 0));
  return found.map(({ slot }) => slot);
}

function slotOf(hashHex: string, { sizeBytes, mtimeNs }: FileStat): Slot {
  return { hashHex, sizeBytes, seen: undefined, usedWallMs: Number(mtimeNs / 1_000_000n) };
}

async function folders(disk: Disk, path: string): Promise<readonly string[]> {
  const entries = (await disk.list(path)) ?? [];
  return entries
    .filter(({ name, kind }) => kind === "directory" && shelfShape.test(name))
    .map(({ name }) => join(path, name));
}
