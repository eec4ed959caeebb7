/**
 * Whom to ask: power of two choices among the peers whose hints promise something.
 *
 * Blind, two choices are a trap: at 100 nodes with one busy owner almost every pair meets two
 * empty queues. Hints are pushed by owners, so a pair is drawn among peers known to have work. Of
 * the two the one is asked that this node has served less lately, so that no owner starves beside
 * a busier one; between equals, the one whose large inputs lie here, then the one with more to give.
 * Source: M. Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing", 2001.
 */
import type { PeerId } from "../base/ids.ts";
import type { Peer } from "../peer/directory.ts";
import { sharedBits } from "./heavy.ts";
import type { Strategy } from "./strategy.ts";

export interface VictimView {
  /** Draws a whole number in [0, bound). */
  readonly below: (bound: number) => number;
  /** How much of this node's time that peer has had lately, in ms. */
  readonly servedMs: (peer: PeerId) => number;
  /** Large inputs that lie here, as the bits of a load hint. */
  readonly hotBits: bigint;
}

/** What one owner may have had more than another before it waits. */
const unfairMs = 500;
/** A round trip that much longer outweighs a queue twice as long. */
const slowRttMs = 5;

/** Undefined when no peer's hint promises a task. */
export function chooseVictim(
  peers: readonly Peer[],
  view: VictimView,
  strategy: Strategy = "power-of-two",
): Peer | undefined {
  const promising = peers.filter((peer) => surplusOf(peer) > 0);
  if (promising.length < 2) return promising[0];
  switch (strategy) {
    case "random":
      return promising[view.below(promising.length)];
    case "least-loaded":
      return best(promising, (peer) => -surplusOf(peer));
    case "most-loaded":
      return best(promising, surplusOf);
    case "adaptive":
      return best(promising, (peer) => promiseOf(peer, view));
    case "power-of-two": {
      const first = view.below(promising.length);
      const second = (first + 1 + view.below(promising.length - 1)) % promising.length;
      const [a, b] = [promising[first], promising[second]];
      return a === undefined || b === undefined ? (a ?? b) : better(a, b, view);
    }
  }
}

/** Tasks its last hint promised. */
export function surplusOf({ load }: Peer): number {
  return load?.stealable ?? 0;
}

function better(a: Peer, b: Peer, { servedMs, hotBits }: VictimView): Peer {
  const [servedA, servedB] = [servedMs(a.id), servedMs(b.id)];
  if (Math.abs(servedA - servedB) > unfairMs) return servedA < servedB ? a : b;
  const near = sharedBits(hotBits, a.load?.hot ?? 0n) - sharedBits(hotBits, b.load?.hot ?? 0n);
  if (near !== 0) return near > 0 ? a : b;
  return surplusOf(b) > surplusOf(a) ? b : a;
}

/** Looks at everybody: much to give, near by, inputs that lie here, and not served already. */
function promiseOf(peer: Peer, { servedMs, hotBits }: VictimView): number {
  const nearness = (peer.rttMs ?? 0) / slowRttMs;
  const held = sharedBits(hotBits, peer.load?.hot ?? 0n);
  return Math.log2(1 + surplusOf(peer)) + held / 2 - nearness - servedMs(peer.id) / unfairMs;
}

function best(peers: readonly Peer[], worth: (peer: Peer) => number): Peer | undefined {
  let found: Peer | undefined;
  let most = Number.NEGATIVE_INFINITY;
  for (const peer of peers) {
    const value = worth(peer);
    if (value > most) [found, most] = [peer, value];
  }
  return found;
}
