/**
 * What a member can do wrong on each protocol, by name.
 *
 * Left out on purpose: a wrong result under its proper digest. Members believe each other's results,
 * and only running the task again would tell (see README.md). So every digest that is named here as
 * a task's output belongs to bytes that do not exist.
 */
import { randomBytes } from "node:crypto";
import { create } from "@bufbuild/protobuf";
import { ac, hasBlobsFlag } from "../../../src/action/ac.ts";
import { type Digest, makeDigest } from "../../../src/base/digest.ts";
import { blk } from "../../../src/blob/blk.ts";
import type { Stream } from "../../../src/host/host.ts";
import { controlFrame, encodeLoad, encodeMessageFrame } from "../../../src/peer/control-frames.ts";
import { type Channel, createChannel } from "../../../src/wire/channel.ts";
import { encodeFrame, type Frame, frameOf, writeU32 } from "../../../src/wire/frame.ts";
import { GrantSchema, StealGrantSchema } from "../../../src/wire/gen/mesh/v1/mesh_pb.ts";
import { digestToProto, encodeMessage, packDigests } from "../../../src/wire/messages.ts";
import type { Lie } from "./liar-peer.ts";
import { stealLies } from "./lies-steal.ts";

const floodFrames = 80_000;
const floodPieceFrames = 4_000;
const raw = (stream: Stream, bytes: Uint8Array): void => void stream.send(bytes);
const noise = (count: number): Uint8Array => new Uint8Array(randomBytes(count));
const someDigest = (sizeBytes: number): Digest =>
  makeDigest(randomBytes(32).toString("hex"), sizeBytes);

/** A header alone, that claims a payload of this size. */
function claim(type: number, sizeBytes: number): Uint8Array {
  const bytes = encodeFrame(frameOf(type));
  writeU32(bytes, 8, sizeBytes);
  return bytes;
}

const helloLies: Readonly<Record<string, Lie>> = {
  "hello-noise": refusedHello((stream) =>
    raw(stream, encodeFrame(frameOf(1, { payload: noise(600) }))),
  ),
  "hello-oversize": refusedHello((stream) => raw(stream, claim(1, 2 ** 31))),
  "hello-out-of-turn": refusedHello((stream) => raw(stream, encodeFrame(frameOf(2)))),
  "hello-unknown-frame": refusedHello((stream) => raw(stream, encodeFrame(frameOf(77)))),
  "hello-version": refusedHello((stream) =>
    // Field 1, the version: 99.
    raw(stream, encodeFrame(frameOf(1, { payload: Uint8Array.of(8, 99) }))),
  ),
  // Nodes wait 5 s for a hello.
  "hello-silence": { ...refusedHello(() => {}), minMs: 8_000 },
};

function refusedHello(hello: (stream: Stream) => void): Lie {
  return { end: "refused", hooks: { hello } };
}

function onControl(end: Lie["end"], act: (channel: Channel) => void): Lie {
  return { end, hooks: { onControl: (_peer, channel) => act(channel) } };
}

const controlLies: Readonly<Record<string, Lie>> = {
  "ctl-flood": onControl("refused", (channel) => {
    const flood = (left: number): void => {
      for (let count = 0; count < floodPieceFrames; count += 1)
        channel.send(frameOf(controlFrame.pong));
      if (left > floodPieceFrames) setImmediate(() => flood(left - floodPieceFrames));
    };
    flood(floodFrames);
  }),
  "ctl-oversize": onControl("refused", (channel) => {
    channel.send(frameOf(controlFrame.load, { payload: noise(2 * 1024 * 1024) }));
  }),
  "ctl-unknown-frame": onControl("refused", (channel) => void channel.send(frameOf(99))),
  "ctl-noise": onControl("refused", (channel) => {
    // A length that runs over the end: no message of any kind.
    const payload = Uint8Array.of(0x0a, 0x7f, ...noise(20));
    for (const type of Object.values(controlFrame)) channel.send(frameOf(type, { payload }));
  }),
  "ctl-out-of-bounds": onControl("refused", (channel) => {
    channel.send(
      encodeMessageFrame({
        type: "cancel",
        value: { $typeName: "mesh.v1.Cancel", task: "x".repeat(1000), attempt: 1 },
      }),
    );
  }),
  "ctl-half-frame": onControl("borne", (channel) => {
    channel.send(frameOf(controlFrame.load, { payload: noise(100), flags: 1 }));
    channel.reset("in the middle");
  }),
  /** Promises work, and never says what. */
  "bait-silence": onControl("borne", (channel) => promiseWork(channel)),
  /** Promises work, and gives tasks that make no sense. */
  "bait-nonsense": {
    end: "borne",
    hooks: {
      onControl: (_peer, channel) => promiseWork(channel),
      onFrame(_peer, channel, { type, requestId }: Frame) {
        if (type !== controlFrame.stealRequest) return;
        const grants = ["a", "b"].map((task) =>
          create(GrantSchema, {
            task: `${task}-${requestId}`,
            attempt: 1,
            leaseMs: 2000,
            kind: "cc",
            label: "a lie",
            action: noise(80),
            command: noise(80),
            tree: digestToProto(someDigest(1234)),
          }),
        );
        const payload = encodeMessage(StealGrantSchema, create(StealGrantSchema, { grants }));
        channel.send(frameOf(controlFrame.stealGrant, { requestId, payload }));
      },
    },
  },
  "grant-unasked": onControl("borne", (channel) => {
    const grant = create(GrantSchema, { task: "x-1", attempt: 1, kind: "cc", label: "unasked" });
    const payload = encodeMessage(StealGrantSchema, create(StealGrantSchema, { grants: [grant] }));
    channel.send(frameOf(controlFrame.stealGrant, { requestId: 4711, payload }));
  }),
};

function promiseWork(channel: Channel): void {
  channel.send(
    encodeLoad({ queued: 900, stealable: 900, slots: 1, busy: 1, hot: 0n, sequence: 2n }),
  );
}

/** Opens a stream of a protocol to whoever it has a control stream to, and says this there. */
function onStream(protocol: "blobs" | "results", say: (stream: Stream) => void): Lie {
  return { end: "borne", hooks: { speak: { protocol, say } } };
}

const blobLies: Readonly<Record<string, Lie>> = {
  "blk-noise": onStream("blobs", (stream) => raw(stream, noise(4000))),
  "blk-oversize": onStream("blobs", (stream) => raw(stream, claim(blk.want, 2 ** 31))),
  "blk-greed": onStream("blobs", (stream) => {
    const payload = packDigests(Array.from({ length: 4096 }, () => someDigest(100)));
    const channel = quiet(stream);
    for (let requestId = 1; requestId < 12; requestId += 1) {
      channel.send(frameOf(blk.want, { requestId, payload }));
      channel.send(frameOf(blk.credit, { aux: 2 ** 31 }));
    }
  }),
};

const resultLies: Readonly<Record<string, Lie>> = {
  "ac-noise": onStream("results", (stream) => raw(stream, noise(4000))),
  "ac-forged": {
    end: "borne",
    hooks: {
      ...onStream("results", (stream) => {
        const channel = quiet(stream);
        for (let count = 0; count < 50; count += 1) {
          const record = noise(300);
          const payload = new Uint8Array(4 + record.byteLength);
          writeU32(payload, 0, record.byteLength);
          payload.set(record, 4);
          channel.send(frameOf(ac.store, { payload }));
        }
      }).hooks,
      onResults(_peer, stream) {
        const channel: Channel = createChannel(stream, bounds, ({ type, requestId }) => {
          if (type !== ac.lookup) return;
          const found = { requestId, aux: 0, flags: hasBlobsFlag, payload: noise(300) };
          channel.send(frameOf(ac.found, found));
          channel.send(frameOf(ac.found, { ...found, aux: 900 }));
          channel.send(frameOf(ac.end, { requestId }));
        });
      },
    },
  },
  /** Never answers a question. */
  "ac-silence": { end: "borne", hooks: { onResults: (_peer, stream) => void quiet(stream) } },
};

const bounds = { frameMaxBytes: 4 * 1024 * 1024, queueMaxBytes: 64 * 1024 * 1024 };

function quiet(stream: Stream): Channel {
  return createChannel(stream, bounds, () => {});
}

export const lies: Readonly<Record<string, Lie>> = {
  ...helloLies,
  ...controlLies,
  ...stealLies,
  ...blobLies,
  ...resultLies,
};
