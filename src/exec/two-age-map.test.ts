import { expect, test } from "vitest";
import { createTwoAgeMap } from "./two-age-map.ts";

test("what is used stays, what is not is forgotten, and the bound holds", () => {
  const map = createTwoAgeMap<number, number>(100);
  for (let i = 0; i < 1000; i++) {
    map.set(i, i);
    expect(map.get(0)).toBe(0);
    expect(map.get(i)).toBe(i);
  }
  let kept = 0;
  for (let i = 0; i < 1000; i++) if (map.get(i) !== undefined) kept++;
  expect(kept).toBeLessThanOrEqual(100);
  expect(map.get(1)).toBeUndefined();
});
