/**
 * Runs the live chaos suite from the command line.
 *
 * `--minutes M [--seed S] [--only KIND,…] [--verbose] [--json]`; ends with
 * `chaos: F faults of K kinds, B builds, L lost, W wrong, X leaked`, and with exit code 1 when
 * anything was not as it should be.
 */
import { parseArgs } from "node:util";
import { faultKinds } from "./faults.ts";
import { closingLine, describe, failed, neverSeen, plain, replayCommand } from "./report.ts";
import { runChaos } from "./scenario.ts";

const minuteMs = 60_000;
/** In a run of this length everything comes up that can. */
const longMinutes = 4;
const minutesMax = 24 * 60;

function wholeNumber(name: string, text: string, max: number): number {
  const value = Number(text);
  if (value > 0 && value <= max) return value;
  process.stderr.write(`--${name} takes a number up to ${max}, not ${JSON.stringify(text)}\n`);
  return process.exit(2);
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      minutes: { type: "string", default: "5" },
      seed: { type: "string" },
      only: { type: "string" },
      verbose: { type: "boolean", default: false },
      json: { type: "boolean", default: false },
    },
  });
  const minutes = wholeNumber("minutes", values.minutes, minutesMax);
  const drawn = String(1 + Math.floor(Math.random() * 1e9));
  const seed = wholeNumber("seed", values.seed ?? drawn, Number.MAX_SAFE_INTEGER);
  const only = values.only?.split(",");
  const unknown = only?.find((kind) => !faultKinds().includes(kind));
  if (unknown !== undefined) {
    process.stderr.write(`no fault ${unknown}; there are: ${faultKinds().join(", ")}\n`);
    process.exit(2);
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
