/**
 * Lengths of tasks for benchmarks, and what any scheduler can at best make of them: the bounds and
 * the peers that cost nothing.
 */
import { createSeededRandom } from "../src/sim/random.ts";

/**
 * Lognormal lengths, as compile times are, with the standard deviation of their logarithm. Always
 * the same for the same seed, and their mean is exact.
 */
export function lognormalMs(
  count: number,
  meanMs: number,
  sigma: number,
  seed: number | string,
): readonly number[] {
  const random = createSeededRandom(`lengths ${seed}`);
  const raw = Array.from({ length: count }, () => {
    // Box and Muller: a normal deviation from two even ones.
    const radius = Math.sqrt(-2 * Math.log(1 - random.fraction()));
    return Math.exp(sigma * radius * Math.cos(2 * Math.PI * random.fraction()));
  });
  const scale = (meanMs * count) / raw.reduce((sum, value) => sum + value, 0);
  return raw.map((value) => Math.max(1, Math.round(value * scale)));
}

/** No schedule of independent tasks on so many slots ends sooner. */
export function lowerBoundMs(lengthsMs: readonly number[], slots: number): number {
  return Math.max(lengthsMs.reduce((sum, ms) => sum + ms, 0) / slots, ...lengthsMs);
}

/** What one queue that costs nothing and knows no durations would make of them: first come, first served. */
export function centralQueueMs(lengthsMs: readonly number[], slots: number): number {
  const freeAtMs = Array.from({ length: slots }, () => 0);
  for (const lengthMs of lengthsMs) {
    const next = freeAtMs.indexOf(Math.min(...freeAtMs));
    freeAtMs[next] = (freeAtMs[next] ?? 0) + lengthMs;
  }
  return Math.max(...freeAtMs);
}
