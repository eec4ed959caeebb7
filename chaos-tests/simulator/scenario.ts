/**
 * One run of a simulated mesh from one seed: a safety phase in which anything may go wrong, then
 * heal, then a liveness phase in which everything has to come to its end.
 */
import { digestOf } from "../../src/base/digest.ts";
import { messageOf } from "../../src/base/errors.ts";
import { createSeededRandom, type SeededRandom } from "../../src/sim/random.ts";
import { type Checkers, createCheckers } from "./checkers.ts";
import { createDag, type DagRun, runDag } from "./dag.ts";
import type { FaultKind } from "./fault-kinds.ts";
import { createTorment, type Torment } from "./faults.ts";
import { createMesh, type SimMesh, type SimNode } from "./mesh.ts";
import { toolBytes } from "./tool.ts";
import { drawText, isOver, runWordJob, type WordJob } from "./wordcount.ts";
import { createWorkload, type Job, type Order, type Workload } from "./workload.ts";

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

/** What the seed decides about a run before it begins. */
interface Plan {
  readonly nodes: number;
  readonly slots: readonly number[];
  readonly owners: readonly string[];
  readonly faultCount: number;
  readonly longestMs: number;
  /** Tasks submitted between two faults. Few: thieves stay free, and what one loses another takes. */
  readonly burstMax: number;
  /** Tasks of one graph; 0: there is none. */
  readonly dagTasks: number;
  /** WebAssembly jobs. */
  readonly wordJobs: number;
  /** Bytes that each store may hold; undefined: more than it ever will. */
  readonly quotaBytes: number | undefined;
  /** Before the heal, an owner is cut off and has to finish alone. */
  readonly strands: boolean;
}

/** What a run works on, and what became of it. */
interface Load {
  readonly workload: Workload;
  readonly dags: DagRun[];
  readonly wordJobs: WordJob[];
  /** Submits some more. */
  submit(count: number): void;
  /** Nothing of a living owner is open; of that owner alone, if it is given. */
  isSettled(node?: SimNode): boolean;
  /** How long all that is open would take one slot. */
  openMs(node?: SimNode): number;
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
const hostsMax = 10;
const stepMs = 100;
const wordCallMs = 2000;

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

function drawPlan(seed: number): Plan {
  const random = createSeededRandom(`plan ${seed}`);
  const nodes = 2 + random.below(6);
  const ownersMax = random.chance(0.6) ? 2 : nodes;
  // One run in eight without a fault: what must never happen then is stricter.
  const faultCount = random.chance(0.125) ? 0 : 5 + random.below(25);
  const wordJobs = random.chance(0.15) ? 1 + random.below(2) : 0;
  // Too small for a job's input, and a store that is full of what is in use refuses tasks.
  const isTight = wordJobs === 0 && faultCount > 0 && random.chance(0.15);
  return {
    nodes,
    slots: Array.from({ length: hostsMax }, () => 1 + random.below(4)),
    owners: Array.from({ length: nodes }, (_, index) => `n${index}`).slice(
      0,
      random.chance(0.1) ? nodes : 1 + random.below(ownersMax),
    ),
    // One run in eight without a fault: what must never happen then is stricter.
    faultCount,
    longestMs: random.chance(0.5) ? 6000 : 800,
    burstMax: random.chance(0.5) ? 2 : 6,
    dagTasks: random.chance(0.25) ? 10 + random.below(51) : 0,
    wordJobs,
    quotaBytes: isTight ? 1_500_000 + random.below(3_000_000) : undefined,
    strands: random.chance(0.1) && faultCount > 0,
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
  try {
    await safety(mesh, plan, load, torment, checkers);
    await liveness(mesh, plan, load, torment, checkers);
  } finally {
    run.fired = torment.fired();
    violations.push(...checkers.violations, ...torment.troubles());
  }
  if (plan.faultCount === 0 && checkers.requeues() > 0)
    violations.push(`work bound: ${checkers.requeues()} tasks came back though nothing went wrong`);
}

/** Anything may go wrong. */
async function safety(
  mesh: SimMesh,
  plan: Plan,
  load: Load,
  torment: Torment,
  checkers: Checkers,
): Promise<void> {
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
  if (plan.strands) await finishAlone(mesh, plan, load, torment, checkers);
}

/** Nobody can be reached: what an owner has, it does itself. */
async function finishAlone(
  mesh: SimMesh,
  plan: Plan,
  load: Load,
  torment: Torment,
  checkers: Checkers,
): Promise<void> {
  const home = torment.strand();
  if (home === undefined) return;
  const workMs = slownessMax * (load.openMs(home) + plan.longestMs);
  const limitMs = mesh.simulation.nowMs() + settleMaxMs + workMs;
  while (!load.isSettled(home) && mesh.simulation.nowMs() < limitMs)
    await step(mesh, stepMs, checkers.compare);
  if (!load.isSettled(home)) checkers.say("degrade to local", home, "alone it does not finish");
}

/** Nothing goes wrong any more, and everything has to come to its end. */
async function liveness(
  mesh: SimMesh,
  plan: Plan,
  load: Load,
  torment: Torment,
  checkers: Checkers,
): Promise<void> {
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

function createLoad(mesh: SimMesh, plan: Plan, workload: Workload): Load {
  const random = mesh.simulation.random.fork("workload");
  const dags: DagRun[] = [];
  const wordJobs: WordJob[] = [];
  const isAlive = (node: SimNode): boolean => mesh.find(node.name) === node;
  const submitTasks = createSubmitter(mesh, plan, workload, random);
  let wordsLeft = plan.wordJobs;

  function anOwner(): SimNode | undefined {
    const nodes = plan.owners.flatMap((name) => mesh.find(name) ?? []);
    return nodes[random.below(nodes.length)];
  }

  function beginDag(node: SimNode): void {
    const medianMs = plan.longestMs / 8;
    const shape = { tasks: plan.dagTasks, medianMs, sigma: 0.8, chainShare: 0.2 };
    const dag = createDag(random, shape);
    dags.push(
      runDag(workload, node, dag, ({ durationMs }) => ({
        durationMs,
        outputBytes: random.below(40_000),
        stealable: random.chance(0.95),
      })),
    );
  }

  const ofThis = (node: SimNode | undefined) => (one: { readonly node: SimNode }) =>
    isAlive(one.node) && (node === undefined || one.node === node);
  const openDags = (node?: SimNode): readonly DagRun[] =>
    dags.filter((dag) => ofThis(node)(dag) && !dag.isDone() && !dag.isBroken());
  const openWords = (node?: SimNode): readonly WordJob[] =>
    wordJobs.filter((job) => ofThis(node)(job) && !isOver(job));
  const openJobs = (node?: SimNode): readonly Job[] => workload.open().filter(ofThis(node));

  return {
    workload,
    dags,
    wordJobs,
    submit(count) {
      const node = anOwner();
      if (node === undefined) return;
      if (plan.dagTasks > 0 && dags.length === 0) beginDag(node);
      if (wordsLeft > 0 && random.chance(0.3)) {
        wordsLeft -= 1;
        const text = drawText(random, 40_000 + random.below(200_000));
        wordJobs.push(runWordJob(node, `words-${wordJobs.length}`, text));
      }
      submitTasks(count);
      const open = openWords();
      if (random.chance(0.03)) open[random.below(open.length)]?.cancel(new Error("not wanted"));
    },
    isSettled: (node) =>
      openJobs(node).length + openDags(node).length + openWords(node).length === 0,
    openMs: (node) =>
      openJobs(node).reduce((sum, { order }) => sum + order.durationMs, 0) +
      openDags(node).reduce((sum, dag) => sum + dag.leftMs(), 0) +
      openWords(node).length * wordCallMs * 4,
  };
}

/** Submits tasks of all kinds to whichever owners live, and now and then takes one back. */
function createSubmitter(
  mesh: SimMesh,
  { owners, longestMs }: Plan,
  workload: Workload,
  random: SeededRandom,
): (count: number) => void {
  /** What was ordered before, to be ordered again: by then its result may be known. */
  const orders: Order[] = [];
  return (count) => {
    const nodes = owners.flatMap((name) => mesh.find(name) ?? []);
    for (let index = 0; index < count; index++) {
      const node = nodes[random.below(nodes.length)];
      if (node === undefined) return;
      const again = random.chance(0.35) ? orders[random.below(orders.length)] : undefined;
      const order = again ?? {
        durationMs: Math.ceil(random.between(1, longestMs)),
        exitCode: random.chance(0.1) ? 1 + random.below(3) : 0,
        outputBytes: random.chance(0.1) ? 700_000 : random.below(40_000),
        inputBytes: 12 + random.below(random.chance(0.1) ? 300_000 : 3000),
        stealable: random.chance(0.9),
        unit: `unit-${orders.length}`,
      };
      if (again === undefined) orders.push(order);
      workload.submit(node, order);
    }
    const open = workload.open();
    if (random.chance(0.15)) open[random.below(open.length)]?.cancel(new Error("not wanted"));
  };
}
