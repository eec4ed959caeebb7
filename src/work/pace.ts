/**
 * What this owner has learned of each thief: how fast it runs, how fast bytes get there, and which
 * large inputs it has had from here.
 *
 * Everything is a guess for `granting.ts`; a wrong one costs time, never a task.
 */
import { createRecentMap } from "../base/bounded.ts";
import { type Digest, sizeBytesOf } from "../base/digest.ts";
import type { PeerId } from "../base/ids.ts";
import { isInFilter } from "./heavy.ts";

export interface Pace {
  /** Times as long as expected; 1 while nothing is known. */
  slowness(peer: PeerId): number;
  /** It has run something whose time was known. */
  isMeasured(peer: PeerId): boolean;
  /** To get there what the peer has not, given the filter that it sent with its request. */
  transferMs(peer: PeerId, heavy: readonly Digest[], filter: Uint8Array): number;
  /** It is going to have these. @returns how many bytes of them it has to fetch. */
  sent(peer: PeerId, heavy: readonly Digest[], filter: Uint8Array): number;
  ran(peer: PeerId, runMs: number, expectedMs: number): void;
  fetched(peer: PeerId, movedBytes: number, fetchMs: number): void;
}

const alpha = 0.3;
const slownessMin = 0.05;
const slownessMax = 50;
/** 100 Mbyte/s, until it has been measured. */
const bytesPerMsDefault = 100_000;
const bytesPerMsMin = 10;
const hadMax = 1024;

interface Known {
  isMeasured: boolean;
  slowness: number;
  bytesPerMs: number;
  readonly had: ReturnType<typeof createRecentMap<Digest, true>>;
}

export function createPace(peersMax: number): Pace {
  const peers = createRecentMap<PeerId, Known>(peersMax);
  const knownOf = (peer: PeerId): Known => {
    const known = peers.get(peer) ?? {
      isMeasured: false,
      slowness: 1,
      bytesPerMs: bytesPerMsDefault,
      had: createRecentMap<Digest, true>(hadMax),
    };
    peers.set(peer, known);
    return known;
  };
  const missing = (peer: PeerId, heavy: readonly Digest[], filter: Uint8Array) => {
    const had = peers.get(peer)?.had;
    return heavy.filter((digest) => had?.get(digest) !== true && !isInFilter(filter, digest));
  };
  const bytesOf = (digests: readonly Digest[]): number =>
    digests.reduce((sum, digest) => sum + sizeBytesOf(digest), 0);

  return {
    slowness: (peer) => peers.get(peer)?.slowness ?? 1,
    isMeasured: (peer) => peers.get(peer)?.isMeasured === true,
    transferMs: (peer, heavy, filter) =>
      bytesOf(missing(peer, heavy, filter)) / (peers.get(peer)?.bytesPerMs ?? bytesPerMsDefault),
    sent(peer, heavy, filter) {
      const moved = missing(peer, heavy, filter);
      for (const digest of moved) knownOf(peer).had.set(digest, true);
      return bytesOf(moved);
    },
    ran(peer, runMs, expectedMs) {
      if (runMs <= 0 || expectedMs <= 0) return;
      const known = knownOf(peer);
      const sample = Math.min(slownessMax, Math.max(slownessMin, runMs / expectedMs));
      known.slowness = known.isMeasured
        ? known.slowness + alpha * (sample - known.slowness)
        : sample;
      known.isMeasured = true;
    },
    fetched(peer, movedBytes, fetchMs) {
      if (movedBytes <= 0 || fetchMs <= 0) return;
      const known = knownOf(peer);
      known.bytesPerMs +=
        alpha * (Math.max(bytesPerMsMin, movedBytes / fetchMs) - known.bytesPerMs);
    },
  };
}
