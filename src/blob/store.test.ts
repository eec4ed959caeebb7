import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, expect, test } from "vitest";
import { digestOf } from "../base/digest.ts";
import { createClock } from "../host/clock.ts";
import { createDisk } from "../host/disk.ts";
import { createSimulation } from "../sim/simulation.ts";
import { bytesOf, storeContract } from "./store.contract.ts";
import { createBlobStore } from "./store.ts";

const forever = new AbortController().signal;
const cleanUps: (() => void)[] = [];

afterEach(() => {
  for (const cleanUp of cleanUps.splice(0).reverse()) cleanUp();
});

function folder(parent: string): string {
  const path = mkdtempSync(join(parent, "mesh-store-"));
  cleanUps.push(() => rmSync(path, { recursive: true, force: true }));
  return path;
}

storeContract("the machine's disk", (run) =>
  run({ disk: createDisk(), clock: createClock(), directory: folder(tmpdir()) }),
);

storeContract("a simulated disk", async (run) => {
  const simulation = createSimulation(1);
  const { disk, clock } = simulation.addHost("a");
  await simulation.finish(run({ disk, clock, directory: "/node" }), 1e6);
});

const otherFileSystem = "/dev/shm";
const twoFileSystems = ((): boolean => {
  try {
    return statSync(otherFileSystem).dev !== statSync(tmpdir()).dev;
  } catch {
    return false;
  }
})();
if (!twoFileSystems) console.warn(`skipped: ${otherFileSystem} is no second file system`);

test.skipIf(!twoFileSystems)("linking to another file system makes a copy", async () => {
  const disk = createDisk();
  const directory = folder(tmpdir());
  const options = { directory, quotaBytes: 1e6, sync: "never" } as const;
  const store = await createBlobStore({ disk, clock: createClock() }, options, forever);
  const bytes = bytesOf(1000, 1);
  const path = join(folder(otherFileSystem), "linked");
  await store.link(await store.put(bytes), path);
  expect(await disk.read(path)).toEqual(bytes);
  expect((await disk.stat(path))?.mode).toBe(0o555);
});

function mountSmall(sizeBytes: number): string | undefined {
  const path = folder(tmpdir());
  const at = join(path, "small");
  mkdirSync(at);
  try {
    execFileSync("mount", ["-t", "tmpfs", "-o", `size=${sizeBytes}`, "tmpfs", at], {
      stdio: "pipe",
    });
  } catch (error) {
    console.warn(`skipped: cannot mount a small tmpfs here: ${String(error).split("\n")[0]}`);
    return undefined;
  }
  cleanUps.push(() => execFileSync("umount", ["-l", at], { stdio: "pipe" }));
  return at;
}

test("a full disk is said to be full, leaves nothing half-written, and recovers", async (context) => {
  const directory = mountSmall(4 * 1024 * 1024);
  if (directory === undefined) return context.skip();
  const disk = createDisk();
  const options = { directory, quotaBytes: 1e9, sync: "never" } as const;
  const store = await createBlobStore({ disk, clock: createClock() }, options, forever);
  const kept = await store.put(bytesOf(500_000, 1));
  const pin = store.pin([kept]);
  const large = bytesOf(8_000_000, 2);
  await expect(store.put(large)).rejects.toMatchObject({ code: "no-space" });
  const writer = await store.receive(digestOf(large));
  const arriving = async (): Promise<void> => {
    for (let at = 0; at < 8_000_000; at += 250_000) {
      await writer.write(large.slice(at, at + 250_000));
    }
  };
  await expect(arriving()).rejects.toMatchObject({ code: "no-space" });
  await writer.discard();
  expect(store.has(digestOf(large))).toBe(false);
  expect(await disk.list(join(directory, "tmp"))).toEqual([]);
  expect(store.stats()).toMatchObject({ blobs: 1, bytes: 500_000 });
  expect((await store.read(kept)).byteLength).toBe(500_000);
  pin.release();

  // Unused blobs make room for the next one although the quota would allow all of them.
  for (let seed = 10; seed < 18; seed += 1) {
    const digest = await store.put(bytesOf(1_000_000, seed));
    expect((await store.read(digest)).byteLength).toBe(1_000_000);
  }
  expect(await disk.list(join(directory, "tmp"))).toEqual([]);
});
