/** Hosts that come and go. */
import { expect, test } from "vitest";
import { createMesh } from "./mesh.ts";
import { createWorkload } from "./workload.ts";

test("a host that joins gets work, and one that leaves hands its work back at once", async () => {
  const mesh = await createMesh("churn", {
    nodes: 2,
    slots: () => 1,
    node: () => ({ drainMs: 0 }),
  });
  const { simulation } = mesh;
  const requeued: string[] = [];
  mesh.onEvent((_node, event) => {
    if (event.event === "task-requeued") requeued.push(event.reason);
  });
  await mesh.assembled(10_000);
  const workload = createWorkload(() => true);
  for (let count = 0; count < 12; count++)
    workload.submit(mesh.node("n0"), { durationMs: 2000, lookUp: false });
  await simulation.finish(mesh.join(), simulation.nowMs() + 10_000);
  await mesh.assembled(10_000);
  await simulation.until(() => mesh.node("n2").thief.held() > 0, simulation.nowMs() + 1000);

  const startMs = simulation.nowMs();
  await simulation.finish(mesh.leave("n1"), startMs + 10_000);
  expect(mesh.names).toEqual(["n0", "n2"]);
  expect(requeued.some((reason) => reason.startsWith("cancelled: this node is leaving"))).toBe(
    true,
  );
  const all = Promise.all(workload.jobs.map(({ settled }) => settled));
  await simulation.finish(all, startMs + 60_000);
  await simulation.until(mesh.isWhole, simulation.nowMs() + 1000);
  expect(workload.jobs.some(({ outcome }) => outcome?.source === "there")).toBe(true);
});

test("a host that is lost for good is missed by nobody in the end", async () => {
  const mesh = await createMesh("loss", { nodes: 3 });
  await mesh.assembled(10_000);
  mesh.lose("n1");
  await mesh.simulation.until(mesh.isWhole, mesh.simulation.nowMs() + 10_000);
  expect(mesh.nodes().map(({ name }) => name)).toEqual(["n0", "n2"]);
});
