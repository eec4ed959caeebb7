import { expect, test } from "vitest";
import { createRandom } from "./random.ts";

test("bytes come in the number asked for, in memory of their own", () => {
  const bytes = createRandom().bytes(32);
  expect(bytes.constructor).toBe(Uint8Array);
  expect(bytes.buffer.byteLength).toBe(32);
  expect(createRandom().bytes(32)).not.toEqual(bytes);
});

test("below reaches every number under its bound and no other", () => {
  const { below } = createRandom();
  const seen = new Set(Array.from({ length: 1000 }, () => below(3)));
  expect([...seen].sort()).toEqual([0, 1, 2]);
  expect(below(1)).toBe(0);
});
