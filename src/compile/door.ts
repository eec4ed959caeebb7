/**
 * The compile door: turns compiler invocations into tasks, and their outcomes into what the build
 * expects to see.
 *
 * 1. `decide.ts` reads the command line: an action, or why there is none.
 * 2. `course.ts` finds a known result, or has it run, and remembers what came of it.
 * 3. Here: builds and their counts, and the shims.
 *
 * Whatever fails here, the connection to the shim is closed, and the shim compiles by itself.
 */
import { utf8 } from "../base/bytes.ts";
import { MeshError, messageOf } from "../base/errors.ts";
import type { Emit } from "../base/events.ts";
import type { Clock } from "../host/host.ts";
import type { BuildSummary } from "../node/control-api.ts";
import { compilerFamilyOf, glance } from "./compilers.ts";
import type { Course, CourseEnd, CourseOptions, Planned, Work } from "./course.ts";
import { coloursHere, createDecide, type DecideDeps } from "./decide.ts";
import { createDelivery, type DeliveryDeps } from "./delivery.ts";
import type { Nvcc } from "./nvcc.ts";
import type { ShimInvocation, ShimLink } from "./shim-server.ts";
import { createStepRunner } from "./steps.ts";
import { emptyTally, summaryOf, type Tally, tally } from "./summary.ts";

export interface CompileDoorDeps extends Omit<DeliveryDeps, "disk">, DecideDeps {
  readonly course: Course;
  /** For commands that are made of several. */
  readonly nvcc?: Nvcc;
  readonly clock: Clock;
  readonly emit: Emit;
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

export type BuildOptions = CourseOptions;

/** One run of `mesh build` or `mesh exec`. */
export interface Build {
  /** What became of its compiles so far. */
  summary(): BuildSummary;
  /**
   * Resolves once every compile that has begun is counted. A shim goes as soon as nothing needs it,
   * which is before its result has been remembered.
   */
  settled(signal: AbortSignal): Promise<void>;
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
  readonly pending: Set<Promise<void>>;
  tally: Tally;
}

const exitCancelled = 130;

/** For compiles of builds that nobody opened. */
const optionsDefault: CourseOptions = {
  steal: true,
  cacheRead: true,
  cacheWrite: true,
  compare: false,
};

export function createCompileDoor(
  deps: CompileDoorDeps,
  { buildsMax }: CompileDoorOptions,
): CompileDoor {
  const { clock, emit } = deps;
  const builds = new Map<string, OpenBuild>();
  const decide = createDecide(deps);

  function openBuild(id: string, options: BuildOptions): Build {
    if (builds.has(id)) throw new MeshError("in-use", `build ${id} is open already`);
    if (builds.size >= buildsMax) throw new MeshError("limit", `${buildsMax} builds are open`);
    const build: OpenBuild = {
      ...{ options, cancelled: new AbortController(), pending: new Set(), tally: emptyTally },
    };
    builds.set(id, build);
    const startMs = clock.nowMs();
    const startCpuMs = deps.cpuMs();
    return {
      summary: () =>
        summaryOf(build.tally, {
          wallMs: clock.nowMs() - startMs,
          clientCpuMs: deps.cpuMs() - startCpuMs,
        }),
      settled: (signal) => allSettled(build.pending, signal),
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
    const options = build?.options ?? optionsDefault;
    const arrivedWallMs = clock.wallMs();
    const startMs = clock.nowMs();
    const whyHere = whyNotElsewhere(options);
    const count = (end: CourseEnd): void => {
      if (build !== undefined) build.tally = tally(build.tally, end);
    };
    const split = await serveSplit(invocation, link, options, count, signal);
    if (split === "done") return;
    const remembers = options.cacheRead || options.cacheWrite;
    const plan: Planned =
      split ?? (await decide(invocation, remembers ? undefined : whyHere, signal));
    const delivery =
      plan.at === "anywhere"
        ? createDelivery(deps, plan, invocation.umask, link, signal)
        : undefined;
    const work: Work = {
      ...{ build: invocation.build, options, plan, arrivedWallMs, whyHere, delivery },
      ...{ cwd: invocation.cwd, planMs: clock.nowMs() - startMs },
      runHere: (extraArgs, capture, during) =>
        link.run([...coloursHere(invocation, capture), ...extraArgs], capture, during),
      release: () => link.release(),
    };
    count(await deps.course.run(work, signal));
    await delivery?.flushed();
  }

  /** A command made of several: done, or to be run as it is for a reason; undefined: it is none. */
  async function serveSplit(
    invocation: ShimInvocation,
    link: ShimLink,
    options: CourseOptions,
    onEnd: (end: CourseEnd) => void,
    signal: AbortSignal,
  ): Promise<"done" | Planned | undefined> {
    const { compiler, build, cwd, umask, inexact } = invocation;
    if (deps.nvcc === undefined || inexact || compilerFamilyOf(compiler) !== "nvcc")
      return undefined;
    const whyHere = () => whyNotElsewhere(options);
    const of = { build, cwd, umask, options, arrivedWallMs: clock.wallMs(), whyHere, onEnd };
    const runStep = createStepRunner(deps, of);
    const end = await deps.nvcc.serve({ invocation, runStep }, signal);
    if (end.at === "here") return end;
    await link.exit(end.exitCode, end.stdout, end.stderr);
    return "done";
  }

  function whyNotElsewhere({ steal }: CourseOptions): string | undefined {
    if (!steal) return "no-steal";
    if (!deps.peersPresent()) return "no-peers";
    // It starts here before anybody could steal it.
    return deps.slotFree() ? "slot-free" : undefined;
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
    const serving = serve(invocation, link, build, ended.signal);
    build?.pending.add(serving);
    try {
      await serving;
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
      build?.pending.delete(serving);
      unlisten();
    }
  }

  return { onInvocation, openBuild };
}

/** Rejects only with `signal.reason`. */
async function allSettled(pending: Iterable<Promise<void>>, signal: AbortSignal): Promise<void> {
  signal.throwIfAborted();
  const stopped = Promise.withResolvers<never>();
  const onAbort = (): void => stopped.reject(signal.reason);
  signal.addEventListener("abort", onAbort, { once: true });
  try {
    await Promise.race([Promise.allSettled(pending), stopped.promise]);
  } finally {
    signal.removeEventListener("abort", onAbort);
  }
}
