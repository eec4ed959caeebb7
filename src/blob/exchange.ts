/**
 * `/mesh/blk/1`: fetches blobs from peers and serves them (protocols/blk.md).
 *
 * Puts the two halves together: `serve.ts` answers, `fetching.ts` asks.
 */
import type { Digest } from "../base/digest.ts";
import type { Emit } from "../base/events.ts";
import type { PeerId } from "../base/ids.ts";
import type { Clock, Network } from "../host/host.ts";
import { blkProtocol } from "./blk.ts";
import { createFetching, type FetchingOptions } from "./fetching.ts";
import { createServing } from "./serve.ts";
import type { BlobStore } from "./store.ts";

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

export interface ExchangeDeps {
  readonly network: Network;
  readonly store: BlobStore;
  readonly clock: Clock;
  /** Connected members, any of whom may be asked. */
  readonly peers: () => readonly PeerId[];
  /** Whether blobs may be served to this peer: it is a member that said hello. */
  readonly allowed: (peer: PeerId) => boolean;
  readonly emit?: Emit;
}

export type ExchangeOptions = Partial<FetchingOptions>;

/** Serves at once. Runs until `signal` aborts; fetches then reject with its reason. */
export function createExchange(
  deps: ExchangeDeps,
  options: ExchangeOptions,
  signal: AbortSignal,
): Exchange {
  const { network, store } = deps;
  const serving = createServing(deps);
  const fetching = createFetching(
    deps,
    {
      openDeadlineMs: 5_000,
      hedgeMinMs: 250,
      demoteMs: 2_000,
      resetMs: 10_000,
      ignoreMs: 600_000,
      ...options,
    },
    signal,
  );
  network.serve(blkProtocol, (peer, stream) => serving.accept(peer, stream));
  return {
    async fetch(digests, providers, until) {
      until.throwIfAborted();
      signal.throwIfAborted();
      const wanted = [...new Set(digests)].filter((digest) => !store.has(digest));
      if (wanted.length === 0) return;
      // What is here already must still be here when the rest has come.
      const pin = store.pin(digests);
      try {
        await fetching.fetch(wanted, providers, until);
      } finally {
        pin.release();
      }
    },
    stats: () => ({
      ...fetching.counts(),
      sentBlobs: serving.sentBlobs,
      sentBytes: serving.sentBytes,
    }),
  };
}
