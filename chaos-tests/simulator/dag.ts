/**
 * Tasks that wait for each other, as a build's do: a skewed graph drawn from a seed, and a driver
 * that submits each task when those whose outputs it reads are done, as a build tool does.
 */
import type { SeededRandom } from "../../src/sim/random.ts";
import type { SimNode } from "./mesh.ts";
import { isSettled, type Job, type Order, type Workload } from "./workload.ts";

export interface DagTask {
  readonly durationMs: number;
  /** Indices of earlier tasks. */
  readonly inputs: readonly number[];
}

/** In an order in which they can be run. */
export type Dag = readonly DagTask[];

export interface DagShape {
  readonly tasks: number;
  readonly medianMs: number;
  /** Of the durations' logarithm: 0.8 is a usual C++ project, 0 makes all equal. */
  readonly sigma: number;
  /** Share of the tasks that form one chain. */
  readonly chainShare: number;
}

/** 400 tasks, of which every tenth is a link of one chain. */
export const skewedDag: DagShape = { tasks: 400, medianMs: 1000, sigma: 0.8, chainShare: 0.1 };

/**
 * One long chain, whose links come late among their equals, and from each link a fan of tasks; a
 * few tasks join several others. Whoever takes what is ready first come, first served leaves the
 * chain for last.
 */
export function createDag(random: SeededRandom, shape: DagShape): Dag {
  const tasks: DagTask[] = [];
  const links = Math.max(1, Math.round(shape.tasks * shape.chainShare));
  const fan = shape.tasks / links;
  let link: number | undefined;
  const duration = (): number =>
    Math.max(1, Math.ceil(shape.medianMs * Math.exp(shape.sigma * gaussian(random))));
  while (tasks.length < shape.tasks) {
    const before = link === undefined ? [] : [link];
    const fanned = Math.min(
      Math.round(random.between(0, 2 * fan - 1)),
      shape.tasks - tasks.length - 1,
    );
    for (let count = 0; count < fanned; count++) {
      const joined = tasks.length > 2 && random.chance(0.2) ? [random.below(tasks.length)] : [];
      tasks.push({ durationMs: duration(), inputs: [...new Set([...before, ...joined])] });
    }
    tasks.push({ durationMs: duration(), inputs: before });
    link = tasks.length - 1;
  }
  return tasks;
}

/** The longest way through it: no mesh is faster. */
export function criticalPathMs(dag: Dag): number {
  const ends: number[] = [];
  for (const { durationMs, inputs } of dag)
    ends.push(durationMs + Math.max(0, ...inputs.map((index) => ends[index] ?? 0)));
  return Math.max(0, ...ends);
}

export interface DagRun {
  readonly node: SimNode;
  /** By task; holes for those that are not submitted yet. */
  readonly jobs: readonly (Job | undefined)[];
  /** Everything is done. */
  isDone(): boolean;
  /** A task failed or was cancelled, so that what waits for it will never be submitted. */
  isBroken(): boolean;
  /** Durations of all that is not done yet. */
  leftMs(): number;
}

/** Submits what is ready, now and whenever something is done. `orderOf` says all but the inputs. */
export function runDag(
  workload: Workload,
  node: SimNode,
  dag: Dag,
  orderOf: (task: DagTask, index: number) => Order,
): DagRun {
  const jobs: (Job | undefined)[] = dag.map(() => undefined);
  const waiters: number[][] = dag.map(() => []);
  const missing = dag.map(({ inputs }) => inputs.length);
  let done = 0;
  let broken = false;
  for (const [index, { inputs }] of dag.entries())
    for (const input of inputs) waiters[input]?.push(index);

  function submit(index: number): void {
    const task = dag[index];
    if (task === undefined) return;
    const inputs = task.inputs.flatMap((input) => jobs[input] ?? []);
    const job = workload.submit(node, { ...orderOf(task, index), inputs });
    jobs[index] = job;
    job.settled.then(
      ({ exitCode }) => {
        if (exitCode === 0) finished(index);
        else broken = true;
      },
      () => {
        broken = true;
      },
    );
  }

  function finished(index: number): void {
    done += 1;
    for (const waiter of waiters[index] ?? []) {
      const left = (missing[waiter] ?? 0) - 1;
      missing[waiter] = left;
      if (left === 0 && !broken) submit(waiter);
    }
  }

  for (const [index, { inputs }] of dag.entries()) if (inputs.length === 0) submit(index);
  return {
    node,
    jobs,
    isDone: () => done === dag.length,
    isBroken: () => broken,
    leftMs: () =>
      dag.reduce((sum, { durationMs }, index) => {
        const job = jobs[index];
        return job !== undefined && isSettled(job) ? sum : sum + durationMs;
      }, 0),
  };
}

/** By Box and Muller. */
function gaussian(random: SeededRandom): number {
  const radius = Math.sqrt(-2 * Math.log(1 - random.fraction()));
  return radius * Math.cos(2 * Math.PI * random.fraction());
}
