import { create, toBinary } from "@bufbuild/protobuf";
import { expect, test } from "vitest";
import { digestOf, makeDigest } from "../base/digest.ts";
import { BeatSchema } from "./gen/mesh/v1/mesh_pb.ts";
import {
  decodeMessage,
  digestFromProto,
  digestToProto,
  encodeMessage,
  packDigests,
  unpackDigests,
} from "./messages.ts";

const small = digestOf(new Uint8Array([1, 2, 3]));
const huge = makeDigest("ab".repeat(32), 2 ** 40 + 5);

test("digests survive both wire forms", () => {
  for (const digest of [small, huge]) {
    expect(digestFromProto(digestToProto(digest))).toBe(digest);
  }
  expect(unpackDigests(packDigests([small, huge]), 2)).toEqual([small, huge]);
});

test("what is no digest is malformed", () => {
  const malformed = expect.objectContaining({ code: "malformed" });
  expect(() => digestFromProto(undefined)).toThrow(malformed);
  expect(() => digestFromProto({ ...digestToProto(small), hash: "AB".repeat(32) })).toThrow(
    malformed,
  );
  expect(() => digestFromProto({ ...digestToProto(small), sizeBytes: -1n })).toThrow(malformed);
  expect(() => unpackDigests(packDigests([small]).subarray(1), 2)).toThrow(malformed);
  expect(() => unpackDigests(packDigests([small, huge]), 1)).toThrow(malformed);
  expect(() => unpackDigests(new Uint8Array(40).fill(255), 1)).toThrow(malformed);
});

test("bytes that are no message are malformed, not a crash", () => {
  const beat = create(BeatSchema, { held: [{ task: "a/1", attempt: 2, running: true }] });
  expect(encodeMessage(BeatSchema, beat)).toEqual(toBinary(BeatSchema, beat));
  expect(decodeMessage(BeatSchema, encodeMessage(BeatSchema, beat))).toEqual(beat);
  expect(() => decodeMessage(BeatSchema, new Uint8Array([0x0a, 200]))).toThrow(
    expect.objectContaining({ code: "malformed" }),
  );
});
