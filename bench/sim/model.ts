/**
 * What any scheduler can at best do with these tasks, and what a central one would that costs
 * nothing: the bounds and peers of the simulated benchmarks.
 */
import type { SeededRandom } from "../../src/sim/random.ts";

/** Durations with this mean whose logarithms are normal: a few tasks are many times the usual. */
export function lognormal(
  random: SeededRandom,
  count: number,
  meanMs: number,
  sigma: number,
): readonly number[] {
  const mu = Math.log(meanMs) - sigma ** 2 / 2;
  return Array.from({ length: count }, () => Math.exp(mu + sigma * normal(random)));
}

/** Box and Muller's method. */
function normal(random: SeededRandom): number {
  const radius = Math.sqrt(-2 * Math.log(1 - random.fraction()));
  return radius * Math.cos(2 * Math.PI * random.fraction());
}

/** No schedule of independent tasks ends sooner. */
export function lowerBoundMs(durationsMs: readonly number[], slots: number): number {
  const sumMs = durationsMs.reduce((sum, ms) => sum + ms, 0);
  return Math.max(sumMs / slots, ...durationsMs);
}

/** One queue, first come first served, and no message ever takes any time (Graham's list schedule). */
export function centralFifoMs(durationsMs: readonly number[], slots: number): number {
  const freeMs = new Array<number>(slots).fill(0);
  for (const durationMs of durationsMs) {
    let first = 0;
    for (let slot = 1; slot < slots; slot++)
      if ((freeMs[slot] ?? 0) < (freeMs[first] ?? 0)) first = slot;
    freeMs[first] = (freeMs[first] ?? 0) + durationMs;
  }
  return Math.max(...freeMs);
}
