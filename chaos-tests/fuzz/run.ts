/**
 * The fuzzer from the command line.
 *
 * A second thread watches: whoever hangs in one case is named before the process ends.
 */
import { Worker } from "node:worker_threads";
import { readOptions, refuse, wholeNumber } from "../options.ts";
import { fuzz, replayOf, type TargetReport, targets } from "./fuzz.ts";

const hangMs = 60_000;
const framesDefault = 1_000_000;

/** Shared with the watching thread: how many cases have begun, which target, and which case. */
const shared = new Int32Array(new SharedArrayBuffer(12));

const watcher = `
const { workerData: { shared, names, seed, hangMs } } = require("node:worker_threads");
const { writeSync } = require("node:fs");
let last = -1;
setInterval(() => {
  const [count, target, index] = shared;
  if (count === last) {
    writeSync(2, \`\${names[target]}: case \${index} hangs; seed \${seed}\\n\`);
    process.kill(process.pid, "SIGKILL");
  }
  last = count;
}, hangMs);
`;

function watch(seed: string): Worker {
  const names = targets.map(({ name }) => name);
  const workerData = { shared, names, seed, hangMs };
  const worker = new Worker(watcher, { eval: true, workerData });
  worker.unref();
  return worker;
}

function describe(seed: string, report: TargetReport): string {
  const { target, frames, accepted, cases, wallMs, findings } = report;
  const rate = wallMs > 0 ? Math.round((frames / wallMs) * 1000) : 0;
  const meant = `${accepted} of them meant something`;
  const line = `${target}: ${frames} frames in ${cases} cases, ${meant}; ${(wallMs / 1000).toFixed(1)} s, ${rate}/s`;
  const found = findings.map((one) => {
    const index = Number(/^case (\d+)/.exec(one)?.[1] ?? 0);
    return `  FOUND ${one}\n  replay: ${replayOf(seed, report, index)}`;
  });
  return [line, ...found].join("\n");
}

const usage = `npm run fuzz -- [--frames N] [--seed S] [--target T] [--case I]

Sends malformed frames to everything of a node that reads.

  --frames N   so many (${framesDefault}), spread over all targets
  --seed S     drawn from this seed (1)
  --target T   this target only: ${targets.map(({ name }) => name).join(", ")}
  --case I     from this case on (0); with --target T --frames 1 one case again
  --help       this text

Exit code 0 when nothing was found, 1 when something was, 2 for a wrong call.`;

async function main(): Promise<void> {
  const values = readOptions(usage, {
    frames: { type: "string", default: `${framesDefault}` },
    seed: { type: "string", default: "1" },
    target: { type: "string" },
    case: { type: "string", default: "0" },
  });
  const { seed, target: only } = values;
  if (only !== undefined && !targets.some(({ name }) => name === only)) {
    refuse(`--target is one of ${targets.map(({ name }) => name).join(", ")}`);
  }
  const watching = watch(seed);
  const startMs = performance.now();
  const frames = wholeNumber("frames", values.frames);
  const fromCase = wholeNumber("case", values.case);
  const reports = await fuzz(
    {
      ...{ seed, frames, only, fromCase },
      onCase(name, index) {
        shared[1] = targets.findIndex((one) => one.name === name);
        shared[2] = index;
        Atomics.add(shared, 0, 1);
      },
    },
    (report) => void process.stdout.write(`${describe(seed, report)}\n`),
  );
  await watching.terminate();
  const total = reports.reduce((sum, report) => sum + report.frames, 0);
  const found = reports.reduce((sum, { findings }) => sum + findings.length, 0);
  const seconds = ((performance.now() - startMs) / 1000).toFixed(0);
  process.stdout.write(
    `seed ${seed}: ${total} malformed frames in ${seconds} s, ${found} findings\n`,
  );
  // Whatever a target that was given up still waits for is not waited for.
  process.exit(found === 0 ? 0 : 1);
}

if (process.argv[1] === import.meta.filename) await main();
