/**
 * The course of one task, whatever tool it is for:
 *
 * 1. A result that is known, here or at its homes in the mesh, is put in place, and that is all.
 * 2. Else the owner decides who runs it: the real tool here in place, this node's own sandbox when
 *    the plan asks for it, or a peer.
 * 3. What came of it is remembered, unless something speaks against it (`keep.ts`).
 *
 * A known result that turns out to be of no use is forgotten, and the task runs. It does not know
 * command lines or shims.
 */
import { type ActionOutcome, blobsOf, type EncodedAction, type Execute } from "../action/action.ts";
import type { Results } from "../action/results.ts";
import { isMeshError, MeshError, messageOf } from "../base/errors.ts";
import type { Emit, Phases, Source } from "../base/events.ts";
import { asTaskId, type PeerId, type TaskId } from "../base/ids.ts";
import type { Exchange } from "../blob/exchange.ts";
import type { Outcome, Owner, Task } from "../work/task.ts";
import { type Comparison, compareOutputs } from "./compare.ts";
import type { Delivery } from "./delivery.ts";
import type { History } from "./history.ts";
import { createKeep, type KeepDeps } from "./keep.ts";
import { createKnown, type Hit } from "./known.ts";
import type { ActionPlan, Plan } from "./plan.ts";

export interface CourseDeps extends KeepDeps {
  readonly self: PeerId;
  readonly owner: Owner;
  readonly exchange: Pick<Exchange, "fetch">;
  readonly results: Results;
  readonly emit: Emit;
  readonly history: Pick<History, "add">;
  /** Runs actions in this node's own sandbox; undefined where there is none. */
  readonly execute: Execute | undefined;
  /** A part of every task id, other than the owner's. */
  readonly idPrefix: string;
}

export interface CourseOptions {
  /** False: every task runs on this node. */
  readonly steal: boolean;
  /** Whether known results are used. */
  readonly cacheRead: boolean;
  /** Whether results are remembered. */
  readonly cacheWrite: boolean;
  /** Whether what a peer did or a cache gave is done again here, and held against it. */
  readonly compare: boolean;
}

export type Planned =
  | Extract<Plan, { readonly at: "here" }>
  | (ActionPlan & { readonly action: EncodedAction; readonly portableAction?: EncodedAction });

/** The real tool's run in place. */
export interface RunInPlace {
  readonly exitCode: number;
  /** What it printed; undefined when that is not known to the last byte. */
  readonly output: { readonly stdout: Uint8Array; readonly stderr: Uint8Array } | undefined;
}

export interface Work {
  readonly build: string;
  /** Where the tool was called. */
  readonly cwd: string;
  readonly options: CourseOptions;
  readonly plan: Planned;
  /** Before the first look at any input, on the wall clock. */
  readonly arrivedWallMs: number;
  readonly planMs: number;
  /** Made of further tasks: it holds no slot itself, and is offered to nobody. */
  readonly whole?: boolean;
  /** Why nobody else is to be asked although somebody could: "slot-free" and the like. */
  readonly whyHere: string | undefined;
  /** Where results are put; only for plans that can have one. */
  readonly delivery: Delivery | undefined;
  /** Runs the real tool in place; with `capture`, it then waits for `release`. */
  readonly runHere: (
    extraArgs: readonly string[],
    capture: boolean,
    signal: AbortSignal,
  ) => Promise<RunInPlace>;
  /** Everything the run wrote has been copied: whoever waits for it may go on. */
  readonly release: () => void;
}

/** How a task ended, for the build's own count. */
export interface CourseEnd {
  readonly task: TaskId;
  readonly source: Source;
  readonly peer: PeerId | undefined;
  readonly exitCode: number;
  /** Why it ran here, when it did. */
  readonly reason: string | undefined;
  /** Set when it was done twice on purpose. */
  readonly compared: Comparison | undefined;
}

export interface Course {
  /** Rejects with `signal.reason` on abort, and when the requester is gone. */
  run(work: Work, signal: AbortSignal): Promise<CourseEnd>;
}

const noPhases: Phases = { queueMs: 0, fetchMs: 0, runMs: 0, returnMs: 0 };

export function createCourse(deps: CourseDeps): Course {
  const { owner, results, exchange, emit, clock, history } = deps;
  const keep = createKeep(deps);
  const known = createKnown(deps);
  let lastHit = 0;

  function reportHit(work: Work, hit: Hit, lookupMs: number, wallMs: number): CourseEnd {
    const { build, plan } = work;
    const task = asTaskId(`${deps.idPrefix}-k${++lastHit}`);
    const { kind, label } = plan;
    const { source, signer } = hit;
    const peer = source === "cached-mesh" ? signer : undefined;
    const phases = { ...noPhases, fetchMs: lookupMs, returnMs: Math.max(0, wallMs - lookupMs) };
    emit({ event: "task-queued", task, build, kind, label, stealable: false });
    emit({ event: "task-done", task, build, label, source, peer, exitCode: 0, wallMs, phases });
    remember(
      work,
      task,
      { source, peer: undefined, signer, exitCode: 0, wallMs, phases },
      lookupMs,
    );
    return { task, source, peer, exitCode: 0, reason: undefined, compared: undefined };
  }

  function remember(
    work: Work,
    task: TaskId,
    end: Pick<Recorded, "source" | "peer" | "signer" | "exitCode" | "wallMs" | "phases"> &
      Partial<Pick<Recorded, "fallback" | "kept">>,
    lookupMs: number,
  ): void {
    const { build, plan, planMs, whyHere, cwd } = work;
    const shared = plan.at === "anywhere" ? plan : undefined;
    history.add(
      {
        ...{ task, build, kind: plan.kind, label: plan.label, cwd, planMs, lookupMs },
        outputs: shared?.spec.outputPaths ?? [],
        action: shared?.action.digest,
        whyHere: plan.at === "here" ? plan.reason : (plan.whyHere ?? whyHere),
        endedWallMs: clock.wallMs(),
        fallback: undefined,
        ...end,
        kept: end.kept ?? whyNotKept(work),
      },
      shared?.spec,
    );
  }

  async function run(work: Work, signal: AbortSignal): Promise<CourseEnd> {
    const { options } = work;
    const { hit, lookupMs, wallMs: hitMs } = await known.use(work, signal);
    if (hit !== undefined) {
      const end = reportHit(work, hit, lookupMs, hitMs);
      if (!options.compare) return end;
      return { ...end, compared: await compareHere(work, end.task, hit.outcome, signal) };
    }
    const state = await startState(work, signal);
    if (work.whole === true) return runWhole(work, state, lookupMs, signal);
    const task = taskOf(work, state);
    const outcome = await owner.submit(task, signal);
    const { task: id } = outcome;
    const answer = answerBehind(outcome, state);
    if (answer !== undefined && options.cacheWrite) await keepAnswer(work, answer, outcome);
    const kept = answer === undefined ? await state.kept : undefined;
    const { source, exitCode, wallMs, phases } = outcome;
    const peer = outcome.source === "there" ? outcome.peer : undefined;
    const fallback = outcome.source === "here" ? outcome.fallback : undefined;
    const end = { source, peer, signer: peer, exitCode, wallMs, phases, fallback, kept };
    remember(work, id, end, lookupMs);
    const reason = outcome.source === "here" ? (fallback ?? task.whyHere) : undefined;
    const compared =
      options.compare && answer !== undefined
        ? await compareHere(work, id, answer, signal)
        : undefined;
    return { task: id, source, peer, exitCode, reason, compared };
  }

  async function startState(work: Work, signal: AbortSignal): Promise<Running> {
    const { plan, options, arrivedWallMs } = work;
    const kept = (why: string | undefined) => Promise.resolve(why);
    const answer = undefined;
    if (plan.at === "here" || !options.cacheWrite)
      return { sinceMs: undefined, kept: kept(undefined), answer };
    if (plan.sandboxed) return { sinceMs: undefined, kept: kept("not-traceable"), answer };
    const whyNoList = await keep.whyNoList(plan);
    if (whyNoList !== undefined) return { sinceMs: undefined, kept: kept(whyNoList), answer };
    const sinceMs = await keep.settle(plan, arrivedWallMs, signal);
    return { sinceMs, kept: kept(sinceMs === undefined ? "input-changed" : undefined), answer };
  }

  function taskOf(work: Work, state: Running): Task {
    const { plan, build, options, delivery } = work;
    const whyHere = plan.at === "here" ? plan.reason : (plan.whyHere ?? work.whyHere);
    return {
      build,
      kind: plan.kind,
      label: plan.label,
      action: plan.at === "anywhere" && whyHere === undefined ? plan.action : undefined,
      ...{ whyHere, fresh: !options.cacheRead, forget: !options.cacheWrite },
      ...(plan.at === "anywhere" && { flow: flowOf(plan) }),
      async runHere(during) {
        const boxed = await runBoxed(work, state, during);
        if (boxed !== undefined) return boxed;
        return runInPlace(work, state, during);
      },
      async commit(outcome, peer, during) {
        if (delivery === undefined) throw new MeshError("refused", "the task may only run here");
        if (options.compare) await exchange.fetch(blobsOf(outcome), [peer], during);
        else await delivery.commit(outcome, [peer], false, during);
        state.answer = outcome;
      },
      onProgress: (progress, peer) => {
        if (!options.compare) delivery?.onProgress(progress, peer);
      },
    };
  }

  /** Its parts are tasks; of itself, only the result is remembered. */
  async function runWhole(
    work: Work,
    state: Running,
    lookupMs: number,
    signal: AbortSignal,
  ): Promise<CourseEnd> {
    const task = asTaskId(`${deps.idPrefix}-k${++lastHit}`);
    const startMs = clock.nowMs();
    const exitCode = await runInPlace(work, state, signal);
    const wallMs = clock.nowMs() - startMs;
    const phases = { ...noPhases, runMs: wallMs };
    const kept = await state.kept;
    const end = { source: "here", peer: undefined, exitCode } as const;
    remember(work, task, { ...end, signer: undefined, wallMs, phases, kept }, lookupMs);
    return { task, ...end, reason: undefined, compared: undefined };
  }

  async function runInPlace(work: Work, state: Running, during: AbortSignal): Promise<number> {
    const { plan } = work;
    const { sinceMs } = state;
    const startMs = clock.nowMs();
    if (plan.at === "here" || sinceMs === undefined) return runUnkept(work, during);
    const extraArgs = plan.hereArgs ?? [];
    const ran = await work.runHere(extraArgs, true, during).catch(async (error: unknown) => {
      await plan.checkHere?.().catch(() => {});
      throw error;
    });
    const runMs = clock.nowMs() - startMs;
    // The slot is free from here on; the shim waits until its outputs have been copied.
    state.kept = keep.inPlace(plan, { ran, runMs, sinceMs }, work.release);
    return ran.exitCode;
  }

  /** Nothing is kept, but the next plan may learn from what was read. */
  async function runUnkept({ plan, options, runHere }: Work, during: AbortSignal): Promise<number> {
    const shared = plan.at === "anywhere" && options.cacheWrite;
    const learns = shared && (await keep.whyNoList(plan)) === undefined;
    const running = runHere((learns && plan.hereArgs) || [], false, during);
    const learn = async (): Promise<void> => {
      if (learns) await plan.checkHere?.();
    };
    // Not waited for: the shim has gone by then, and who waits for it would be called off.
    void running.then(learn, learn).catch(() => {});
    return (await running).exitCode;
  }

  /** In this node's own sandbox; undefined when the real tool has to run in place after all. */
  async function runBoxed(
    { plan, options, delivery }: Work,
    state: Running,
    during: AbortSignal,
  ): Promise<number | undefined> {
    const { execute, self } = deps;
    if (plan.at === "here" || !plan.sandboxed || execute === undefined) return undefined;
    if (delivery === undefined || !options.cacheWrite || options.compare) return undefined;
    const startMs = clock.nowMs();
    try {
      const outcome = await execute(
        plan.spec,
        (progress) => delivery.onProgress(progress, self),
        during,
      );
      if (outcome.exitCode !== 0) {
        await plan.failed?.(outcome);
        return undefined;
      }
      await delivery.commit(outcome, [], false, during);
      state.kept = keep.outcome(plan, outcome, clock.nowMs() - startMs);
      return 0;
    } catch (error) {
      during.throwIfAborted();
      if (!isMeshError(error)) throw error;
      emit({ event: "log", level: "info", message: `${plan.label}: ${messageOf(error)}` });
      return undefined;
    }
  }

  async function keepAnswer({ plan }: Work, answer: ActionOutcome, end: Outcome): Promise<void> {
    if (plan.at === "here") return;
    const expected = { action: plan.action.digest, outcome: answer };
    // This node's own worker half remembers what it signed by itself.
    if (end.source === "there" && end.record.byteLength > 0) results.accept(end.record, expected);
    await keep.portable(plan, answer, 0);
  }

  /** The real tool does it once more, and everything it leaves is held against `answer`. */
  async function compareHere(
    work: Work,
    task: TaskId,
    answer: ActionOutcome,
    signal: AbortSignal,
  ): Promise<Comparison> {
    const { plan, build } = work;
    const none = { sinceMs: undefined, kept: Promise.resolve(undefined), answer: undefined };
    let ran: RunInPlace = { exitCode: -1, output: undefined };
    const again: Task = {
      ...taskOf(work, none),
      ...{ build: `${build}-compare`, action: undefined, whyHere: "compare" },
      async runHere(during) {
        ran = await work.runHere([], true, during);
        return ran.exitCode;
      },
    };
    await owner.submit(again, signal);
    try {
      const outputPaths = plan.at === "anywhere" ? plan.spec.outputPaths : [];
      const compared = await compareOutputs(deps, outputPaths, answer, ran);
      emit({ event: "task-compared", task, build, label: plan.label, ...compared });
      return compared;
    } finally {
      work.release();
    }
  }

  return { run };
}

/** What comes before and behind a task follows from its files, also where it may not leave. */
function flowOf({ spec }: ActionPlan): NonNullable<Task["flow"]> {
  return { reads: spec.inputs.map(({ path }) => path), writes: spec.outputPaths };
}

/** What was put in place, if a worker half gave it: a peer's, or as a backup this node's own. */
function answerBehind(outcome: Outcome, { answer }: Running): ActionOutcome | undefined {
  return outcome.source === "there" || outcome.fallback === undefined ? answer : undefined;
}

function whyNotKept({ plan, options }: Work): string | undefined {
  if (plan.at === "here") return "not-an-action";
  return options.cacheWrite ? undefined : "no-cache-write";
}

type Recorded = Parameters<History["add"]>[0];

interface Running {
  /** Every input was as planned then; undefined when that cannot be said. */
  readonly sinceMs: number | undefined;
  /** Why the result of a run here is not kept; undefined: it is. */
  kept: Promise<string | undefined>;
  /** A peer's outcome, once it is in place. */
  answer: ActionOutcome | undefined;
}
