import { expect, test } from "vitest";
import { asPeerId, asTaskId } from "../base/ids.ts";
import type { ControlEvent } from "../node/control-api.ts";
import { createTrace, type Trace } from "./trace.ts";

const peer = asPeerId("12D3peer");
const build = "b";

interface Drawn {
  readonly name: string;
  readonly ph: string;
  readonly pid: number;
  readonly tid: number;
  readonly ts: number;
  readonly dur: number;
  readonly args: Readonly<Record<string, unknown>>;
}

function read(trace: Trace, nowMs = 1000): readonly Drawn[] {
  const text = trace.text((id) => (id === peer ? "beta" : id), "alpha", nowMs);
  return (JSON.parse(text) as { traceEvents: Drawn[] }).traceEvents;
}

const queued = (id: string): ControlEvent => {
  const task = asTaskId(id);
  return { event: "task-queued", task, build, kind: "c++", label: `${id}.cc`, stealable: true };
};
const started = (id: string, where: typeof peer | undefined): ControlEvent => {
  return {
    event: "task-started",
    task: asTaskId(id),
    build,
    peer: where,
    attempt: 0,
    backup: false,
  };
};
const done = (
  id: string,
  source: "here" | "there" | "cached-mesh",
  phases: readonly [number, number, number, number],
): ControlEvent => {
  const [queueMs, fetchMs, runMs, returnMs] = phases;
  return {
    ...{ event: "task-done", task: asTaskId(id), build, label: `${id}.cc`, source, exitCode: 0 },
    peer: source === "here" ? undefined : peer,
    wallMs: queueMs + fetchMs + runMs + returnMs,
    phases: { queueMs, fetchMs, runMs, returnMs },
  };
};

test("a stolen task is drawn where each part of it happened", () => {
  const trace = createTrace(100);
  trace.see(queued("1"), 110);
  trace.see(started("1", peer), 120);
  trace.see(done("1", "there", [10, 20, 50, 10]), 200);
  const events = read(trace);
  const span = (name: string) => events.find((one) => one.name === name && one.ph === "X");
  const processes = events.filter(({ name }) => name === "process_name");
  expect(processes.map(({ pid, args }) => [pid, args.name])).toEqual([
    [1, "alpha"],
    [2, "beta"],
  ]);
  expect(span("queue 1.cc")).toMatchObject({ pid: 1, ts: 10_000, dur: 10_000 });
  expect(span("fetch 1.cc")).toMatchObject({ pid: 2, ts: 20_000, dur: 20_000 });
  expect(span("1.cc")).toMatchObject({ pid: 2, ts: 40_000, dur: 50_000 });
  expect(span("return 1.cc")).toMatchObject({ pid: 1, ts: 90_000, dur: 10_000 });
  expect(span("1.cc")?.args).toMatchObject({
    task: "1",
    kind: "c++",
    source: "there",
    exitCode: 0,
  });
});

test("tasks that overlap have rows of their own, and those that follow share one", () => {
  const trace = createTrace(0);
  for (const id of ["1", "2", "3"]) trace.see(queued(id), 0);
  trace.see(done("1", "here", [0, 0, 100, 0]), 100);
  trace.see(done("2", "here", [0, 0, 100, 0]), 110);
  // The end was heard of 1 ms late: it still fits behind the first one.
  trace.see(done("3", "here", [100, 0, 50, 0]), 149);
  const events = read(trace);
  const rowOf = (name: string) => events.find((one) => one.name === name)?.tid;
  expect(rowOf("1.cc")).toBe(rowOf("3.cc"));
  expect(rowOf("2.cc")).not.toBe(rowOf("1.cc"));
  const rows = events.filter(({ name }) => name === "thread_name").map(({ args }) => args.name);
  expect(rows).toContain("slot 1");
  expect(rows).toContain("slot 2");
  expect(rows).not.toContain("slot 3");
});

test("no two things on one row overlap", () => {
  const trace = createTrace(0);
  for (let at = 0; at < 200; at += 1) {
    trace.see(queued(`${at}`), at);
    const phases = [at % 7, at % 5, 3 + (at % 11), at % 3] as const;
    trace.see(done(`${at}`, at % 2 === 0 ? "here" : "there", phases), at + 30);
  }
  const rows = Map.groupBy(
    read(trace).filter(({ ph }) => ph === "X"),
    ({ pid, tid }) => `${pid} ${tid}`,
  );
  for (const spans of rows.values()) {
    const sorted = spans.toSorted((a, b) => a.ts - b.ts);
    for (const [at, span] of sorted.entries()) {
      const next = sorted[at + 1];
      if (next !== undefined) expect(span.ts + span.dur).toBeLessThanOrEqual(next.ts);
    }
  }
});

test("a known result is one short thing, and tells who signed it", () => {
  const trace = createTrace(0);
  trace.see(queued("1"), 10);
  trace.see(done("1", "cached-mesh", [0, 1, 0, 2]), 13);
  expect(read(trace).filter(({ ph }) => ph === "X")).toMatchObject([
    { name: "1.cc", pid: 1, ts: 10_000, dur: 3_000, args: { source: "cached-mesh", signer: peer } },
  ]);
});

test("why a task ran here, and that it came back, is told", () => {
  const trace = createTrace(0);
  const task = asTaskId("1");
  trace.see(queued("1"), 0);
  trace.see(started("1", peer), 10);
  trace.see({ event: "task-requeued", task, build, peer, attempt: 0, reason: "peer left" }, 20);
  trace.see({ event: "task-fallback", task, build, label: "1.cc", reason: "peer left" }, 21);
  trace.see(done("1", "here", [20, 0, 10, 0]), 31);
  const events = read(trace);
  expect(events.find(({ ph }) => ph === "i")).toMatchObject({ args: { reason: "peer left" } });
  expect(events.find(({ name }) => name === "1.cc")?.args.reason).toBe("peer left");
});

test("what a Ctrl-C cuts short is drawn up to there", () => {
  const trace = createTrace(0);
  trace.see(queued("1"), 10);
  trace.see(started("1", undefined), 20);
  trace.see(queued("2"), 30);
  trace.see({ event: "task-cancelled", task: asTaskId("2"), build }, 50);
  const spans = read(trace, 60).filter(({ ph }) => ph === "X");
  expect(spans.find(({ name }) => name === "1.cc")).toMatchObject({ ts: 20_000, dur: 40_000 });
  expect(spans.find(({ name }) => name === "queue 2.cc")).toMatchObject({
    ts: 30_000,
    dur: 20_000,
  });
});

test("a node gets no more rows than it has slots, however late the news of an end comes", () => {
  const trace = createTrace(0);
  trace.knowSlots("", 1);
  for (const id of ["1", "2", "3"]) trace.see(queued(id), 1);
  trace.see(started("1", undefined), 10);
  trace.see(started("2", undefined), 100);
  trace.see(started("3", undefined), 200);
  trace.see(done("1", "here", [9, 0, 140, 0]), 150);
  trace.see(done("2", "here", [99, 0, 160, 0]), 260);
  trace.see(done("3", "here", [199, 0, 70, 0]), 270);
  const slots = read(trace).filter(({ ph, name }) => ph === "X" && /^\d\.cc$/.test(name));
  expect(slots.map(({ name, tid }) => [name, tid])).toEqual([
    ["1.cc", 1],
    ["2.cc", 1],
    ["3.cc", 1],
  ]);
  const [first, second, third] = slots.map(({ ts, dur }) => [ts, ts + dur] as const);
  expect(second?.[0]).toBe(first?.[1]);
  expect(third?.[0]).toBe(second?.[1]);
});

test("what begins where another thing ends does not overlap it by a rounded microsecond", () => {
  const trace = createTrace(0);
  trace.knowSlots("", 1);
  for (const id of ["1", "2"]) trace.see(queued(id), 0);
  trace.see(done("1", "here", [0, 0, 0.9996, 0]), 2.0002);
  trace.see(done("2", "here", [0, 0, 1, 0]), 2.5);
  const [first, second] = read(trace).filter(({ ph, name }) => ph === "X" && /^\d/.test(name));
  expect(second?.ts).toBeGreaterThanOrEqual((first?.ts ?? 0) + (first?.dur ?? 0));
});
