import fc from "fast-check";
import { expect, test } from "vitest";
import { createTimeline, type Machine } from "./time.ts";

function machine(name: string): Machine {
  return { name, isAlive: true, isPaused: false, held: [] };
}

test("events happen in the order of their times, and of asking where those are equal", () =>
  fc.assert(
    fc.asyncProperty(fc.array(fc.nat(20), { maxLength: 60 }), async (delaysMs) => {
      const timeline = createTimeline({ eventsMax: 1000 });
      const seen: [number, number][] = [];
      delaysMs.forEach(
        (delayMs, index) =>
          void timeline.schedule(undefined, delayMs, "x", () =>
            seen.push([timeline.nowMs(), index]),
          ),
      );
      await timeline.run(100);
      const expected = delaysMs.map((delayMs, index): [number, number] => [delayMs, index]);
      expect(seen).toEqual(expected.sort(([a, i], [b, j]) => a - b || i - j));
      expect(timeline.nowMs()).toBe(100);
    }),
    { numRuns: 50 },
  ));

test("promises settle before the next event, however long their chain", async () => {
  const timeline = createTimeline({ eventsMax: 10 });
  const seen: string[] = [];
  timeline.schedule(undefined, 1, "first", async () => {
    for (let step = 0; step < 1000; step++) await undefined;
    seen.push("chain");
  });
  timeline.schedule(undefined, 1, "second", () => seen.push("second"));
  await timeline.run(1);
  expect(seen).toEqual(["chain", "second"]);
});

test("what is cancelled, or meant for a dead machine, does not happen", async () => {
  const timeline = createTimeline({ eventsMax: 10 });
  const dead = machine("dead");
  const seen: string[] = [];
  timeline.schedule(undefined, 1, "x", () => seen.push("cancelled"))();
  timeline.schedule(dead, 1, "x", () => seen.push("dead"));
  timeline.schedule(undefined, 1, "x", () => seen.push("other"));
  dead.isAlive = false;
  await timeline.run(2);
  expect(seen).toEqual(["other"]);
  expect(timeline.eventCount).toBe(1);
});

test("what is due to a paused machine happens when it goes on, in order", async () => {
  const timeline = createTimeline({ eventsMax: 10 });
  const paused = machine("paused");
  const seen: [string, number][] = [];
  for (const [name, delayMs] of [
    ["late", 3],
    ["early", 1],
  ] as const)
    timeline.schedule(paused, delayMs, "x", () => seen.push([name, timeline.nowMs()]));
  paused.isPaused = true;
  await timeline.run(10);
  expect(seen).toEqual([]);
  paused.isPaused = false;
  timeline.release(paused);
  await timeline.run(20);
  expect(seen.map(([, timeMs]) => timeMs)).toEqual([10, 10]);
  expect(seen.map(([name]) => name).sort()).toEqual(["early", "late"]);
});

test("going round in circles is an error, and so is waiting for what never comes", async () => {
  const timeline = createTimeline({ eventsMax: 100 });
  await expect(timeline.until(() => false, 50)).rejects.toMatchObject({ code: "deadline" });
  const again = (): void => void timeline.schedule(undefined, 0, "again", again);
  again();
  await expect(timeline.run(51)).rejects.toMatchObject({ code: "limit" });
});

test("an event that throws ends the run", async () => {
  const timeline = createTimeline({ eventsMax: 100 });
  timeline.schedule(undefined, 1, "bug", () => {
    throw new Error("a bug");
  });
  await expect(timeline.run(2)).rejects.toThrow("a bug");
});

test("the trace tells apart what happened, when, to whom and in which order", async () => {
  const traceOf = async (...events: readonly [string, number, string][]): Promise<string> => {
    const timeline = createTimeline({ eventsMax: 10_000 });
    for (const [kind, delayMs, name] of events)
      timeline.schedule(machine(name), delayMs, kind, () => {});
    await timeline.run(1000);
    return timeline.traceHash();
  };
  const base = await traceOf(["a", 1, "x"], ["b", 1, "y"]);
  expect(await traceOf(["a", 1, "x"], ["b", 1, "y"])).toBe(base);
  const others = [
    await traceOf(["b", 1, "y"], ["a", 1, "x"]),
    await traceOf(["a", 1, "x"], ["b", 2, "y"]),
    await traceOf(["a", 1, "x"], ["b", 1, "x"]),
    await traceOf(["a", 1, "x"]),
  ];
  expect(new Set([base, ...others]).size).toBe(5);
  const many = Array.from({ length: 2500 }, (_, index): [string, number, string] => [
    index === 3 ? "odd" : "a",
    1,
    "x",
  ]);
  const same = many.map(([, ms, name]): [string, number, string] => ["a", ms, name]);
  expect(await traceOf(...many)).not.toBe(await traceOf(...same));
});
