import { expect, test } from "vitest";
import { createSeededRandom } from "./random.ts";

test("one seed gives one sequence, another seed another", () => {
  expect(createSeededRandom("a").bytes(64)).toEqual(createSeededRandom("a").bytes(64));
  expect(createSeededRandom("a").bytes(64)).not.toEqual(createSeededRandom("b").bytes(64));
});

test("what one fork draws does not change what another gets", () => {
  const quiet = createSeededRandom("seed");
  const busy = createSeededRandom("seed");
  busy.fork("disk").bytes(1000);
  busy.bytes(1000);
  expect(busy.fork("network").bytes(16)).toEqual(quiet.fork("network").bytes(16));
});

test("numbers spread evenly over their range", () => {
  const random = createSeededRandom("spread");
  const counts = new Array<number>(10).fill(0);
  for (let draw = 0; draw < 100_000; draw++) {
    const index = random.below(10);
    counts[index] = (counts[index] ?? 0) + 1;
  }
  // Six standard deviations: a good generator fails this for one seed in a hundred million.
  for (const count of counts) expect(Math.abs(count - 10_000)).toBeLessThan(600);
  const hits = Array.from({ length: 10_000 }, () => random.chance(0.2)).filter(Boolean).length;
  expect(Math.abs(hits - 2000)).toBeLessThan(240);
  for (let draw = 0; draw < 1000; draw++) {
    const drawn = random.between(-2, 3);
    expect(drawn >= -2 && drawn < 3).toBe(true);
  }
});
