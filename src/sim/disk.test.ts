import { expect, test } from "vitest";
import { textOf, utf8 } from "../base/bytes.ts";
import { diskContract } from "../host/disk.contract.ts";
import { temporaryPrefix } from "../host/disk.ts";
import type { Disk } from "../host/host.ts";
import { createSimulation, type Simulation } from "./simulation.ts";

diskContract((body) =>
  onHost(async (_, disk) => {
    await disk.makeDirectory("/root");
    await body(disk, "/root");
  }),
);

async function onHost(body: (simulation: Simulation, disk: Disk) => Promise<void>): Promise<void> {
  const simulation = createSimulation(1);
  await simulation.finish(body(simulation, simulation.addHost("a").disk), 1e6);
}

const plain = { mode: 0o644, sync: false };

test("operations take time", () =>
  onHost(async (simulation, disk) => {
    const startMs = simulation.nowMs();
    await disk.writeAtomic("/f", new Uint8Array(5_000_000), plain);
    expect(simulation.nowMs() - startMs).toBeGreaterThan(5);
  }));

test("a full disk refuses growth with no-space, and keeps what it had", () =>
  onHost(async (simulation, disk) => {
    await disk.writeAtomic("/f", utf8("old"), plain);
    simulation.faults.setDiskCapacity("a", 10);
    const writing = disk.writeAtomic("/f", new Uint8Array(8), plain);
    await expect(writing).rejects.toMatchObject({ code: "no-space" });
    expect(textOf(await disk.read("/f"))).toBe("old");
    expect(await disk.list("/")).toHaveLength(1);
    expect(await disk.freeBytes("/")).toBe(7);
    await disk.remove("/f");
    expect(await disk.freeBytes("/")).toBe(10);
    await disk.writeAtomic("/f", new Uint8Array(10), plain);
  }));

test("hard links cost their bytes once", () =>
  onHost(async (simulation, disk) => {
    simulation.faults.setDiskCapacity("a", 10);
    await disk.writeAtomic("/f", new Uint8Array(10), plain);
    await disk.link("/f", "/g");
    await disk.remove("/f");
    expect(await disk.freeBytes("/")).toBe(0);
    await disk.remove("/g");
    expect(await disk.freeBytes("/")).toBe(10);
  }));

test("a flipped bit spoils what is read, or the file itself", () =>
  onHost(async (simulation, disk) => {
    const zeros = new Uint8Array(100);
    const bits = (bytes: Uint8Array): number =>
      bytes.reduce((sum, byte) => sum + byte.toString(2).replaceAll("0", "").length, 0);
    await disk.writeAtomic("/f", zeros, plain);
    simulation.faults.setReadFlipChance("a", 1);
    expect(bits(await disk.read("/f"))).toBe(1);
    simulation.faults.setReadFlipChance("a", 0);
    expect(bits(await disk.read("/f"))).toBe(0);
    simulation.faults.corruptFile("a", "/f");
    expect(bits(await disk.read("/f"))).toBe(1);
    expect(bits(disk.readNow("/f"))).toBe(1);
  }));

test("bits flip below the folder that was named, and not in what the system copies", () =>
  onHost(async (simulation, disk) => {
    const zeros = new Uint8Array(100);
    for (const path of ["/in/f", "/out/f"]) {
      await disk.makeDirectory(path.slice(0, path.lastIndexOf("/")));
      await disk.writeAtomic(path, zeros, plain);
    }
    simulation.faults.setReadFlipChance("a", 1, "/in");
    expect(await disk.read("/in/f")).not.toEqual(zeros);
    expect(await disk.read("/out/f")).toEqual(zeros);
    await disk.copy("/in/f", "/out/g", 0o644);
    expect(await disk.read("/out/g")).toEqual(zeros);
  }));

test("a file that is spoilt visibly has another time, one that is spoilt silently has not", () =>
  onHost(async (simulation, disk) => {
    await disk.writeAtomic("/f", new Uint8Array(100), plain);
    const before = disk.statNow("/f")?.mtimeNs;
    await simulation.host("a").clock.sleep(10, new AbortController().signal);
    simulation.faults.corruptFile("a", "/f");
    expect(disk.statNow("/f")?.mtimeNs).toBe(before);
    simulation.faults.corruptFile("a", "/f", "visibly");
    expect(disk.statNow("/f")?.mtimeNs).not.toBe(before);
  }));

test("a slow disk does the same, only later", () =>
  onHost(async (simulation, disk) => {
    const timed = async (): Promise<number> => {
      const startMs = simulation.nowMs();
      await disk.writeAtomic("/f", new Uint8Array(100), plain);
      return simulation.nowMs() - startMs;
    };
    const usualMs = await timed();
    simulation.faults.setDiskSlowness("a", 100);
    expect(await timed()).toBeGreaterThan(50 * usualMs);
    expect(await disk.read("/f")).toHaveLength(100);
  }));

test("a killed host leaves files that are old or new, and what was unfinished under its own name", async () => {
  let leftovers = 0;
  const seen = new Set<string>();
  for (let seed = 0; seed < 40; seed++) {
    const simulation = createSimulation(seed);
    const first = simulation.addHost("a").disk;
    await simulation.finish(first.writeAtomic("/f", utf8("old"), plain), 1e6);
    const startMs = simulation.nowMs();
    void first.writeAtomic("/f", new Uint8Array(50_000).fill(110), plain);
    await simulation.run(startMs + simulation.random.between(0, 0.4));
    simulation.faults.kill("a");
    const { disk } = simulation.faults.restart("a");
    const read = textOf(await simulation.finish(disk.read("/f"), 1e6));
    seen.add(read.length === 50_000 ? "new" : read);
    const entries = await simulation.finish(disk.list("/"), 1e6);
    leftovers += entries?.filter(({ name }) => name.startsWith(temporaryPrefix)).length ?? 0;
  }
  expect([...seen].sort()).toEqual(["new", "old"]);
  expect(leftovers).toBeGreaterThan(0);
});

test("a loss of power cuts only what was not synced", async () => {
  let cut = 0;
  for (let seed = 0; seed < 20; seed++) {
    const simulation = createSimulation(seed);
    const before = simulation.addHost("a").disk;
    const bytes = new Uint8Array(1000);
    const writing = Promise.all([
      before.writeAtomic("/synced", bytes, { mode: 0o644, sync: true }),
      before.writeAtomic("/cached", bytes, plain),
    ]);
    await simulation.finish(writing, 1e6);
    simulation.faults.kill("a", { losePower: true });
    const { disk } = simulation.faults.restart("a");
    expect(disk.statNow("/synced")?.sizeBytes).toBe(1000);
    if (disk.statNow("/cached")?.sizeBytes !== 1000) cut++;
  }
  expect(cut).toBeGreaterThan(0);
  expect(cut).toBeLessThan(20);
});
