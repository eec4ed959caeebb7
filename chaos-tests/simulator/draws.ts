/** Draws from lists. */
import type { SeededRandom } from "../../src/sim/random.ts";

/** Undefined of nothing. */
export function pick<T>(random: SeededRandom, items: readonly T[]): T | undefined {
  return items[random.below(items.length)];
}

/** Each item with its weight. Undefined when all weigh nothing. */
export function draw<T>(
  random: SeededRandom,
  weights: readonly (readonly [T, number])[],
): T | undefined {
  const sum = weights.reduce((total, [, weight]) => total + weight, 0);
  let left = random.between(0, sum);
  for (const [item, weight] of weights) {
    left -= weight;
    if (weight > 0 && left <= 0) return item;
  }
  return undefined;
}
