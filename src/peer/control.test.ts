import { create } from "@bufbuild/protobuf";
import { expect, test } from "vitest";
import {
  StealGrantSchema,
  StealRequestSchema,
  TaskClosedSchema,
  TaskDoneSchema,
} from "../wire/gen/mesh/v1/mesh_pb.ts";
import { cancel, lefts, useControlStage } from "./control.fixture.ts";
import type { ControlMessage } from "./control.ts";
import { settle } from "./mesh.fixture.ts";

const signal = new AbortController().signal;
const request = create(StealRequestSchema, { room: 4, platforms: ["wasm"] });
const on = useControlStage();

test("both sides of a new pair know each other's load without asking", async () => {
  const [low, high] = await on.pair();
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
  const [low, high] = await on.pair();
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
  const [low, high] = await on.pair();
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
  const [low] = await on.pair();
  low.node.control.send(on.wire.node(99).self, cancel("x"));
  await expect(
    low.node.control.steal(on.wire.node(98).self, request, signal),
  ).rejects.toMatchObject({
    code: "peer-gone",
  });
});

test("a hint goes to as many peers as there are tasks, and to none twice while it is news", async () => {
  const low = await on.work(1);
  const others = await Promise.all(
    [2, 3, 4].map((number) => on.work(number, [low.node.network.addr])),
  );
  await on.clock.advance(100);
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
  const [low, high] = await on.pair();
  high.load = { ...high.load, busy: 2 };
  high.node.control.send(low.node.network.self, cancel("t"));
  await settle();
  low.load = { ...low.load, stealable: 5 };
  const { load: before } = low.node.control.sent();
  low.node.control.hint(5);
  expect(low.node.control.sent().load).toBe(before);
  await on.clock.advance(1500);
  low.node.control.hint(5);
  expect(low.node.control.sent().load).toBe((before ?? 0) + 1);
});

test("a changed load travels inside whatever is sent next", async () => {
  const [low, high] = await on.pair();
  const { load: before, sends } = low.node.control.sent();
  low.load = { queued: 7, stealable: 3, slots: 2, busy: 2, hot: 5n };
  low.node.control.send(high.node.network.self, cancel("t"));
  await settle();
  expect(high.node.directory.get(low.node.network.self)?.load).toMatchObject(low.load);
  expect(high.heard).toMatchObject([{ type: "cancel", value: { task: "t" } }]);
  expect(low.node.control.sent()).toMatchObject({ load: before, sends: (sends ?? 0) + 1 });
});

test("what is not urgent waits for company, but not for long", async () => {
  const [low, high] = await on.pair();
  const closed: ControlMessage = {
    type: "closed",
    value: create(TaskClosedSchema, { task: "t", attempt: 1, accepted: true }),
  };
  low.node.control.send(high.node.network.self, closed, "lazy");
  await on.clock.advance(10);
  expect(high.heard).toEqual([]);
  const { sends } = low.node.control.sent();
  low.node.control.send(high.node.network.self, cancel("u"));
  await settle();
  expect(high.heard.map(({ type }) => type)).toEqual(["closed", "cancel"]);
  expect(low.node.control.sent().sends).toBe((sends ?? 0) + 1);
  low.node.control.send(high.node.network.self, closed, "lazy");
  await on.clock.advance(1100);
  expect(high.heard).toHaveLength(3);
});

test("however often something not urgent finds company, one timer is set for it", async () => {
  let naps = 0;
  const { sleep } = on.clock;
  const counting: Pick<typeof on.clock, "sleep"> = {
    sleep(durationMs, until) {
      if (durationMs === 1000) naps += 1;
      return sleep(durationMs, until);
    },
  };
  Object.assign(on.clock, counting);
  const [low, high] = await on.pair();
  const { self } = high.node.network;
  const value = create(TaskClosedSchema, { task: "t", attempt: 1, accepted: true });
  const before = naps;
  for (let count = 0; count < 100; count++) {
    low.node.control.send(self, { type: "closed", value }, "lazy");
    low.node.control.send(self, cancel("u"));
  }
  expect(naps - before).toBe(1);
  await on.clock.advance(1100);
  low.node.control.send(self, { type: "closed", value }, "lazy");
  await on.clock.advance(1100);
  expect(high.heard).toHaveLength(201);
});

test("tasks can be pushed, and a sleeper says that it wants them", async () => {
  const [low, high] = await on.pair();
  high.node.control.lifeline(low.node.network.self, request);
  const grants = [{ task: "pushed", attempt: 1, leaseMs: 2000 }];
  low.node.control.push(high.node.network.self, create(StealGrantSchema, { grants }));
  await settle();
  expect(low.lifelines).toEqual([4]);
  expect(high.pushed).toEqual(["pushed"]);
});

test("a steal from a peer that has gone silent ends after 2 s, and the peer has left after 7", async () => {
  const [low, high] = await on.pair();
  await on.clock.advance(1000);
  on.wire.blackHole(low.node.network.self, high.node.network.self);
  const outcome = high.node.control
    .steal(low.node.network.self, request, signal)
    .catch((error: unknown) => error);
  await on.clock.advance(1900);
  expect(await Promise.race([outcome, "waiting"])).toBe("waiting");
  await on.clock.advance(200);
  expect(await outcome).toMatchObject({ code: "deadline" });
  await on.clock.advance(5000);
  expect(lefts(high)).toEqual(["it fell silent"]);
  expect(high.node.names()).toEqual([]);
});

test("a peer that falls silent in an idle mesh is noticed within 14 s, though nobody told TCP", async () => {
  const [low, high] = await on.pair();
  await on.clock.advance(60_000);
  expect(lefts(low)).toEqual([]);
  on.wire.blackHole(low.node.network.self, high.node.network.self);
  await on.clock.advance(14_000);
  expect([...lefts(low), ...lefts(high)]).toContain("it fell silent");
  expect(lefts(low).length).toBe(1);
});

test("a node that slept itself does not take its peers for silent", async () => {
  const [low, high] = await on.pair();
  on.wire.blackHole(low.node.network.self, high.node.network.self);
  await on.clock.advance(9000);
  expect(lefts(low)).toEqual([]);
  on.clock.skip(60_000);
  await settle();
  expect(lefts(low)).toEqual([]);
  await on.clock.advance(7100);
  expect([...lefts(low), ...lefts(high)]).toContain("it fell silent");
});

test("a goodbye is noticed at once, and open steals fail with it", async () => {
  const [low, high] = await on.pair();
  on.wire.blackHole(low.node.network.self, high.node.network.self);
  const outcome = high.node.control
    .steal(low.node.network.self, request, signal)
    .catch((error: unknown) => error);
  await settle();
  low.node.network.kill();
  await settle();
  expect(await outcome).toMatchObject({ code: "peer-gone" });
  expect(high.node.names()).toEqual([]);
});

test("of grants too large for one message the owner gets back what did not fit", async () => {
  const [low, high] = await on.pair();
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
  const [low, high] = await on.pair();
  const stdoutRaw = new Uint8Array(2 ** 20);
  const value = create(TaskDoneSchema, { task: "big", attempt: 2, result: { stdoutRaw } });
  low.node.control.send(high.node.network.self, { type: "done", value });
  await settle();
  expect(high.heard).toMatchObject([
    { type: "failed", value: { task: "big", attempt: 2, code: "limit" } },
  ]);
});

test("a stop sends what is queued, and waits no more than half a second for anybody", async () => {
  const [low, high] = await on.pair();
  const third = await on.work(3, [low.node.network.addr]);
  await on.clock.advance(100);
  on.wire.blackHole(low.node.network.self, high.node.network.self);
  low.node.control.send(third.node.network.self, cancel("last words"));
  let over = false;
  await low.node.directory.stop();
  void low.node.control.stop().then(() => {
    over = true;
  });
  await on.clock.advance(600);
  expect(over).toBe(true);
  await on.clock.advance(1000);
  expect(third.heard).toMatchObject([{ value: { task: "last words" } }]);
  expect(third.node.names()).toEqual(["node-002"]);
});

test("what was sent is counted by kind", async () => {
  const [low, high] = await on.pair();
  low.node.control.send(high.node.network.self, cancel("t"));
  expect(low.node.control.sent()).toMatchObject({ cancel: 1, load: expect.any(Number) });
});
