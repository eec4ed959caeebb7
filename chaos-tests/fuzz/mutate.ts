/**
 * Bytes that are nearly right: what a broken or hostile peer would send.
 *
 * Everything drawn comes from the generator that is given, so a case is its seed. It knows the
 * shape of protobuf messages and of length fields, and nothing of any one protocol.
 */
import { concatBytes } from "../../src/base/bytes.ts";
import type { SeededRandom } from "../../src/sim/random.ts";
import { writeU32 } from "../../src/wire/frame.ts";
import { fieldsOf, joinFields, tagged, varint } from "./fields.ts";

type Change = (random: SeededRandom, bytes: Uint8Array, other: Uint8Array) => Uint8Array;

export function pick<T>(random: SeededRandom, from: readonly [T, ...T[]]): T {
  return from[random.below(from.length)] ?? from[0];
}

/** A place in the bytes, their end included. */
function placeIn(random: SeededRandom, bytes: Uint8Array): number {
  return random.below(bytes.byteLength + 1);
}

/** Numbers that bounds are broken with. */
const lies: readonly [number, ...number[]] = [
  0, 1, 2, 15, 16, 63, 64, 65, 127, 128, 255, 256, 4095, 4096, 4097, 65_535, 65_536, 262_128,
  262_129, 0xff_ff_ff, 0x7fff_ffff, 0x8000_0000, 0xffff_fffe, 0xffff_ffff,
];

export function lieAbout(random: SeededRandom, truth: number): number {
  if (random.chance(0.5)) return pick(random, lies);
  return Math.max(0, truth + random.below(9) - 4) >>> 0;
}

const flipBits: Change = (random, bytes) => {
  const out = bytes.slice();
  for (let left = 1 + random.below(3); left > 0 && out.byteLength > 0; left -= 1) {
    const at = random.below(out.byteLength);
    out[at] = (out[at] ?? 0) ^ (1 << random.below(8));
  }
  return out;
};

const setByte: Change = (random, bytes) => {
  const out = bytes.slice();
  if (out.byteLength > 0) out[random.below(out.byteLength)] = random.below(256);
  return out;
};

const truncate: Change = (random, bytes) => bytes.slice(0, placeIn(random, bytes));

const lengthen: Change = (random, bytes) =>
  concatBytes([bytes, random.bytes(1 + random.below(32))]);

const cutOut: Change = (random, bytes) => {
  const from = placeIn(random, bytes);
  return concatBytes([bytes.subarray(0, from), bytes.subarray(from + 1 + random.below(16))]);
};

const repeat: Change = (random, bytes) => {
  const from = placeIn(random, bytes);
  const part = bytes.subarray(from, from + 1 + random.below(64));
  const times = random.chance(0.05) ? 500 : 1 + random.below(4);
  return concatBytes([bytes.subarray(0, from), ...Array(times).fill(part), bytes.subarray(from)]);
};

const splice: Change = (random, bytes, other) =>
  concatBytes([bytes.subarray(0, placeIn(random, bytes)), other.subarray(placeIn(random, other))]);

const overwriteU32: Change = (random, bytes) => {
  if (bytes.byteLength < 4) return random.bytes(4);
  const out = bytes.slice();
  writeU32(out, random.below(out.byteLength - 3), lieAbout(random, out.byteLength));
  return out;
};

const insertVarint: Change = (random, bytes) => {
  const at = placeIn(random, bytes);
  const huge = random.chance(0.3)
    ? new Uint8Array(1 + random.below(20)).fill(0xff)
    : varint(pick(random, lies) * pick(random, [1, 2 ** 21, 2 ** 31]));
  return concatBytes([bytes.subarray(0, at), huge, bytes.subarray(at)]);
};

/** Groups in groups, or messages in messages: for readers that recurse. */
const nestDeeply: Change = (random, bytes) => {
  const depth = pick(random, [10, 100, 1000, 20_000]);
  if (random.chance(0.5)) return new Uint8Array(depth).fill(8 * (1 + random.below(15)) + 3);
  let inner: Uint8Array = bytes.subarray(0, 64);
  const field = 1 + random.below(8);
  for (let level = 0; level < Math.min(depth, 200); level += 1) inner = tagged(field, inner);
  return inner;
};

const noise: Change = (random) => random.bytes(random.below(pick(random, [4, 64, 2000])));

const blind: readonly [Change, ...Change[]] = [
  flipBits,
  flipBits,
  setByte,
  truncate,
  lengthen,
  cutOut,
  repeat,
  splice,
  overwriteU32,
  insertVarint,
];

/** Changes one field of a message: dropped, doubled, moved, retyped, or with a lie for its length. */
const changeField: Change = (random, bytes, other) => {
  const fields = fieldsOf(bytes);
  const at = random.below(fields.length);
  const field = fields[at];
  if (field === undefined) return pick(random, blind)(random, bytes, other);
  const change = random.below(9);
  if (change === 0) return joinFields(fields.toSpliced(at, 1));
  if (change === 1) {
    const times = random.chance(0.02) ? 5000 : 1 + random.below(4);
    return joinFields(fields.toSpliced(at, 0, ...Array<typeof field>(times).fill(field)));
  }
  if (change === 2)
    return joinFields(fields.toSpliced(at, 1).toSpliced(random.below(fields.length), 0, field));
  if (change === 3) return joinFields(fields.with(at, { ...field, number: 1 + random.below(40) }));
  if (change === 4) return joinFields(fields.with(at, { ...field, wire: random.below(8) }));
  if (change === 5)
    return joinFields(fields.with(at, { ...field, lengthLie: lieAbout(random, 9) }));
  if (change === 6) {
    const [foreign = field] = fieldsOf(other);
    return joinFields(fields.with(at, { ...foreign, number: field.number }));
  }
  if (change === 7) {
    const inner = varint(pick(random, lies) * pick(random, [1, 2 ** 21, 2 ** 31]));
    return joinFields(fields.with(at, { ...field, wire: 0, inner }));
  }
  // What is inside may be a message or a text.
  const inner = mutateOnce(random, field.inner, other);
  return joinFields(fields.with(at, { ...field, inner }));
};

function mutateOnce(random: SeededRandom, bytes: Uint8Array, other: Uint8Array): Uint8Array {
  const kind = random.below(100);
  if (kind < 50) return changeField(random, bytes, other);
  if (kind < 96) return pick(random, blind)(random, bytes, other);
  if (kind < 98) return nestDeeply(random, bytes, other);
  return noise(random, bytes, other);
}

/** One to four changes. `others` are what parts may be spliced in from. */
export function mutate(
  random: SeededRandom,
  bytes: Uint8Array,
  others: readonly Uint8Array[],
): Uint8Array {
  // A copy, and never a Buffer: its `slice` shares memory.
  let changed: Uint8Array = new Uint8Array(bytes);
  for (let left = random.chance(0.6) ? 1 : 2 + random.below(3); left > 0; left -= 1) {
    changed = mutateOnce(random, changed, others[random.below(others.length)] ?? bytes);
  }
  return changed;
}
