/** What a simulated mesh is given to do: tasks of all kinds, graphs of them, WebAssembly jobs. */
import type { SeededRandom } from "../../src/sim/random.ts";
import { createDag, type DagRun, runDag } from "./dag.ts";
import type { SimMesh, SimNode } from "./mesh.ts";
import type { Plan } from "./plan.ts";
import { drawText, isOver, runWordJob, type WordJob } from "./wordcount.ts";
import type { Job, Order, Workload } from "./workload.ts";

/** What a run works on, and what became of it. */
export interface Load {
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

/** How long one call of a WebAssembly job takes a slot, at most. */
export const wordCallMs = 2000;

export function createLoad(mesh: SimMesh, plan: Plan, workload: Workload): Load {
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
