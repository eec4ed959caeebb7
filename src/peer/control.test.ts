import { create } from "@bufbuild/protobuf";
import { afterEach, beforeEach, expect, test } from "vitest";
import type { MeshEvent } from "../base/events.ts";
import { type Channel, createChannel } from "../wire/channel.ts";
import { type Frame, frameOf, optionalFlag } from "../wire/frame.ts";
import {
  BeatSchema,
  CancelSchema,
  LoadSchema,
  StealGrantSchema,
  StealRequestSchema,
  TaskClosedSchema,
  TaskDoneSchema,
  TaskFailedSchema,
} from "../wire/gen/mesh/v1/mesh_pb.ts";
import { decodeMessage, encodeMessage } from "../wire/messages.ts";
import type { ControlHandlers, ControlMessage, OwnLoad } from "./control.ts";
import { controlFrame } from "./control-frames.ts";
import { encodeHello } from "./hello-message.ts";
import {
  createTestClock,
  createTestWire,
  settle,
  startTestNode,
  type TestClock,
  type TestNetwork,
  type TestNode,
  type TestWire,
} from "./mesh.fixture.ts";

interface Worker {
  readonly node: TestNode;
  load: OwnLoad;
  grant: () => string[];
  readonly heard: ControlMessage[];
  readonly pushed: string[];
  readonly lifelines: number[];
  hints: number;
}

let clock: TestClock;
let wire: TestWire;
let workers: Worker[];
const signal = new AbortController().signal;
const request = create(StealRequestSchema, { room: 4, platforms: ["wasm"] });

beforeEach(() => {
  clock = createTestClock();
  wire = createTestWire(clock);
  workers = [];
});

afterEach(async () => {
  let stopped = false;
  const stopping = Promise.all(workers.map(({ node }) => node.stop()));
  void stopping.finally(() => {
    stopped = true;
  });
  while (!stopped) await clock.advance(100);
  await stopping;
});

async function work(number: number, bootstrap: readonly string[] = []): Promise<Worker> {
  const node = await startTestNode(wire.node(number), clock, { bootstrap });
  const worker: Worker = {
    node,
    load: { queued: 0, stealable: 0, slots: 2, busy: 0, hot: 0n },
    grant: () => [],
    heard: [],
    pushed: [],
    lifelines: [],
    hints: 0,
  };
  const handlers: ControlHandlers = {
    load: () => worker.load,
    onSteal: () =>
      create(StealGrantSchema, {
        grants: worker.grant().map((task) => ({ task, attempt: 1, leaseMs: 2000 })),
      }),
    onPush: (_, { grants }) => void worker.pushed.push(...grants.map(({ task }) => task)),
    onLifeline: (_, { room }) => void worker.lifelines.push(room),
    onMessage: (_, message) => void worker.heard.push(message),
    onLoad: () => {
      worker.hints += 1;
    },
  };
  node.control.attach(handlers);
  workers.push(worker);
  return worker;
}

async function pair(): Promise<readonly [Worker, Worker]> {
  const low = await work(1);
  const high = await work(2, [low.node.network.addr]);
  await clock.advance(100);
  expect(low.node.names()).toEqual(["node-002"]);
  return [low, high];
}

const cancel = (task: string): ControlMessage => ({
  type: "cancel",
  value: create(CancelSchema, { task, attempt: 1 }),
});
const lefts = ({ node }: Worker): readonly string[] =>
  node.events.flatMap((event) => (event.event === "peer-left" ? [event.reason] : []));
const refusals = ({ node }: Worker): readonly Extract<MeshEvent, { event: "peer-refused" }>[] =>
  node.events.flatMap((event) => (event.event === "peer-refused" ? [event] : []));

test("both sides of a new pair know each other's load without asking", async () => {
  const [low, high] = await pair();
  expect(low.node.directory.get(high.node.network.self)?.load).toMatchObject({
    slots: 2,
    queued: 0,
  });
  expect(high.node.directory.get(low.node.network.self)?.load).toMatchObject({
    slots: 2,
    busy: 0,
    hot: 0n,
  });
});

test("a steal brings the victim's grant, its load, and a measured round trip", async () => {
  const [low, high] = await pair();
  low.grant = () => ["a-1", "a-2"];
  low.load = { queued: 5, stealable: 3, slots: 2, busy: 2, hot: 0n };
  const grant = await high.node.control.steal(low.node.network.self, request, signal);
  expect(grant.grants.map(({ task }) => task)).toEqual(["a-1", "a-2"]);
  expect(high.node.directory.get(low.node.network.self)).toMatchObject({
    load: { queued: 5, stealable: 3, busy: 2 },
    rttMs: expect.any(Number),
  });
});

test("messages arrive in the order they were sent, and a changed load rides in front of them", async () => {
  const [low, high] = await pair();
  const to = high.node.network.self;
  const hintsBefore = high.hints;
  for (let index = 0; index < 50; index += 1) low.node.control.send(to, cancel(`t-${index}`));
  low.load = { ...low.load, queued: 9 };
  low.node.control.send(to, cancel("last"));
  await settle();
  expect(high.heard.map(({ value }) => ("task" in value ? value.task : ""))).toEqual([
    ...Array.from({ length: 50 }, (_, index) => `t-${index}`),
    "last",
  ]);
  expect(high.hints - hintsBefore).toBe(1);
  expect(high.node.directory.get(low.node.network.self)?.load?.queued).toBe(9);
});

test("a message to a peer that is not there does nothing", async () => {
  const [low] = await pair();
  low.node.control.send(wire.node(99).self, cancel("x"));
  await expect(low.node.control.steal(wire.node(98).self, request, signal)).rejects.toMatchObject({
    code: "peer-gone",
  });
});

test("a hint goes to as many peers as there are tasks, and to none twice while it is news", async () => {
  const low = await work(1);
  const others = await Promise.all(
    [2, 3, 4].map((number) => work(number, [low.node.network.addr])),
  );
  await clock.advance(100);
  const told = (): number =>
    others.filter(({ node }) => node.directory.get(low.node.network.self)?.load?.stealable === 2)
      .length;
  low.load = { ...low.load, queued: 2, stealable: 2, busy: 2 };
  low.node.control.hint(2);
  await settle();
  expect(told()).toBe(2);
  low.node.control.hint(2);
  await settle();
  expect(told()).toBe(3);
  const sent = low.node.control.sent().load;
  low.node.control.hint(9);
  expect(low.node.control.sent().load).toBe(sent);
});

test("a peer that said just now that it is busy is not woken", async () => {
  const [low, high] = await pair();
  high.load = { ...high.load, busy: 2 };
  high.node.control.send(low.node.network.self, cancel("t"));
  await settle();
  low.load = { ...low.load, stealable: 5 };
  const { load: before } = low.node.control.sent();
  low.node.control.hint(5);
  expect(low.node.control.sent().load).toBe(before);
  await clock.advance(1500);
  low.node.control.hint(5);
  expect(low.node.control.sent().load).toBe((before ?? 0) + 1);
});

test("a changed load travels inside whatever is sent next", async () => {
  const [low, high] = await pair();
  const { load: before, sends } = low.node.control.sent();
  low.load = { queued: 7, stealable: 3, slots: 2, busy: 2, hot: 5n };
  low.node.control.send(high.node.network.self, cancel("t"));
  await settle();
  expect(high.node.directory.get(low.node.network.self)?.load).toMatchObject(low.load);
  expect(high.heard).toMatchObject([{ type: "cancel", value: { task: "t" } }]);
  expect(low.node.control.sent()).toMatchObject({ load: before, sends: (sends ?? 0) + 1 });
});

test("what is not urgent waits for company, but not for long", async () => {
  const [low, high] = await pair();
  const closed: ControlMessage = {
    type: "closed",
    value: create(TaskClosedSchema, { task: "t", attempt: 1, accepted: true }),
  };
  low.node.control.send(high.node.network.self, closed, "lazy");
  await clock.advance(10);
  expect(high.heard).toEqual([]);
  const { sends } = low.node.control.sent();
  low.node.control.send(high.node.network.self, cancel("u"));
  await settle();
  expect(high.heard.map(({ type }) => type)).toEqual(["closed", "cancel"]);
  expect(low.node.control.sent().sends).toBe((sends ?? 0) + 1);
  low.node.control.send(high.node.network.self, closed, "lazy");
  await clock.advance(1100);
  expect(high.heard).toHaveLength(3);
});

test("however often something not urgent finds company, one timer is set for it", async () => {
  let naps = 0;
  const { sleep } = clock;
  clock = {
    ...clock,
    sleep(durationMs, until) {
      if (durationMs === 1000) naps += 1;
      return sleep(durationMs, until);
    },
  };
  const [low, high] = await pair();
  const { self } = high.node.network;
  const value = create(TaskClosedSchema, { task: "t", attempt: 1, accepted: true });
  const before = naps;
  for (let count = 0; count < 100; count++) {
    low.node.control.send(self, { type: "closed", value }, "lazy");
    low.node.control.send(self, cancel("u"));
  }
  expect(naps - before).toBe(1);
  await clock.advance(1100);
  low.node.control.send(self, { type: "closed", value }, "lazy");
  await clock.advance(1100);
  expect(high.heard).toHaveLength(201);
});

test("tasks can be pushed, and a sleeper says that it wants them", async () => {
  const [low, high] = await pair();
  high.node.control.lifeline(low.node.network.self, request);
  const grants = [{ task: "pushed", attempt: 1, leaseMs: 2000 }];
  low.node.control.push(high.node.network.self, create(StealGrantSchema, { grants }));
  await settle();
  expect(low.lifelines).toEqual([4]);
  expect(high.pushed).toEqual(["pushed"]);
});

test("a steal from a peer that has gone silent ends after 2 s, and the peer has left after 7", async () => {
  const [low, high] = await pair();
  await clock.advance(1000);
  wire.blackHole(low.node.network.self, high.node.network.self);
  const outcome = high.node.control
    .steal(low.node.network.self, request, signal)
    .catch((error: unknown) => error);
  await clock.advance(1900);
  expect(await Promise.race([outcome, "waiting"])).toBe("waiting");
  await clock.advance(200);
  expect(await outcome).toMatchObject({ code: "deadline" });
  await clock.advance(5000);
  expect(lefts(high)).toEqual(["it fell silent"]);
  expect(high.node.names()).toEqual([]);
});

test("a peer that falls silent in an idle mesh is noticed within 14 s, though nobody told TCP", async () => {
  const [low, high] = await pair();
  await clock.advance(60_000);
  expect(lefts(low)).toEqual([]);
  wire.blackHole(low.node.network.self, high.node.network.self);
  await clock.advance(14_000);
  expect([...lefts(low), ...lefts(high)]).toContain("it fell silent");
  expect(lefts(low).length).toBe(1);
});

test("a node that slept itself does not take its peers for silent", async () => {
  const [low, high] = await pair();
  wire.blackHole(low.node.network.self, high.node.network.self);
  await clock.advance(9000);
  expect(lefts(low)).toEqual([]);
  clock.skip(60_000);
  await settle();
  expect(lefts(low)).toEqual([]);
  await clock.advance(7100);
  expect([...lefts(low), ...lefts(high)]).toContain("it fell silent");
});

test("a goodbye is noticed at once, and open steals fail with it", async () => {
  const [low, high] = await pair();
  wire.blackHole(low.node.network.self, high.node.network.self);
  const outcome = high.node.control
    .steal(low.node.network.self, request, signal)
    .catch((error: unknown) => error);
  await settle();
  low.node.network.kill();
  await settle();
  expect(await outcome).toMatchObject({ code: "peer-gone" });
  expect(high.node.names()).toEqual([]);
});

interface RawPeer {
  readonly network: TestNetwork;
  readonly channel: Channel;
  readonly frames: Frame[];
}

const limits = { frameMaxBytes: 1e7, queueMaxBytes: 1e9 };

/** What the node answers to a good hello. */
async function rawHello(to: Worker, network: TestNetwork): Promise<readonly Frame[]> {
  const frames: Frame[] = [];
  const stream = await network.open(to.node.network.self, "/mesh/hello/1", signal);
  const channel = createChannel(stream, limits, (frame) => void frames.push(frame));
  const own = { name: "raw", slots: 1, sandbox: "", platform: "x", labels: {}, roles: [] } as const;
  channel.send(frameOf(1, { payload: encodeHello(own, [], 1n) }));
  await settle();
  return frames;
}

/** A peer of our own making, which opens its control stream by hand. */
async function joinRaw(to: Worker, number: number): Promise<RawPeer> {
  const network = wire.node(number);
  await network.connect(to.node.network.addr, signal);
  await rawHello(to, network);
  const frames: Frame[] = [];
  const stream = await network.open(to.node.network.self, "/mesh/ctl/1", signal);
  const channel = createChannel(stream, limits, (frame) => void frames.push(frame));
  await settle();
  expect(to.node.names()).toEqual(["raw"]);
  return { network, channel, frames };
}

test.each([
  ["bytes that are no message", frameOf(controlFrame.done, { payload: Uint8Array.of(255, 1) })],
  ["an unknown message that may not be skipped", frameOf(200)],
  ["a frame beyond 1 MiB", frameOf(controlFrame.beat, { payload: new Uint8Array(2 ** 20 + 1) })],
  ["an answer without a result", frameOf(controlFrame.done, { payload: answerWithout() })],
  ["a beat for five thousand tasks", frameOf(controlFrame.beat, { payload: longBeat() })],
])("%s gets a peer cut off and kept out", async (_, frame) => {
  const worker = await work(5);
  const { channel, network } = await joinRaw(worker, 1);
  channel.send(frame);
  await settle();
  expect(worker.node.names()).toEqual([]);
  expect(network.peers()).toEqual([]);
  expect(refusals(worker)).toMatchObject([{ code: "malformed", peer: network.self }]);
  expect(worker.heard).toEqual([]);
  await network.connect(worker.node.network.addr, signal);
  expect((await rawHello(worker, network))[0]?.type).toBe(3);
});

function answerWithout(): Uint8Array {
  return encodeMessage(TaskDoneSchema, create(TaskDoneSchema, { task: "t", attempt: 1 }));
}

function longBeat(): Uint8Array {
  const held = Array.from({ length: 5000 }, (_, index) => ({ task: `t${index}`, attempt: 1 }));
  return encodeMessage(BeatSchema, create(BeatSchema, { held }));
}

test("an unknown message that says it may be skipped is skipped", async () => {
  const worker = await work(5);
  const { channel } = await joinRaw(worker, 1);
  channel.send(frameOf(200, { flags: optionalFlag }));
  const value = create(CancelSchema, { task: "after", attempt: 1 });
  channel.send(frameOf(controlFrame.cancel, { payload: encodeMessage(CancelSchema, value) }));
  await settle();
  expect(worker.heard).toMatchObject([{ type: "cancel", value: { task: "after" } }]);
});

test("a peer that floods is cut off, before all of it has been taken in", async () => {
  const worker = await work(5);
  const { channel } = await joinRaw(worker, 1);
  const value = create(CancelSchema, { task: "t", attempt: 1 });
  const payload = encodeMessage(CancelSchema, value);
  for (let count = 0; count < 60_000; count += 1) {
    channel.send(frameOf(controlFrame.cancel, { payload }));
  }
  await clock.advance(10);
  expect(worker.node.names()).toEqual([]);
  expect(worker.heard.length).toBeLessThanOrEqual(50_000);
  expect(refusals(worker)).toMatchObject([{ code: "limit" }]);
});

test("a peer that does not read is cut off once too much waits for it", async () => {
  const [low, high] = await pair();
  wire.blackHole(low.node.network.self, high.node.network.self);
  const stderr = new Uint8Array(100_000);
  for (let count = 0; count < 40; count += 1) {
    const value = create(TaskFailedSchema, { task: "t", attempt: 1, code: "io", message: "m" });
    low.node.control.send(high.node.network.self, { type: "failed", value });
    low.node.control.send(high.node.network.self, {
      type: "progress",
      value: { $typeName: "mesh.v1.TaskProgress", task: "t", attempt: 1, stderr, outputs: [] },
    });
    await settle(2);
  }
  await settle();
  expect(lefts(low)).toEqual(["it does not read: too much waits to be sent"]);
});

test("load hints are left out while much waits for a slow peer", async () => {
  const [low, high] = await pair();
  const to = high.node.network.self;
  wire.blackHole(low.node.network.self, to);
  const stderr = new Uint8Array(100_000);
  for (let count = 0; count < 16; count += 1) {
    low.load = { ...low.load, queued: count };
    low.node.control.send(to, {
      type: "progress",
      value: { $typeName: "mesh.v1.TaskProgress", task: "t", attempt: 1, stderr, outputs: [] },
    });
    if (count === 12) await settle();
  }
  const { load: before } = low.node.control.sent();
  low.load = { ...low.load, queued: 99 };
  low.node.control.send(to, cancel("t"));
  expect(low.node.control.sent()).toMatchObject({ load: before, cancel: 1, progress: 16 });
});

test("an old load hint never replaces a newer one", async () => {
  const worker = await work(5);
  const { channel, network } = await joinRaw(worker, 1);
  for (const [sequence, queued] of [
    [5n, 50],
    [4n, 40],
  ] as const) {
    const payload = encodeMessage(LoadSchema, create(LoadSchema, { queued, sequence }));
    channel.send(frameOf(controlFrame.load, { payload }));
  }
  await settle();
  expect(worker.node.directory.get(network.self)?.load?.queued).toBe(50);
});

test("a grant that comes too late is given back at once, so that no task waits for its lease", async () => {
  const worker = await work(5);
  const { channel, network, frames } = await joinRaw(worker, 1);
  const gone = new AbortController();
  const outcome = worker.node.control
    .steal(network.self, request, gone.signal)
    .catch((error: unknown) => error);
  await settle();
  const asked = frames.find(({ type }) => type === controlFrame.stealRequest);
  gone.abort(new Error("the build is over"));
  expect(await outcome).toMatchObject({ message: "the build is over" });
  const grants = [{ task: "late", attempt: 3 }];
  const payload = encodeMessage(StealGrantSchema, create(StealGrantSchema, { grants }));
  channel.send(frameOf(controlFrame.stealGrant, { requestId: asked?.requestId ?? 0, payload }));
  await settle();
  const failed = frames.find(({ type }) => type === controlFrame.failed);
  expect(decodeMessage(TaskFailedSchema, failed?.payload ?? new Uint8Array())).toMatchObject({
    task: "late",
    attempt: 3,
    code: "deadline",
  });
});

test("of grants too large for one message the owner gets back what did not fit", async () => {
  const [low, high] = await pair();
  const huge = Array.from({ length: 300 }, (_, index) => `task-${index}`);
  low.grant = () => huge;
  const grant = await high.node.control.steal(low.node.network.self, request, signal);
  expect(grant.grants.length).toBe(256);
  expect(low.heard.length).toBe(44);
  expect(low.heard[0]).toMatchObject({
    type: "failed",
    value: { task: "task-256", code: "limit" },
  });
});

test("an answer too large to send becomes a failure, so that its task is not lost", async () => {
  const [low, high] = await pair();
  const stdoutRaw = new Uint8Array(2 ** 20);
  const value = create(TaskDoneSchema, { task: "big", attempt: 2, result: { stdoutRaw } });
  low.node.control.send(high.node.network.self, { type: "done", value });
  await settle();
  expect(high.heard).toMatchObject([
    { type: "failed", value: { task: "big", attempt: 2, code: "limit" } },
  ]);
});

test("at most 64 steals from one peer are open at once", async () => {
  const [low, high] = await pair();
  wire.blackHole(low.node.network.self, high.node.network.self);
  const outcomes = Array.from({ length: 65 }, () =>
    high.node.control
      .steal(low.node.network.self, request, signal)
      .catch((error: unknown) => error),
  );
  expect(await outcomes[64]).toMatchObject({ code: "limit" });
  await clock.advance(2100);
  expect(await outcomes[0]).toMatchObject({ code: "deadline" });
});

test("a stop sends what is queued, and waits no more than half a second for anybody", async () => {
  const [low, high] = await pair();
  const third = await work(3, [low.node.network.addr]);
  await clock.advance(100);
  wire.blackHole(low.node.network.self, high.node.network.self);
  low.node.control.send(third.node.network.self, cancel("last words"));
  let over = false;
  await low.node.directory.stop();
  void low.node.control.stop().then(() => {
    over = true;
  });
  await clock.advance(600);
  expect(over).toBe(true);
  await clock.advance(1000);
  expect(third.heard).toMatchObject([{ value: { task: "last words" } }]);
  expect(third.node.names()).toEqual(["node-002"]);
});

test("what was sent is counted by kind", async () => {
  const [low, high] = await pair();
  low.node.control.send(high.node.network.self, cancel("t"));
  expect(low.node.control.sent()).toMatchObject({ cancel: 1, load: expect.any(Number) });
});
