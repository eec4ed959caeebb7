/**
 * Runs simulated meshes from the command line.
 *
 * `--seeds N [--from S] [--jobs J]` runs N seeds in J processes and ends with `N passed, M failed`;
 * `--seed S [--hash]` runs one, says what it saw, and with `--hash` ends with its trace hash.
 * What is printed depends on the seeds alone, but for how fast it went, which goes to stderr.
 * `--worker` is for the processes that it starts itself.
 */
import { availableParallelism } from "node:os";
import { parseArgs } from "node:util";
import { replayCommand, runAgain, showVerdict } from "./judge.ts";
import { runSeed } from "./scenario.ts";
import { createSum } from "./sum.ts";
import { answerParent, runInParallel } from "./workers.ts";

function wholeNumber(name: string, text: string): number {
  if (/^\d{1,15}$/.test(text)) return Number(text);
  process.stderr.write(`--${name} takes a whole number, not ${JSON.stringify(text)}\n`);
  return process.exit(2);
}

async function runOne(seed: number, hash: boolean): Promise<void> {
  const verdict = await runAgain(await runSeed(seed));
  process.stdout.write(`${showVerdict(verdict)}\n`);
  if (hash) process.stdout.write(`${verdict.traceHash}\n`);
  process.exitCode = verdict.violations.length === 0 ? 0 : 1;
}

async function runMany(from: number, count: number, jobs: number): Promise<void> {
  const sum = createSum(count);
  const progress = showProgress(sum.line);
  try {
    await runInParallel(from, count, jobs, (verdict) => {
      sum.add(verdict);
      if (verdict.violations.length === 0) return;
      progress.clear();
      process.stdout.write(`${showVerdict(verdict)}\n  replay: ${replayCommand(verdict.seed)}\n`);
    });
  } finally {
    progress.end();
  }
  process.stderr.write(`${sum.speed()}\n`);
  process.stdout.write(`${sum.text()}\n`);
  process.exitCode = sum.failed() === 0 ? 0 : 1;
}

const quietMs = 10_000;
const ttyMs = 200;

/** On a terminal one line that changes, else a new one every ten seconds. */
function showProgress(line: () => string): { clear(): void; end(): void } {
  const { isTTY } = process.stderr;
  const clear = (): void => void (isTTY && process.stderr.write("\r\u001b[K"));
  const show = (): void => {
    clear();
    process.stderr.write(isTTY ? line() : `${line()}\n`);
  };
  const timer = setInterval(show, isTTY ? ttyMs : quietMs);
  return {
    clear,
    end() {
      clearInterval(timer);
      clear();
    },
  };
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      seed: { type: "string" },
      seeds: { type: "string" },
      from: { type: "string", default: "1" },
      jobs: { type: "string", default: `${availableParallelism()}` },
      hash: { type: "boolean", default: false },
      worker: { type: "boolean", default: false },
    },
  });
  if (values.worker) return answerParent();
  if (values.seed !== undefined) return runOne(wholeNumber("seed", values.seed), values.hash);
  const count = wholeNumber("seeds", values.seeds ?? "100");
  const jobs = Math.max(1, Math.min(count, wholeNumber("jobs", values.jobs)));
  await runMany(wholeNumber("from", values.from), count, jobs);
}

await main();
