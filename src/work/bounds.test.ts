/** What neither a peer, nor a bad moment, may make of a node's work: simulated, real code. */
import { expect, test } from "vitest";
import { createMesh, type MeshOptions, type SimMesh } from "../../chaos-tests/simulator/mesh.ts";
import { createWorkload, type Workload } from "../../chaos-tests/simulator/workload.ts";
import type { MeshEvent } from "../base/events.ts";

interface Stage {
  readonly mesh: SimMesh;
  readonly work: Workload;
  said<E extends MeshEvent["event"]>(
    name: string,
    event: E,
  ): readonly Extract<MeshEvent, { event: E }>[];
  pass(durationMs: number): Promise<void>;
  allDone(withinMs?: number): Promise<void>;
}

async function stage(options: MeshOptions): Promise<Stage> {
  const mesh = await createMesh("bounds", options);
  const { simulation } = mesh;
  const log: (readonly [string, MeshEvent])[] = [];
  mesh.onEvent((node, event) => void log.push([node.name, event]));
  await mesh.assembled(10_000);
  const work = createWorkload(() => true);
  return {
    mesh,
    work,
    said: <E extends MeshEvent["event"]>(name: string, event: E) =>
      log.flatMap(([who, one]) =>
        who === name && one.event === event ? [one as Extract<MeshEvent, { event: E }>] : [],
      ),
    pass: (durationMs) => simulation.run(simulation.nowMs() + durationMs),
    async allDone(withinMs = 60_000) {
      const all = Promise.all(work.jobs.map(({ settled }) => settled));
      await simulation.finish(all, simulation.nowMs() + withinMs);
    },
  };
}

test("a thief with room for more tasks than one answer holds takes them in several", async () => {
  const on = await stage({ nodes: 1, slots: (index) => (index === 0 ? 1 : 600) });
  for (let count = 0; count < 900; count++)
    on.work.submit(on.mesh.node("n0"), { durationMs: 2000, lookUp: false, forget: true });
  await on.pass(1000);
  await on.mesh.simulation.finish(on.mesh.join(), on.mesh.simulation.nowMs() + 10_000);
  await on.allDone();
  // Else those that do not fit would count as failed, and after two thieves as home work.
  expect(on.said("n0", "task-requeued")).toEqual([]);
  expect(on.said("n0", "task-fallback")).toEqual([]);
});
