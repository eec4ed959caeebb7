/**
 * One run of a simulated mesh from one seed: a safety phase in which anything may go wrong, then
 * heal, then a liveness phase in which everything has to come to its end.
 */
import { digestOf } from "../../src/base/digest.ts";
import { messageOf } from "../../src/base/errors.ts";
import { createSeededRandom } from "../../src/sim/random.ts";
import { createCheckers } from "./checkers.ts";
import { createTorment, type FaultKind, type Torment } from "./faults.ts";
import { createMesh, type SimMesh } from "./mesh.ts";
import { toolBytes } from "./tool.ts";
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
}

/** Everything open has to be settled this long after the heal, and after its own time to run. */
const settleMaxMs = 30_000;
/** What a slow host had begun is not made faster by the heal. */
const slownessMax = 20;
/** A silent death is noticed, and what was held for the dead let go of, within this. */
const restMs = 25_000;
/** Every node has found every other again. */
const wholeMaxMs = 240_000;
const stepMs = 100;

/** Never rejects: whatever goes wrong is a violation. */
export async function runSeed(seed: number): Promise<Verdict> {
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
    });
    run.mesh = mesh;
    await play(mesh, plan, run, violations);
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
  return {
    nodes,
    slots: Array.from({ length: nodes }, () => 1 + random.below(4)),
    owners: Array.from({ length: nodes }, (_, index) => `n${index}`).slice(0, 1 + random.below(2)),
    // One run in eight without a fault: what must never happen then is stricter.
    faultCount: random.chance(0.125) ? 0 : 5 + random.below(25),
    longestMs: random.chance(0.5) ? 6000 : 800,
    burstMax: random.chance(0.5) ? 2 : 6,
  };
}

async function play(
  mesh: SimMesh,
  plan: Plan,
  run: { jobs: readonly Job[]; fired: Verdict["fired"] },
  violations: string[],
): Promise<void> {
  const { simulation } = mesh;
  const faulty: { torment?: Torment } = {};
  const checkers = createCheckers(mesh, {
    stillSinceMs: (name) => faulty.torment?.stillSinceMs(name),
    silentSinceMs: (name) => faulty.torment?.silentSinceMs(name),
  });
  const workload = createWorkload((node) => mesh.find(node.name) === node, checkers.watcher);
  run.jobs = workload.jobs;
  const digests = () => [
    digestOf(toolBytes),
    ...workload.jobs.map((job) => digestOf(job.expected)),
  ];
  const torment = createTorment(mesh, new Set(plan.owners), digests, slownessMax);
  faulty.torment = torment;
  run.fired = torment.fired;
  const submit = createSubmitter(mesh, plan, workload);

  for (let fault = 0; fault < plan.faultCount; fault++) {
    submit(simulation.random.below(plan.burstMax));
    await step(mesh, simulation.random.between(20, 1500), checkers.compare);
    torment.next();
  }
  submit(10);
  await step(mesh, 500, checkers.compare);
  await torment.heal();

  submit(10);
  const workMs = workload.open().reduce((sum, { order }) => sum + order.durationMs, 0);
  const limitMs = simulation.nowMs() + settleMaxMs + workMs + slownessMax * plan.longestMs;
  while (workload.open().length > 0 && simulation.nowMs() < limitMs) {
    await step(mesh, stepMs, checkers.compare);
    checkers.awake();
  }
  await step(mesh, restMs, checkers.compare);
  checkers.rest(workload.jobs);
  violations.push(...checkers.violations);
  if (plan.faultCount === 0 && checkers.requeues() > 0)
    violations.push(`work bound: ${checkers.requeues()} tasks came back though nothing went wrong`);
  await simulation.until(mesh.isWhole, simulation.nowMs() + wholeMaxMs).catch(() => {
    violations.push("convergence: the mesh is not whole again 4 min after everything was healed");
  });
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

/** Submits tasks of all kinds to whichever owners live, and now and then takes one back. */
function createSubmitter(
  mesh: SimMesh,
  { owners, longestMs }: Plan,
  workload: Workload,
): (count: number) => void {
  const random = mesh.simulation.random.fork("workload");
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
