import { createMesh } from "./mesh.ts";
import { createWorkload } from "./workload.ts";

const n = Number(process.argv[2] ?? 4);
const t0 = performance.now();
const mesh = await createMesh(1, { nodes: n });
await mesh.assembled(60_000);
console.log(
  "assembled",
  mesh.simulation.nowMs(),
  mesh.simulation.eventCount(),
  performance.now() - t0,
);
const counts: Record<string, number> = {};
mesh.onEvent((_, { event }) => {
  counts[event] = (counts[event] ?? 0) + 1;
});
const w = createWorkload(() => true);
const t1 = performance.now(),
  v1 = mesh.simulation.nowMs();
for (let i = 0; i < n * 15; i++) w.submit(mesh.node("n0"), { durationMs: 200 + ((i * 37) % 1000) });
await mesh.simulation.finish(Promise.all(w.jobs.map((j) => j.settled)), v1 + 600_000);
console.log(
  "done",
  mesh.simulation.nowMs() - v1,
  mesh.simulation.eventCount(),
  performance.now() - t1,
  counts,
);
const here = w.jobs.filter((j) => j.outcome?.source === "here").length;
console.log(
  "here",
  here,
  "of",
  w.jobs.length,
  "ideal",
  w.jobs.reduce((s, j) => s + j.order.durationMs, 0) / (2 * n),
);
for (const x of mesh.nodes().slice(0, 3))
  console.log(
    x.name,
    x.owner.counts(),
    x.thief.held(),
    x.slots.busy,
    x.store.stats().pinned,
    x.control.sent(),
  );
const t2 = performance.now(),
  v2 = mesh.simulation.nowMs(),
  e2 = mesh.simulation.eventCount();
await mesh.simulation.run(v2 + 60_000);
console.log(
  "idle minute",
  performance.now() - t2,
  mesh.simulation.eventCount() - e2,
  mesh.simulation.traceHash(),
);
