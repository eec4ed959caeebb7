import { MeshError } from "../../src/base/errors.ts";
import { createMesh } from "./mesh.ts";
import { createWorkload } from "./workload.ts";

const mesh = await createMesh("owner", {
  nodes: 3,
  slots: () => 1,
  around: (execute, name) =>
    name === "n1" ? () => Promise.reject(new MeshError("no-space", "the disk is full")) : execute,
});
await mesh.assembled(60_000);
const { simulation } = mesh;
mesh.onEvent((n, e) => {
  if (n.name !== "n0" || e.event !== "task-queued")
    console.log(
      simulation.nowMs().toFixed(0),
      n.name,
      e.event,
      "task" in e ? e.task.slice(17) : "",
      "peer" in e ? e.peer : "",
      "reason" in e ? e.reason : "",
      "granted" in e ? e.granted : "",
      "outcome" in e ? e.outcome : "",
    );
});
const w = createWorkload(() => true);
w.submit(mesh.node("n0"), { durationMs: 60_000, stealable: false });
for (let i = 0; i < 30; i++) w.submit(mesh.node("n0"), { durationMs: 300 });
await simulation.run(70_000);
