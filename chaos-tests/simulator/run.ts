/**
 * Runs simulated meshes from the command line.
 *
 * What is printed depends on the seeds alone, but for how fast it went, which goes to stderr.
 * `--worker` is for the processes that it starts itself.
 */
import { availableParallelism } from "node:os";
import { readOptions, wholeNumber } from "../options.ts";
import { replayCommand, runAgain, showVerdict } from "./judge.ts";
import { runSeed } from "./scenario.ts";
import { createSum } from "./sum.ts";
import { answerParent, runInParallel } from "./workers.ts";

const usage = `npm run sim -- [--seeds N] [--from S] [--jobs J]
npm run sim -- --seed S [--hash]

Runs meshes of the real code in virtual time, with faults, each drawn from a seed.

  --seeds N   so many seeds (100); the last line is "N passed, M failed"
  --from S    the first of them (1)
  --jobs J    so many processes at a time (one for each core)
  --seed S    one seed, and what was seen of it
  --hash      and as the last line the hash of everything that happened
  --help      this text

Exit code 0 when nothing failed, 1 when something did, 2 for a wrong call.`;

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
  const values = readOptions(usage, {
    seed: { type: "string" },
    seeds: { type: "string" },
    from: { type: "string", default: "1" },
    jobs: { type: "string", default: `${availableParallelism()}` },
    hash: { type: "boolean", default: false },
    worker: { type: "boolean", default: false },
  });
  if (values.worker) return answerParent();
  if (values.seed !== undefined) return runOne(wholeNumber("seed", values.seed), values.hash);
  const count = wholeNumber("seeds", values.seeds ?? "100");
  const jobs = Math.max(1, Math.min(count, wholeNumber("jobs", values.jobs)));
  await runMany(wholeNumber("from", values.from), count, jobs);
}

await main();
