import { execFileSync } from "node:child_process";
import {
  chmodSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, expect, test } from "vitest";
import { digestOf, hashHexOf } from "../base/digest.ts";
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

/** Turns one bit, as a failing disk does: nothing else of the file tells. */
function rot(path: string): void {
  chmodSync(path, 0o755);
  const bytes = readFileSync(path);
  const at = bytes.byteLength >> 1;
  bytes[at] = (bytes[at] ?? 0) ^ 1;
  writeFileSync(path, bytes, { flag: "r+" });
  utimesSync(path, longAgoSeconds, longAgoSeconds);
}

const longAgoSeconds = 1_000_000_000;

test.each([1000, 600_000, 5_000_000])(
  "a blob of %i bytes that has rotted without a sign since it was used last is not put in place",
  async (sizeBytes) => {
    const disk = createDisk();
    const directory = folder(tmpdir());
    const options = { directory, quotaBytes: 1e8, sync: "never" } as const;
    const store = await createBlobStore({ disk, clock: createClock() }, options, forever);
    const digest = await store.put(bytesOf(sizeBytes, 1));
    const hex = hashHexOf(digest);
    const path = join(directory, "blobs", hex.slice(0, 2), hex.slice(2, 4), hex);
    utimesSync(path, longAgoSeconds, longAgoSeconds);
    const user = folder(tmpdir());
    await store.copyTo(digest, join(user, "before"), 0o644);
    rot(path);
    await expect(store.copyTo(digest, join(user, "after"), 0o644)).rejects.toMatchObject({
      code: "blob-corrupt",
    });
    expect(readdirSync(user)).toEqual(["before"]);
    expect(store.stats().quarantined).toBe(1);
    await expect(store.copyTo(digest, join(user, "after"), 0o644)).rejects.toMatchObject({
      code: "blob-missing",
    });
  },
);

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
