import { expect, test } from "vitest";
import { createDurations } from "./durations.ts";
import { createUrgency } from "./urgency.ts";

test("edges of a cycle end", () => {
  const urgency = createUrgency(createDurations(100));
  const note = (label: string, reads: string[], writes: string[]) =>
    urgency.note({ build: "b", kind: "rustc", label, reads, writes });
  note("foo", [], ["/foo.rlib"]);
  note("bar", ["/foo.rlib"], ["/bar.rlib"]);
  note("foo", ["/bar.rlib"], ["/foo-test"]);
  let count = 0;
  for (const _ of urgency.edges()) {
    count += 1;
    if (count > 1000) break;
  }
  console.log("cycle edges", count);
  expect(count).toBe(2);
});
test("edges of a chain are each told once", () => {
  const urgency = createUrgency(createDurations(100));
  for (let i = 0; i < 200; i += 1)
    urgency.note({
      build: "b",
      kind: "c",
      label: `t${i}`,
      reads: i > 0 ? [`/o${i - 1}`] : [],
      writes: [`/o${i}`],
    });
  let count = 0;
  for (const _ of urgency.edges()) {
    count += 1;
    if (count > 1_000_000) break;
  }
  console.log("chain edges", count);
  expect(count).toBe(199);
});
