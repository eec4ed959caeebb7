/** A simulated mesh on which a test plays out work, and what its nodes said meanwhile. */
import { createMesh, type MeshOptions, type SimMesh } from "../../chaos-tests/simulator/mesh.ts";
import { createWorkload, type Job, type Workload } from "../../chaos-tests/simulator/workload.ts";
import type { MeshEvent } from "../base/events.ts";

export interface Stage {
  readonly mesh: SimMesh;
  readonly work: Workload;
  /** What all nodes said, with the name of who said it, in order. */
  readonly log: (readonly [string, MeshEvent])[];
  /** What the node of that name said of these kinds, in order. */
  said<E extends MeshEvent["event"]>(
    name: string,
    ...events: readonly E[]
  ): readonly Extract<MeshEvent, { event: E }>[];
  pass(durationMs: number): Promise<void>;
  settled(job: Job, withinMs?: number): Promise<NonNullable<Job["outcome"]>>;
  allDone(withinMs?: number): Promise<void>;
}

const patienceMs = 60_000;

/** Resolves once all nodes are connected. */
export async function stage(seed: string, options: MeshOptions): Promise<Stage> {
  const mesh = await createMesh(seed, options);
  const { simulation } = mesh;
  const log: (readonly [string, MeshEvent])[] = [];
  mesh.onEvent((node, event) => void log.push([node.name, event]));
  await mesh.assembled(10_000);
  const work = createWorkload(() => true);
  return {
    mesh,
    work,
    log,
    said: <E extends MeshEvent["event"]>(name: string, ...events: readonly E[]) => {
      const isAsked = (event: MeshEvent): event is Extract<MeshEvent, { event: E }> =>
        events.some((one) => one === event.event);
      return log.flatMap(([who, event]) => (who === name && isAsked(event) ? [event] : []));
    },
    pass: (durationMs) => simulation.run(simulation.nowMs() + durationMs),
    settled: (job, withinMs = patienceMs) =>
      simulation.finish(job.settled, simulation.nowMs() + withinMs),
    async allDone(withinMs = patienceMs) {
      const all = Promise.all(work.jobs.map(({ settled }) => settled));
      await simulation.finish(all, simulation.nowMs() + withinMs);
    },
  };
}
