/** What happens to the node and to the next call when a thread of the pool dies. */
import type { Worker } from "node:worker_threads";
import { afterEach, expect, test } from "vitest";
import { MeshError } from "../base/errors.ts";
import { createClock } from "./clock.ts";
import { createWasmPool, type WasmCall, type WasmPool } from "./wasm-pool.ts";

const never = new AbortController().signal;
const clock = createClock();
const pools: WasmPool[] = [];

afterEach(async () => {
  await Promise.all(pools.splice(0).map((pool) => pool.close()));
});

function newPool(): WasmPool {
  const pool = createWasmPool(clock, 1);
  pools.push(pool);
  return pool;
}

const leb = (value: number): number[] =>
  value < 128 ? [value] : [(value & 127) | 128, ...leb(Math.floor(value / 128))];
const text = (value: string) => [value.length, ...Buffer.from(value)];
const section = (id: number, body: readonly number[]) => [id, ...leb(body.length), ...body];

/**
 * `(func (export "alloc") (param i32) (result i32) i32.const 0)` and
 * `(func (export "execute") (param i32 i32) (result i64) LOCALS BODY)` with one page of memory;
 * type 2 is `(array (mut i64))`.
 */
function moduleOf(locals: readonly number[], body: readonly number[]): Uint8Array {
  const alloc = [0, 0x41, 0, 0x0b];
  const execute = [...locals, ...body, 0x0b];
  return Uint8Array.from([
    ...[0x00, 0x61, 0x73, 0x6d, 1, 0, 0, 0],
    ...section(1, [3, 0x60, 1, 0x7f, 1, 0x7f, 0x60, 2, 0x7f, 0x7f, 1, 0x7e, 0x5e, 0x7e, 1]),
    ...section(3, [2, 0, 1]),
    ...section(5, [1, 0, 1]),
    ...section(7, [3, ...text("memory"), 2, 0, ...text("alloc"), 0, 0, ...text("execute"), 0, 1]),
    ...section(10, [2, alloc.length, ...alloc, execute.length, ...execute]),
  ]);
}

/** Returns the input: `i64.extend_i32_u (local.get 1)`, as its start is 0. */
const echo = moduleOf([0], [0x20, 1, 0xad]);
/** `loop br 0 end unreachable`. */
const endless = moduleOf([0], [0x03, 0x40, 0x0c, 0, 0x0b, 0x00]);
/** Calls itself with an array of 100,000 i64 in a local each time: the thread's heap runs out. */
const newArray = [0x41, 0xa0, 0x8d, 0x06, 0xfb, 0x07, 2, 0x21, 2];
const callItself = [0x20, 0, 0x20, 1, 0x10, 1];
const addItsLength = [0x20, 2, 0xfb, 0x0f, 0xad, 0x7c];
const greedy = moduleOf([1, 1, 0x63, 2], [...newArray, ...callItself, ...addItsLength]);

function callOf(name: string, bytes: Uint8Array, timeoutMs = 20_000): WasmCall {
  const input = Buffer.from("mesh");
  return {
    key: name,
    bytes: async () => bytes,
    entry: "execute",
    input,
    outputMaxBytes: 1024,
    timeoutMs,
  };
}

const echoed = { how: "returned", output: new Uint8Array(Buffer.from("mesh")) };

test("a thread that runs out of heap answers its call and is not used again", async () => {
  const pool = newPool();
  const answer = await pool.call(callOf("greedy", greedy), never);
  expect(answer).toMatchObject({ how: "trapped", message: expect.stringContaining("memory") });
  expect(await pool.call(callOf("echo", echo, 5_000), never)).toEqual(echoed);
});

test("a thread that fails after its call was given up does not end the node", async () => {
  const pool = newPool();
  const threads: Worker[] = [];
  const onThread = (worker: Worker) => threads.push(worker);
  process.on("worker", onThread);
  try {
    const call = pool.call(callOf("endless", endless, 300), never);
    await expect(call).rejects.toMatchObject({ code: "deadline" });
    expect(threads).toHaveLength(1);
    // As Node does when the heap runs out while the thread is being ended; throws if nobody listens.
    const emit = () => threads[0]?.emit("error", new Error("ERR_WORKER_OUT_OF_MEMORY"));
    expect(emit).not.toThrow();
    expect(await pool.call(callOf("echo", echo), never)).toEqual(echoed);
  } finally {
    process.off("worker", onThread);
  }
});

/** As `echo`, but it gives the first byte only. */
const first = moduleOf([0], [0x42, 1]);

test("a thread runs the module of its call, whatever it ran before", async () => {
  const pool = newPool();
  const letter = { how: "returned", output: new Uint8Array(Buffer.from("m")) };
  for (let round = 0; round < 2; round += 1) {
    expect(await pool.call(callOf("echo", echo), never)).toEqual(echoed);
    expect(await pool.call(callOf("echo", echo), never)).toEqual(echoed);
    expect(await pool.call(callOf("first", first), never)).toEqual(letter);
  }
});

test("a module is read once, and again after it could not be", async () => {
  const pool = newPool();
  let reads = 0;
  const bytes = async () => {
    reads += 1;
    if (reads === 1) throw new MeshError("blob-missing", "nobody has it");
    return echo;
  };
  const call = { ...callOf("echo", echo), bytes };
  await expect(pool.call(call, never)).rejects.toMatchObject({ code: "blob-missing" });
  expect(await pool.call(call, never)).toEqual(echoed);
  expect(await pool.call(call, never)).toEqual(echoed);
  expect(reads).toBe(2);
});

test("closing the pool settles the call that is running, and refuses the next", async () => {
  const pool = newPool();
  const running = pool.call(callOf("endless", endless), never);
  running.catch(() => {});
  // The module is compiled and the thread asked by then: the echo took the same way.
  await pool.call(callOf("echo", echo), never);
  await pool.close();
  await expect(running).rejects.toMatchObject({ code: "cancelled" });
  await expect(pool.call(callOf("echo", echo), never)).rejects.toMatchObject({ code: "cancelled" });
});

test("an abort does not wait for the compiler", async () => {
  const pool = newPool();
  const stop = new AbortController();
  const call = pool.call(callOf("broken", new Uint8Array(8)), stop.signal);
  stop.abort("enough");
  // The compiler's own verdict would be "malformed".
  await expect(call).rejects.toBe("enough");
  await expect(pool.call(callOf("broken", new Uint8Array(8)), never)).rejects.toMatchObject({
    code: "malformed",
  });
  expect(await pool.call(callOf("echo", echo), never)).toEqual(echoed);
});
