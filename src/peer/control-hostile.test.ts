/** What a peer that keeps to no rules, or does not read, can do to a node: nothing. */
import { create } from "@bufbuild/protobuf";
import { expect, test } from "vitest";
import { frameOf, optionalFlag } from "../wire/frame.ts";
import {
  BeatSchema,
  CancelSchema,
  LoadSchema,
  StealGrantSchema,
  StealRequestSchema,
  TaskDoneSchema,
  TaskFailedSchema,
} from "../wire/gen/mesh/v1/mesh_pb.ts";
import { decodeMessage, encodeMessage } from "../wire/messages.ts";
import { cancel, lefts, refusals, useControlStage } from "./control.fixture.ts";
import { controlFrame } from "./control-frames.ts";
import { settle } from "./mesh.fixture.ts";

const signal = new AbortController().signal;
const request = create(StealRequestSchema, { room: 4, platforms: ["wasm"] });
const on = useControlStage();

test.each([
  ["bytes that are no message", frameOf(controlFrame.done, { payload: Uint8Array.of(255, 1) })],
  ["an unknown message that may not be skipped", frameOf(200)],
  ["a frame beyond 1 MiB", frameOf(controlFrame.beat, { payload: new Uint8Array(2 ** 20 + 1) })],
  ["an answer without a result", frameOf(controlFrame.done, { payload: answerWithout() })],
  ["a beat for five thousand tasks", frameOf(controlFrame.beat, { payload: longBeat() })],
])("%s gets a peer cut off and kept out", async (_, frame) => {
  const worker = await on.work(5);
  const { channel, network } = await on.joinRaw(worker, 1);
  channel.send(frame);
  await settle();
  expect(worker.node.names()).toEqual([]);
  expect(network.peers()).toEqual([]);
  expect(refusals(worker)).toMatchObject([{ code: "malformed", peer: network.self }]);
  expect(worker.heard).toEqual([]);
  await network.connect(worker.node.network.addr, signal);
  expect((await on.rawHello(worker, network))[0]?.type).toBe(3);
});

function answerWithout(): Uint8Array {
  return encodeMessage(TaskDoneSchema, create(TaskDoneSchema, { task: "t", attempt: 1 }));
}

function longBeat(): Uint8Array {
  const held = Array.from({ length: 5000 }, (_, index) => ({ task: `t${index}`, attempt: 1 }));
  return encodeMessage(BeatSchema, create(BeatSchema, { held }));
}

test("an unknown message that says it may be skipped is skipped", async () => {
  const worker = await on.work(5);
  const { channel } = await on.joinRaw(worker, 1);
  channel.send(frameOf(200, { flags: optionalFlag }));
  const value = create(CancelSchema, { task: "after", attempt: 1 });
  channel.send(frameOf(controlFrame.cancel, { payload: encodeMessage(CancelSchema, value) }));
  await settle();
  expect(worker.heard).toMatchObject([{ type: "cancel", value: { task: "after" } }]);
});

test("a peer that floods is cut off, before all of it has been taken in", async () => {
  const worker = await on.work(5);
  const { channel } = await on.joinRaw(worker, 1);
  const value = create(CancelSchema, { task: "t", attempt: 1 });
  const payload = encodeMessage(CancelSchema, value);
  for (let count = 0; count < 60_000; count += 1) {
    channel.send(frameOf(controlFrame.cancel, { payload }));
  }
  await on.clock.advance(10);
  expect(worker.node.names()).toEqual([]);
  expect(worker.heard.length).toBeLessThanOrEqual(50_000);
  expect(refusals(worker)).toMatchObject([{ code: "limit" }]);
});

test("a peer that does not read is cut off once too much waits for it", async () => {
  const [low, high] = await on.pair();
  on.wire.blackHole(low.node.network.self, high.node.network.self);
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
  const [low, high] = await on.pair();
  const to = high.node.network.self;
  on.wire.blackHole(low.node.network.self, to);
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
  const worker = await on.work(5);
  const { channel, network } = await on.joinRaw(worker, 1);
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
  const worker = await on.work(5);
  const { channel, network, frames } = await on.joinRaw(worker, 1);
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

test("at most 64 steals from one peer are open at once", async () => {
  const [low, high] = await on.pair();
  on.wire.blackHole(low.node.network.self, high.node.network.self);
  const outcomes = Array.from({ length: 65 }, () =>
    high.node.control
      .steal(low.node.network.self, request, signal)
      .catch((error: unknown) => error),
  );
  expect(await outcomes[64]).toMatchObject({ code: "limit" });
  await on.clock.advance(2100);
  expect(await outcomes[0]).toMatchObject({ code: "deadline" });
});
