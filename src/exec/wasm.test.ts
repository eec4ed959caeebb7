import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { ActionSpec } from "../action/action.ts";
import { textOf, utf8 } from "../base/bytes.ts";
import { makeDigest } from "../base/digest.ts";
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

const leb = (value: number): number[] =>
  value < 128 ? [value] : [(value & 127) | 128, ...leb(Math.floor(value / 128))];
const section = (id: number, body: readonly number[]) => [id, ...leb(body.length), ...body];
const moduleOf = (...sections: readonly (readonly number[])[]) =>
  Uint8Array.from([0x00, 0x61, 0x73, 0x6d, 1, 0, 0, 0, ...sections.flat()]);
const onePage = section(5, [1, 0, 1]);
const tablesOf = (...tables: readonly (readonly number[])[]) =>
  section(4, [...leb(tables.length), ...tables.flat()]);
const funcref = (least: number) => [0x70, 0, ...leb(least)];

test("a module that starts with too many table entries is refused, also when many tables share them", async () => {
  const fits = moduleOf(tablesOf(funcref(50_000), funcref(50_000)), onePage);
  expect(await WebAssembly.compile(Buffer.from(limitModule(fits, MiB).bytes))).toBeDefined();
  const over = moduleOf(tablesOf(funcref(50_000), funcref(50_001)), onePage);
  expect(() => limitModule(over, MiB)).toThrow(/starts with 100001 table entries/);
  const many = moduleOf(tablesOf(...Array(1500).fill(funcref(0))), onePage);
  expect(() => limitModule(many, MiB)).toThrow(/has 1500 tables/);
});

interface Table {
  readonly length: number;
  grow(by: number): number;
}

test("tables cannot grow beyond the bound together", async () => {
  const tables = tablesOf(funcref(10), funcref(10), [0x6f, 1, 0, ...leb(70_000)]);
  // Exports the three tables as a, b and c.
  const exported = section(7, [3, ...[0, 1, 2].flatMap((index) => [1, 97 + index, 1, index])]);
  const { bytes } = limitModule(moduleOf(tables, onePage, exported), MiB);
  const instance = new WebAssembly.Instance(await WebAssembly.compile(Buffer.from(bytes)), {});
  let entries = 0;
  for (const table of Object.values(instance.exports) as Table[]) {
    for (const by of [10_000, 1000, 100, 10, 1]) {
      try {
        for (;;) table.grow(by);
      } catch {
        // Not by so many: then by fewer.
      }
    }
    entries += table.length;
  }
  expect(entries).toBeGreaterThan(99_000);
  expect(entries).toBeLessThanOrEqual(100_000);
});

test("a table of another type, and bytes behind the last table, are refused", () => {
  const typed = moduleOf(tablesOf([0x63, 0x00, 0x00, 1]), onePage);
  expect(() => limitModule(typed, MiB)).toThrow(/anything but funcref/);
  const long = moduleOf(section(4, [1, ...funcref(1), 1, 2, 3]), onePage);
  expect(() => limitModule(long, MiB)).toThrow(/too long/);
});

test.each([
  ["no", 0, moduleOf()],
  ["no (an empty section)", 0, moduleOf(section(5, [0]))],
  ["two", 2, moduleOf(section(5, [2, 0, 1, 0, 1]))],
])("a module with %s memory is refused", (_, count, module) => {
  expect(() => limitModule(module, MiB)).toThrow(`has ${count} memories of its own`);
});

test("a section that comes twice is refused", () => {
  expect(() => limitModule(moduleOf(onePage, onePage), MiB)).toThrow(/section 5 twice/);
});

test.each([
  ["/module.wasm", 64 * MiB],
  ["/input", MiB],
])("a %s that is too large is refused before it is read", async (path, maxBytes) => {
  const read: string[] = [];
  const execute = createWasmExecutor(
    {
      store: {
        put: (bytes) => store.put(bytes),
        read(digest) {
          read.push(digest);
          return store.read(digest);
        },
      },
      pool,
    },
    { memoryMaxBytes: 64 * MiB, timeoutMaxMs: 60_000, outputMaxBytes: MiB },
  );
  const small = await store.put(await jobModule("return 0;"));
  const large = makeDigest("ab".repeat(32), maxBytes + 1);
  const file = (at: string) =>
    ({ kind: "file", path: at, digest: at === path ? large : small, executable: false }) as const;
  const spec: ActionSpec = {
    argv: ["execute"],
    env: {},
    cwd: "/",
    outputPaths: ["/output"],
    inputs: [file("/module.wasm"), file("/input")],
    platform: { platform: "wasm", [wasmMemoryProperty]: String(MiB) },
    timeoutMs: 1000,
  };
  await expect(execute(spec, () => {}, never)).rejects.toMatchObject({
    code: "limit",
    message: `${path} has ${maxBytes + 1} bytes, the limit is ${maxBytes}`,
  });
  expect(read).toEqual([]);
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
