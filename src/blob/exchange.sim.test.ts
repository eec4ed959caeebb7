/** Exchange over a simulated network, where waits are exact and cost nothing. */
import { expect, test } from "vitest";
import { type Digest, digestOf } from "../base/digest.ts";
import { isMeshError } from "../base/errors.ts";
import type { Host } from "../host/host.ts";
import { createSimulation, type Simulation } from "../sim/simulation.ts";
import { createExchange, type Exchange } from "./exchange.ts";
import { bytesOf } from "./store.contract.ts";
import { type BlobStore, createBlobStore } from "./store.ts";

const forever = new AbortController().signal;
const options = { directory: "/node", quotaBytes: 1e9, sync: "never" } as const;

interface Node {
  readonly host: Host;
  readonly store: BlobStore;
  readonly exchange: Exchange;
}

async function startNode(host: Host): Promise<Node> {
  const store = await createBlobStore(host, options, forever);
  const { network, clock } = host;
  const exchange = createExchange(
    { network, clock, store, peers: () => network.peers(), allowed: () => true },
    {},
    forever,
  );
  return { host, store, exchange };
}

/** The first of the named hosts is connected to all others. */
async function inMesh(
  names: readonly string[],
  run: (simulation: Simulation, nodes: readonly Node[]) => Promise<void>,
): Promise<void> {
  const simulation = createSimulation(1);
  const hosts = names.map((name) => simulation.addHost(name));
  const story = async (): Promise<void> => {
    const nodes = await Promise.all(hosts.map(startNode));
    for (const name of names.slice(1)) await hosts[0]?.network.connect(`sim/${name}`, forever);
    await run(simulation, nodes);
  };
  await simulation.finish(story(), 1e6);
}

test("a long way does not make a large blob slow: the window grows with it", () =>
  inMesh(["near", "far"], async (simulation, nodes) => {
    const [near, far] = nodes as [Node, Node];
    simulation.faults.setLink("near", "far", { delayMs: 40 });
    const digest = await far.store.put(new Uint8Array(40_000_000));
    const fromMs = simulation.nowMs();
    await near.exchange.fetch([digest], [far.host.network.self], forever);
    // 40 MB at 125 MB/s take 0.3 s. With 1 MiB for each 80 ms they would take 3.1 s.
    expect(simulation.nowMs() - fromMs).toBeLessThan(2000);
  }));

test("when a provider falls silent another is asked after a quarter of a second", () =>
  inMesh(["near", "left", "right"], async (simulation, nodes) => {
    const [near, left, right] = nodes as [Node, Node, Node];
    const blobs = Array.from({ length: 300 }, (_, at) => bytesOf(1000 + at, at));
    blobs.push(new Uint8Array(20_000_000));
    const digests: Digest[] = [];
    for (const bytes of blobs) {
      digests.push(await left.store.put(bytes));
      await right.store.put(bytes);
    }
    const fromMs = simulation.nowMs();
    const providers = [left.host.network.self, right.host.network.self];
    const fetching = near.exchange.fetch(digests, providers, forever);
    await simulation.host("near").clock.sleep(30, forever);
    simulation.faults.blockOneWay("left", "near");
    await fetching;
    expect(left.exchange.stats().sentBytes).toBeGreaterThan(0);
    expect(near.exchange.stats().receivedBlobs).toBe(301);
    // The blobs themselves take 0.2 s.
    expect(simulation.nowMs() - fromMs).toBeLessThan(1000);
  }));

test("a provider that stays silent for ten seconds is given up", () =>
  inMesh(["near", "far"], async (simulation, nodes) => {
    const [near, far] = nodes as [Node, Node];
    const digest = await far.store.put(bytesOf(9, 1));
    simulation.faults.pause("far");
    const fromMs = simulation.nowMs();
    const fetching = near.exchange.fetch([digest], [far.host.network.self], forever);
    await expect(fetching).rejects.toMatchObject({ code: "blob-missing" });
    const tookMs = simulation.nowMs() - fromMs;
    expect(tookMs).toBeGreaterThan(4_900);
    expect(tookMs).toBeLessThan(11_000);
  }));

test("a node that stood still itself does not blame its peers", () =>
  inMesh(["near", "far"], async (simulation, nodes) => {
    const [near, far] = nodes as [Node, Node];
    const digest = await far.store.put(new Uint8Array(25_000_000));
    const fetching = near.exchange.fetch([digest], [far.host.network.self], forever);
    await far.host.clock.sleep(100, forever);
    simulation.faults.pause("near");
    await far.host.clock.sleep(12_000, forever);
    simulation.faults.resume("near");
    await fetching;
    expect(near.exchange.stats()).toMatchObject({ receivedBlobs: 1, corruptBlobs: 0 });
    expect(far.exchange.stats().sentBytes).toBe(25_000_000);
  }));

test("an idle exchange is silent", () =>
  inMesh(["near", "far"], async (simulation, nodes) => {
    const [near, far] = nodes as [Node, Node];
    const digest = await far.store.put(bytesOf(9, 1));
    await near.exchange.fetch([digest], [far.host.network.self], forever);
    await near.host.clock.sleep(1000, forever);
    const before = simulation.eventCount();
    await near.host.clock.sleep(100_000, forever);
    expect(simulation.eventCount() - before).toBeLessThan(5);
  }));

test("after a power cut no torn blob is linked, copied or read as if it were whole", async () => {
  const simulation = createSimulation(7);
  const first = simulation.addHost("a");
  const before = await simulation.finish(createBlobStore(first, options, forever), 1e6);
  const blobs = Array.from({ length: 40 }, (_, at) => bytesOf(5000 + at, at));
  const digests = await simulation.finish(Promise.all(blobs.map(before.put)), 1e6);
  simulation.faults.kill("a", { losePower: true });
  const again = simulation.faults.restart("a");

  const inspect = async (): Promise<number> => {
    const store = await createBlobStore(again, options, forever);
    let damaged = 0;
    for (const [at, digest] of digests.entries()) {
      const path = `/linked-${at}`;
      try {
        await store.link(digest, path);
        expect(digestOf(await again.disk.read(path))).toBe(digest);
      } catch (error) {
        if (!isMeshError(error, "blob-corrupt", "blob-missing")) throw error;
        expect(await again.disk.stat(path)).toBeUndefined();
        damaged += 1;
        await store.put(blobs[at] ?? new Uint8Array());
      }
      expect(digestOf(await store.read(digest))).toBe(digest);
    }
    return damaged;
  };
  // Were nothing torn, this would prove nothing.
  expect(await simulation.finish(inspect(), 1e6)).toBeGreaterThan(0);
});
