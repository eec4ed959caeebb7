import { expect, test } from "vitest";
import { utf8 } from "../base/bytes.ts";
import { createSimulation } from "../sim/simulation.ts";
import { openLearned } from "./learned.ts";

const options = { path: "/data/learned.json", labelsMax: 100 };

async function host() {
  const simulation = createSimulation(1);
  const { disk } = simulation.addHost("a");
  const finish = <T>(promise: Promise<T>): Promise<T> => simulation.finish(promise, 1e6);
  await finish(disk.makeDirectory("/data"));
  return { simulation, disk, finish };
}

test("what one life of a node has learned orders the first build of the next", async () => {
  const { disk, finish } = await host();
  const first = await finish(openLearned(disk, options));
  first.durations.learn("c++", "a.cc", 900);
  first.durations.learn("link", "app", 2000);
  const flow = { build: "b", kind: "c++", label: "a.cc", reads: [], writes: ["/a.o"] };
  first.urgency.note(flow);
  first.urgency.note({ ...flow, kind: "link", label: "app", reads: ["/a.o"], writes: ["/app"] });
  await finish(first.save());

  const second = await finish(openLearned(disk, options));
  expect(second.durations.expectedMs("c++", "a.cc")).toBe(900);
  expect(second.durations.isFamiliar("link", "app")).toBe(true);
  expect(second.urgency.chainMs("c++", "a.cc")).toBe(2900);
});

test("it is on the disk without an orderly stop, as soon as there is much of it", async () => {
  const { disk, finish, simulation } = await host();
  const { durations } = await finish(openLearned(disk, options));
  for (let task = 0; task < 300; task += 1) durations.learn("c", `${task % 50}.c`, 100);
  await simulation.run(simulation.nowMs() + 1000);
  const later = await finish(openLearned(disk, options));
  expect(later.durations.expectedMs("c", "7.c")).toBe(100);
});

test.each([
  ["nothing", undefined],
  ["no JSON", "{"],
  ["another version", '{"version":2,"tasks":[["c","a.c",5,[]]]}'],
  ["a broken row", '{"version":1,"tasks":[["c","a.c",5,[]],["c",7]]}'],
  ["a place that is not there", '{"version":1,"tasks":[["c","b.c",5,[99]]]}'],
])("a file with %s keeps no node from starting", async (_, text) => {
  const { disk, finish } = await host();
  if (text !== undefined) {
    await finish(disk.writeAtomic(options.path, utf8(text), { mode: 0o600, sync: false }));
  }
  const { durations, urgency } = await finish(openLearned(disk, options));
  expect(durations.isFamiliar("c", "a.c")).toBe(false);
  expect(urgency.chainMs("c", "a.c")).toBeLessThanOrEqual(5);
});

test("a full disk costs the memory and nothing else", async () => {
  const { disk, finish, simulation } = await host();
  const learned = await finish(openLearned(disk, options));
  learned.durations.learn("c", "a.c", 5);
  simulation.faults.setDiskCapacity("a", 0);
  await finish(learned.save());
  simulation.faults.setDiskCapacity("a", 2 ** 30);
  learned.durations.learn("c", "a.c", 5);
  await finish(learned.save());
  const later = await finish(openLearned(disk, options));
  expect(later.durations.isFamiliar("c", "a.c")).toBe(true);
});
