/**
 * Takes missing input files from this machine's own disk.
 *
 * Machines of one mesh often have the same compiler and system headers installed; a file at the
 * same path with the same size is probably the same file, and hashing it is cheaper than fetching.
 * Only its digest decides. Knows nothing about peers.
 */
import { type Digest, sizeBytesOf } from "../base/digest.ts";
import { isMeshError } from "../base/errors.ts";
import type { Disk } from "../host/host.ts";
import { isErrno, pieceBytes, statOrNothing } from "./files.ts";
import { createLanes } from "./lanes.ts";
import type { BlobStore } from "./store.ts";
import type { TreeEntry } from "./tree.ts";

export interface TwinDeps {
  readonly store: BlobStore;
  readonly disk: Disk;
}

export interface TwinOptions {
  /**
   * Folders to look in, without trailing slash. Nothing else is opened: a tree comes from a peer,
   * and what it names must not make this node read a user's files, or hang on a pipe.
   */
  readonly prefixes: readonly string[];
}

export const systemPrefixes: readonly string[] = ["/usr", "/lib", "/lib64", "/opt"];

/** Files copied at a time. */
const width = 4;

/**
 * Stores every missing file blob of `entries` whose twin lies on this machine.
 * @returns the digests of the files that are still missing, each once. Code "no-space".
 */
export async function ingestTwins(
  { store, disk }: TwinDeps,
  entries: readonly TreeEntry[],
  { prefixes }: TwinOptions,
  signal: AbortSignal,
): Promise<readonly Digest[]> {
  const wanted = new Map<Digest, string[]>();
  for (const entry of entries) {
    if (entry.kind !== "file") continue;
    const paths = wanted.get(entry.digest);
    if (paths !== undefined) paths.push(entry.path);
    else if (!store.has(entry.digest)) wanted.set(entry.digest, [entry.path]);
  }
  const lanes = createLanes(width);
  const missing: Digest[] = [];
  const look = async (digest: Digest, paths: readonly string[]): Promise<void> => {
    signal.throwIfAborted();
    for (const path of paths) {
      if (!prefixes.some((prefix) => path.startsWith(`${prefix}/`))) continue;
      if (await ingest({ store, disk }, digest, path)) return;
    }
    missing.push(digest);
  };
  await Promise.all([...wanted].map(([digest, paths]) => lanes.take(() => look(digest, paths))));
  return missing;
}

/** Copies one file in if it is a plain file of the right size and the bytes are right. */
async function ingest({ store, disk }: TwinDeps, digest: Digest, path: string): Promise<boolean> {
  const sizeBytes = sizeBytesOf(digest);
  // Followed, because /lib is a link to /usr/lib on most systems. Whatever it leads to, only its
  // bytes can come in, and only if they are the ones asked for.
  const stat = statOrNothing(disk, path);
  if (stat?.kind !== "file" || stat.sizeBytes !== sizeBytes) return false;
  const writer = await store.receive(digest);
  try {
    for (let offset = 0; offset < sizeBytes; ) {
      const piece = await disk.readRange(path, offset, Math.min(pieceBytes, sizeBytes - offset));
      if (piece.byteLength === 0) return false;
      await writer.write(piece);
      offset += piece.byteLength;
    }
    await writer.commit();
    return true;
  } catch (error) {
    // Not the same bytes, or a file this node may not read: it is fetched instead.
    if (isMeshError(error, "blob-corrupt") || isErrno(error, "EACCES", "EPERM", "ENOENT")) {
      return false;
    }
    throw error;
  } finally {
    await writer.discard();
  }
}
