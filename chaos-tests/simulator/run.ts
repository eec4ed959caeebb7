/**
 * Runs simulated meshes from the command line.
 *
 * `--seeds N [--from S]` runs N seeds and ends with `N passed, M failed`;
 * `--seed S [--hash]` runs one, says what it saw, and with `--hash` ends with its trace hash.
 */
import { parseArgs } from "node:util";
import { runSeed, type Verdict } from "./scenario.ts";

function describe({
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
  const span = `${(virtualMs / 1000).toFixed(1)} s, ${events} events, ${jobs} tasks, ${stolen} stolen, ${known} known`;
  return [`seed ${seed}: ${span}; ${faults}`, ...violations.map((line) => `  ${line}`)].join("\n");
}

function wholeNumber(name: string, text: string): number {
  if (/^\d{1,15}$/.test(text)) return Number(text);
  process.stderr.write(`--${name} takes a whole number, not ${JSON.stringify(text)}\n`);
  return process.exit(2);
}

async function runOne(seed: number, hash: boolean): Promise<void> {
  const verdict = await runSeed(seed);
  process.stdout.write(`${describe(verdict)}\n`);
  if (hash) process.stdout.write(`${verdict.traceHash}\n`);
  process.exitCode = verdict.violations.length === 0 ? 0 : 1;
}

async function runMany(from: number, count: number): Promise<void> {
  const startedMs = performance.now();
  const fired = new Map<string, number>();
  let failed = 0;
  let virtualMs = 0;
  let events = 0;
  let known = 0;
  for (let seed = from; seed < from + count; seed++) {
    const verdict = await runSeed(seed);
    virtualMs += verdict.virtualMs;
    events += verdict.events;
    known += verdict.known;
    for (const [kind, times] of verdict.fired) fired.set(kind, (fired.get(kind) ?? 0) + times);
    if (verdict.violations.length === 0) continue;
    failed += 1;
    process.stdout.write(`${describe(verdict)}\n  replay: ${replayCommand(seed)}\n`);
  }
  const wallMs = performance.now() - startedMs;
  const faults = [...fired].map(([kind, times]) => `${kind} ${times}`).join(", ");
  process.stdout.write(`faults: ${faults}; ${known} tasks were known\n`);
  process.stdout.write(
    `${(virtualMs / 1000).toFixed(0)} s in ${(wallMs / 1000).toFixed(1)} s, ${(virtualMs / wallMs).toFixed(0)} times as fast; ` +
      `${((events / wallMs) * 1000).toFixed(0)} events/s\n`,
  );
  process.stdout.write(`${count - failed} passed, ${failed} failed\n`);
  process.exitCode = failed === 0 ? 0 : 1;
}

export function replayCommand(seed: number): string {
  return `node chaos-tests/simulator/run.ts --seed ${seed} --hash`;
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      seed: { type: "string" },
      seeds: { type: "string" },
      from: { type: "string", default: "1" },
      hash: { type: "boolean", default: false },
    },
  });
  if (values.seed !== undefined) return runOne(wholeNumber("seed", values.seed), values.hash);
  await runMany(wholeNumber("from", values.from), wholeNumber("seeds", values.seeds ?? "100"));
}

if (process.argv[1] === import.meta.filename) await main();
