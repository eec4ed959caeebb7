/** Known results of one node alone: what is found, what is refused, what a restart remembers. */
import { expect, test } from "vitest";
import { utf8 } from "../base/bytes.ts";
import { digestOf, hashHexOf } from "../base/digest.ts";
import { asPeerId } from "../base/ids.ts";
import { createSimulation, type Simulation } from "../sim/simulation.ts";
import { blobsOf } from "./action.ts";
import { loneTag, meshTagOf } from "./record.ts";
import {
  actionOf,
  forever,
  type NodeSettings,
  outcomeOf,
  type ResultNode,
  recordBy,
  startNode,
} from "./results.contract.ts";

async function alone(
  run: (
    node: ResultNode,
    again: () => Promise<ResultNode>,
    simulation: Simulation,
  ) => Promise<void>,
  settings: NodeSettings = {},
): Promise<void> {
  const simulation = createSimulation("results");
  const host = simulation.addHost("n0");
  const story = async (): Promise<void> => {
    const node = await startNode(host, settings);
    const again = (): Promise<ResultNode> =>
      startNode({ ...host, network: { ...host.network, serve: () => {} } }, settings);
    await run(node, again, simulation);
  };
  await simulation.finish(story(), 1e7);
}

const self = asPeerId("sim-n0");
const stranger = asPeerId("sim-n7");

async function dropBlob({ host }: ResultNode, text: string): Promise<void> {
  const hex = hashHexOf(digestOf(utf8(text)));
  await host.disk.remove(`/data/blobs/${hex.slice(0, 2)}/${hex.slice(2, 4)}/${hex}`);
}

test("what was kept is found, byte for byte, now and after a restart", () =>
  alone(async (node, again) => {
    const outcome = await outcomeOf(node.store, "a");
    node.results.keep(actionOf("a"), outcome, 1234.4);
    expect(node.results.find(actionOf("b"))).toBeUndefined();
    const known = node.results.find(actionOf("a"));
    expect(known).toMatchObject({ outcome, signer: self, runMs: 1234, providers: [] });
    await node.results.close();
    const next = await again();
    expect(next.results.find(actionOf("a"))?.outcome).toEqual(outcome);
    expect(next.results.stats()).toMatchObject({ records: 1, hitsHere: 1, misses: 0, refused: {} });
    expect(next.said).toEqual([]);
  }));

test("a result whose blob is gone is not found, and counts as a miss", () =>
  alone(async (node, again) => {
    node.results.keep(actionOf("a"), await outcomeOf(node.store, "a"), 1);
    await node.results.close();
    await dropBlob(node, "warning of a");
    const { results } = await again();
    expect(results.find(actionOf("a"))).toBeUndefined();
    expect(await results.findInMesh(actionOf("a"), forever)).toBeUndefined();
    const refused = { "blob-missing": 1 };
    expect(results.stats()).toMatchObject({ hitsHere: 0, hitsMesh: 0, misses: 1, refused });
  }));

test("a new run after its blobs were lost is found again", () =>
  alone(async (node, again) => {
    node.results.keep(actionOf("a"), await outcomeOf(node.store, "a"), 1);
    await node.results.close();
    await dropBlob(node, "object a");
    const { results, store } = await again();
    expect(results.accept(recordBy(stranger, "a"))).toBe(true);
    expect(results.find(actionOf("a"))).toBeUndefined();
    await store.put(utf8("object a"));
    expect(results.find(actionOf("a"))?.signer).toBe(stranger);
  }));

test("the record of an answer is remembered, if it is one and says what was answered", () =>
  alone(async ({ results, store }) => {
    const record = recordBy(stranger, "a");
    const digest = await store.put(utf8("object a"));
    const outputs = [{ path: "/w/a.o", digest, executable: false }];
    const outcome = { exitCode: 0, outputs, stdout: digest, stderr: digest };
    const action = actionOf("a");
    const changed = [
      { ...outcome, stderr: digestOf(utf8("x")) },
      { ...outcome, stdout: digestOf(utf8("x")) },
      { ...outcome, outputs: [] },
      { ...outcome, outputs: [...outputs, { path: "/w/b", digest, executable: false }] },
      { ...outcome, outputs: [{ path: "/w/a.o", digest, executable: true }] },
      { ...outcome, outputs: [{ path: "/w/b.o", digest, executable: false }] },
    ];
    for (const one of changed) expect(results.accept(record, { action, outcome: one })).toBe(false);
    expect(results.accept(record, { action: actionOf("b"), outcome })).toBe(false);
    expect(results.accept(record.slice(0, -1))).toBe(false);
    expect(results.accept(new Uint8Array())).toBe(false);
    expect(results.find(action)).toBeUndefined();
    expect(results.accept(record, { action, outcome })).toBe(true);
    expect(results.find(action)).toMatchObject({ signer: stranger, outcome, runMs: 7 });
    const refused = { "other-outcome": 6, "other-action": 1, malformed: 2 };
    expect(results.stats().refused).toEqual(refused);
  }));

test("a forged record is never used, and forgotten at its first use", () =>
  alone(async ({ results, store, host }) => {
    await store.put(utf8("object a"));
    const forged = recordBy(stranger, "a");
    forged[5] = (forged[5] ?? 0) ^ 1;
    expect(results.accept(forged)).toBe(true);
    expect(results.find(actionOf("a"))).toBeUndefined();
    expect(results.stats()).toMatchObject({ records: 0, refused: { signature: 1 } });
    const otherMesh = recordBy(stranger, "a", meshTagOf(new Uint8Array(32).fill(2)));
    expect(results.accept(otherMesh)).toBe(true);
    expect(results.find(actionOf("a"))).toBeUndefined();
    // Signed without a mesh: of this node's own time alone, or of nobody who counts.
    expect(results.accept(recordBy(stranger, "a", loneTag))).toBe(true);
    expect(results.find(actionOf("a"))).toBeUndefined();
    expect(results.accept(recordBy(host.network.self, "a", loneTag))).toBe(true);
    expect(results.find(actionOf("a"))?.signer).toBe(self);
    expect(results.stats().refused).toEqual({ signature: 3 });
  }));

test("a record that was refused stays so after a restart", () =>
  alone(async (node, again) => {
    node.results.keep(actionOf("a"), await outcomeOf(node.store, "a"), 1);
    node.results.keep(actionOf("b"), await outcomeOf(node.store, "b"), 1);
    node.results.refuse(actionOf("a"), "blob-corrupt");
    node.results.refuse(actionOf("never"), "blob-corrupt");
    await node.results.close();
    const { results } = await again();
    expect(node.results.stats().refused).toEqual({ "blob-corrupt": 2 });
    expect(results.find(actionOf("a"))).toBeUndefined();
    expect(results.find(actionOf("b"))).toBeDefined();
  }));

test("reasons without end are counted together", () =>
  alone(async ({ results }) => {
    for (let count = 0; count < 100; count += 1) results.refuse(actionOf("a"), `why ${count}`);
    expect(Object.keys(results.stats().refused)).toHaveLength(33);
    expect(results.stats().refused.other).toBe(68);
  }));

test("bits that flip in the file never make a result wrong, and never stop a start", () =>
  alone(async (node, again, { faults }) => {
    const names = Array.from({ length: 20 }, (_, index) => `unit-${index}`);
    for (const name of names)
      node.results.keep(actionOf(name), await outcomeOf(node.store, name), 1);
    await node.results.close();
    for (let flips = 0; flips < 12; flips += 1) {
      faults.corruptFile("n0", "/data/results/log");
      const { results, said } = await again();
      expect(said.length).toBeLessThanOrEqual(1);
      let found = 0;
      for (const name of names) {
        const known = results.find(actionOf(name));
        if (known === undefined) continue;
        found += 1;
        expect(known.outcome).toEqual(await outcomeOf(node.store, name));
      }
      expect(found).toBeGreaterThanOrEqual(names.length - flips - 1);
    }
  }));

test("at its bound the result that was used least recently is forgotten", () =>
  alone(
    async (node, again) => {
      for (const name of ["a", "b", "c"]) {
        node.results.keep(actionOf(name), await outcomeOf(node.store, name), 1);
        expect(node.results.find(actionOf("a"))).toBeDefined();
      }
      expect(node.results.find(actionOf("b"))).toBeUndefined();
      expect(node.results.find(actionOf("c"))).toBeDefined();
      await node.results.close();
      const { results } = await again();
      expect(results.stats().records).toBe(2);
    },
    { recordsMax: 2 },
  ));

test("no more bytes of records are kept than may be", () =>
  alone(
    async ({ results, store }) => {
      for (let count = 0; count < 10; count += 1)
        results.keep(actionOf(`${count}`), await outcomeOf(store, `${count}`), 1);
      expect(results.stats().records).toBe(3);
      expect(results.stats().bytes).toBeLessThanOrEqual(1200);
    },
    { bytesMax: 1200 },
  ));

test("what is too much for a record is not remembered, and nothing fails for it", () =>
  alone(async ({ results, store }) => {
    const outcome = await outcomeOf(store, "a");
    results.keep(actionOf("a"), { ...outcome, exitCode: 1 }, 1);
    const outputs = [...outcome.outputs, ...outcome.outputs];
    results.keep(actionOf("a"), { ...outcome, outputs }, 1);
    expect(results.find(actionOf("a"))).toBeUndefined();
    expect(results.stats().refused).toEqual({ "not-recordable": 2 });
  }));

test("the same result kept twice is signed and written once", () =>
  alone(async ({ results, store, host }) => {
    const outcome = await outcomeOf(store, "a");
    for (let count = 0; count < 5; count += 1) results.keep(actionOf("a"), outcome, count);
    expect(results.find(actionOf("a"))?.runMs).toBe(0);
    const changed = { ...outcome, stderr: await store.put(utf8("other")) };
    results.keep(actionOf("a"), changed, 9);
    expect(results.find(actionOf("a"))).toMatchObject({ runMs: 9, outcome: changed });
    await results.close();
    expect(host.disk.statNow("/data/results/log")?.sizeBytes).toBeLessThan(1000);
  }));

test("verify finds forged records and lost blobs, and forgets them", () =>
  alone(async (node, again) => {
    for (const name of ["a", "b", "c"])
      node.results.keep(actionOf(name), await outcomeOf(node.store, name), 1);
    const forged = recordBy(stranger, "d");
    forged[0] = (forged[0] ?? 0) ^ 1;
    node.results.accept(forged);
    await node.results.close();
    await dropBlob(node, "program b");
    const { results } = await again();
    const { checked, bad } = await results.verify(forever);
    expect(checked).toBe(4);
    expect(bad).toEqual([
      { action: actionOf("b"), why: "blob-missing" },
      { action: actionOf("d"), why: "signature" },
    ]);
    expect(await results.verify(forever)).toEqual({ checked: 2, bad: [] });
    const aborted = AbortSignal.abort(new Error("enough"));
    await expect(results.verify(aborted)).rejects.toThrow("enough");
  }));

test("collect forgets what has lost its blobs, and gives the bytes back", () =>
  alone(async (node, again) => {
    for (const name of ["a", "b", "c"])
      node.results.keep(actionOf(name), await outcomeOf(node.store, name), 1);
    await node.results.close();
    await dropBlob(node, "program b");
    const { results } = await again();
    expect(await results.collect(forever)).toBeGreaterThan(300);
    expect(results.stats()).toMatchObject({ records: 2, refused: {} });
    expect((await again()).results.stats().records).toBe(2);
  }));

test("using a result keeps its blobs from eviction", () =>
  alone(
    async ({ results, store }) => {
      const outcome = await outcomeOf(store, "a");
      results.keep(actionOf("a"), outcome, 1);
      await store.put(new Uint8Array(6000));
      const known = results.find(actionOf("a"));
      for (const { digest } of known?.outcome.outputs ?? [])
        await store.copyTo(digest, "/out", 0o644);
      await store.read(outcome.stderr);
      await store.put(new Uint8Array(6001));
      expect(blobsOf(outcome).every((digest) => store.has(digest))).toBe(true);
    },
    { quotaBytes: 10_000 },
  ));
