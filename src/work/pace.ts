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
  /** A task with these large inputs was submitted. */
  wanted(heavy: readonly Digest[]): void;
  /** To get there what the peer has not, given the filter that it sent with its request. */
  transferMs(peer: PeerId, heavy: readonly Digest[], filter: Uint8Array): number;
  /**
   * The part of that which one task should be charged with: what many tasks need, a compiler above
   * all, moves once for all of them. Nothing for a peer that has never fetched: it may have all.
   */
  chargeMs(peer: PeerId, heavy: readonly Digest[], filter: Uint8Array): number;
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
const wantedMax = 4096;
/** A fetch that takes no time was none: it lay on that machine's own disk. */
const fetchMinMs = 0.5;

interface Known {
  isMeasured: boolean;
  slowness: number;
  hasFetched: boolean;
  bytesPerMs: number;
  readonly had: ReturnType<typeof createRecentMap<Digest, true>>;
}

export function createPace(peersMax: number): Pace {
  const peers = createRecentMap<PeerId, Known>(peersMax);
  /** How many tasks needed it. */
  const tasks = createRecentMap<Digest, number>(wantedMax);
  const knownOf = (peer: PeerId): Known => {
    const known = peers.get(peer) ?? {
      isMeasured: false,
      slowness: 1,
      hasFetched: false,
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
    wanted(heavy) {
      for (const digest of heavy) tasks.set(digest, (tasks.get(digest) ?? 0) + 1);
    },
    chargeMs(peer, heavy, filter) {
      const known = peers.get(peer);
      if (known?.hasFetched !== true) return 0;
      const shares = missing(peer, heavy, filter).map(
        (digest) => sizeBytesOf(digest) / (tasks.get(digest) ?? 1),
      );
      return shares.reduce((sum, share) => sum + share, 0) / known.bytesPerMs;
    },
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
      if (movedBytes <= 0) return;
      const known = knownOf(peer);
      known.hasFetched = true;
      known.bytesPerMs +=
        alpha *
        (Math.max(bytesPerMsMin, movedBytes / Math.max(fetchMinMs, fetchMs)) - known.bytesPerMs);
    },
  };
}
