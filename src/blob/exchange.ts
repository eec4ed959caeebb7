/**
 * `/mesh/blk/1`: fetches blobs from peers and serves them (protocols/blk.md).
 */
import type { Digest } from "../base/digest.ts";
import type { PeerId } from "../base/ids.ts";

export interface Exchange {
  /**
   * Resolves when every digest is in the store. Asks `providers` first, in parallel and in order
   * of measured rate; then every connected peer. Codes: "blob-missing" (the message names up to
   * three), "deadline", and the store's own.
   */
  fetch(
    digests: readonly Digest[],
    providers: readonly PeerId[],
    signal: AbortSignal,
  ): Promise<void>;
  stats(): ExchangeStats;
}

export interface ExchangeStats {
  readonly receivedBlobs: number;
  readonly receivedBytes: number;
  readonly sentBlobs: number;
  readonly sentBytes: number;
  readonly corruptBlobs: number;
}
