/** Runs the live chaos suite from the command line. */
import { decimalNumber, readOptions, refuse, wholeNumber } from "../../options.ts";
import { faultKinds } from "./faults.ts";
import { closingLine, describe, failed, neverSeen, plain, replayCommand } from "./report.ts";
import { runChaos } from "./scenario.ts";

const minuteMs = 60_000;
/** In a run of this length everything comes up that can. */
const longMinutes = 4;
const minutesMin = 0.1;
const minutesMax = 24 * 60;

const usage = `npm run chaos -- [--minutes M] [--seed S] [--only KIND,…] [--verbose] [--json]

Real nodes build while they are killed, frozen, cut off, lied to and run out of disk.

  --minutes M     for so long (5)
  --seed S        the faults of seed S (drawn)
  --only KIND,…   faults of these kinds only: ${faultKinds().join(", ")}
  --verbose       each fault as it strikes, on stderr
  --json          the verdict as one line of JSON
  --help          this text

The last line is "chaos: F faults of K kinds, B builds, J jobs, L lost, W wrong, X leaked".
Exit code 0 when all was as it should be, 1 when something was not, 2 for a wrong call.`;

async function main(): Promise<void> {
  const values = readOptions(usage, {
    minutes: { type: "string", default: "5" },
    seed: { type: "string" },
    only: { type: "string" },
    verbose: { type: "boolean", default: false },
    json: { type: "boolean", default: false },
  });
  const minutes = decimalNumber("minutes", values.minutes, { min: minutesMin, max: minutesMax });
  const drawn = String(1 + Math.floor(Math.random() * 1e9));
  const seed = wholeNumber("seed", values.seed ?? drawn, { min: 1 });
  const only = values.only?.split(",");
  const unknown = only?.find((kind) => !faultKinds().includes(kind));
  if (unknown !== undefined) {
    refuse(`no fault ${unknown}; there are: ${faultKinds().join(", ")}`);
  }
  const stop = new AbortController();
  const startedMs = performance.now();
  const say = (line: string): void => {
    if (!values.verbose) return;
    const at = ((performance.now() - startedMs) / 1000).toFixed(1).padStart(7);
    process.stderr.write(`${at} s  ${line}\n`);
  };
  for (const name of ["SIGINT", "SIGTERM"] as const) {
    process.on(name, () => {
      process.stderr.write("stopping: ending every process of the run\n");
      stop.abort(new Error("stopped by a signal"));
    });
  }
  process.stderr.write(`seed ${seed}, ${minutes} min\n`);
  try {
    const verdict = await runChaos(
      {
        seed,
        durationMs: minutes * minuteMs,
        stormMs: 45_000,
        gapMs: 4_500,
        workers: 4,
        progressMaxMs: 10_000,
        project: { cUnits: 12, cxxUnits: 5, variants: 4 },
        ...(only === undefined ? {} : { only }),
        say,
      },
      stop.signal,
    );
    const missed = minutes < longMinutes ? [] : neverSeen(verdict);
    const isBad = failed(verdict) || missed.length > 0;
    if (values.json) {
      process.stdout.write(`${JSON.stringify(plain(verdict, missed))}\n`);
    } else {
      process.stdout.write(`${describe(verdict)}\n`);
      for (const what of missed) process.stdout.write(`NEVER: ${what}\n`);
      if (isBad) {
        process.stdout.write(`replay: ${replayCommand(verdict)}\n`);
      }
      process.stdout.write(`${closingLine(verdict)}\n`);
    }
    process.exitCode = isBad ? 1 : 0;
  } catch (error) {
    if (!stop.signal.aborted) throw error;
    process.exitCode = 130;
  }
}

if (process.argv[1] === import.meta.filename) {
  await main();
  // Everything is closed; nothing that forgot to close may hold this up.
  process.exit();
}
