import { create, type MessageInitShape } from "@bufbuild/protobuf";
import fc from "fast-check";
import { expect, test } from "vitest";
import { concatBytes, utf8 } from "../base/bytes.ts";
import { type Digest, digestOf, makeDigest } from "../base/digest.ts";
import { isMeshError } from "../base/errors.ts";
import { asPeerId, type PeerId } from "../base/ids.ts";
import { generateIdentity } from "../host/network-identity.ts";
import { createSigning, signatureBytes } from "../host/signing.ts";
import { ResultRecordSchema } from "../wire/gen/mesh/v1/mesh_pb.ts";
import { encodeMessage, packDigests } from "../wire/messages.ts";
import {
  actionOfRecord,
  isGenuine,
  loneTag,
  meshTagOf,
  type Recorded,
  readRecord,
  recordMaxBytes,
  recordOutputsMax,
  writeRecord,
} from "./record.ts";

const meshTag = meshTagOf(new Uint8Array(32).fill(7));
const keys = { signing: createSigning(generateIdentity()), tag: meshTag };
const other = { signing: createSigning(generateIdentity()), tag: meshTag };

const digest: fc.Arbitrary<Digest> = fc
  .tuple(fc.uint8Array({ minLength: 32, maxLength: 32 }), fc.integer({ min: 0, max: 1e12 }))
  .map(([hash, size]) => makeDigest(Buffer.from(hash).toString("hex"), size));
const name = fc
  .string({ minLength: 1, maxLength: 20, unit: "grapheme" })
  .filter((part) => !/[/\0]|^\.\.?$/.test(part) && part.isWellFormed());
const path = fc.array(name, { minLength: 1, maxLength: 5 }).map((parts) => `/${parts.join("/")}`);
const recorded: fc.Arbitrary<Recorded> = fc.record({
  action: digest,
  outcome: fc.record({
    exitCode: fc.constant(0),
    outputs: fc.uniqueArray(fc.record({ path, digest, executable: fc.boolean() }), {
      maxLength: 6,
      selector: (output) => output.path,
    }),
    stdout: digest,
    stderr: digest,
  }),
  signer: fc.constant(keys.signing.self),
  runMs: fc.nat(),
  madeAtSeconds: fc.integer({ min: 0, max: 2 ** 40 }),
});

const named = (text: string): Digest => digestOf(utf8(text));
const sample: Recorded = {
  action: named("action"),
  outcome: {
    exitCode: 0,
    outputs: [
      { path: "/w/a.o", digest: named("a.o"), executable: false },
      { path: "/w/a.d", digest: named("a.d"), executable: true },
    ],
    stdout: named(""),
    stderr: named("warning"),
  },
  signer: keys.signing.self,
  runMs: 1200,
  madeAtSeconds: 1_800_000_000,
};

/** Signed by us, whatever it says. */
function signedAs(message: MessageInitShape<typeof ResultRecordSchema>): Uint8Array {
  const bytes = encodeMessage(
    ResultRecordSchema,
    create(ResultRecordSchema, { ...fields, ...message }),
  );
  return concatBytes([keys.signing.sign(bytes), bytes]);
}
const output = { path: "/w/a.o", digest: packDigests([named("a.o")]), executable: false };
const fields = {
  action: packDigests([sample.action]),
  outputs: [output],
  stdout: packDigests([named("")]),
  stderr: packDigests([named("")]),
  runMs: 5,
  signer: `${keys.signing.self}`,
  madeAtSeconds: 5n,
};

function whyNot(record: Uint8Array): string {
  try {
    readRecord(record);
    return "";
  } catch (error) {
    if (!isMeshError(error, "malformed")) throw error;
    return error.message;
  }
}

test("a record says what was written into it, and who vouches for it", () => {
  fc.assert(
    fc.property(recorded, (said) => {
      const record = writeRecord(keys, said);
      expect(readRecord(record)).toEqual(said);
      expect(actionOfRecord(record)).toBe(said.action);
      expect(isGenuine(other, record, said.signer)).toBe(true);
    }),
    { numRuns: 200 },
  );
});

test("with any bit of it changed it is not genuine", () => {
  const record = writeRecord(keys, sample);
  for (let at = 0; at < record.byteLength; at += 1) {
    const changed = record.slice();
    changed[at] = (changed[at] ?? 0) ^ (1 << (at % 8));
    if (whyNot(changed) !== "") continue;
    const { signer } = readRecord(changed);
    expect(isGenuine(other, changed, signer), `byte ${at}`).toBe(false);
  }
});

test("it does not count in another mesh, nor under another name", () => {
  const record = writeRecord(keys, sample);
  const elsewhere = { ...other, tag: meshTagOf(new Uint8Array(32).fill(8)) };
  expect(isGenuine(elsewhere, record, sample.signer)).toBe(false);
  expect(isGenuine(other, record, other.signing.self)).toBe(false);
  expect(isGenuine(other, record, asPeerId("nobody"))).toBe(false);
});

test("what a node found out before it joined a mesh counts for itself and nobody else", () => {
  const record = writeRecord({ ...keys, tag: loneTag }, sample);
  expect(isGenuine(keys, record, sample.signer)).toBe(true);
  expect(isGenuine(other, record, sample.signer)).toBe(false);
});

test("a path that cannot be written as it is is not written at all", () => {
  const outputs = [{ path: "/w/\ud800", digest: named("x"), executable: false }];
  const said = { ...sample, outcome: { ...sample.outcome, outputs } };
  expect(() => writeRecord(keys, said)).toThrow(/normal path/);
});

test.each<[string, Uint8Array, RegExp]>([
  ["nothing", new Uint8Array(), /0 bytes/],
  ["too much", new Uint8Array(recordMaxBytes + 1), /bytes/],
  ["one output twice", signedAs({ outputs: [output, output] }), /twice/],
  ["no signer", signedAs({ signer: "" }), /who signed/],
  ["an endless signer", signedAs({ signer: "x".repeat(129) }), /who signed/],
  ["no action", signedAs({ action: new Uint8Array() }), /digest/],
  ["half an action", signedAs({ action: new Uint8Array(39) }), /digest/],
  ["two actions", signedAs({ action: new Uint8Array(80) }), /digest/],
  ["no stderr", signedAs({ stderr: new Uint8Array() }), /digest/],
  ["an output without digest", signedAs({ outputs: [{ path: "/a" }] }), /digest/],
  [
    "too many outputs",
    signedAs({
      outputs: Array.from({ length: recordOutputsMax + 1 }, () => ({ path: "/" })),
    }),
    /outputs/,
  ],
  ["a time beyond all times", signedAs({ madeAtSeconds: 2n ** 60n + 1n }), /otherwise/],
])("a record of %s is refused", (_, record, why) => {
  expect(whyNot(record)).toMatch(why);
});

test.each([
  "",
  "a.o",
  "/a/../b",
  "/./a",
  "/a//b",
  "/a/",
  "/",
  "/a\0b",
  `/${"x".repeat(3073)}`,
  `/${"ä".repeat(1600)}`,
])("a record of the output %j is neither read nor written", (bad) => {
  expect(whyNot(signedAs({ outputs: [{ ...output, path: bad }] }))).toMatch(/normal path/);
  const outputs = [{ path: bad, digest: named("x"), executable: false }];
  const said = { ...sample, outcome: { ...sample.outcome, outputs } };
  expect(() => writeRecord(keys, said)).toThrow(/normal path/);
});

test("fields that nobody knows, doubled ones and detours are refused", () => {
  const record = writeRecord(keys, sample);
  const unknownField = concatBytes([record, Uint8Array.from([0x78, 1])]);
  expect(whyNot(unknownField)).toMatch(/more than it should/);
  const twiceRunMs = concatBytes([record, Uint8Array.from([0x28, 5])]);
  expect(whyNot(twiceRunMs)).toMatch(/more than it should/);
  // The number 5 in two bytes instead of one.
  const long = concatBytes([signedAs({ madeAtSeconds: 0n }), Uint8Array.from([0x38, 0x85, 0])]);
  expect(whyNot(long)).toMatch(/otherwise/);
});

test("only runs that ended well are recorded, and none that is too much", () => {
  const failed = { ...sample, outcome: { ...sample.outcome, exitCode: 1 } };
  expect(() => writeRecord(keys, failed)).toThrow(/ended with 1/);
  const outputs = Array.from({ length: 2000 }, (_, at) => ({
    path: `/w/${"long-name-".repeat(8)}${at}`,
    digest: named(`${at}`),
    executable: false,
  }));
  const large = { ...sample, outcome: { ...sample.outcome, outputs } };
  expect(() => writeRecord(keys, large)).toThrow(/131072 bytes/);
  const many = Array.from({ length: recordOutputsMax + 1 }, (_, at) => ({
    path: `/${at}`,
    digest: named("x"),
    executable: false,
  }));
  const numerous = { ...sample, outcome: { ...sample.outcome, outputs: many } };
  expect(() => writeRecord(keys, numerous)).toThrow(/4096 outputs/);
});

test("whatever the bytes are, reading them ends in a record or in a reason", () => {
  const good = writeRecord(keys, sample);
  const noise = fc.uint8Array({ maxLength: 400 });
  const behindSignature = noise.map((bytes) =>
    concatBytes([new Uint8Array(signatureBytes), bytes]),
  );
  const damaged = fc
    .array(fc.tuple(fc.nat(good.byteLength - 1), fc.nat(255)), { minLength: 1, maxLength: 8 })
    .map((changes) => {
      const bytes = good.slice();
      for (const [at, value] of changes) bytes[at] = value;
      return bytes;
    });
  const cut = fc.nat(good.byteLength).map((length) => good.slice(0, length));
  fc.assert(
    fc.property(fc.oneof(noise, behindSignature, damaged, cut), (bytes) => {
      const why = whyNot(bytes);
      const action = actionOfRecord(bytes);
      if (why === "") expect(readRecord(bytes).action).toBe(action);
    }),
    { numRuns: 3000 },
  );
});

test("a peer's key is found in its id", () => {
  const peers: readonly PeerId[] = [keys.signing.self, other.signing.self];
  for (const { signing } of [keys, other]) {
    const signature = signing.sign(utf8("hello"));
    const believed = peers.filter((peer) => keys.signing.isSigned(peer, utf8("hello"), signature));
    expect(believed).toEqual([signing.self]);
  }
  expect(keys.signing.isSigned(keys.signing.self, utf8("hello"), new Uint8Array(63))).toBe(false);
});
