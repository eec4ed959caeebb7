/**
 * Whom to ask: power of two choices among the peers whose hints promise something.
 *
 * Blind, two choices are a trap: at 100 nodes with one busy owner almost every pair meets two
 * empty queues. Hints are pushed by owners, so a pair is drawn among peers known to have work, and
 * the one with more to give is asked.
 * Source: M. Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing", 2001.
 */
import type { Peer } from "../peer/directory.ts";

/** Undefined when no peer's hint promises a task. `below(n)` draws a whole number in [0, n). */
export function chooseVictim(
  peers: readonly Peer[],
  below: (bound: number) => number,
): Peer | undefined {
  const promising = peers.filter((peer) => surplusOf(peer) > 0);
  if (promising.length < 2) return promising[0];
  const first = below(promising.length);
  const second = (first + 1 + below(promising.length - 1)) % promising.length;
  const [a, b] = [promising[first], promising[second]];
  if (a === undefined || b === undefined) return a ?? b;
  return surplusOf(b) > surplusOf(a) ? b : a;
}

/** Tasks its last hint promised. */
export function surplusOf({ load }: Peer): number {
  return load?.stealable ?? 0;
}
