/** Jobs on a node of their own: real modules, a real owner, real threads. */
import { chmod, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { textOf, utf8 } from "../base/bytes.ts";
import { type Digest, hashHexOf, makeDigest } from "../base/digest.ts";
import { MeshError } from "../base/errors.ts";
import { asPeerId } from "../base/ids.ts";
import { compile, jobModule } from "../exec/wasm-fixture.ts";
import { type OpenNode, openNode } from "../node/open.ts";
import type { Owner } from "../work/task.ts";
import { readChunks, writeChunks } from "./chunks.ts";
import { createJobDoor, type JobDeps, type JobOptions } from "./job.ts";
import { parseManifest } from "./manifest.ts";

const never = new AbortController().signal;
const endlessBody = "while (size >= 0) { store<u8>(start, 1); } return 0;";
let dataDir: string;
let node: OpenNode;

beforeAll(async () => {
  dataDir = await mkdtemp(join(tmpdir(), "mesh-job-"));
  node = await openNode(
    {
      dataDir,
      listen: undefined,
      bootstrap: [],
      mdns: false,
      slots: 2,
      name: undefined,
      nameDefault: "job-test",
      labels: {},
      cacheSizeBytes: 1e9,
      lend: "always",
      strategy: "power-of-two",
      drainMs: 0,
      sandbox: undefined,
      invite: undefined,
      twinPrefixes: [],
      embedded: true,
    },
    never,
  );
});

afterAll(async () => {
  await node.stop();
  await rm(dataDir, { recursive: true });
});

interface Asked {
  readonly name?: string;
  readonly timeoutMs?: number;
  readonly signal?: AbortSignal;
  readonly onChunks?: (count: number) => void;
  readonly deps?: Partial<JobDeps>;
  readonly options?: Partial<JobOptions>;
}

async function run(module: Uint8Array, input: string, asked: Asked = {}) {
  const { name = "letters", timeoutMs = 10_000, signal = never, onChunks = () => {} } = asked;
  const { owner, store, exchange, execute } = node;
  const door = createJobDoor(
    { owner, store, exchange, execute, ...asked.deps },
    { chunksMax: 1000, ...asked.options },
  );
  const manifest = { module: "m.wasm", name, memoryMaxBytes: 16 * 2 ** 20, timeoutMs };
  const result = await door.run(
    { id: "j1", manifest, module, input: utf8(input) },
    onChunks,
    signal,
  );
  return { ...result, output: textOf(result.output) };
}

/** Labels of the tasks that were given to the owner. */
function watched(): { readonly owner: Owner; readonly labels: string[]; most(): number } {
  const labels: string[] = [];
  let now = 0;
  let most = 0;
  const owner: Owner = {
    async submit(task, signal) {
      labels.push(task.label);
      now += 1;
      most = Math.max(most, now);
      try {
        return await node.owner.submit(task, signal);
      } finally {
        now -= 1;
      }
    },
  };
  return { owner, labels, most: () => most };
}

/** Turns a bit of a blob's file, as a failing disk would. */
async function damage(digest: Digest): Promise<void> {
  const hex = hashHexOf(digest);
  const path = join(dataDir, "blobs", hex.slice(0, 2), hex.slice(2, 4), hex);
  const bytes = await readFile(path);
  bytes[0] = (bytes[0] ?? 0) ^ 1;
  await chmod(path, 0o755);
  await writeFile(path, bytes, { flag: "r+" });
}

const upper = "store<u8>(start, load<u8>(start) - 32); return pack(start, size);";

test("a job is split, executed and merged, in the order of its chunks", async () => {
  // The first chunks take longest, so that they end last.
  const slowFirst = `
    let rounds = (122 - <i32>load<u8>(start)) * 200000;
    let sum: i32 = 0;
    for (let i = 0; i < rounds; i++) sum += i ^ sum;
    store<u8>(start, load<u8>(start) - 32 + (sum == 12345 ? 0 : 0));
    return pack(start, size);`;
  const counts: number[] = [];
  const result = await run(await jobModule(slowFirst), "abcxyz", {
    onChunks: (count) => counts.push(count),
  });
  expect(counts).toEqual([6]);
  expect([...readChunks(utf8(result.output), 10)].map(textOf)).toEqual([..."ABCXYZ"]);
  expect(result).toMatchObject({ chunks: 6, byPeer: { here: 6 } });
});

test("a job of no chunks is merged from nothing", async () => {
  expect(await run(await jobModule(upper), "")).toEqual({ output: "", chunks: 0, byPeer: {} });
});

test("the example counts words", async () => {
  const module = await readFile(
    join(import.meta.dirname, "../../examples/wordcount/wordcount.wasm"),
  );
  const { output, chunks } = await run(module, "to be or not to be, ".repeat(8000));
  expect(output).toBe("16000 be\n16000 to\n8000 not\n8000 or\n");
  expect(chunks).toBe(3);
});

test("files that the disk damages under a job are stored again, and it ends well", async () => {
  const module = await jobModule(upper);
  const hurt = new Set<string>();
  const output = await run(module, "abc", {
    deps: {
      async execute(spec, onProgress, signal) {
        // The module, and what each kind of call reads, once each.
        for (const input of spec.inputs) {
          if (input.kind !== "file" || hurt.has(`${spec.argv[0]} ${input.path}`)) continue;
          hurt.add(`${spec.argv[0]} ${input.path}`);
          await damage(input.digest);
        }
        return node.execute(spec, onProgress, signal);
      },
    },
  });
  expect([...readChunks(utf8(output.output), 10)].map(textOf)).toEqual([..."ABC"]);
  expect(hurt.size).toBe(6);
});

test("a trap in one chunk fails the job, and its message names the chunk", async () => {
  const picky = await jobModule("if (load<u8>(start) == 99) unreachable(); return pack(start, 1);");
  await expect(run(picky, "abcd")).rejects.toMatchObject({
    code: "refused",
    message: expect.stringMatching(/^letters chunk 3\/4 trapped: execute: .*unreachable/),
  });
  expect(node.owner.counts()).toMatchObject({ here: 0, leased: 0, committing: 0 });
});

test("a chunk that takes too long fails the job with its name and its time", async () => {
  const endless = await jobModule(endlessBody);
  await expect(run(endless, "a", { timeoutMs: 300 })).rejects.toMatchObject({
    code: "deadline",
    message: "letters chunk 1/1: no answer within 300 ms",
  });
});

test("a module without an export is refused before anything runs", async () => {
  const half = await compile(`
    export function alloc(size: i32): usize { return heap.alloc(size); }
    export function execute(start: usize, size: i32): i64 { return 0; }`);
  const { owner, labels } = watched();
  await expect(run(half, "a", { deps: { owner } })).rejects.toMatchObject({
    code: "refused",
    message: "the module does not export split, merge",
  });
  expect(labels).toEqual([]);
});

test("a module that is too large is refused before anything runs", async () => {
  const { owner, labels } = watched();
  await expect(
    run(new Uint8Array(64 * 2 ** 20 + 1), "a", { deps: { owner } }),
  ).rejects.toMatchObject({ code: "limit", message: expect.stringContaining("67108865 bytes") });
  expect(labels).toEqual([]);
});

test("a list of chunks that does not add up is told where it ends", async () => {
  const bad = await compile(`
    export function alloc(size: i32): usize { return heap.alloc(size); }
    export function split(start: usize, size: i32): i64 {
      store<u32>(start, 1);
      store<u8>(start + 4, 1);
      store<u32>(start + 5, 77);
      return (<i64>start << 32) | 9;
    }
    export function execute(start: usize, size: i32): i64 { return 0; }
    export function merge(start: usize, size: i32): i64 { return 0; }`);
  await expect(run(bad, "0123456789")).rejects.toMatchObject({
    code: "malformed",
    message: "split's list of chunks ends in the middle of one, at 5",
  });
});

test("chunks are written and read back, up to the limit of their number", () => {
  const list = writeChunks(["", "a", "bc"].map(utf8));
  expect(readChunks(list, 3).map(textOf)).toEqual(["", "a", "bc"]);
  expect(() => readChunks(list, 2)).toThrow(/more than 2 chunks/);
  for (const size of [1, 3, 5, 7, 8, 10, list.length - 1]) {
    if (size === 4 || size === 9) continue;
    expect(() => readChunks(list.subarray(0, size), 3)).toThrow(/middle/);
  }
});

test("a job gives the owner only so many chunks at once", async () => {
  const { owner, labels, most } = watched();
  const asked = { deps: { owner }, options: { chunksAtOnce: 3 } };
  const { output } = await run(await jobModule(upper), "abcdefghij", asked);
  expect(readChunks(utf8(output), 10).map(textOf).join("")).toBe("ABCDEFGHIJ");
  expect(labels).toHaveLength(12);
  expect(most()).toBe(3);
});

test("results that are too large together end the job", async () => {
  const asked = { options: { resultsMaxBytes: 19, chunksAtOnce: 1 } };
  await expect(run(await jobModule(upper), "abcd", asked)).rejects.toMatchObject({
    code: "limit",
    message: "the results of the chunks have more than 19 bytes together",
  });
  const { chunks } = await run(await jobModule(upper), "abc", asked);
  expect(chunks).toBe(3);
});

test("an output that a peer claims to be too large is refused before it is fetched", async () => {
  const fetched: string[] = [];
  const peer = asPeerId("far");
  const claimed = makeDigest("ab".repeat(32), 2 ** 30 + 1);
  const outputs = [{ path: "/output", digest: claimed, executable: false }];
  const refusals: unknown[] = [];
  // What an owner does with a peer that answers with more than a call may give.
  const owner: Owner = {
    async submit(task, signal) {
      const outcome = { exitCode: 0, outputs, stdout: claimed, stderr: claimed };
      await task.commit(outcome, peer, signal).catch((error: unknown) => refusals.push(error));
      return node.owner.submit({ ...task, action: undefined, whyHere: "commit-failed" }, signal);
    },
  };
  const exchange: JobDeps["exchange"] = {
    async fetch(digests) {
      fetched.push(...digests);
      throw new MeshError("blob-missing", "there is no such peer");
    },
  };
  await run(await jobModule(upper), "a", { deps: { owner, exchange } });
  expect(fetched).toEqual([]);
  expect(refusals).toHaveLength(3);
  expect(refusals[1]).toMatchObject({
    code: "refused",
    message: "letters chunk 1/1: an output of 1073741825 bytes, the limit is 1073741824",
  });
});

test("cancelling a job ends its chunks", async () => {
  const stop = new AbortController();
  const running = run(await jobModule(endlessBody), "abcdef", {
    timeoutMs: 60_000,
    signal: stop.signal,
    onChunks: () => setTimeout(() => stop.abort(new MeshError("cancelled", "enough")), 100),
  });
  await expect(running).rejects.toMatchObject({ code: "cancelled", message: "enough" });
  // The slots are free again: another job runs.
  const { chunks } = await run(await jobModule(upper), "ab");
  expect(chunks).toBe(2);
  expect(node.owner.load()).toMatchObject({ queued: 0, busy: 0 });
});

test("a manifest has defaults", () => {
  expect(parseManifest('{"module":"m.wasm"}', "job.json")).toEqual({
    module: "m.wasm",
    name: undefined,
    memoryMaxBytes: 256 * 2 ** 20,
    timeoutMs: 30_000,
  });
});

test.each([
  ["{", /^job\.json is no JSON: /],
  ["[]", /^job\.json is no job manifest: it: /],
  ["{}", /^job\.json is no job manifest: module: /],
  ['{"module":"m","memoryMiB":0}', /^job\.json is no job manifest: memoryMiB: /],
  ['{"module":"m","memoryMiB":4097}', /^job\.json is no job manifest: memoryMiB: /],
  ['{"module":"m","timeoutMs":"1 s"}', /^job\.json is no job manifest: timeoutMs: /],
  ['{"module":"m","time":1}', /^job\.json is no job manifest: it: .*time/],
])("the manifest %s is refused with the field and its fault", (text, message) => {
  expect(() => parseManifest(text, "job.json")).toThrow(
    expect.objectContaining({ code: "malformed", message: expect.stringMatching(message) }),
  );
});
