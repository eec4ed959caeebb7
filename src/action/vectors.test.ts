/** Golden bytes of `/mesh/ac/1`: what is written today must be read for ever. */
import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { asPeerId } from "../base/ids.ts";
import { identityOf } from "../host/network-identity.ts";
import { createSigning } from "../host/signing.ts";
import { createFrameDecoder, encodeFrame, type Frame, frameOf } from "../wire/frame.ts";
import { unpackDigests } from "../wire/messages.ts";
import { ac, packRecords, unpackRecords } from "./ac.ts";
import { chooseHomes, placeOf } from "./homes.ts";
import { isGenuine, meshTagOf, type Recorded, readRecord, writeRecord } from "./record.ts";

interface Vectors {
  readonly homes: {
    readonly members: readonly string[];
    readonly action: Recorded["action"];
    readonly copies: number;
    readonly homes: readonly string[];
  };
  readonly record: {
    readonly seed: string;
    readonly meshKey: string;
    readonly tag: string;
    readonly says: Recorded;
    readonly record: string;
  };
  readonly frames: readonly {
    readonly name: keyof typeof ac;
    readonly type: number;
    readonly flags: number;
    readonly requestId: number;
    readonly aux: number;
    readonly payload: string;
    readonly frame: string;
  }[];
}

const golden: Vectors = JSON.parse(readFileSync("protocols/vectors/ac.json", "utf8"));
const bytesOf = (hex: string): Uint8Array => Uint8Array.from(Buffer.from(hex, "hex"));
const hexOf = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex");

test("the homes of an action are the golden ones", () => {
  const { members, action, copies, homes } = golden.homes;
  const places = members.map((name) => [asPeerId(name), placeOf(asPeerId(name))] as const);
  expect(chooseHomes(action, places, copies)).toEqual(homes);
});

test("the golden record is read, written and believed as ever", () => {
  const { seed, meshKey, tag, says, record } = golden.record;
  const keys = { signing: createSigning(identityOf(bytesOf(seed))), tag: bytesOf(tag) };
  expect(hexOf(meshTagOf(bytesOf(meshKey)))).toBe(tag);
  expect(readRecord(bytesOf(record))).toEqual(says);
  expect(hexOf(writeRecord(keys, says))).toBe(record);
  expect(isGenuine(keys, bytesOf(record), says.signer)).toBe(true);
});

test.each(golden.frames)("the golden $name frame is read and written as ever", (vector) => {
  const { name, type, flags, requestId, aux, payload, frame } = vector;
  const frames: Frame[] = [];
  createFrameDecoder({ frameMaxBytes: 2 ** 18 }).push(bytesOf(frame), (one) => frames.push(one));
  expect(frames).toEqual([{ type, flags, requestId, aux, payload: bytesOf(payload) }]);
  const parts = { flags, requestId, aux, payload: bytesOf(payload) };
  expect(hexOf(encodeFrame(frameOf(ac[name], parts)))).toBe(frame);
});

test("the lists in golden frames hold what they should", () => {
  const [lookup, store] = golden.frames.map(({ payload }) => bytesOf(payload));
  expect(unpackDigests(lookup ?? new Uint8Array(), 1024)[0]).toBe(golden.homes.action);
  const records = unpackRecords(store ?? new Uint8Array());
  expect(records.map(hexOf)).toEqual([golden.record.record, golden.record.record]);
  expect(packRecords(records).map(hexOf)).toEqual([golden.frames[1]?.payload]);
});

test("every frame type has a golden frame", () => {
  expect(Object.fromEntries(golden.frames.map(({ name, type }) => [name, type]))).toEqual({
    ...ac,
  });
});
