import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { createChannel } from "../wire/channel.ts";
import { frameOf } from "../wire/frame.ts";
import {
  createTestClock,
  createTestWire,
  settle,
  startTestNode,
  type TestClock,
  type TestNetwork,
  type TestNode,
  type TestNodeOptions,
  type TestWire,
} from "./mesh.fixture.ts";

let clock: TestClock;
let wire: TestWire;
let nodes: TestNode[];
let folders: string[];

beforeEach(() => {
  clock = createTestClock();
  wire = createTestWire(clock);
  nodes = [];
  folders = [];
});

afterEach(async () => {
  for (const node of nodes) await node.stop();
  for (const folder of folders) await rm(folder, { recursive: true });
});

async function start(network: TestNetwork, options: TestNodeOptions = {}): Promise<TestNode> {
  const node = await startTestNode(network, clock, options);
  nodes.push(node);
  return node;
}

async function folder(): Promise<string> {
  const path = await mkdtemp(join(tmpdir(), "mesh-peer-"));
  folders.push(path);
  return path;
}

const signal = new AbortController().signal;

test("two nodes that meet know each other's name, slots, sandbox and labels", async () => {
  const first = await start(wire.node(1), { slots: 8 });
  const second = await start(wire.node(2), { bootstrap: [first.network.addr] });
  await clock.advance(100);
  const peer = second.directory.get(first.network.self);
  expect(peer).toMatchObject({
    name: "node-001",
    slots: 8,
    sandbox: "bwrap",
    platform: "linux/x86_64",
    labels: { rack: "7" },
    addrs: [first.network.addr],
  });
  expect(first.names()).toEqual(["node-002"]);
  expect(first.events).toContainEqual({
    event: "peer-joined",
    peer: second.network.self,
    name: "node-002",
    slots: 2,
  });
});

test("joining one member joins all: three nodes with one bootstrap make a full mesh", async () => {
  const first = await start(wire.node(1));
  const second = await start(wire.node(2), { bootstrap: [first.network.addr] });
  const third = await start(wire.node(3), { bootstrap: [first.network.addr] });
  await clock.advance(1000);
  expect(first.names()).toEqual(["node-002", "node-003"]);
  expect(second.names()).toEqual(["node-001", "node-003"]);
  expect(third.names()).toEqual(["node-001", "node-002"]);
});

test("many nodes that join one at the same moment all find each other", async () => {
  const first = await start(wire.node(1));
  for (let number = 2; number <= 9; number += 1) {
    await start(wire.node(number), { bootstrap: [first.network.addr] });
  }
  await clock.advance(3000);
  for (const node of nodes) expect(node.directory.peers().length).toBe(8);
});

test("a restarted node finds its mesh again without being told where it is", async () => {
  const dataDir = await folder();
  const first = await start(wire.node(1));
  const second = await start(wire.node(2), { bootstrap: [first.network.addr], dataDir });
  await clock.advance(100);
  await second.stop();
  await clock.advance(100);
  expect(first.names()).toEqual([]);
  const again = await start(wire.node(2), { dataDir });
  await clock.advance(1000);
  expect(again.names()).toEqual(["node-001"]);
  expect(again.membership.meshKey).toEqual(second.membership.meshKey);
});

test("a node that was killed without a goodbye also finds its mesh again", async () => {
  const dataDir = await folder();
  const first = await start(wire.node(1));
  const second = await start(wire.node(2), { bootstrap: [first.network.addr], dataDir });
  await clock.advance(2000);
  second.network.kill();
  const again = await start(wire.node(2), { dataDir });
  await clock.advance(1000);
  expect(again.names()).toEqual(["node-001"]);
});

test("members of another mesh are told apart, and left alone for a while", async () => {
  const stranger = await start(wire.node(1, "another"));
  const node = await start(wire.node(2));
  node.network.found([stranger.network.addr]);
  await clock.advance(60_000);
  node.network.found([stranger.network.addr]);
  await clock.advance(60_000);
  expect(node.names()).toEqual([]);
  expect(node.network.dials().length).toBe(1);
  await expect(node.directory.reach([stranger.network.addr], signal)).rejects.toMatchObject({
    code: "wrong-mesh",
  });
});

test("a lost member is dialled again until it is back, less and less often", async () => {
  const first = await start(wire.node(1));
  const second = await start(wire.node(2), { bootstrap: [first.network.addr] });
  await clock.advance(20_000);
  first.network.kill();
  await clock.advance(10 * 60_000);
  expect(second.names()).toEqual([]);
  const gapsMs = second.network
    .dials()
    .map(({ atMs }, index, all) => (all[index + 1]?.atMs ?? atMs) - atMs);
  expect(second.network.dials().length).toBeGreaterThan(8);
  expect(second.network.dials().length).toBeLessThan(40);
  expect(Math.max(...gapsMs.slice(1))).toBeLessThanOrEqual(121_000);
  const again = await start(wire.node(1));
  await clock.advance(121_000);
  expect(second.names()).toEqual(["node-001"]);
  expect(again.names()).toEqual(["node-002"]);
});

test("what discovery finds is dialled at once", async () => {
  const first = await start(wire.node(1));
  const second = await start(wire.node(2));
  second.network.found([first.network.addr]);
  await clock.advance(50);
  expect(second.names()).toEqual(["node-001"]);
});

test("nodes that share nothing but the DHT find each other there", async () => {
  wire = createTestWire(clock, true);
  const first = await start(wire.node(1));
  const helper = await start(wire.node(2), { bootstrap: [first.network.addr] });
  await clock.advance(1000);
  const third = await start(wire.node(3));
  await clock.advance(1000);
  expect(third.names()).toEqual(["node-001", "node-002"]);
  expect(helper.names()).toEqual(["node-001", "node-003"]);
});

test("an idle mesh of three sends at most one control message a second and node, and dials nobody", async () => {
  const first = await start(wire.node(1));
  await start(wire.node(2), { bootstrap: [first.network.addr] });
  await start(wire.node(3), { bootstrap: [first.network.addr] });
  await clock.advance(5000);
  const sentBefore = nodes.map(({ control }) => total(control.sent()));
  const dialsBefore = nodes.map(({ network }) => network.dials().length);
  await clock.advance(100_000);
  nodes.forEach(({ control }, index) => {
    expect(total(control.sent()) - (sentBefore[index] ?? 0)).toBeLessThanOrEqual(100);
  });
  expect(nodes.map(({ network }) => network.dials().length)).toEqual(dialsBefore);
  expect(nodes.map((node) => node.names().length)).toEqual([2, 2, 2]);
});

test("a peer that comes and goes more than three times a minute is kept out for 30 s", async () => {
  const first = await start(wire.node(1));
  const second = await start(wire.node(2), { bootstrap: [first.network.addr] });
  for (let round = 0; round < 4; round += 1) {
    await clock.advance(4000);
    expect(first.names()).toEqual(["node-002"]);
    wire.cut(first.network.self, second.network.self);
  }
  await clock.advance(100);
  await expect(second.directory.reach([first.network.addr], signal)).rejects.toMatchObject({
    code: "refused",
    message: expect.stringContaining("came and went more than 3 times"),
  });
  await clock.advance(20_000);
  expect(first.names()).toEqual([]);
  await clock.advance(130_000);
  expect(first.names()).toEqual(["node-002"]);
});

test("a node takes no more members than its bound, and says so to those it turns away", async () => {
  const first = await start(wire.node(1), { peersWantedMax: 1, peersMax: 2 });
  await start(wire.node(2), { bootstrap: [first.network.addr] });
  await start(wire.node(3), { bootstrap: [first.network.addr] });
  await clock.advance(1000);
  const late = await start(wire.node(4), { bootstrap: [first.network.addr] });
  await clock.advance(1000);
  expect(first.names()).toEqual(["node-002", "node-003"]);
  expect(late.events).toContainEqual({
    event: "peer-refused",
    peer: first.network.self,
    code: "refused",
    reason: expect.stringContaining("2 members are connected here, which is the limit"),
  });
});

test("a peer that restarts while its old connection still looks whole leaves and joins again", async () => {
  const first = await start(wire.node(1));
  const raw = wire.node(2);
  raw.serve("/mesh/ctl/1", () => {});
  await raw.connect(first.network.addr, signal);
  await sayHello(raw, first, 7n);
  expect(first.names()).toEqual(["raw"]);
  await sayHello(raw, first, 7n);
  const joined = () => first.events.filter(({ event }) => event === "peer-joined").length;
  expect(joined()).toBe(1);
  await sayHello(raw, first, 8n);
  expect(first.events).toContainEqual(
    expect.objectContaining({ event: "peer-left", reason: "it reconnected" }),
  );
  expect(joined()).toBe(2);
});

async function sayHello(raw: TestNetwork, to: TestNode, session: bigint): Promise<void> {
  const { encodeHello } = await import("./hello-message.ts");
  const own = {
    name: "raw",
    slots: 1,
    sandbox: "",
    platform: "linux/x86_64",
    labels: {},
    roles: [],
  } as const;
  const stream = await raw.open(to.network.self, "/mesh/hello/1", signal);
  const limits = { frameMaxBytes: 1e6, queueMaxBytes: 1e6 };
  const channel = createChannel(stream, limits, () => {});
  channel.send(frameOf(1, { payload: encodeHello(own, [], session) }));
  await settle();
}

function total(counts: Readonly<Record<string, number>>): number {
  return Object.values(counts).reduce((sum, count) => sum + count, 0);
}
