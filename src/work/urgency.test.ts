import { expect, test } from "vitest";
import { createDurations } from "./durations.ts";
import { createUrgency, type Flow } from "./urgency.ts";

function setUp(times: Readonly<Record<string, number>>) {
  const durations = createDurations(100);
  for (const [label, ms] of Object.entries(times)) durations.learn("c", label, ms);
  const urgency = createUrgency(durations);
  const note = (
    label: string,
    reads: readonly string[],
    writes: readonly string[],
    build = "b",
  ) => {
    const flow: Flow = { build, kind: "c", label, reads, writes };
    urgency.note(flow);
  };
  return { durations, urgency, note, of: (label: string) => urgency.chainMs("c", label) };
}

test("a task is as urgent as the longest chain behind it is long", () => {
  const { note, of } = setUp({ gen: 10, lib: 20, slow: 100, app: 40 });
  note("gen", [], ["/gen.h"]);
  note("lib", ["/gen.h"], ["/lib.o"]);
  note("slow", ["/gen.h"], ["/slow.o"]);
  note("app", ["/lib.o", "/slow.o"], ["/app"]);
  expect(of("app")).toBe(40);
  expect(of("lib")).toBe(60);
  expect(of("slow")).toBe(140);
  expect(of("gen")).toBe(150);
});

test("what another build has written is no reason to wait", () => {
  const { note, of } = setUp({ one: 10, two: 20 });
  note("one", [], ["/x"], "first");
  note("two", ["/x"], ["/y"], "second");
  expect(of("one")).toBe(10);
});

test("a task that nobody has seen before is worth its own time, as far as that is known", () => {
  const { of, durations } = setUp({ seen: 30 });
  expect(of("seen")).toBe(30);
  expect(of("new")).toBe(30);
  durations.learn("c", "new", 500);
  expect(of("new")).toBe(500);
});

test("tasks that read each other's outputs end the sum, not the program", () => {
  const { note, of } = setUp({ a: 10, b: 20 });
  note("a", [], ["/a"]);
  note("b", ["/a"], ["/b"]);
  note("a", ["/b"], ["/a"]);
  expect(of("a")).toBeGreaterThanOrEqual(10);
  expect(of("a")).toBeLessThanOrEqual(60);
});

test("a chain of thousands is added up", () => {
  const { note, of } = setUp({});
  for (let link = 0; link < 5000; link += 1) note(`${link}`, [`/${link - 1}`], [`/${link}`]);
  expect(of("0")).toBe(0);
});

test("whatever reads whatever, each edge is told once", () => {
  const { note, urgency } = setUp({});
  for (let link = 0; link < 200; link += 1) note(`${link}`, [`/${link - 1}`], [`/${link}`]);
  expect([...urgency.edges()]).toHaveLength(199);
  note("0", ["/199"], []);
  let told = 0;
  // Cut off, lest a fault runs for ever.
  for (const _edge of urgency.edges()) {
    told += 1;
    if (told > 1000) break;
  }
  expect(told).toBe(200);
});
