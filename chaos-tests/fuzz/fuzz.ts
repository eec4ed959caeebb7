/**
 * Runs the targets: as many cases of each as its share of the frames asks for.
 *
 * One seed gives the same cases. A finding names the seed, the target and the case, which is all
 * that is needed to see it again.
 */
import { messageOf } from "../../src/base/errors.ts";
import { createClock } from "../../src/host/clock.ts";
import { channelTargets } from "./channel.ts";
import { decoderTargets } from "./decoders.ts";
import { fileTargets } from "./files.ts";
import { peersTarget } from "./peers.ts";
import { shimByteTargets } from "./shim-bytes.ts";
import { shimProgram } from "./shim-program.ts";
import { socketTargets } from "./sockets.ts";
import { type OpenTarget, randomOf, type Target } from "./target.ts";
import { textTargets } from "./texts.ts";

export const targets: readonly Target[] = [
  ...decoderTargets,
  ...textTargets,
  ...channelTargets,
  ...shimByteTargets,
  ...fileTargets,
  ...socketTargets,
  shimProgram,
  peersTarget,
];

export interface FuzzOptions {
  readonly seed: string;
  /** Malformed frames, over all targets. */
  readonly frames: number;
  /** One target only. */
  readonly only?: string | undefined;
  /** The first case; only of use together with `only`. */
  readonly fromCase?: number;
  /** Called before each case. */
  readonly onCase?: (target: string, index: number) => void;
}

export interface TargetReport {
  readonly target: string;
  readonly cases: number;
  readonly frames: number;
  readonly accepted: number;
  readonly wallMs: number;
  readonly findings: readonly string[];
}

const clock = createClock();
const forever = new AbortController().signal;
const caseMaxMs = 45_000;
const idleMax = 100;

export async function fuzz(
  { seed, frames, only, fromCase = 0, onCase = () => {} }: FuzzOptions,
  onReport: (report: TargetReport) => void,
): Promise<readonly TargetReport[]> {
  const chosen = targets.filter(({ name }) => only === undefined || name === only);
  const shares = chosen.reduce((sum, { share }) => sum + share, 0);
  const reports: TargetReport[] = [];
  for (const target of chosen) {
    const wanted = Math.max(1, Math.ceil((frames * target.share) / shares));
    const report = await runTarget(target, { seed, wanted, fromCase, onCase });
    reports.push(report);
    onReport(report);
  }
  return reports;
}

interface Run {
  readonly seed: string;
  readonly wanted: number;
  readonly fromCase: number;
  readonly onCase: (target: string, index: number) => void;
}

async function runTarget(target: Target, { seed, wanted, fromCase, onCase }: Run) {
  const startMs = performance.now();
  const findings: string[] = [];
  const totals = { cases: 0, frames: 0, accepted: 0 };
  const { name } = target;
  // What nobody waits for is as bad as what is thrown.
  let current = fromCase;
  const note = (error: unknown): void => {
    findings.push(`case ${current}: ${messageOf(error)}\n${stackOf(error)}`);
  };
  process.on("uncaughtException", note);
  process.on("unhandledRejection", note);
  let opened: OpenTarget | undefined;
  try {
    onCase(name, -1);
    const open = await target.open(seed);
    opened = open;
    // A case of no frames, as on a machine without a C compiler, must not go on for ever.
    for (let idle = 0; totals.frames < wanted && idle < idleMax && findings.length === 0; ) {
      onCase(name, current);
      const running = open.run(randomOf(seed, name, current));
      const tally = running instanceof Promise ? await inTime(running) : running;
      totals.frames += tally.frames;
      totals.accepted += tally.accepted;
      idle = tally.frames === 0 ? idle + 1 : 0;
      totals.cases += 1;
      current += 1;
    }
  } catch (error) {
    note(error);
  } finally {
    onCase(name, current);
    // After a finding, what else is left behind is no news.
    const isFirst = findings.length === 0;
    await opened?.close().catch((error: unknown) => isFirst && note(error));
    // Rejections that nobody handles are told a turn later.
    await new Promise((resolve) => setImmediate(resolve));
    process.off("uncaughtException", note);
    process.off("unhandledRejection", note);
  }
  return { target: name, ...totals, wallMs: performance.now() - startMs, findings };
}

/** A case that waits for what never comes is a finding as well. */
function inTime<T>(running: Promise<T>): Promise<T> {
  return clock.withDeadline(forever, caseMaxMs, () => running);
}

function stackOf(error: unknown): string {
  const stack = error instanceof Error ? (error.stack ?? "") : "";
  return stack.split("\n").slice(1, 6).join("\n");
}

/** The command that shows a finding in this case again. */
export function replayOf(seed: string, { target, frames }: TargetReport, index: number): string {
  const run = `npm run fuzz -- --seed ${seed} --target ${target}`;
  const leans = targets.some(({ name, leansOnEarlier }) => name === target && leansOnEarlier);
  return leans ? `${run} --frames ${frames + 1}` : `${run} --case ${index} --frames 1`;
}
