import { readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { faultKinds } from "./fault-kinds.ts";
import { replayCommand } from "./judge.ts";
import { runSeed, type Verdict } from "./scenario.ts";

const regressions = readFileSync(join(import.meta.dirname, "../seeds.txt"), "utf8")
  .split("\n")
  .filter((line) => /^\d/.test(line))
  .map((line) => Number.parseInt(line, 10));
/** Drawn once; more of them are `run.ts`'s business. */
const seeds = Array.from({ length: 60 }, (_, index) => 1001 + index).filter(
  (seed) => !regressions.includes(seed),
);
const verdicts: Verdict[] = [];

async function judge(seed: number): Promise<void> {
  const verdict = await runSeed(seed);
  verdicts.push(verdict);
  expect(verdict.violations, `replay: ${replayCommand(seed)}`).toEqual([]);
}

test.each(regressions)("seed %i, which once failed, holds", judge);

test.each(seeds)("seed %i: no task is lost, none done twice or wrong, and nothing is left", judge);

test("every kind of fault has struck, and work was stolen all the same", () => {
  const fired = new Set(verdicts.flatMap((verdict) => [...verdict.fired.keys()]));
  expect([...fired].sort()).toEqual([...faultKinds].sort());
  const stolen = verdicts.reduce((sum, verdict) => sum + verdict.stolen, 0);
  const jobs = verdicts.reduce((sum, verdict) => sum + verdict.jobs, 0);
  expect(stolen).toBeGreaterThan(jobs / 5);
  const known = verdicts.reduce((sum, verdict) => sum + verdict.known, 0);
  expect(known).toBeGreaterThan(jobs / 20);
});

test("one seed gives one trace, another seed another", async () => {
  const [first] = verdicts;
  const again = await runSeed(first?.seed ?? 1);
  expect(again.traceHash).toBe(first?.traceHash);
  expect(new Set(verdicts.map(({ traceHash }) => traceHash)).size).toBe(verdicts.length);
});
