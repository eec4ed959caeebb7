/** The short form of the live chaos run: about a minute of storms over real nodes, from one seed. */
import { expect, test } from "vitest";
import { has } from "./builds.ts";
import { closingLine, describe as inWords } from "./chaos/report.ts";
import { runChaos } from "./chaos/scenario.ts";

const testMaxMs = 420_000;
const canBuild = has("gcc") && has("g++") && has("make");

test.skipIf(!canBuild)(
  "nothing is lost, wrong or left over when nodes die, freeze, lie and lose their links",
  async () => {
    const seed = 4;
    const verdict = await runChaos(
      {
        seed,
        durationMs: 55_000,
        stormMs: 25_000,
        gapMs: 2_500,
        workers: 4,
        project: { cUnits: 8, cxxUnits: 3, variants: 2 },
        // Whoever tests on a busy machine tests no speed: `npm run chaos` does.
        progressMaxMs: 60_000,
        say: () => {},
      },
      new AbortController().signal,
    );
    for (const [kind, why] of verdict.skipped) console.warn(`skipped: ${kind}: ${why}`);
    console.info(closingLine(verdict));
    const { lost, wrong, leaked, broken } = verdict;
    expect({ lost, wrong, leaked, broken }, inWords(verdict)).toEqual({
      lost: [],
      wrong: [],
      leaked: [],
      broken: [],
    });
    expect(verdict.builds).toBeGreaterThan(0);
    expect(verdict.jobs).toBeGreaterThan(0);
    expect(verdict.seen.stolen).toBeGreaterThan(0);
    expect(Object.keys(verdict.seen.requeued)).not.toEqual([]);
    expect(verdict.fired.size).toBeGreaterThanOrEqual(8);
    expect(verdict.fired.has("liar")).toBe(true);
  },
  testMaxMs,
);
