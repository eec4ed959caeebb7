import { expect, test } from "vitest";
import { createLineCutter } from "./lines.ts";

test("bytes become lines wherever they are cut", () => {
  const lines: string[] = [];
  const take = createLineCutter(100, (line) => lines.push(line));
  for (const byte of Buffer.from('{"a":"é"}\n\n{"b":1}\nrest')) take(Uint8Array.of(byte));
  expect(lines).toEqual(['{"a":"é"}', '{"b":1}']);
});

test("a line that never ends is refused", () => {
  const take = createLineCutter(100, () => {});
  expect(() => take(Buffer.alloc(101, 97))).toThrow(/100/);
});
