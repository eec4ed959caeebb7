/**
 * `mesh build` and `mesh exec`: the user's own build tool, with its compilers handed to the mesh.
 *
 * Whatever goes wrong with the mesh, the tool still runs and its exit code is what the user gets.
 * How tools are recognised and called is in detect.ts and native.ts.
 */
import { lstatSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { constants } from "node:os";
import { basename, dirname, join } from "node:path";
import { isMeshError, messageOf } from "../base/errors.ts";
import type { BuildStarted, BuildSummary } from "../node/control-api.ts";
import { parseBuildReply, parseStatusReply } from "../node/control-replies.ts";
import { ask, type Call } from "./client.ts";
import type { Display } from "./display.ts";
import type { Interception } from "./environment.ts";
import { complaint, exitFailed, oneLine } from "./exit.ts";
import { createInterrupts, type Interrupts } from "./interrupts.ts";
import { startStep } from "./native-run.ts";
import { stopTree } from "./process-tree.ts";
import { type BuildSession, openBuild, type WithNode, withNode } from "./session.ts";
import type { NativePlan, Step } from "./step.ts";
import { countOf, summaryText } from "./summary.ts";
import { summaryOf, type TallyKeeper } from "./tally.ts";
import { createTrace, type Trace } from "./trace.ts";

export interface BuildOptions {
  readonly dataDir: string;
  /** Where the build happens; absolute. */
  readonly dir: string;
  readonly jobs: number | undefined;
  readonly steal: boolean;
  readonly cacheRead: boolean;
  readonly cacheWrite: boolean;
  readonly compare: boolean;
  /** Absolute path of the JSON file to write at the end. */
  readonly summaryFile: string | undefined;
  /** Absolute path of the Chrome trace to write at the end. */
  readonly traceFile: string | undefined;
  readonly verb: "built" | "done";
}

export interface BuildDeps {
  readonly display: Display;
  readonly keeper: TallyKeeper;
  /** The commands to run, with the mesh or without. */
  readonly plan: (mesh: Interception | undefined) => NativePlan;
  /** Our stdin is a terminal: its Ctrl-C reaches the tool without us. */
  readonly terminalSignals: boolean;
}

/** Resolves to the native tool's exit code, or 1 when that is 0 and a comparison says otherwise. */
export async function runBuild(deps: BuildDeps, options: BuildOptions): Promise<number> {
  const interrupts = createInterrupts();
  const startMs = performance.now();
  const trace = options.traceFile === undefined ? undefined : createTrace(startMs);
  let met: WithNode<BuildSession> | undefined;
  try {
    met = await meet(deps, options, trace, interrupts.signal);
    const plan = deps.plan(
      met === undefined ? undefined : interception(met.opened.started, options),
    );
    announce(deps.display, plan, met);
    const exitCode = await runSteps(plan.steps, deps, met?.opened.call, interrupts);
    const wallMs = performance.now() - startMs;
    const summary = await close(met?.opened.call, deps, wallMs);
    deps.display.close();
    if (interrupts.received === undefined) {
      const { tally } = deps.keeper;
      const text = summaryText(summary, {
        verb: options.verb,
        exitCode,
        tool: basename(plan.steps.at(-1)?.argv[0] ?? "the build"),
        kinds: tally.kinds,
        cachedByPeer: tally.cachedByPeer,
        nameOf: tally.nameOf,
        whyNone: plan.whyNone,
        meshed: met !== undefined,
      });
      deps.display.note(text);
    }
    if (options.summaryFile !== undefined) writeSummary(options.summaryFile, summary, deps.display);
    writeTrace(trace, deps, options);
    const { differing = 0 } = summary;
    return exitCode === 0 && differing > 0 ? exitFailed : exitCode;
  } catch (error) {
    deps.display.close();
    if (interrupts.received === undefined) throw error;
    deps.display.note("stopped before the build began");
    return exitCodeOf(interrupts.received);
  } finally {
    met?.opened.call.close();
    await met?.embedded?.release();
    interrupts.close();
  }
}

/** Undefined, and said why, when there is no node to be had: the build then runs without one. */
async function meet(
  { display, keeper }: BuildDeps,
  { dataDir, dir, jobs, steal, cacheRead, cacheWrite, compare }: BuildOptions,
  trace: Trace | undefined,
  signal: AbortSignal,
): Promise<WithNode<BuildSession> | undefined> {
  const how = { steal, cacheRead, cacheWrite, compare };
  const request = { call: "build", dir, jobs: jobs ?? null, ...how } as const;
  const onEvent: Parameters<typeof openBuild>[2] = (event) => {
    keeper.see(event);
    trace?.see(event, performance.now());
    display.see(event);
  };
  try {
    const open = () => openBuild(dataDir, request, onEvent, signal);
    const met = await withNode(dataDir, open, signal);
    trace?.knowSlots("", met.opened.started.slots);
    // For people only: a node that does not say costs nothing but names.
    ask(dataDir, { call: "status" }, { silenceMs: 2_000 }).then(
      (reply) => {
        const { peers, peerId, name } = parseStatusReply(reply);
        keeper.know(peers);
        for (const { peerId: peer, slots: theirs } of peers) trace?.knowSlots(peer, theirs);
        keeper.knowSelf({ peerId, name });
      },
      () => {},
    );
    return met;
  } catch (error) {
    signal.throwIfAborted();
    // Also for a bug of ours: nothing about the mesh may keep a build from running.
    const why = complaint(error).replace(/^mesh: /, "");
    display.warn(`no node, so this runs without the mesh: ${oneLine(why)}`);
    return undefined;
  }
}

function interception(started: BuildStarted, { jobs }: BuildOptions): Interception {
  const { build, shim, shimDir, shimSocket, slots } = started;
  return { build, shim, shimDir, shimSocket, slots, jobs: jobs ?? started.jobs };
}

function announce(
  display: Display,
  plan: NativePlan,
  met: WithNode<BuildSession> | undefined,
): void {
  for (const note of plan.notes) display.note(note);
  if (met === undefined) return;
  const { slots, peers, shimKind } = met.opened.started;
  const command = plan.steps.at(-1)?.argv.join(" ") ?? "";
  const shown = command.length > 60 ? `${command.slice(0, 59)}…` : command;
  const mesh = peers === 0 ? "no peers" : countOf(peers, "peer");
  const how = met.embedded === undefined ? "" : "; no node was running, so one runs for this build";
  display.note(`${shown}: ${countOf(slots, "slot")} here, ${mesh}${how}`);
  if (shimKind === "node") {
    display.warn("no C compiler to build the shim with: every compile takes 50 ms longer");
  }
}

async function runSteps(
  steps: readonly Step[],
  deps: BuildDeps,
  call: Call | undefined,
  interrupts: Interrupts,
): Promise<number> {
  // No other process has had this number at this time since the machine started.
  const mark = `${process.pid}-${process.hrtime.bigint()}`;
  let over = false;
  void call?.ended.then((end) => {
    if (over || interrupts.signal.aborted || end.at === "done") return;
    const why = end.at === "failed" ? end.error.message : end.reason;
    deps.display.warn(`the node is gone (${oneLine(why)}): the build goes on without the mesh`);
  });
  try {
    for (const step of steps) {
      const exitCode = await runStep(step, mark, deps, call, interrupts);
      if (exitCode !== 0 || interrupts.signal.aborted) return exitCode;
    }
    return 0;
  } finally {
    over = true;
  }
}

/** 127 when the tool is not there, as a shell has it. */
async function runStep(
  step: Step,
  mark: string,
  deps: BuildDeps,
  call: Call | undefined,
  interrupts: Interrupts,
): Promise<number> {
  interrupts.signal.throwIfAborted();
  const running = startStep(step, deps.display, mark);
  const exited = running.exited.catch((error: unknown) => {
    if (!isMeshError(error)) throw error;
    deps.display.warn(messageOf(error));
    return 127;
  });
  let onAbort: () => void = () => {};
  const aborted = new Promise<"aborted">((resolve) => {
    onAbort = () => resolve("aborted");
    interrupts.signal.addEventListener("abort", onAbort);
  });
  const how = await Promise.race([exited, aborted]);
  interrupts.signal.removeEventListener("abort", onAbort);
  // A tool that got the terminal's Ctrl-C may have ended before we were told of it.
  if (how !== "aborted" && !interrupts.signal.aborted) return how;
  const signal = interrupts.received ?? "SIGINT";
  const { tally } = deps.keeper;
  const tasks = tally.waiting + tally.runningHere + tally.runningThere;
  const there = tally.runningThere;
  // First the node: peers stop while the processes here are still being ended.
  call?.close();
  deps.display.close();
  const stopped = await stopTree(running.tree, {
    signal,
    alreadySent: deps.terminalSignals && signal === "SIGINT",
    hurry: interrupts.hurry,
  });
  deps.display.note(stoppedText(stopped, tasks, there));
  return exitCodeOf(signal);
}

/** A terminal's Ctrl-C has often ended everything before there was anything left to stop. */
function stoppedText(processes: number, tasks: number, there: number): string {
  const parts = [
    ...(processes > 0 ? [`${processes} process${processes === 1 ? "" : "es"}`] : []),
    ...(tasks > 0 ? [countOf(tasks, "task") + (there > 0 ? ` (${there} on peers)` : "")] : []),
  ];
  return parts.length === 0 ? "stopped" : `stopped: ${parts.join(" and ")}`;
}

/** A node that cannot say within this long is not waited for: what we have seen is close enough. */
const closingMaxMs = 3_000;

async function close(
  call: Call | undefined,
  { keeper }: BuildDeps,
  wallMs: number,
): Promise<BuildSummary> {
  const seen = summaryOf(keeper.tally, wallMs);
  if (call === undefined) return seen;
  call.send({ call: "build-end" });
  const timer = setTimeout(() => call.close(), closingMaxMs);
  const end = await call.ended;
  clearTimeout(timer);
  if (end.at !== "done") return seen;
  try {
    return { ...parseBuildReply(end.reply), wallMs: Math.round(wallMs) };
  } catch (error) {
    if (!isMeshError(error, "malformed")) throw error;
    return seen;
  }
}

function writeSummary(path: string, summary: BuildSummary, display: Display): void {
  try {
    writeFileSync(path, `${JSON.stringify(summary, undefined, 2)}\n`);
  } catch (error) {
    display.warn(`the summary was not written: ${complaint(error).replace(/^mesh: /, "")}`);
  }
}

function writeTrace(
  trace: Trace | undefined,
  { display, keeper }: BuildDeps,
  { traceFile }: BuildOptions,
): void {
  if (trace === undefined || traceFile === undefined) return;
  const { tally } = keeper;
  try {
    writeWhole(traceFile, trace.text(tally.nameOf, tally.ownName, performance.now()));
  } catch (error) {
    display.warn(`the trace was not written: ${complaint(error).replace(/^mesh: /, "")}`);
  }
}

/** All of it or nothing; into what is no file, such as a pipe, as it comes. */
function writeWhole(path: string, text: string): void {
  const there = lstatSync(path, { throwIfNoEntry: false });
  if (there !== undefined && !there.isFile()) {
    writeFileSync(path, text);
    return;
  }
  const temporary = join(dirname(path), `.mesh-trace-${process.pid}`);
  try {
    writeFileSync(temporary, text);
    renameSync(temporary, path);
  } catch (error) {
    rmSync(temporary, { force: true });
    throw error;
  }
}

function exitCodeOf(signal: NodeJS.Signals): number {
  return 128 + constants.signals[signal];
}
