/** What is said of one run, and what is found out only by running a seed again. */
import { runSeed, type Verdict } from "./scenario.ts";

/** One seed in a hundred is run twice: the same seed must give the same trace. */
const againEvery = 100;
/**
 * One in fifty of those in which wall clocks moved is run with clocks that do, and that do not. A
 * file that was last used more than an hour ago is touched, so they stay within half an hour.
 */
const clocksEvery = 50;
const clockMaxMs = 29 * 60_000;

export function replayCommand(seed: number): string {
  return `npm run sim -- --seed ${seed}`;
}

/** Adds what a second run shows, for the seeds that get one. Whether they do, the seed decides. */
export async function runAgain(verdict: Verdict): Promise<Verdict> {
  const { seed, fired, traceHash } = verdict;
  const found: string[] = [];
  if (seed % againEvery === 0 && (await runSeed(seed)).traceHash !== traceHash)
    found.push("determinism: the same seed has given another trace");
  if (seed % clocksEvery === 1 && fired.has("wall-clock")) {
    const moved = await runSeed(seed, { clockMaxMs });
    const still = await runSeed(seed, { clockMaxMs: 0 });
    if (moved.traceHash !== still.traceHash)
      found.push("wall-clock immunity: another trace where no wall clock moves");
  }
  return { ...verdict, violations: [...verdict.violations, ...found] };
}

export function showVerdict({
  seed,
  violations,
  virtualMs,
  events,
  jobs,
  stolen,
  known,
  fired,
}: Verdict): string {
  const faults = [...fired].map(([kind, count]) => `${kind} ${count}`).join(", ") || "no faults";
  const tasks = `${jobs} tasks, ${stolen} stolen, ${known} known`;
  const span = `${(virtualMs / 1000).toFixed(1)} s, ${events} events, ${tasks}`;
  return [`seed ${seed}: ${span}; ${faults}`, ...violations.map((line) => `  ${line}`)].join("\n");
}
