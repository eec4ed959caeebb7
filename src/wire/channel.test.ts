import { setTimeout as pause } from "node:timers/promises";
import { expect, test } from "vitest";
import { MeshError } from "../base/errors.ts";
import { sendMaxBytes } from "../host/host.ts";
import { type Channel, createChannel } from "./channel.ts";
import { encodeFrame, type Frame, frameOf, optionalFlag } from "./frame.ts";
import { createStreamPair, type PairEnd } from "./stream-pair.contract.ts";

const generous = { frameMaxBytes: 1024 * 1024, queueMaxBytes: 64 * 1024 * 1024 };
const forever = new AbortController().signal;

interface Sides {
  readonly near: Channel;
  readonly far: Channel;
  readonly nearStream: PairEnd;
  readonly farStream: PairEnd;
  readonly arrived: Frame[];
}

function sides(
  options: Partial<Parameters<typeof createChannel>[1]> = {},
  onFrame?: (frame: Frame) => void,
): Sides {
  const [nearStream, farStream] = createStreamPair("/test/1", { highWaterBytes: sendMaxBytes });
  const arrived: Frame[] = [];
  const near = createChannel(nearStream, { ...generous, ...options }, () => {});
  const far = createChannel(farStream, { ...generous, ...options }, (frame) => {
    arrived.push(frame);
    onFrame?.(frame);
  });
  return { near, far, nearStream, farStream, arrived };
}

const sized = (type: number, sizeBytes: number): Frame =>
  frameOf(type, { payload: new Uint8Array(sizeBytes).fill(type) });

test("frames sent in one turn leave in one send", async () => {
  const { near, far, nearStream, arrived } = sides();
  for (let type = 0; type < 100; type += 1) expect(near.send(sized(type, 50))).toBe(true);
  await near.drained(forever);
  expect(nearStream.sends()).toEqual([100 * 66]);
  await near.close();
  await far.ended;
  expect(arrived.map((frame) => frame.type)).toEqual(Array.from({ length: 100 }, (_, at) => at));
});

test("no send is larger than the bound, and a longer frame arrives whole", async () => {
  const { near, far, nearStream, arrived } = sides();
  near.send(sized(1, 600_000));
  for (let count = 0; count < 10; count += 1) near.send(sized(2, 60_000));
  await near.close();
  expect((await far.ended).how).toBe("closed");
  expect(Math.max(...nearStream.sends())).toBeLessThanOrEqual(sendMaxBytes);
  expect(arrived.map((frame) => frame.payload.byteLength)).toEqual([
    600_000,
    ...Array.from({ length: 10 }, () => 60_000),
  ]);
  expect(arrived[0]?.payload.every((byte) => byte === 1)).toBe(true);
});

test("a reader that stops fills the queue, drops hints, and in the end costs it the channel", async () => {
  const { near, farStream, nearStream } = sides({ queueMaxBytes: 1024 * 1024 });
  farStream.hold(true);
  const fill = async (): Promise<void> => {
    near.send(sized(1, 100_000));
    await pause(0);
  };
  while (near.queuedBytes() <= 262_144) await fill();
  expect(near.send(sized(9, 10), "droppable")).toBe(false);
  expect(near.send(sized(1, 10))).toBe(true);
  while (near.queuedBytes() + 100_016 <= 1024 * 1024) await fill();
  const held = farStream.waitingBytes();
  expect(near.send(sized(1, 100_000))).toBe(false);
  expect(await near.ended).toEqual({ how: "reset", reason: "the send queue is full" });
  expect(near.queuedBytes()).toBe(0);
  // What the stream itself holds is bounded too: the channel waits instead of pushing on.
  expect(held).toBeLessThanOrEqual(2 * sendMaxBytes);
  expect((await nearStream.ended).how).toBe("reset");
  expect(near.send(sized(1, 1))).toBe(false);
});

test("hints go through while the queue is short", () => {
  const { near } = sides({ queueMaxBytes: 1024 * 1024 });
  expect(near.send(sized(9, 10), "droppable")).toBe(true);
});

test("waiting for the queue ends when it drains, when the signal aborts, and when the peer goes", async () => {
  const { near, farStream } = sides();
  farStream.hold(true);
  for (let count = 0; count < 8; count += 1) near.send(sized(1, 200_000));
  const aborter = new AbortController();
  const aborted = near.drained(aborter.signal);
  aborter.abort(new Error("enough"));
  await expect(aborted).rejects.toThrow("enough");
  const drained = near.drained(forever);
  farStream.hold(false);
  await drained;
  expect(near.queuedBytes()).toBe(0);
  farStream.hold(true);
  for (let count = 0; count < 8; count += 1) near.send(sized(1, 200_000));
  const orphaned = near.drained(forever);
  farStream.reset("gone");
  await expect(orphaned).rejects.toMatchObject({ code: "peer-gone" });
});

test("an unknown type is skipped when it says so, else it resets the stream", async () => {
  const { near, far, arrived } = sides({ knownTypes: new Set([1]) });
  near.send(frameOf(77, { flags: optionalFlag }));
  near.send(sized(1, 3));
  near.send(frameOf(78));
  near.send(sized(1, 4));
  expect(await far.ended).toEqual({ how: "reset", reason: "unknown frame type 78" });
  expect(arrived.map((frame) => frame.payload.byteLength)).toEqual([3]);
});

test("a frame over the limit resets the stream and says why", async () => {
  const { near, far, arrived } = sides({ frameMaxBytes: 100 });
  near.send(sized(1, 101));
  expect(await far.ended).toMatchObject({ how: "reset", reason: /limit is 100/ });
  expect(arrived).toEqual([]);
});

test("a frame that its reader refuses resets the stream, and nothing behind it is delivered", async () => {
  const { near, far, arrived } = sides({}, (frame) => {
    if (frame.type === 2) throw new MeshError("malformed", "no such thing");
  });
  for (const type of [1, 2, 3]) near.send(sized(type, 1));
  expect(await far.ended).toEqual({ how: "reset", reason: "no such thing" });
  expect(arrived.map((frame) => frame.type)).toEqual([1, 2]);
  expect((await near.ended).how).toBe("reset");
});

test("a stream that ends inside a frame counts as reset", async () => {
  const [nearStream, farStream] = createStreamPair("/test/1");
  const far = createChannel(farStream, generous, () => {});
  nearStream.send(encodeFrame(sized(1, 100)).subarray(0, 50));
  await nearStream.close();
  expect(await far.ended).toEqual({ how: "reset", reason: "the stream ended inside a frame" });
});
