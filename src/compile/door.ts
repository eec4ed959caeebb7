/**
 * The compile door: turns compiler invocations into tasks, and their outcomes into what the build
 * expects to see.
 *
 * 1. A planner reads the command line, where the invocation could run elsewhere at all.
 * 2. The owner decides who runs it.
 * 3. Here: the shim runs the real compiler. There: a peer's answer is put in place (`delivery.ts`).
 *
 * Whatever fails here, the connection to the shim is closed, and the shim compiles by itself.
 */
import type { ActionSpec, EncodedAction } from "../action/action.ts";
import { createRecentMap } from "../base/bounded.ts";
import { utf8 } from "../base/bytes.ts";
import { isMeshError, MeshError, messageOf } from "../base/errors.ts";
import type { Emit } from "../base/events.ts";
import type { Clock, Disk } from "../host/host.ts";
import type { BuildSummary } from "../node/control-api.ts";
import type { Outcome, Owner, Task } from "../work/task.ts";
import { colourArgs, compilerFamilyOf, glance, isCompilerWrapper } from "./compilers.ts";
import { createDelivery, type DeliveryDeps } from "./delivery.ts";
import { whyNotPlaceable } from "./place.ts";
import type { ActionPlan, Plan, Planner } from "./plan.ts";
import type { ShimInvocation, ShimLink } from "./shim-server.ts";
import { emptyTally, summaryOf, type Tally, tally } from "./summary.ts";

export interface CompileDoorDeps extends DeliveryDeps {
  readonly owner: Owner;
  readonly clock: Clock;
  readonly disk: Disk;
  readonly emit: Emit;
  readonly planGcc: Planner;
  readonly planRustc: Planner;
  readonly encodeAction: (spec: ActionSpec) => EncodedAction;
  /** Whether anybody is there who could take a task. */
  readonly peersPresent: () => boolean;
  /** Whether a task submitted now would start here at once. */
  readonly slotFree: () => boolean;
  /** CPU time of this node so far, without the compilers it ran. */
  readonly cpuMs: () => number;
}

export interface CompileDoorOptions {
  /** Builds open at once. */
  readonly buildsMax: number;
}

export interface BuildOptions {
  /** False: every compile runs on this node. */
  readonly steal: boolean;
}

/** One run of `mesh build` or `mesh exec`. */
export interface Build {
  /** What became of its compiles so far. */
  summary(): BuildSummary;
  /** Ends its queued and running compiles; the shims exit with 130. */
  cancel(): void;
  /** Forgets the build. */
  close(): void;
}

export interface CompileDoor {
  /** Answers one shim: see `ShimServerDeps`. */
  onInvocation(invocation: ShimInvocation, link: ShimLink, signal: AbortSignal): Promise<void>;
  /**
   * Invocations that carry `id` in MESH_BUILD are counted here from now on. Codes: "in-use" when
   * it is open, "limit" when too many are. Compiles of builds that nobody opened run all the same.
   */
  openBuild(id: string, options: BuildOptions): Build;
}

interface OpenBuild {
  readonly options: BuildOptions;
  readonly cancelled: AbortController;
  tally: Tally;
}

const exitCancelled = 130;

export function createCompileDoor(
  deps: CompileDoorDeps,
  { buildsMax }: CompileDoorOptions,
): CompileDoor {
  const { owner, clock, emit } = deps;
  const builds = new Map<string, OpenBuild>();
  const decide = createDecider(deps);

  function openBuild(id: string, options: BuildOptions): Build {
    if (builds.has(id)) throw new MeshError("in-use", `build ${id} is open already`);
    if (builds.size >= buildsMax) throw new MeshError("limit", `${buildsMax} builds are open`);
    const build: OpenBuild = { options, cancelled: new AbortController(), tally: emptyTally };
    builds.set(id, build);
    const startMs = clock.nowMs();
    const startCpuMs = deps.cpuMs();
    return {
      summary: () =>
        summaryOf(build.tally, {
          wallMs: clock.nowMs() - startMs,
          clientCpuMs: deps.cpuMs() - startCpuMs,
        }),
      cancel: () => build.cancelled.abort(new MeshError("cancelled", "the build was cancelled")),
      close() {
        if (builds.get(id) === build) builds.delete(id);
      },
    };
  }

  /** Tells the shim what to do, and returns once it has been told everything. */
  async function serve(
    invocation: ShimInvocation,
    link: ShimLink,
    build: OpenBuild | undefined,
    signal: AbortSignal,
  ): Promise<void> {
    const plan = await decide(invocation, build?.options.steal ?? true, signal);
    const delivery =
      plan.at === "anywhere"
        ? createDelivery(deps, plan, invocation.umask, link, signal)
        : undefined;
    const task: Task = {
      build: invocation.build,
      kind: plan.kind,
      label: plan.label,
      action: plan.at === "anywhere" ? plan.action : undefined,
      whyHere: plan.at === "here" ? plan.reason : undefined,
      async runHere(during) {
        const { exitCode } = await link.run(coloursHere(invocation), during);
        return exitCode;
      },
      async commit(outcome, peer, during) {
        if (delivery === undefined) throw new MeshError("refused", "the task may only run here");
        await delivery.commit(outcome, peer, during);
      },
      onProgress: (progress, peer) => delivery?.onProgress(progress, peer),
    };
    const outcome = await owner.submit(task, signal);
    if (build !== undefined) build.tally = tally(build.tally, entryOf(outcome, task.whyHere));
    await delivery?.flushed();
  }

  async function onInvocation(
    invocation: ShimInvocation,
    link: ShimLink,
    gone: AbortSignal,
  ): Promise<void> {
    const build = builds.get(invocation.build);
    const stopped = build?.cancelled.signal;
    const ended = new AbortController();
    const onGone = (): void => ended.abort(gone.reason);
    const onStopped = (): void => ended.abort(stopped?.reason);
    const unlisten = (): void => {
      gone.removeEventListener("abort", onGone);
      stopped?.removeEventListener("abort", onStopped);
    };
    gone.addEventListener("abort", onGone, { once: true });
    stopped?.addEventListener("abort", onStopped, { once: true });
    if (gone.aborted) onGone();
    if (stopped?.aborted) onStopped();
    try {
      await serve(invocation, link, build, ended.signal);
    } catch (error) {
      if (gone.aborted) return;
      if (stopped?.aborted) {
        await link.exit(exitCancelled, new Uint8Array(0), utf8("mesh: the build was cancelled\n"));
        return;
      }
      const { label } = glance(invocation.compiler, invocation.args);
      const message = `${label}: the mesh gave up, compiling without it: ${messageOf(error)}`;
      emit({ event: "log", level: "warn", message });
      throw error;
    } finally {
      unlisten();
    }
  }

  return { onInvocation, openBuild };
}

function entryOf(outcome: Outcome, whyHere: string | undefined): Parameters<typeof tally>[1] {
  return outcome.source === "here"
    ? { source: "here", peer: undefined, reason: outcome.fallback ?? whyHere }
    : { source: "there", peer: outcome.peer, reason: undefined };
}

/** A compiler that writes to the terminal itself knows about colours. */
function coloursHere({
  compiler,
  args,
  wantsColour,
  stderrIsTty,
}: ShimInvocation): readonly string[] {
  return wantsColour && !stderrIsTty && compilerFamilyOf(compiler) === "gcc"
    ? colourArgs(args)
    : [];
}

/** A peer's compiler never sees the terminal. */
function coloursThere(invocation: ShimInvocation): readonly string[] {
  const { compiler, args, env, wantsColour, stderrIsTty } = invocation;
  const onScreen = stderrIsTty && env.TERM !== undefined && env.TERM !== "dumb";
  return (wantsColour || onScreen) && compilerFamilyOf(compiler) === "gcc" ? colourArgs(args) : [];
}

type Decision = Extract<Plan, { at: "here" }> | (ActionPlan & { readonly action: EncodedAction });

/** Reasons in the order of what they cost to find. */
function createDecider(
  deps: CompileDoorDeps,
): (invocation: ShimInvocation, steal: boolean, signal: AbortSignal) => Promise<Decision> {
  // Real paths of compilers: one entry per name in the PATH, so a few.
  const realPaths = createRecentMap<string, string>(64);
  // A disk that fails does so for every file, and the user's terminal is no place to count them.
  const warned = createRecentMap<string, true>(256);

  function warnOnce({ build, compiler, args }: ShimInvocation, reason: string, why: unknown): void {
    const key = `${build}\0${reason}`;
    if (warned.get(key)) return;
    warned.set(key, true);
    const message = `${compiler} ${glance(compiler, args).label}: not planned: ${messageOf(why)}`;
    deps.emit({ event: "log", level: "warn", message });
  }

  async function isWrapper(compiler: string): Promise<boolean> {
    const real = realPaths.get(compiler) ?? (await deps.disk.realPath(compiler)) ?? compiler;
    realPaths.set(compiler, real);
    return isCompilerWrapper(real);
  }

  return async (invocation, steal, signal) => {
    const { compiler, args } = invocation;
    const here = (reason: string): Decision => ({ at: "here", reason, ...glance(compiler, args) });
    if (!steal) return here("no-steal");
    if (!deps.peersPresent()) return here("no-peers");
    if (invocation.inexact) return here("not-utf8");
    const family = compilerFamilyOf(compiler);
    if (family === undefined) return here("unknown-compiler");
    if (await isWrapper(compiler)) return here("compiler-wrapper");
    // It would start here before anybody could steal it: finding its inputs would be for nothing.
    // Rust units are read all the same, because later ones depend on what they were given.
    if (family === "gcc" && deps.slotFree()) return here("slot-free");
    const planner = family === "rustc" ? deps.planRustc : deps.planGcc;
    try {
      const plan = await planner(invocation, signal);
      if (plan.at === "here") return plan;
      const trouble = whyNotPlaceable(deps.disk, plan.spec.outputPaths);
      if (trouble !== undefined) {
        return { at: "here", reason: trouble, kind: plan.kind, label: plan.label };
      }
      const spec = coloured(plan.spec, coloursThere(invocation));
      return { ...plan, spec, action: deps.encodeAction(spec) };
    } catch (error) {
      signal.throwIfAborted();
      const reason = isMeshError(error) ? error.code : "planner-failed";
      warnOnce(invocation, reason, error);
      return here(reason);
    }
  };
}

function coloured(spec: ActionSpec, colours: readonly string[]): ActionSpec {
  const [compiler, ...args] = spec.argv;
  if (colours.length === 0 || compiler === undefined) return spec;
  return { ...spec, argv: [compiler, ...colours, ...args] };
}
