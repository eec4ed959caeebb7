/** Graphs of tasks: their shape, and that a mesh works through them in order. */
import { expect, test } from "vitest";
import { createSeededRandom } from "../../src/sim/random.ts";
import { createDag, criticalPathMs, runDag, skewedDag } from "./dag.ts";
import { createMesh } from "./mesh.ts";
import { createWorkload } from "./workload.ts";

test("a graph has as many tasks as asked for, each after what it reads, and one long chain", () => {
  for (let seed = 0; seed < 20; seed++) {
    const dag = createDag(createSeededRandom(`${seed}`), skewedDag);
    expect(dag).toHaveLength(skewedDag.tasks);
    for (const [index, { inputs, durationMs }] of dag.entries()) {
      expect(inputs.every((input) => input < index)).toBe(true);
      expect(durationMs).toBeGreaterThan(0);
    }
    const workMs = dag.reduce((sum, { durationMs }) => sum + durationMs, 0);
    expect(criticalPathMs(dag)).toBeGreaterThan(workMs * skewedDag.chainShare * 0.5);
    expect(criticalPathMs(dag)).toBeLessThan(workMs / 3);
  }
});

test("the same seed draws the same graph", () => {
  const draw = (seed: string) => createDag(createSeededRandom(seed), skewedDag);
  expect(draw("a")).toEqual(draw("a"));
  expect(draw("a")).not.toEqual(draw("b"));
});

test("a mesh works through a graph, and what one task writes another reads elsewhere", async () => {
  const mesh = await createMesh("dag", { nodes: 4, slots: () => 2 });
  await mesh.assembled(10_000);
  const workload = createWorkload(() => true);
  const shape = { tasks: 40, medianMs: 200, sigma: 0.8, chainShare: 0.2 };
  const dag = createDag(createSeededRandom("dag"), shape);
  const run = runDag(workload, mesh.node("n0"), dag, ({ durationMs }) => ({ durationMs }));
  const startMs = mesh.simulation.nowMs();
  await mesh.simulation.until(run.isDone, startMs + 120_000);
  const tookMs = mesh.simulation.nowMs() - startMs;
  expect(tookMs).toBeGreaterThanOrEqual(criticalPathMs(dag));
  const stolen = run.jobs.filter((job) => job?.outcome?.source === "there");
  expect(stolen.length).toBeGreaterThan(10);
  expect(stolen.some((job) => (job?.order.inputs ?? []).length > 0)).toBe(true);
});
