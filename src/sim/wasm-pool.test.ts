/** Modules on simulated hosts. */
import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { textOf, utf8 } from "../base/bytes.ts";
import { createSimulation } from "./simulation.ts";

const bytes = new Uint8Array(readFileSync("examples/wordcount/wordcount.wasm"));
const never = new AbortController().signal;
const call = {
  key: "wordcount",
  bytes: async () => bytes,
  entry: "execute",
  input: utf8("to be or not to be"),
  outputMaxBytes: 1000,
  timeoutMs: 1000,
};

test("a module really runs, and takes the host's own time for it", async () => {
  const simulation = createSimulation(1);
  simulation.addHost("a");
  const startMs = simulation.nowMs();
  const answer = await simulation.finish(simulation.wasmPool("a").call(call, never), 1e6);
  const tookMs = simulation.nowMs() - startMs;
  expect(tookMs).toBeGreaterThan(0);
  if (answer.how !== "returned") throw new Error(answer.message);
  expect(textOf(answer.output)).toBe("2 be\n2 to\n1 not\n1 or\n");

  simulation.faults.setSlowness("a", 10);
  const laterMs = simulation.nowMs();
  await simulation.finish(simulation.wasmPool("a").call(call, never), 1e6);
  expect(simulation.nowMs() - laterMs).toBeCloseTo(10 * tookMs, 6);
});

test("a call that would take longer than it may ends at its deadline", async () => {
  const simulation = createSimulation(1);
  simulation.addHost("a");
  simulation.faults.setSlowness("a", 1e6);
  const late = simulation.wasmPool("a").call(call, never);
  await expect(simulation.finish(late, 1e6)).rejects.toMatchObject({ code: "deadline" });
  expect(simulation.nowMs()).toBeCloseTo(1000, 0);
});

test("what is no module, or traps, is told apart", async () => {
  const simulation = createSimulation(1);
  simulation.addHost("a");
  const pool = simulation.wasmPool("a");
  const nonsense = pool.call(
    { ...call, key: "nonsense", bytes: async () => utf8("no module") },
    never,
  );
  await expect(simulation.finish(nonsense, 1e6)).rejects.toMatchObject({ code: "malformed" });
  const absent = await simulation.finish(pool.call({ ...call, entry: "absent" }, never), 1e6);
  expect(absent).toMatchObject({ how: "trapped" });
});

test("a pool that closes ends its calls", async () => {
  const simulation = createSimulation(1);
  simulation.addHost("a");
  const pool = simulation.wasmPool("a");
  const open = pool.call(call, never);
  await pool.close();
  await expect(simulation.finish(open, 1e6)).rejects.toMatchObject({ code: "cancelled" });
});
