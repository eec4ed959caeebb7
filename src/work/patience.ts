/**
 * Which peers are worth asking again: one whose hint promises work, and which gives none of it,
 * is asked less and less, until its hint promises something else.
 *
 * A queue may be full of tasks for other machines, or a hint may be old or a lie; without this, an
 * idle thief would ask without end.
 */
import type { PeerId } from "../base/ids.ts";
import type { Clock } from "../host/host.ts";
import type { Peer } from "../peer/directory.ts";
import { surplusOf } from "./victim.ts";

export interface Patience {
  /** Those that may be asked now. */
  ready(peers: readonly Peer[]): readonly Peer[];
  /** Until the first of the others may be, `Infinity` when none promises anything. */
  waitMs(peers: readonly Peer[]): number;
  gave(peer: PeerId): void;
  missed(peer: Peer): void;
  /** Forgets whoever is not among these. */
  keep(peers: readonly Peer[]): void;
}

export interface PatienceOptions {
  /** How long after two misses in a row it is tried again; twice as long after each more. */
  readonly retryMs: number;
  readonly retryMaxMs: number;
}

interface Misses {
  readonly count: number;
  readonly untilMs: number;
  /** What it promised then. */
  readonly surplus: number;
}

export function createPatience(clock: Clock, options: PatienceOptions): Patience {
  const misses = new Map<PeerId, Misses>();

  /** When it may be asked; 0 for at once. */
  function readyAtMs(peer: Peer): number {
    const missed = misses.get(peer.id);
    if (missed === undefined) return 0;
    // Twice the promise is another promise. One more task is not: a queue may grow for long.
    return surplusOf(peer) >= 2 * missed.surplus ? 0 : missed.untilMs;
  }

  const promising = (peers: readonly Peer[]): readonly Peer[] =>
    peers.filter((peer) => surplusOf(peer) > 0);

  return {
    ready: (peers) => promising(peers).filter((peer) => readyAtMs(peer) <= clock.nowMs()),
    waitMs: (peers) =>
      Math.min(...promising(peers).map((peer) => Math.max(0, readyAtMs(peer) - clock.nowMs()))),
    gave: (peer) => void misses.delete(peer),
    missed(peer) {
      const surplus = surplusOf(peer);
      // It has nothing, and says so by now: no broken promise.
      if (surplus === 0) return void misses.delete(peer.id);
      const count = (misses.get(peer.id)?.count ?? 0) + 1;
      const { retryMs, retryMaxMs } = options;
      const pauseMs = count < 2 ? 0 : Math.min(retryMaxMs, retryMs * 2 ** (count - 2));
      misses.set(peer.id, { count, untilMs: clock.nowMs() + pauseMs, surplus });
    },
    keep(peers) {
      const present = new Set(peers.map(({ id }) => id));
      for (const id of misses.keys()) if (!present.has(id)) misses.delete(id);
    },
  };
}
