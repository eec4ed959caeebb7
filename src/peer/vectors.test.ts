/** Golden bytes: what older nodes sent must be read for ever, and what we send must not drift. */
import { readFileSync } from "node:fs";
import { type DescMessage, fromJson, type JsonValue } from "@bufbuild/protobuf";
import { expect, test } from "vitest";
import { asPeerId } from "../base/ids.ts";
import { createFrameDecoder, encodeFrame, type Frame, frameOf } from "../wire/frame.ts";
import {
  BeatSchema,
  CancelSchema,
  HelloSchema,
  KnownSchema,
  LoadSchema,
  StealGrantSchema,
  StealRequestSchema,
  TaskClosedSchema,
  TaskDoneSchema,
  TaskFailedSchema,
  TaskProgressSchema,
} from "../wire/gen/mesh/v1/mesh_pb.ts";
import { decodeMessage, encodeMessage } from "../wire/messages.ts";
import { controlFrame, pingFrame, pongFrame } from "./control-frames.ts";
import { encodeHello, encodeKnown, parseHello, parseKnown } from "./hello-message.ts";

interface Vector {
  readonly name: string;
  readonly type: number;
  readonly flags: number;
  readonly requestId: number;
  readonly message?: JsonValue;
  readonly frame: string;
}

const schemas: Readonly<Record<string, DescMessage>> = {
  hello: HelloSchema,
  known: KnownSchema,
  load: LoadSchema,
  lifeline: StealRequestSchema,
  stealRequest: StealRequestSchema,
  stealGrant: StealGrantSchema,
  beat: BeatSchema,
  progress: TaskProgressSchema,
  done: TaskDoneSchema,
  failed: TaskFailedSchema,
  closed: TaskClosedSchema,
  cancel: CancelSchema,
};

function vectorsIn(file: string): readonly Vector[] {
  const parsed: { readonly frames: readonly Vector[] } = JSON.parse(
    readFileSync(`protocols/vectors/${file}.json`, "utf8"),
  );
  return parsed.frames;
}

const bytesOf = (hex: string): Uint8Array => Uint8Array.from(Buffer.from(hex, "hex"));

function decode(frame: string): Frame {
  const frames: Frame[] = [];
  const decoder = createFrameDecoder({ frameMaxBytes: 2 ** 20 });
  decoder.push(bytesOf(frame), (one) => void frames.push(one));
  const [only] = frames;
  if (only === undefined || frames.length !== 1) throw new Error("not one whole frame");
  return only;
}

test.each([...vectorsIn("hello"), ...vectorsIn("ctl")])(
  "the golden $name frame is read and written as ever",
  ({ name, type, flags, requestId, message, frame }) => {
    const decoded = decode(frame);
    expect(decoded).toMatchObject({ type, flags, requestId, aux: 0 });
    const schema = schemas[name];
    if (schema === undefined || message === undefined) {
      expect(Buffer.from(encodeFrame(decoded)).toString("hex")).toBe(frame);
      return;
    }
    const value = fromJson(schema, message);
    expect(decodeMessage(schema, decoded.payload)).toEqual(value);
    const written = encodeFrame(
      frameOf(type, { flags, requestId, payload: encodeMessage(schema, value) }),
    );
    expect(Buffer.from(written).toString("hex")).toBe(frame);
  },
);

test("every control frame type has a golden frame of its own number", () => {
  const numbers = vectorsIn("ctl").map(({ name, type }) => [name, type]);
  expect(Object.fromEntries(numbers)).toEqual({ ...controlFrame });
});

test("our own writers make the golden hello, known, ping and pong", () => {
  const [hello, known] = vectorsIn("hello").map(({ frame }) => decode(frame));
  const peer = asPeerId("12D3KooWEyoppNCUx8Yx66oV9fJnriXwCcXwDDUA2kj6vnc6iDEp");
  const empty = new Uint8Array();
  const { session, addrs, ...own } = parseHello(peer, hello?.payload ?? empty);
  expect(encodeHello(own, addrs, session)).toEqual(hello?.payload);
  expect(encodeKnown(parseKnown(known?.payload ?? empty))).toEqual(known?.payload);
  const ctl = new Map(vectorsIn("ctl").map(({ name, frame }) => [name, frame]));
  expect(Buffer.from(encodeFrame(pingFrame(3))).toString("hex")).toBe(ctl.get("ping"));
  expect(Buffer.from(encodeFrame(pongFrame(3))).toString("hex")).toBe(ctl.get("pong"));
});
