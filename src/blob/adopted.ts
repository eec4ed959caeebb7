/**
 * Files of this machine whose digests are known: blobs that need no copy.
 *
 * A file counts only while it looks as it did (size, time, inode), and what leaves here has been
 * hashed. Nobody gets a hard link to such a file: it belongs to the user.
 */
import { createRecentMap } from "../base/bounded.ts";
import { type Digest, sizeBytesOf } from "../base/digest.ts";
import { isMeshError } from "../base/errors.ts";
import type { Disk } from "../host/host.ts";
import { copyMatching, matches, readMatching, statOrNothing } from "./files.ts";

/** Files remembered; the least recently used is forgotten first, and then fetched or copied. */
const adoptedMax = 65_536;

export interface Adopted {
  has(digest: Digest): boolean;
  add(digest: Digest, path: string): void;
  /** The bytes, or undefined when the file is gone or holds something else by now. */
  read(digest: Digest): Promise<Uint8Array | undefined>;
  /** Part of the file, hashed as a whole once for as long as it looks the same. */
  readRange(digest: Digest, offset: number, lengthBytes: number): Promise<Uint8Array | undefined>;
  /** A verified copy at `to`. False when the file is gone or holds something else by now. */
  copyTo(digest: Digest, to: string, mode: number): Promise<boolean>;
}

interface Kept {
  readonly path: string;
  readonly mtimeNs: bigint;
  readonly inode: bigint;
  /** Whether the bytes have been hashed since they looked like this. */
  verified: Promise<boolean> | undefined;
}

export function createAdopted({ disk }: { readonly disk: Disk }): Adopted {
  const files = createRecentMap<Digest, Kept>(adoptedMax);

  function find(digest: Digest): Kept | undefined {
    const kept = files.get(digest);
    if (kept === undefined) return undefined;
    if (looksSame(disk, digest, kept)) return kept;
    files.delete(digest);
    return undefined;
  }

  /** Runs on the file; undefined, and the file forgotten, when it does not hold the digest. */
  async function using<T>(
    digest: Digest,
    run: (kept: Kept) => Promise<T | undefined>,
  ): Promise<T | undefined> {
    const kept = find(digest);
    if (kept === undefined) return undefined;
    let result: T | undefined;
    try {
      result = await run(kept);
    } catch (error) {
      if (looksSame(disk, digest, kept) && !isMeshError(error, "blob-missing")) throw error;
    }
    if (result === undefined && files.get(digest) === kept) files.delete(digest);
    return result;
  }

  return {
    has: (digest) => find(digest) !== undefined,
    add(digest, path) {
      const stat = statOrNothing(disk, path);
      if (stat?.kind !== "file" || stat.sizeBytes !== sizeBytesOf(digest)) return;
      const { mtimeNs, inode } = stat;
      const known = files.get(digest);
      if (known?.path === path && known.mtimeNs === mtimeNs && known.inode === inode) return;
      files.set(digest, { path, mtimeNs, inode, verified: undefined });
    },
    read: (digest) => using(digest, ({ path }) => readMatching(disk, path, digest)),
    readRange: (digest, offset, lengthBytes) =>
      using(digest, async (kept) => {
        kept.verified ??= matches(disk, kept.path, digest);
        if (!(await kept.verified)) return undefined;
        const bytes = await disk.readRange(kept.path, offset, lengthBytes);
        return looksSame(disk, digest, kept) ? bytes : undefined;
      }),
    async copyTo(digest, to, mode) {
      const copied = await using(digest, async ({ path }) => {
        await copyMatching(disk, path, digest, to, mode);
        return true;
      });
      return copied === true;
    },
  };
}

function looksSame(disk: Disk, digest: Digest, kept: Kept): boolean {
  const stat = statOrNothing(disk, kept.path);
  return (
    stat?.kind === "file" &&
    stat.sizeBytes === sizeBytesOf(digest) &&
    stat.mtimeNs === kept.mtimeNs &&
    stat.inode === kept.inode
  );
}
