/** WebAssembly jobs on a simulated mesh. */
import { expect, test } from "vitest";
import { textOf } from "../../src/base/bytes.ts";
import { createSeededRandom } from "../../src/sim/random.ts";
import { createMesh } from "./mesh.ts";
import { countDirectly, drawText, isOver, runWordJob } from "./wordcount.ts";

test("chunks run on several nodes, and the merged output is what the module gives directly", async () => {
  const mesh = await createMesh("words", { nodes: 4, slots: () => 1 });
  await mesh.assembled(10_000);
  const text = drawText(createSeededRandom("text"), 500_000);
  const job = runWordJob(mesh.node("n0"), "words", text);
  await mesh.simulation.until(() => isOver(job), mesh.simulation.nowMs() + 60_000);
  expect(job.failure).toBeUndefined();
  expect(textOf(job.result?.output ?? new Uint8Array())).toBe(textOf(countDirectly(text)));
  expect(job.result?.chunks).toBeGreaterThan(5);
  expect(Object.keys(job.result?.byPeer ?? {}).length).toBeGreaterThan(2);
});
