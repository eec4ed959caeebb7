/** What a seed decides about a run of a simulated mesh before it begins. */
import { createSeededRandom } from "../../src/sim/random.ts";

export interface Plan {
  readonly nodes: number;
  readonly slots: readonly number[];
  readonly owners: readonly string[];
  readonly faultCount: number;
  readonly longestMs: number;
  /** Tasks submitted between two faults. Few: thieves stay free, and what one loses another takes. */
  readonly burstMax: number;
  /** Tasks of one graph; 0: there is none. */
  readonly dagTasks: number;
  /** WebAssembly jobs. */
  readonly wordJobs: number;
  /** Bytes that each store may hold; undefined: more than it ever will. */
  readonly quotaBytes: number | undefined;
  /** Before the heal, an owner is cut off and has to finish alone. */
  readonly strands: boolean;
}

/** No mesh grows beyond this, however many join. */
export const hostsMax = 10;

export function drawPlan(seed: number): Plan {
  const random = createSeededRandom(`plan ${seed}`);
  const nodes = 2 + random.below(6);
  const ownersMax = random.chance(0.6) ? 2 : nodes;
  // One run in eight without a fault: what must never happen then is stricter.
  const faultCount = random.chance(0.125) ? 0 : 5 + random.below(25);
  const wordJobs = random.chance(0.15) ? 1 + random.below(2) : 0;
  // Too small for a job's input, and a store that is full of what is in use refuses tasks.
  const isTight = wordJobs === 0 && faultCount > 0 && random.chance(0.15);
  return {
    nodes,
    slots: Array.from({ length: hostsMax }, () => 1 + random.below(4)),
    owners: Array.from({ length: nodes }, (_, index) => `n${index}`).slice(
      0,
      random.chance(0.1) ? nodes : 1 + random.below(ownersMax),
    ),
    faultCount,
    longestMs: random.chance(0.5) ? 6000 : 800,
    burstMax: random.chance(0.5) ? 2 : 6,
    dagTasks: random.chance(0.25) ? 10 + random.below(51) : 0,
    wordJobs,
    quotaBytes: isTight ? 1_500_000 + random.below(3_000_000) : undefined,
    strands: random.chance(0.1) && faultCount > 0,
  };
}
