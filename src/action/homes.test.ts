/** Results in a mesh: who is asked and told, and what becomes of peers that lie, die or flood. */
import { expect, test } from "vitest";
import { concatBytes, utf8 } from "../base/bytes.ts";
import { asPeerId, type PeerId } from "../base/ids.ts";
import type { Host } from "../host/host.ts";
import type { Simulation } from "../sim/simulation.ts";
import { encodeFrame, type Frame, frameOf, writeU32 } from "../wire/frame.ts";
import { packDigests } from "../wire/messages.ts";
import { ac, acProtocol, hasBlobsFlag, packRecords } from "./ac.ts";
import { chooseHomes, type Place, placeOf } from "./homes.ts";
import {
  actionOf,
  forever,
  inMesh,
  type NodeSettings,
  outcomeOf,
  type ResultNode,
  recordBy,
  serveAnswers,
  startNode,
} from "./results.contract.ts";

const placesOf = (count: number): Map<PeerId, Place> =>
  new Map(
    Array.from({ length: count }, (_, index) => {
      const peer = asPeerId(`12D3KooW${index}`);
      return [peer, placeOf(peer)] as const;
    }),
  );

test("actions are spread evenly, and a member that leaves moves only its own", () => {
  const members = placesOf(20);
  const actions = Array.from({ length: 4000 }, (_, index) => actionOf(`${index}`));
  const counts = new Map<PeerId, number>();
  const before = actions.map((action) => chooseHomes(action, members, 3));
  for (const peer of before.flat()) counts.set(peer, (counts.get(peer) ?? 0) + 1);
  for (const peer of members.keys()) {
    expect(counts.get(peer)).toBeGreaterThan(500);
    expect(counts.get(peer)).toBeLessThan(700);
  }
  const gone = asPeerId("12D3KooW7");
  members.delete(gone);
  for (const [index, action] of actions.entries()) {
    const after = chooseHomes(action, members, 3);
    const stayed = before[index]?.filter((peer) => peer !== gone) ?? [];
    expect(after.slice(0, stayed.length)).toEqual(stayed);
  }
});

test("homes are three different members, or all there are, whatever the order", () => {
  const members = placesOf(9);
  const homes = chooseHomes(actionOf("a"), members, 3);
  expect(new Set(homes).size).toBe(3);
  expect(chooseHomes(actionOf("a"), [...members].toReversed(), 3)).toEqual(homes);
  expect(chooseHomes(actionOf("a"), placesOf(2), 3)).toHaveLength(2);
});

type Mesh = readonly ResultNode[];

function mesh(
  count: number,
  run: (nodes: Mesh, simulation: Simulation) => Promise<void>,
  settings: NodeSettings = {},
): Promise<void> {
  const names = Array.from({ length: count }, (_, index) => `n${index}`);
  return inMesh(
    names,
    (host) => startNode(host, settings),
    (simulation, nodes) => run(nodes, simulation),
  );
}

const at = <T>(items: readonly T[], index: number): T => {
  const item = items[index];
  if (item === undefined) throw new RangeError(`there is no item ${index}`);
  return item;
};

test("a result kept at one node is found at another, which has it from then on", () =>
  mesh(5, async (nodes) => {
    const [maker, asker] = [at(nodes, 0), at(nodes, 4)];
    const outcomes = new Map<string, unknown>();
    for (let index = 0; index < 30; index += 1) {
      const outcome = await outcomeOf(maker.store, `${index}`);
      outcomes.set(`${index}`, outcome);
      maker.results.keep(actionOf(`${index}`), outcome, 5);
    }
    await maker.host.clock.sleep(1000, forever);
    // Three copies at most, the maker's own not counted when it is no home.
    const copies = nodes.slice(1).reduce((sum, { records }) => sum + records.size, 0);
    expect(copies).toBeGreaterThan(60);
    expect(copies).toBeLessThanOrEqual(90);
    for (const [name, outcome] of outcomes) {
      const known = await asker.results.findInMesh(actionOf(name), forever);
      expect(known).toMatchObject({ outcome, signer: maker.self });
      expect(known?.providers).toEqual([maker.self]);
    }
    expect(asker.results.stats()).toMatchObject({ hitsMesh: 30, misses: 0, refused: {} });
    expect(asker.records.size).toBe(30);
    const missing = await asker.results.findInMesh(actionOf("nobody"), forever);
    expect(missing).toBeUndefined();
    expect(asker.results.stats().misses).toBe(1);
  }));

test("whoever has the blobs says so, and is named before the signer", () =>
  mesh(2, async ([holder, asker]) => {
    if (holder === undefined || asker === undefined) return;
    const record = recordBy(asPeerId("sim-n9"), "a");
    await holder.store.put(utf8("object a"));
    holder.results.accept(record);
    const known = await asker.results.findInMesh(actionOf("a"), forever);
    expect(known).toMatchObject({ signer: "sim-n9", providers: [holder.self] });
  }));

test("without a peer nothing is waited for", () =>
  mesh(1, async ([only], simulation) => {
    const beforeMs = simulation.nowMs();
    expect(await only?.results.findInMesh(actionOf("a"), forever)).toBeUndefined();
    expect(simulation.nowMs()).toBe(beforeMs);
  }));

test("a look-up ends with its caller's reason", () =>
  mesh(2, async (nodes) => {
    const reason = new Error("not wanted any more");
    const { results } = at(nodes, 0);
    await expect(results.findInMesh(actionOf("a"), AbortSignal.abort(reason))).rejects.toBe(reason);
    const abort = new AbortController();
    const asking = results.findInMesh(actionOf("a"), abort.signal);
    abort.abort(reason);
    await expect(asking).rejects.toBe(reason);
  }));

test("what was kept in the last moment before a node stops is told", () =>
  mesh(3, async (nodes) => {
    const maker = at(nodes, 0);
    maker.results.keep(actionOf("a"), await outcomeOf(maker.store, "a"), 5);
    await maker.results.close();
    await maker.host.network.close();
    for (const { results, host } of nodes.slice(1)) {
      await host.clock.sleep(10, forever);
      expect(await results.findInMesh(actionOf("a"), forever)).toMatchObject({
        signer: maker.self,
      });
    }
  }));

test("a home that says nothing costs one short wait, and others nothing after it", () =>
  mesh(3, async (nodes, simulation) => {
    const asker = at(nodes, 0);
    const quickMs = await askingMs(asker, "before", simulation);
    expect(quickMs).toBeLessThan(20);
    simulation.faults.blockOneWay("n1", "n0");
    expect(await askingMs(asker, "first", simulation)).toBeCloseTo(250, 0);
    expect(await askingMs(asker, "second", simulation)).toBeLessThan(20);
    // It is asked again in a while, and left out for longer.
    await asker.host.clock.sleep(1100, forever);
    expect(await askingMs(asker, "third", simulation)).toBeCloseTo(250, 0);
    await asker.host.clock.sleep(1100, forever);
    expect(await askingMs(asker, "fourth", simulation)).toBeLessThan(20);
    simulation.faults.heal();
    await asker.host.clock.sleep(3000, forever);
    expect(await askingMs(asker, "fifth", simulation)).toBeLessThan(20);
  }));

async function askingMs(node: ResultNode, name: string, simulation: Simulation): Promise<number> {
  const beforeMs = simulation.nowMs();
  await node.results.findInMesh(actionOf(name), forever);
  return simulation.nowMs() - beforeMs;
}

test("a home that is stuck does not keep another's answer waiting", () =>
  mesh(3, async (nodes, simulation) => {
    const maker = at(nodes, 1);
    await maker.store.put(utf8("object a"));
    maker.results.accept(recordBy(maker.self, "a"));
    simulation.faults.pause("n2");
    const beforeMs = simulation.nowMs();
    const known = await at(nodes, 0).results.findInMesh(actionOf("a"), forever);
    expect(known?.signer).toBe(maker.self);
    expect(simulation.nowMs() - beforeMs).toBeLessThan(20);
  }));

/** A node that asks, and a home next to it whose every word the test decides. */
async function facing(
  reply: Parameters<typeof serveAnswers>[1],
  run: (
    asker: ResultNode,
    home: ReturnType<typeof serveAnswers>,
    simulation: Simulation,
  ) => Promise<void>,
  end: boolean = true,
): Promise<void> {
  const served: { home?: ReturnType<typeof serveAnswers>; asker?: ResultNode } = {};
  const start = async (host: Host): Promise<void> => {
    if (host.network.self === "sim-n0") served.asker = await startNode(host);
    else served.home = serveAnswers(host, reply, end);
  };
  await inMesh(["n0", "n1"], start, async (simulation) => {
    if (served.asker === undefined || served.home === undefined) throw new Error("not started");
    await run(served.asker, served.home, simulation);
  });
}

const found = (frame: Frame, aux: number, payload: Uint8Array): Frame =>
  frameOf(ac.found, { requestId: frame.requestId, aux, payload });

function flipped(record: Uint8Array, place: number): Uint8Array {
  const copy = record.slice();
  copy[place] = (copy[place] ?? 0) ^ 1;
  return copy;
}

const good = recordBy(asPeerId("sim-n5"), "a");
test.each<[string, Uint8Array, string]>([
  ["another action's record", recordBy(asPeerId("sim-n5"), "b"), "other-action"],
  ["a forged signature", flipped(good, 3), "signature"],
  [
    "another signer's name",
    recordBy(asPeerId("sim-n5"), "a", new Uint8Array(32).fill(9)),
    "signature",
  ],
  ["garbage", utf8("x".repeat(200)), "malformed"],
  ["half a record", good.slice(0, 150), "malformed"],
  ["nothing at all", new Uint8Array(), "malformed"],
])("a home that answers with %s is refused", (_, lie, why) =>
  facing(
    (_action, frame, index) => [found(frame, index, lie)],
    async ({ results, records }, home) => {
      expect(await results.findInMesh(actionOf("a"), forever)).toBeUndefined();
      expect(results.stats()).toMatchObject({ misses: 1, hitsMesh: 0, refused: { [why]: 1 } });
      expect(records.size).toBe(0);
      // After a second lie it is not asked any more.
      expect(await results.findInMesh(actionOf("a"), forever)).toBeUndefined();
      expect(await results.findInMesh(actionOf("a"), forever)).toBeUndefined();
      expect(home.asked).toHaveLength(2);
    },
  ),
);

test.each<[string, (frame: Frame) => readonly Frame[]]>([
  ["about a place nobody asked for", (frame) => [found(frame, 1, good)]],
  ["twice", (frame) => [found(frame, 0, good), found(frame, 0, good)]],
  ["to no question", () => [frameOf(ac.end, { requestId: 77 })]],
  ["of a kind that is none", (frame) => [{ ...found(frame, 0, good), type: 99 }]],
])("a home that answers %s loses its stream", (_, reply) =>
  facing(
    (_action, frame) => reply(frame),
    async ({ results, host }, home) => {
      for (const name of ["a", "b", "c"]) {
        await results.findInMesh(actionOf(name), forever);
        await host.clock.sleep(5000, forever);
      }
      // Twice is too much: it is not asked for the third.
      expect(home.asked).toEqual([actionOf("a"), actionOf("b")]);
    },
  ),
);

test("a home that never ends its answers is left with as many as may be open", () =>
  facing(
    () => [],
    async ({ results, host }, home) => {
      for (let count = 0; count < 5; count += 1) {
        const asked = Array.from({ length: 40 }, (_, index) =>
          results.findInMesh(actionOf(`${count}-${index}`), forever),
        );
        expect(new Set(await Promise.all(asked))).toEqual(new Set([undefined]));
        await host.clock.sleep(60_000, forever);
      }
      const lookups = home.frames.filter(({ type }) => type === ac.lookup);
      // What is asked in one turn is one frame.
      expect(lookups).toHaveLength(5);
      expect(home.asked).toHaveLength(200);
    },
    false,
  ));

test("no more look-ups are open at a home than may be", () =>
  facing(
    () => [],
    async ({ results, host }, home) => {
      await results.findInMesh(actionOf("first"), forever);
      await host.clock.sleep(2000, forever);
      const asking: Promise<unknown>[] = [];
      for (let index = 0; index < 100; index += 1) {
        asking.push(results.findInMesh(actionOf(`${index}`), forever));
        await host.clock.sleep(1, forever);
      }
      await Promise.all(asking);
      expect(home.asked).toHaveLength(64);
    },
    false,
  ));

test("a node that is a home itself does not ask itself", () => {
  const opened: string[] = [];
  const watched = (host: Host): Promise<ResultNode> => {
    const { network } = host;
    const open: typeof network.open = (peer, protocol, signal) => {
      opened.push(`${network.self} to ${peer}`);
      return network.open(peer, protocol, signal);
    };
    return startNode({ ...host, network: { ...network, open } });
  };
  return inMesh(["n0", "n1"], watched, async (_, nodes) => {
    for (const { results } of nodes) await results.findInMesh(actionOf("a"), forever);
    expect(opened).toEqual(["sim-n0 to sim-n1", "sim-n1 to sim-n0"]);
  });
});

test("results are told in few frames, and of one action once", () =>
  facing(
    () => [],
    async ({ results, store, host }, home) => {
      const outcome = await outcomeOf(store, "a");
      for (let count = 0; count < 3; count += 1)
        for (let index = 0; index < 50; index += 1)
          results.keep(actionOf(`${index}`), { ...outcome, exitCode: 0 }, count);
      await host.clock.sleep(1000, forever);
      expect(home.frames.map(({ type }) => type)).toEqual([ac.store]);
    },
  ));

/** A peer of the test's own making that talks to a home. */
async function talking(
  home: ResultNode,
  peer: Host,
  frames: readonly Frame[],
): Promise<{ readonly how: string } | undefined> {
  const stream = await peer.network.open(home.self, acProtocol, forever);
  stream.receive(() => {});
  for (const frame of frames) stream.send(encodeFrame(frame));
  await peer.clock.sleep(100, forever);
  const open = Symbol("open");
  const ended = await Promise.race([stream.ended, Promise.resolve(open)]);
  if (typeof ended !== "symbol") return ended;
  await stream.close();
  return undefined;
}

const storing = (...records: readonly Uint8Array[]): Frame[] =>
  packRecords(records).map((payload) => frameOf(ac.store, { payload }));

test("a home takes in what it is told, and passes on nothing forged", () =>
  mesh(3, async (nodes) => {
    const [home, liar, asker] = [at(nodes, 0), at(nodes, 1), at(nodes, 2)];
    const forged = flipped(recordBy(liar.self, "forged"), 1);
    const claimed = recordBy(liar.self, "other");
    claimed.set(packDigests([actionOf("claimed")]), 66);
    await talking(home, liar.host, storing(forged, claimed, recordBy(liar.self, "true")));
    expect(home.records.size).toBe(3);
    for (const name of ["forged", "claimed"])
      expect(await asker.results.findInMesh(actionOf(name), forever)).toBeUndefined();
    expect(asker.results.stats().refused).toEqual({});
    expect(home.results.stats().refused).toEqual({ signature: 2 });
    const known = await asker.results.findInMesh(actionOf("true"), forever);
    expect(known?.signer).toBe(liar.self);
    // Once the forged one is gone, the true one may come.
    await talking(home, liar.host, storing(recordBy(liar.self, "forged")));
    expect(await asker.results.findInMesh(actionOf("forged"), forever)).toBeDefined();
  }));

test("a record that is known already stays, whatever comes after it", () =>
  mesh(2, async (nodes) => {
    const [home, teller] = [at(nodes, 0), at(nodes, 1)];
    const outcome = await outcomeOf(home.store, "a");
    home.results.keep(actionOf("a"), outcome, 5);
    await talking(home, teller.host, storing(recordBy(teller.self, "a")));
    expect(home.results.find(actionOf("a"))).toMatchObject({ signer: home.self, outcome });
  }));

const header = (sizeBytes: number): Uint8Array => {
  const bytes = new Uint8Array(4);
  writeU32(bytes, 0, sizeBytes);
  return bytes;
};
test.each<[string, Frame]>([
  ["a list that does not add up", frameOf(ac.store, { payload: header(500) })],
  ["a record of no bytes", frameOf(ac.store, { payload: header(0) })],
  [
    "a record beyond all bounds",
    frameOf(ac.store, { payload: concatBytes([header(150_000), new Uint8Array(150_000)]) }),
  ],
  ["half a digest", frameOf(ac.lookup, { requestId: 1, payload: new Uint8Array(39) })],
  [
    "a look-up of too many",
    frameOf(ac.lookup, { requestId: 1, payload: new Uint8Array(1025 * 40) }),
  ],
  ["an answer", frameOf(ac.end, { requestId: 1 })],
])("a peer that sends a home %s loses its stream", (_, frame) =>
  mesh(2, async (nodes) => {
    const end = await talking(at(nodes, 0), at(nodes, 1).host, [frame]);
    expect(end?.how).toBe("reset");
    expect(at(nodes, 0).records.size).toBe(0);
  }),
);

test("a peer that tells garbage twice is not listened to any more", () =>
  mesh(2, async (nodes) => {
    const [home, liar] = [at(nodes, 0), at(nodes, 1)];
    const garbage = storing(utf8("x".repeat(200)));
    expect(await talking(home, liar.host, [...garbage, ...garbage])).toBeUndefined();
    expect(home.results.stats().refused).toEqual({ malformed: 2 });
    expect((await talking(home, liar.host, []))?.how).toBe("reset");
    expect(home.records.size).toBe(0);
  }));

test("who floods a home is not listened to until it has calmed down", () =>
  mesh(2, async (nodes) => {
    const [home, peer] = [at(nodes, 0), at(nodes, 1)];
    const record = recordBy(peer.self, "a");
    const many = storing(...Array.from({ length: 700 }, () => record));
    const flood = Array.from({ length: 40 }, () => many).flat();
    const last = recordBy(peer.self, "last");
    await talking(home, peer.host, [...flood, ...flood, ...storing(last)]);
    expect(home.results.stats().refused["too-much"]).toBeGreaterThan(10);
    await peer.host.clock.sleep(20_000, forever);
    await talking(home, peer.host, storing(recordBy(peer.self, "later")));
    expect(home.records.has(actionOf("later"))).toBe(true);
    const asking = Array.from({ length: 60 }, (_, index) =>
      frameOf(ac.lookup, {
        requestId: index + 1,
        payload: packDigests(Array.from({ length: 1024 }, () => actionOf("a"))),
      }),
    );
    const before = home.results.stats().refused["too-much"] ?? 0;
    await talking(home, peer.host, asking);
    expect(home.results.stats().refused["too-much"]).toBeGreaterThan(before);
  }));

test("strangers are told nothing, and may open no more than two streams", () =>
  mesh(2, async (nodes) => {
    const [home, peer] = [at(nodes, 0), at(nodes, 1)];
    const streams = [];
    for (let count = 0; count < 3; count += 1)
      streams.push(await peer.host.network.open(home.self, acProtocol, forever));
    const last = at(streams, 2);
    expect(await last.ended).toMatchObject({ how: "reset" });
  }));

test("the flag of an answer that nobody knows is no harm", () =>
  facing(
    (_action, frame, index) => [{ ...found(frame, index, good), flags: 0xfe & ~hasBlobsFlag }],
    async ({ results }) => {
      const known = await results.findInMesh(actionOf("a"), forever);
      expect(known).toMatchObject({ signer: "sim-n5", providers: [] });
    },
  ));
