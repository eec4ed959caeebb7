/**
 * Bytes by digest, on disk: `blobs/<2>/<2>/<hex>`.
 *
 * A blob is whole under its final name or not there at all. Files are mode 0555, because inputs
 * are hard-linked from here and one inode cannot be executable for one action only.
 * This file does not know about peers: fetching is `exchange.ts`.
 */
import type { Digest } from "../base/digest.ts";

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
  /** Puts a writable copy of the blob at `path`, atomically, replacing what is there. */
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
