import fc from "fast-check";
import { expect, test } from "vitest";
import { utf8 } from "../base/bytes.ts";
import { type Digest, digestOf, makeDigest } from "../base/digest.ts";
import {
  createHeld,
  createHotCount,
  hotBitsOf,
  isInFilter,
  sharedBits,
  writeFilter,
} from "./heavy.ts";

const digest = (name: string): Digest => digestOf(utf8(name));
const digests = (count: number, prefix: string): readonly Digest[] =>
  Array.from({ length: count }, (_, index) => digest(`${prefix}-${index}`));

test("a filter knows all that was put in, and hardly anything else", () => {
  for (const count of [1, 10, 512]) {
    const held = digests(count, "held");
    const filter = writeFilter(held);
    expect(filter.byteLength).toBeLessThanOrEqual(640);
    expect(held.every((one) => isInFilter(filter, one))).toBe(true);
    const wrong = digests(2000, "other").filter((one) => isInFilter(filter, one));
    expect(wrong.length).toBeLessThan(80);
  }
});

test("no filter, or one of another's making, decides nothing and breaks nothing", () => {
  expect(isInFilter(new Uint8Array(), digest("x"))).toBe(false);
  const property = fc.property(fc.uint8Array({ maxLength: 700 }), (filter) => {
    expect(typeof isInFilter(filter, digest("x"))).toBe("boolean");
  });
  fc.assert(property);
});

test("the bits of a queue go when the last task that needs them goes", () => {
  const hot = createHotCount();
  const [a, b] = digests(2, "input");
  if (a === undefined || b === undefined) throw new Error("two were asked for");
  hot.add([a]);
  hot.add([a, b]);
  hot.remove([a, b]);
  expect(hot.bits).toBe(hotBitsOf([a]));
  hot.remove([a]);
  expect(hot.bits).toBe(0n);
});

test("a thief remembers the large inputs that it used last", () => {
  const held = createHeld();
  const many = digests(600, "used");
  held.used(many);
  const [oldest] = many;
  const newest = many.at(-1);
  if (oldest === undefined || newest === undefined) throw new Error("many were asked for");
  expect(isInFilter(held.filter, newest)).toBe(true);
  expect(many.slice(88).every((one) => isInFilter(held.filter, one))).toBe(true);
  expect(sharedBits(held.hotBits, hotBitsOf([newest]))).toBe(1);
  held.used([makeDigest("ab".repeat(32), 1)]);
  expect(isInFilter(held.filter, makeDigest("ab".repeat(32), 1))).toBe(true);
});
