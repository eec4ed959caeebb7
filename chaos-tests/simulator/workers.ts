/**
 * Seeds spread over processes: each gets the next seed when it has finished one, and verdicts are
 * handed on in the order of the seeds, so that nobody can tell how many processes there were.
 */
import { type ChildProcess, fork } from "node:child_process";
import { join } from "node:path";
import { runAgain } from "./judge.ts";
import { runSeed, type Verdict } from "./scenario.ts";

/** Never hands on a verdict before those of all smaller seeds. Rejects when a process dies. */
export async function runInParallel(
  from: number,
  count: number,
  jobs: number,
  onVerdict: (verdict: Verdict) => void,
): Promise<void> {
  const seeds = Array.from({ length: count }, (_, index) => from + index).values();
  const early = new Map<number, Verdict>();
  let due = from;
  const take = (verdict: Verdict): void => {
    early.set(verdict.seed, verdict);
    for (let next = early.get(due); next !== undefined; next = early.get(due)) {
      early.delete(due);
      due += 1;
      onVerdict(next);
    }
  };
  if (jobs === 1) {
    for (const seed of seeds) take(await runAgain(await runSeed(seed)));
    return;
  }
  const workers = Array.from({ length: jobs }, () =>
    fork(join(import.meta.dirname, "run.ts"), ["--worker"], { serialization: "advanced" }),
  );
  try {
    await Promise.all(workers.map((worker) => drive(worker, seeds, take)));
  } finally {
    for (const worker of workers) worker.kill("SIGKILL");
  }
}

/** Feeds one worker until no seed is left. */
function drive(
  worker: ChildProcess,
  seeds: Iterator<number>,
  take: (verdict: Verdict) => void,
): Promise<void> {
  return new Promise((resolve, reject) => {
    let seed: number | undefined;
    const next = (): void => {
      const { value, done } = seeds.next();
      if (done === true) resolve();
      else worker.send(value);
      seed = value;
    };
    worker.on("message", (verdict: Verdict) => {
      take(verdict);
      next();
    });
    worker.once("error", reject);
    worker.once("exit", (code, signal) =>
      reject(new Error(`a worker ended with ${signal ?? code} at seed ${seed}`)),
    );
    next();
  });
}

/** In a worker: runs each seed that is sent and sends back its verdict, until nobody is there. */
export function answerParent(): void {
  process.once("disconnect", () => process.exit(0));
  process.on("message", (seed: number) => {
    // Never rejects: `runSeed` does not.
    void runSeed(seed)
      .then(runAgain)
      .then((verdict) => process.send?.(verdict));
  });
}
