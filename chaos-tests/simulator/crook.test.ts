/** Each way to break the rules of stealing, alone: the owner gets its right result all the same. */
import { expect, test } from "vitest";
import { type Trick, trickNames } from "./crook.ts";
import { createMesh } from "./mesh.ts";
import { createWorkload } from "./workload.ts";

/** Whoever says that it is at it may say so for as long as the action allows, and half a minute more. */
const waitMaxMs = 700_000;

async function workBeside(trick: Trick) {
  const mesh = await createMesh(`crook ${trick}`, { nodes: 3, slots: () => 1 });
  await mesh.assembled(10_000);
  mesh.crooks.set("n1", trick);
  const workload = createWorkload(() => true);
  const jobs = Array.from({ length: 30 }, (_, index) =>
    workload.submit(mesh.node("n0"), { durationMs: 100 + index * 7, lookUp: false }),
  );
  const all = Promise.all(jobs.map(({ settled }) => settled));
  await mesh.simulation.finish(all, mesh.simulation.nowMs() + waitMaxMs);
  return { mesh, jobs };
}

test.each(trickNames)("%s: nothing is lost or wrong, and what is honest goes on", async (trick) => {
  const { mesh, jobs } = await workBeside(trick);
  expect(mesh.tricked.get(trick)).toBeGreaterThan(0);
  for (const { outcome, node, outputPath, expected } of jobs) {
    expect(outcome?.exitCode).toBe(0);
    const file = mesh.simulation.disk(node.name).files.file(outputPath);
    expect(Buffer.compare(file.bytes, expected)).toBe(0);
  }
  const byHonest = jobs.filter(
    ({ outcome }) => outcome?.source === "there" && outcome.peer === mesh.node("n2").self,
  );
  expect(byHonest.length).toBeGreaterThan(5);
});
