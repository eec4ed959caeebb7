import { expect, test } from "vitest";
import { concatBytes, textOf, utf8 } from "../base/bytes.ts";
import { MeshError } from "../base/errors.ts";
import { asPeerId } from "../base/ids.ts";
import type { Host, Network, PeerChange, Stream } from "../host/host.ts";
import { createSimulation, type Simulation } from "./simulation.ts";

const never = (): AbortSignal => new AbortController().signal;
const protocol = "/test/1";

interface Pair {
  readonly simulation: Simulation;
  readonly a: Network;
  readonly b: Network;
  /** What each side was told about its peers. */
  readonly changes: { readonly a: string[]; readonly b: string[] };
}

function startPair(seed: number | string = 1): Pair {
  const simulation = createSimulation(seed);
  const changes = { a: [] as string[], b: [] as string[] };
  const follow = ({ network }: Host, seen: string[]): Network => {
    network.onChange(({ peer, at }: PeerChange) => seen.push(`${peer} ${at}`));
    return network;
  };
  return {
    simulation,
    a: follow(simulation.addHost("a"), changes.a),
    b: follow(simulation.addHost("b"), changes.b),
    changes,
  };
}

/** Connects the two and opens a stream from a to b. */
async function openBetween({ simulation, a, b }: Pair): Promise<readonly [Stream, Stream]> {
  const accepted = Promise.withResolvers<Stream>();
  b.serve(protocol, (_, stream) => accepted.resolve(stream));
  const opening = (async () => {
    await a.connect("sim/b", never());
    return Promise.all([a.open(b.self, protocol, never()), accepted.promise]);
  })();
  return simulation.finish(opening, simulation.nowMs() + 1000);
}

function collect(stream: Stream): Uint8Array[] {
  const pieces: Uint8Array[] = [];
  stream.receive((bytes) => pieces.push(bytes));
  return pieces;
}

test("a dial connects both sides once and takes a round trip", async () => {
  const { simulation, a, b, changes } = startPair();
  const [listenAddr] = b.listenAddrs();
  expect(await simulation.finish(a.connect(listenAddr ?? "", never()), 100)).toBe(b.self);
  expect(simulation.nowMs()).toBeGreaterThanOrEqual(0.5);
  expect(simulation.nowMs()).toBeLessThan(0.7);
  expect(await simulation.finish(a.connect("sim/b", never()), 100)).toBe(b.self);
  expect(changes).toEqual({ a: ["sim-b connected"], b: ["sim-a connected"] });
  expect([a.peers(), b.peers()]).toEqual([[b.self], [a.self]]);
  expect(b.addrOf(a.self)).toBe("sim/a");
});

test("two hosts that dial each other at once share one connection", async () => {
  for (let seed = 0; seed < 20; seed++) {
    const { simulation, a, b, changes } = startPair(seed);
    const dials = Promise.all([a.connect("sim/b", never()), b.connect("sim/a", never())]);
    await simulation.finish(dials, 100);
    expect(changes).toEqual({ a: ["sim-b connected"], b: ["sim-a connected"] });
    await simulation.finish(a.disconnect(b.self), 100);
    await simulation.run(200);
    expect([a.peers(), b.peers()]).toEqual([[], []]);
    expect(changes.b.at(-1)).toBe("sim-a disconnected");
  }
});

test("a dial that cannot succeed says why", async () => {
  const { simulation, a } = startPair();
  simulation.addHost("stranger", { mesh: "other" });
  simulation.addHost("off");
  simulation.faults.kill("off");
  const codeOf = async (addr: string): Promise<string> => {
    const dialled = a.connect(addr, never()).catch((error: unknown) => error);
    const error = await simulation.finish(dialled, simulation.nowMs() + 10_000);
    return error instanceof MeshError ? error.code : "none";
  };
  expect(await codeOf("sim/a")).toBe("refused");
  expect(await codeOf("tcp/1.2.3.4")).toBe("refused");
  expect(await codeOf("sim/nobody")).toBe("peer-gone");
  expect(await codeOf("sim/off")).toBe("peer-gone");
  expect(await codeOf("sim/b/p2p/sim-c")).toBe("peer-gone");
  expect(await codeOf("sim/stranger")).toBe("wrong-mesh");
  simulation.faults.pause("b");
  expect(await codeOf("sim/b")).toBe("deadline");
});

test("an abort ends a dial and the opening of a stream", async () => {
  const pair = startPair();
  const { simulation, a, b } = pair;
  const stop = new AbortController();
  const dialling = a.connect("sim/b", stop.signal);
  stop.abort("no more");
  await expect(dialling).rejects.toBe("no more");
  await simulation.finish(a.connect("sim/b", never()), 100);
  const accepted = Promise.withResolvers<Stream>();
  b.serve(protocol, (_, stream) => accepted.resolve(stream));
  const stopOpening = new AbortController();
  const opening = a.open(b.self, protocol, stopOpening.signal);
  stopOpening.abort("not this either");
  await expect(opening).rejects.toBe("not this either");
  const end = simulation.finish(
    accepted.promise.then((stream) => stream.ended),
    100,
  );
  expect((await end).how).toBe("reset");
});

test("streams need a connection and a protocol that is served", async () => {
  const { simulation, a, b } = startPair();
  await expect(a.open(b.self, protocol, never())).rejects.toMatchObject({ code: "peer-gone" });
  await expect(a.open(asPeerId("x"), protocol, never())).rejects.toMatchObject({
    code: "peer-gone",
  });
  await simulation.finish(a.connect("sim/b", never()), 100);
  const opening = a.open(b.self, protocol, never()).catch((error: unknown) => error);
  expect(await simulation.finish(opening, 100)).toMatchObject({ code: "unsupported" });
});

test("bytes arrive whole and in order, cut up anyhow, and the end after them", async () => {
  const cuts = new Set<number>();
  for (let seed = 0; seed < 10; seed++) {
    const pair = startPair(seed);
    pair.simulation.faults.setLink("a", "b", { jitterMs: 20 });
    const [from, to] = await openBetween(pair);
    const pieces = collect(to);
    const sent = Array.from({ length: 50 }, (_, index) => utf8(`message ${index};`));
    for (const bytes of sent) from.send(new Uint8Array(bytes));
    const closing = from.close();
    expect(() => from.send(utf8("more"))).toThrow(expect.objectContaining({ code: "peer-gone" }));
    const end = await pair.simulation.finish(to.ended, 1e5);
    await pair.simulation.finish(closing, 1e5);
    expect(end.how).toBe("closed");
    expect((await from.ended).how).toBe("closed");
    expect(textOf(concatBytes(pieces))).toBe(textOf(concatBytes(sent)));
    cuts.add(pieces.length);
    expect(() => to.send(utf8("x"))).toThrow(expect.objectContaining({ code: "peer-gone" }));
  }
  expect(cuts.size).toBeGreaterThan(1);
});

test("what came before anybody received is given then, and the end after it", async () => {
  const pair = startPair();
  const [from, to] = await openBetween(pair);
  from.send(utf8("one "));
  from.send(utf8("two"));
  void from.close();
  await pair.simulation.run(1000);
  let ended = false;
  void to.ended.then(() => {
    ended = true;
  });
  await pair.simulation.run(1001);
  expect(ended).toBe(false);
  const pieces = collect(to);
  expect(pieces).toEqual([]);
  await pair.simulation.finish(to.ended, 2000);
  expect(pieces.map(textOf)).toEqual(["one two"]);
});

test("what came early comes before what arrives at the moment of receiving", async () => {
  const pair = startPair();
  const { faults } = pair.simulation;
  const [from, to] = await openBetween(pair);
  from.send(utf8("first "));
  await pair.simulation.run(100);
  faults.pause("b");
  from.send(utf8("second"));
  await pair.simulation.run(200);
  const pieces = collect(to);
  faults.resume("b");
  await pair.simulation.run(300);
  expect(textOf(concatBytes(pieces))).toBe("first second");
});

test("the opening of a stream fails with the connection", async () => {
  const { simulation, a, b } = startPair();
  b.serve(protocol, () => {});
  await simulation.finish(a.connect("sim/b", never()), 100);
  simulation.faults.blockOneWay("a", "b");
  const opening = a.open(b.self, protocol, never()).catch((error: unknown) => error);
  expect(await simulation.finish(opening, 20_000)).toMatchObject({ code: "peer-gone" });
  simulation.faults.heal();
  await simulation.run(30_000);
});

test("a sender that goes too fast is told, and told again when there is room", async () => {
  const pair = startPair();
  pair.simulation.faults.setLink("a", "b", { bytesPerMs: 1000 });
  const [from, to] = await openBetween(pair);
  collect(to);
  const piece = (): Uint8Array => new Uint8Array(200_000);
  await from.drained(never());
  const answers = Array.from({ length: 6 }, () => from.send(piece()));
  expect(answers).toEqual([true, true, true, true, true, false]);
  const startMs = pair.simulation.nowMs();
  await pair.simulation.finish(from.drained(never()), 1e5);
  expect(pair.simulation.nowMs() - startMs).toBeGreaterThan(100);
  while (from.send(piece()));
  const stop = new AbortController();
  const waiting = from.drained(stop.signal);
  stop.abort("tired");
  await expect(waiting).rejects.toBe("tired");
  const cutOff = from.drained(never()).catch((error: unknown) => error);
  from.reset("enough");
  expect(await cutOff).toMatchObject({ code: "peer-gone" });
});

test("a reset drops what is on its way and tells the other side", async () => {
  const pair = startPair();
  const [from, to] = await openBetween(pair);
  const pieces = collect(to);
  from.send(utf8("lost"));
  from.reset("changed my mind");
  expect(await from.ended).toEqual({ how: "reset", reason: "changed my mind" });
  expect((await pair.simulation.finish(to.ended, 100)).how).toBe("reset");
  expect(pieces).toEqual([]);
});

test("a receiver that fails on what it gets costs the stream, and a bug ends the run", async () => {
  const pair = startPair();
  const [from, to] = await openBetween(pair);
  to.receive(() => {
    throw new MeshError("malformed", "not a frame");
  });
  from.send(utf8("x"));
  await pair.simulation.finish(from.ended, 100);
  expect(await to.ended).toEqual({ how: "reset", reason: "not a frame" });

  const other = startPair();
  const [otherFrom, otherTo] = await openBetween(other);
  otherTo.receive(() => {
    throw new TypeError("a bug");
  });
  otherFrom.send(utf8("x"));
  await expect(other.simulation.run(100)).rejects.toThrow("a bug");
});

test("a one-way block holds one direction, and healing lets it through", async () => {
  const pair = startPair();
  const [from, to] = await openBetween(pair);
  const [there, back] = [collect(to), collect(from)];
  pair.simulation.faults.blockOneWay("a", "b");
  from.send(utf8("held"));
  to.send(utf8("free"));
  await pair.simulation.run(1000);
  expect([there.length, textOf(concatBytes(back))]).toEqual([0, "free"]);
  pair.simulation.faults.heal();
  await pair.simulation.run(1010);
  expect(textOf(concatBytes(there))).toBe("held");
  await pair.simulation.run(100_000);
  expect(pair.changes.a).toEqual(["sim-b connected"]);
});

test("a partition that lasts breaks connections on both sides, and nobody gets through", async () => {
  const pair = startPair();
  const { simulation, a, changes } = pair;
  const [from, to] = await openBetween(pair);
  simulation.faults.partition(["a"]);
  from.send(utf8("never"));
  await simulation.run(14_000);
  expect(changes.a).toEqual(["sim-b connected"]);
  await simulation.run(16_000);
  expect(changes).toEqual({
    a: ["sim-b connected", "sim-b disconnected"],
    b: ["sim-a connected", "sim-a disconnected"],
  });
  expect((await from.ended).how).toBe("reset");
  expect((await to.ended).how).toBe("reset");
  const dialled = a.connect("sim/b", never()).catch((error: unknown) => error);
  expect(await simulation.finish(dialled, 30_000)).toMatchObject({ code: "deadline" });
  simulation.faults.heal();
  const again = await simulation.finish(a.connect("sim/b", never()), 40_000);
  expect(again).toBe("sim-b");
});

test("a killed host's peers notice at once, or late when it went silently", async () => {
  for (const silent of [false, true]) {
    const pair = startPair();
    const [from] = await openBetween(pair);
    pair.simulation.faults.kill("b", { silent });
    await pair.simulation.run(10_000);
    expect(pair.a.peers()).toEqual(silent ? ["sim-b"] : []);
    await pair.simulation.run(20_000);
    expect(pair.a.peers()).toEqual([]);
    expect((await from.ended).how).toBe("reset");
    expect(pair.changes.b).toEqual(["sim-a connected"]);
    pair.simulation.faults.restart("b");
    await pair.simulation.finish(pair.a.connect("sim/b", never()), 30_000);
  }
});

test("a restarted host that dials replaces the connection of its earlier life", async () => {
  const pair = startPair();
  const [, to] = await openBetween(pair);
  pair.simulation.faults.kill("a", { silent: true });
  const { network } = pair.simulation.faults.restart("a");
  await pair.simulation.finish(network.connect("sim/b", never()), 1000);
  expect(pair.changes.b).toEqual(["sim-a connected", "sim-a disconnected", "sim-a connected"]);
  expect((await to.ended).how).toBe("reset");
  await pair.simulation.run(100_000);
  expect(pair.b.peers()).toEqual(["sim-a"]);
});

test("streams can be reset and connections broken from outside", async () => {
  const pair = startPair();
  const { simulation, a } = pair;
  const [from, to] = await openBetween(pair);
  simulation.faults.resetStreams("a", "b", "/other/1");
  await simulation.run(10);
  from.send(utf8("still open"));
  simulation.faults.resetStreams("a", "b", protocol);
  expect((await simulation.finish(to.ended, 100)).how).toBe("reset");
  expect((await simulation.finish(from.ended, 100)).how).toBe("reset");
  expect(a.peers()).toEqual(["sim-b"]);
  simulation.faults.breakConnection("b", "a");
  await simulation.run(200);
  expect(a.peers()).toEqual([]);
});

test("a lossy link breaks connections, by chance", async () => {
  const pair = startPair();
  const [from, to] = await openBetween(pair);
  collect(to);
  pair.simulation.faults.setLink("a", "b", { resetChance: 0.01 });
  let sent = 0;
  const sending = (async () => {
    for (; sent < 10_000; sent++) {
      from.send(utf8("x"));
      await from.drained(never());
      await pair.simulation.host("a").clock.sleep(1, never());
    }
  })().catch((error: unknown) => error);
  expect(await pair.simulation.finish(sending, 1e6)).toMatchObject({ code: "peer-gone" });
  expect(sent).toBeGreaterThan(1);
  expect(pair.a.peers()).toEqual([]);
});

test("hosts that announced a topic are found, by others only", async () => {
  const { simulation, a, b } = startPair();
  const topic = utf8("mesh");
  const found = async (network: Network): Promise<readonly string[]> => {
    const all: string[] = [];
    for await (const addrs of network.find(topic, never())) all.push(...addrs);
    return all;
  };
  const searching = (async () => {
    expect(await found(a)).toEqual([]);
    await a.announce(topic, never());
    await b.announce(topic, never());
    return Promise.all([found(a), found(b)]);
  })();
  expect(await simulation.finish(searching, 1000)).toEqual([
    ["sim/b/p2p/sim-b"],
    ["sim/a/p2p/sim-a"],
  ]);
});

test("with discovery hosts hear of each other by themselves", async () => {
  const network = {
    link: { delayMs: 1, jitterMs: 0, bytesPerMs: 1e6, resetChance: 0 },
    dialTimeoutMs: 100,
    silenceMaxMs: 100,
    discovery: true,
  };
  const simulation = createSimulation(1, { network });
  const heard: string[] = [];
  for (const name of ["a", "b", "c"])
    simulation.addHost(name).network.onFound((addrs) => heard.push(`${name} ${addrs}`));
  await simulation.run(100);
  expect(heard.sort()).toEqual([
    "a sim/b/p2p/sim-b",
    "a sim/c/p2p/sim-c",
    "b sim/a/p2p/sim-a",
    "b sim/c/p2p/sim-c",
    "c sim/a/p2p/sim-a",
    "c sim/b/p2p/sim-b",
  ]);
});

test("a closed network has no peers and answers no dial", async () => {
  const { simulation, a, b, changes } = startPair();
  await simulation.finish(a.connect("sim/b", never()), 100);
  await simulation.finish(b.close(), 100);
  await simulation.run(200);
  expect(changes.a.at(-1)).toBe("sim-b disconnected");
  expect([a.peers(), b.peers(), b.listenAddrs()]).toEqual([[], [], []]);
  const dialled = a.connect("sim/b", never()).catch((error: unknown) => error);
  expect(await simulation.finish(dialled, 10_000)).toMatchObject({ code: "peer-gone" });
});
