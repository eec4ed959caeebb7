import { expect, test } from "vitest";
import { createEvents, type MeshEvent } from "./events.ts";

const log = (message: string): MeshEvent => ({ event: "log", level: "warn", message });

test("what is logged before anybody listens is told to the first who does, and to no other", () => {
  const { emit, listen } = createEvents();
  emit(log("early"));
  const first: MeshEvent[] = [];
  const second: MeshEvent[] = [];
  listen((event) => first.push(event));
  listen((event) => second.push(event));
  emit(log("late"));
  expect(first).toEqual([log("early"), log("late")]);
  expect(second).toEqual([log("late")]);
});

test("of a start that logs without end, the beginning is told", () => {
  const { emit, listen } = createEvents();
  for (let index = 0; index < 1000; index += 1) emit(log(`${index}`));
  const heard: MeshEvent[] = [];
  listen((event) => heard.push(event));
  expect(heard).toHaveLength(100);
  expect(heard[0]).toEqual(log("0"));
});
