import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { ActionSpec } from "../action/action.ts";
import { textOf, utf8 } from "../base/bytes.ts";
import { type BlobStore, createBlobStore } from "../blob/store.ts";
import { createClock } from "../host/clock.ts";
import { createDisk } from "../host/disk.ts";
import { createWasmPool } from "../host/wasm-pool.ts";
import { createWasmExecutor, wasmMemoryProperty } from "./wasm.ts";
import { compile, jobModule } from "./wasm-fixture.ts";
import { limitModule, wasmPageBytes } from "./wasm-module.ts";

const never = new AbortController().signal;
const clock = createClock();
const disk = createDisk();
const pool = createWasmPool(clock, 2);
let directory: string;
let store: BlobStore;

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "mesh-wasm-"));
  store = await createBlobStore(
    { disk, clock },
    { directory, quotaBytes: 1e9, sync: "never" },
    never,
  );
});

afterAll(async () => {
  await pool.close();
  await rm(directory, { recursive: true });
});

const MiB = 1024 * 1024;

async function run(
  module: Uint8Array,
  input: string,
  { timeoutMs = 10_000, memoryMaxBytes = 16 * MiB, signal = never } = {},
) {
  const execute = createWasmExecutor(
    { store, pool },
    { memoryMaxBytes: 64 * MiB, timeoutMaxMs: 60_000, outputMaxBytes: MiB },
  );
  const file = async (path: string, bytes: Uint8Array) =>
    ({ kind: "file", path, digest: await store.put(bytes), executable: false }) as const;
  const spec: ActionSpec = {
    argv: ["execute"],
    env: {},
    cwd: "/",
    outputPaths: ["/output"],
    inputs: [await file("/module.wasm", module), await file("/input", utf8(input))],
    platform: { platform: "wasm", [wasmMemoryProperty]: String(memoryMaxBytes) },
    timeoutMs,
  };
  const outcome = await execute(spec, () => {}, signal);
  const [output] = outcome.outputs;
  return {
    exitCode: outcome.exitCode,
    output: output === undefined ? undefined : textOf(await store.read(output.digest)),
    stderr: textOf(await store.read(outcome.stderr)),
  };
}

test("a module's execute gets the input and gives the output", async () => {
  const upper = await jobModule(
    "for (let i = 0; i < size; i++) store<u8>(start + i, load<u8>(start + i) - 32); return pack(start, size);",
  );
  expect(await run(upper, "mesh")).toEqual({ exitCode: 0, output: "MESH", stderr: "" });
});

test("every call has an instance of its own", async () => {
  const counting = await compile(`
    let calls = 0;
    export function alloc(size: i32): usize { return heap.alloc(size); }
    export function execute(start: usize, size: i32): i64 {
      calls++;
      store<u8>(start, 48 + calls);
      return (<i64>start << 32) | 1;
    }`);
  expect((await run(counting, "x")).output).toBe("1");
  expect((await run(counting, "x")).output).toBe("1");
});

test("an endless loop ends at its deadline, and the next call works", async () => {
  const endless = await jobModule("while (size >= 0) { store<u8>(start, 1); } return 0;");
  await expect(run(endless, "x", { timeoutMs: 200 })).rejects.toMatchObject({ code: "deadline" });
  const echo = await jobModule("return pack(start, size);");
  expect((await run(echo, "still here")).output).toBe("still here");
});

test("an abort ends an endless loop", async () => {
  const endless = await jobModule("while (size >= 0) { store<u8>(start, 1); } return 0;");
  const stop = new AbortController();
  const running = run(endless, "x", { signal: stop.signal });
  setTimeout(() => stop.abort("cancelled"), 50);
  await expect(running).rejects.toBe("cancelled");
});

test("memory stops growing at the maximum, to the page", async () => {
  const grow = await jobModule(
    "while (memory.grow(1) >= 0) {} store<u32>(start, memory.size()); return pack(start, 4);",
  );
  const { output } = await run(grow, "xxxx", { memoryMaxBytes: 3 * MiB });
  expect(Buffer.from(output ?? "", "latin1").readUInt32LE()).toBe((3 * MiB) / wasmPageBytes);
});

test("a trap is the task's own failure, told in words", async () => {
  const trap = await jobModule("unreachable(); return 0;");
  expect(await run(trap, "x")).toMatchObject({
    exitCode: 1,
    output: undefined,
    stderr: expect.stringContaining("unreachable"),
  });
});

test("an output that lies outside memory is a trap, not a crash", async () => {
  const wild = await jobModule("return pack(0xfffffff0, 1000);");
  expect((await run(wild, "x")).stderr).toContain("outside memory");
});

test("more memory than the node gives is refused", async () => {
  const echo = await jobModule("return pack(start, size);");
  await expect(run(echo, "x", { memoryMaxBytes: 65 * MiB })).rejects.toMatchObject({
    code: "refused",
  });
});

test("a module that imports anything is refused", async () => {
  const nosy = await compile(`
    @external("env", "peek") declare function peek(): i32;
    export function execute(start: usize, size: i32): i64 { return peek(); }`);
  expect(() => limitModule(nosy, MiB)).toThrow(/imports something/);
});

test("a module that starts with too much memory is refused", async () => {
  const greedy = await compile("export function f(): void {}", { initialMemory: 100 });
  expect(() => limitModule(greedy, 99 * wasmPageBytes)).toThrow(/starts with 100 memory pages/);
});

test("what is no module is refused whatever it is", async () => {
  expect(() => limitModule(utf8("#!/bin/sh"), MiB)).toThrow(/magic/);
  const module = await jobModule("return 0;");
  for (let size = 9; size < module.byteLength; size += 7) {
    // A cut module is refused, unless the cut falls between two sections.
    try {
      limitModule(module.subarray(0, size), MiB);
    } catch (error) {
      expect(error).toMatchObject({ name: "MeshError" });
    }
  }
});
