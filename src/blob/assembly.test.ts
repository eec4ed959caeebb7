import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { digestOf } from "../base/digest.ts";
import { asPeerId } from "../base/ids.ts";
import { createClock } from "../host/clock.ts";
import { createDisk } from "../host/disk.ts";
import { type AssemblyEvents, createAssembly, segmentBytes } from "./assembly.ts";
import { type BlobStore, createBlobStore } from "./store.ts";

const peer = asPeerId("provider");
const blob = new Uint8Array(segmentBytes).fill(7);
const piece = 64 * 1024;
let directory: string;
let store: BlobStore;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "mesh-assembly-"));
  const never = new AbortController().signal;
  const deps = { disk: createDisk(), clock: createClock() };
  store = await createBlobStore(deps, { directory, quotaBytes: 1e9, sync: "never" }, never);
});

afterEach(() => rm(directory, { recursive: true, force: true }));

/** Takes four pieces, of which the first is being written, and counts those let go again. */
function takeFour(events: AssemblyEvents) {
  const assembly = createAssembly({ store }, digestOf(blob), events);
  const segment = assembly.next();
  if (segment === undefined) throw new Error("no segment");
  let done = 0;
  for (let at = 0; at < 4 * piece; at += piece) {
    assembly.take(segment, at, blob.subarray(at, at + piece), peer, () => {
      done += 1;
    });
  }
  return { assembly, done: () => done };
}

const nothing: AssemblyEvents = {
  onWhole() {},
  onCorrupt() {},
  onFailed() {},
  onProgress() {},
};

test("every piece is let go when the store fails, so that its credit comes back", async () => {
  await rm(join(directory, "tmp"), { recursive: true });
  const failed = Promise.withResolvers<unknown>();
  const { done } = takeFour({ ...nothing, onFailed: failed.resolve });
  expect(await failed.promise).toMatchObject({ name: "MeshError" });
  await expect.poll(done).toBe(4);
});

test("every piece is let go when the blob is no longer wanted", async () => {
  const { assembly, done } = takeFour(nothing);
  assembly.discard();
  await expect.poll(done).toBe(4);
});
