/**
 * One run of a simulated mesh from one seed: a safety phase in which anything may go wrong, then
 * heal, then a liveness phase in which everything has to come to its end.
 */
import { digestOf } from "../../src/base/digest.ts";
import { messageOf } from "../../src/base/errors.ts";
import { type Checkers, createCheckers } from "./checkers.ts";
import type { FaultKind } from "./fault-kinds.ts";
import { createTorment, type Torment } from "./faults.ts";
import { createLoad, type Load, wordCallMs } from "./load.ts";
import { createMesh, type SimMesh } from "./mesh.ts";
import { drawPlan, hostsMax, type Plan } from "./plan.ts";
import { toolBytes } from "./tool.ts";
import { createWorkload, type Job } from "./workload.ts";

export interface Verdict {
  readonly seed: number;
  readonly violations: readonly string[];
  /** Equal for equal runs, whatever happened in them. */
  readonly traceHash: string;
  readonly virtualMs: number;
  readonly events: number;
  readonly jobs: number;
  readonly stolen: number;
  /** Tasks for which a known result was put in place. */
  readonly known: number;
  readonly fired: ReadonlyMap<FaultKind, number>;
}

/** All that a phase of a run works with. */
interface Trial {
  readonly mesh: SimMesh;
  readonly plan: Plan;
  readonly load: Load;
  readonly torment: Torment;
  readonly checkers: Checkers;
}

export interface RunOptions {
  /** Furthest that a wall clock goes from the true time. All else is the same. */
  readonly clockMaxMs: number;
}

/** Everything open has to be settled this long after the heal, and after its own time to run. */
const settleMaxMs = 30_000;
/** What a slow host had begun is not made faster by the heal. */
const slownessMax = 20;
/** A silent death is noticed, and what was held for the dead let go of, within this. */
const restMs = 25_000;
/** The same where the last word of an owner was lost: a thief waits for it for a minute. */
const restWithCrooksMs = 65_000;
/** Every node has found every other again. */
const wholeMaxMs = 240_000;
const endMaxMs = 60_000;
const stepMs = 100;

/** Never rejects: whatever goes wrong is a violation. */
export async function runSeed(
  seed: number,
  options: RunOptions = { clockMaxMs: 3_600_000 },
): Promise<Verdict> {
  const violations: string[] = [];
  const unhandled = (error: unknown): void => {
    violations.push(`unhandled rejection: ${error instanceof Error ? error.stack : error}`);
  };
  process.on("unhandledRejection", unhandled);
  const run: { mesh?: SimMesh; jobs: readonly Job[]; fired: Verdict["fired"] } = {
    jobs: [],
    fired: new Map(),
  };
  try {
    const plan = drawPlan(seed);
    const mesh = await createMesh(seed, {
      nodes: plan.nodes,
      slots: (index) => plan.slots[index] ?? 1,
      keepsRoots: true,
      ...(plan.quotaBytes === undefined ? {} : { quotaBytes: plan.quotaBytes }),
    });
    run.mesh = mesh;
    await play(mesh, plan, options, run, violations);
  } catch (error) {
    violations.push(`the run broke off: ${error instanceof Error ? error.stack : error}`);
  } finally {
    // Rejections are told of at the end of a turn.
    await new Promise((resolve) => setImmediate(resolve));
    process.off("unhandledRejection", unhandled);
  }
  const { mesh, jobs, fired } = run;
  return {
    seed,
    violations,
    traceHash: mesh?.simulation.traceHash() ?? messageOf(violations[0]),
    virtualMs: mesh?.simulation.nowMs() ?? 0,
    events: mesh?.simulation.eventCount() ?? 0,
    jobs: jobs.length,
    stolen: jobs.filter(({ outcome }) => outcome?.source === "there").length,
    known: jobs.filter(({ outcome }) => outcome?.source === "known").length,
    fired,
  };
}

async function play(
  mesh: SimMesh,
  plan: Plan,
  { clockMaxMs }: RunOptions,
  run: { jobs: readonly Job[]; fired: Verdict["fired"] },
  violations: string[],
): Promise<void> {
  const faulty: { torment?: Torment } = {};
  const checkers = createCheckers(mesh, {
    fired: () => faulty.torment?.fired() ?? new Map(),
    stillSinceMs: (name) => faulty.torment?.stillSinceMs(name),
    silentSinceMs: (name) => faulty.torment?.silentSinceMs(name),
    calmSinceMs: () => (plan.faultCount === 0 ? 0 : faulty.torment?.calmSinceMs()),
  });
  const workload = createWorkload((node) => mesh.find(node.name) === node, checkers.watcher);
  run.jobs = workload.jobs;
  const blobs = () => [
    { digest: digestOf(toolBytes), isInput: true },
    ...workload.jobs.map(({ expectedDigest }) => ({
      digest: expectedDigest,
      isInput: plan.dagTasks > 0,
    })),
  ];
  const torment = createTorment(mesh, new Set(plan.owners), blobs, {
    slownessMax,
    hostsMax,
    clockMaxMs,
  });
  faulty.torment = torment;
  const load = createLoad(mesh, plan, workload);
  const trial = { mesh, plan, load, torment, checkers };
  try {
    await safety(trial);
    await liveness(trial);
  } finally {
    run.fired = torment.fired();
    violations.push(...checkers.violations, ...torment.troubles());
  }
  if (plan.faultCount === 0 && checkers.requeues() > 0)
    violations.push(`work bound: ${checkers.requeues()} tasks came back though nothing went wrong`);
}

/** Anything may go wrong. */
async function safety(trial: Trial): Promise<void> {
  const { mesh, plan, load, torment, checkers } = trial;
  const { random } = mesh.simulation;
  for (let fault = 0; fault < plan.faultCount; fault++) {
    load.submit(random.below(plan.burstMax));
    await step(mesh, random.between(20, 1500), checkers.compare);
    checkers.whole();
    torment.next();
    checkers.forgive();
  }
  load.submit(10);
  await step(mesh, 500, checkers.compare);
  if (plan.strands) await finishAlone(trial);
}

/** Nobody can be reached: what an owner has, it does itself. */
async function finishAlone({ mesh, plan, load, torment, checkers }: Trial): Promise<void> {
  const home = torment.strand();
  if (home === undefined) return;
  const workMs = slownessMax * (load.openMs(home) + plan.longestMs);
  const limitMs = mesh.simulation.nowMs() + settleMaxMs + workMs;
  while (!load.isSettled(home) && mesh.simulation.nowMs() < limitMs)
    await step(mesh, stepMs, checkers.compare);
  if (!load.isSettled(home)) checkers.say("degrade to local", home, "alone it does not finish");
}

/** Nothing goes wrong any more, and everything has to come to its end. */
async function liveness({ mesh, plan, load, torment, checkers }: Trial): Promise<void> {
  const { simulation } = mesh;
  await torment.heal();
  load.submit(10);
  const workMs = load.openMs() + slownessMax * (plan.longestMs + wordCallMs);
  const limitMs = simulation.nowMs() + settleMaxMs + workMs;
  while (!load.isSettled() && simulation.nowMs() < limitMs) {
    await step(mesh, stepMs, checkers.compare);
    if (torment.calmSinceMs() !== undefined) checkers.awake();
  }
  const hadCrooks = [...torment.fired().keys()].some((kind) => kind.startsWith("crook-"));
  await step(mesh, hadCrooks ? restWithCrooksMs : restMs, checkers.compare);
  await simulation.until(mesh.isWhole, simulation.nowMs() + wholeMaxMs).catch(() => {
    const [node] = mesh.nodes();
    if (node !== undefined)
      checkers.say("convergence", node, "the mesh is not whole 4 min after everything was healed");
  });
  checkers.rest(load.dags, load.wordJobs);
  await simulation.finish(checkers.end(), simulation.nowMs() + endMaxMs);
}

/** Runs on in small steps, looking after each. */
async function step(mesh: SimMesh, durationMs: number, look: () => void): Promise<void> {
  const { simulation } = mesh;
  const endMs = simulation.nowMs() + durationMs;
  while (simulation.nowMs() < endMs) {
    await simulation.run(Math.min(endMs, simulation.nowMs() + stepMs));
    look();
  }
}
