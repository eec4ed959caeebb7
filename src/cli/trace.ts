/**
 * A build as a Chrome trace, for chrome://tracing and ui.perfetto.dev: a process for each node, a
 * row for each of its slots, and what every task spent its time on.
 *
 * Times are those at which this process heard of things, less what the tasks' own measures say, so
 * rows of different machines need no common clock. Pure.
 */
import type { Phases } from "../base/events.ts";
import type { ControlEvent } from "../node/control-api.ts";

export interface Trace {
  see(event: ControlEvent, nowMs: number): void;
  /** A node never gets more rows for what it runs than it has slots. Own node: "". */
  knowSlots(node: string, slots: number): void;
  /** The file's text. `nameOf` knows peers; `ownName` is this machine's node. */
  text(nameOf: (peer: string) => string, ownName: string, nowMs: number): string;
}

/** Tasks that are drawn; what comes later is left out, and said to be. */
const tasksMax = 100_000;
/** Two things that touch may seem to overlap by this much: messages take their time. */
const slackMs = 2;

/** Rows of one node, top to bottom. */
const groups = ["slot", "transfer", "known", "queue"] as const;
type Group = (typeof groups)[number];

interface Span {
  /** Empty: this machine's node. */
  readonly node: string;
  readonly group: Group;
  readonly name: string;
  readonly startMs: number;
  readonly endMs: number;
  readonly args: Readonly<Record<string, string | number>>;
}

interface OpenTask {
  readonly kind: string;
  readonly label: string;
  readonly queuedMs: number;
  peer: string;
  startedMs: number | undefined;
  reason: string | undefined;
}

export function createTrace(startMs: number): Trace {
  const open = new Map<string, OpenTask>();
  const slotsOf = new Map<string, number>();
  const spans: Span[] = [];
  const instants: (Pick<Span, "name" | "args"> & { readonly atMs: number })[] = [];
  let tasks = 0;
  let left = 0;

  function done(event: Extract<ControlEvent, { event: "task-done" }>, endMs: number): void {
    const { task: id, label, source, peer = "", exitCode, wallMs, phases } = event;
    const task = open.get(id);
    open.delete(id);
    const kind = task?.kind ?? "";
    const reason = task?.reason;
    const args = { task: id, kind, source, exitCode, ...(reason !== undefined && { reason }) };
    if (source === "cached-here" || source === "cached-mesh") {
      const more = { ...args, ...(peer !== "" && { signer: peer }) };
      const span = { node: "", group: "known", name: label, args: more } as const;
      spans.push({ ...span, startMs: endMs - wallMs, endMs });
      return;
    }
    const node = source === "there" ? peer : "";
    spans.push(...spansOf(phases, { node, label, args, queuedMs: task?.queuedMs, endMs }));
  }

  function see(event: ControlEvent, nowMs: number): void {
    switch (event.event) {
      case "task-queued": {
        tasks += 1;
        if (tasks > tasksMax) {
          left += 1;
          return;
        }
        const { kind, label } = event;
        const none = { startedMs: undefined, reason: undefined };
        open.set(event.task, { kind, label, queuedMs: nowMs, peer: "", ...none });
        return;
      }
      case "task-started":
      case "task-requeued": {
        const task = open.get(event.task);
        if (task === undefined) return;
        const isStart = event.event === "task-started";
        if (isStart && event.backup) {
          const args = { task: event.task, attempt: event.attempt };
          instants.push({ name: `${task.label} got a backup`, atMs: nowMs, args });
          return;
        }
        task.peer = isStart ? (event.peer ?? "") : "";
        task.startedMs = isStart ? nowMs : undefined;
        if (isStart) return;
        const args = { task: event.task, peer: event.peer, reason: event.reason };
        instants.push({ name: `${task.label} came back`, atMs: nowMs, args });
        return;
      }
      case "task-fallback": {
        const task = open.get(event.task);
        if (task !== undefined) task.reason = event.reason;
        return;
      }
      case "task-done":
        if (open.has(event.task)) done(event, nowMs);
        return;
      case "peer-joined":
        slotsOf.set(event.peer, event.slots);
        return;
      case "task-cancelled": {
        const task = open.get(event.task);
        open.delete(event.task);
        if (task !== undefined) spans.push(...cutShort(event.task, task, nowMs));
        return;
      }
    }
  }

  return {
    see,
    knowSlots: (node, slots) => void slotsOf.set(node, slots),
    text(nameOf, ownName, nowMs) {
      const whole = [...spans, ...[...open].flatMap(([id, task]) => cutShort(id, task, nowMs))];
      const marks = instants.map(({ name, atMs, args }) => ({
        ...{ name, ph: "i", s: "p", pid: 1, tid: 1, ts: microseconds(atMs - startMs), args },
      }));
      const names = (node: string) => (node === "" ? ownName : nameOf(node));
      const traceEvents = [...drawn(whole, startMs, names, slotsOf), ...marks];
      const otherData = { tasks, ...(left > 0 && { leftOut: left }) };
      // A line for each event: such files are looked at with grep, too.
      const body = traceEvents.map((event) => JSON.stringify(event)).join(",\n");
      return `{"displayTimeUnit":"ms","otherData":${JSON.stringify(otherData)},"traceEvents":[\n${body}\n]}\n`;
    },
  };
}

interface Timed {
  readonly node: string;
  readonly label: string;
  readonly args: Span["args"];
  readonly queuedMs: number | undefined;
  readonly endMs: number;
}

/** One after the other up to the end; what is in none of them was spent waiting. */
function spansOf(
  { queueMs, fetchMs, runMs, returnMs }: Phases,
  { node, label, args, queuedMs, endMs }: Timed,
): readonly Span[] {
  const ranMs = endMs - returnMs;
  const runFromMs = ranMs - runMs;
  const fetchFromMs = runFromMs - fetchMs;
  const queueFromMs = Math.min(queuedMs ?? Number.POSITIVE_INFINITY, fetchFromMs - queueMs);
  const all: readonly Span[] = [
    {
      ...{ node: "", group: "queue", name: `queue ${label}`, args },
      ...{ startMs: queueFromMs, endMs: fetchFromMs },
    },
    {
      ...{ node, group: "transfer", name: `fetch ${label}`, args },
      ...{ startMs: fetchFromMs, endMs: runFromMs },
    },
    { node, group: "slot", name: label, args, startMs: runFromMs, endMs: ranMs },
    {
      ...{ node: "", group: "transfer", name: `return ${label}`, args },
      ...{ startMs: ranMs, endMs },
    },
  ];
  return all.filter(({ group, startMs, endMs: end }) => group === "slot" || end - startMs > 0.01);
}

/** A task that was called off, or still runs when the build is over. */
function cutShort(id: string, task: OpenTask, endMs: number): readonly Span[] {
  const { kind, label, peer, queuedMs, startedMs } = task;
  const args = { task: id, kind, source: "none", reason: "called off" };
  const fromMs = startedMs ?? endMs;
  const queue = { node: "", group: "queue", name: `queue ${label}`, args } as const;
  const run = { node: peer, group: "slot", name: label, args } as const;
  return [
    ...(fromMs > queuedMs ? [{ ...queue, startMs: queuedMs, endMs: fromMs }] : []),
    ...(startedMs === undefined ? [] : [{ ...run, startMs: startedMs, endMs }]),
  ];
}

/** Spans as complete events, and the names of processes and rows. */
function drawn(
  spans: readonly Span[],
  originMs: number,
  nameOf: (node: string) => string,
  slotsOf: ReadonlyMap<string, number>,
): readonly object[] {
  const pids = new Map<string, number>([["", 1]]);
  const rows = new Map<string, number[]>();
  const events: object[] = [];
  const meta = (name: string, pid: number, tid: number, args: object): void => {
    events.push({ name, ph: "M", pid, tid, args });
  };
  meta("process_name", 1, 0, { name: nameOf("") });
  for (const span of spans.toSorted((a, b) => a.startMs - b.startMs)) {
    const { node, group, name, args } = span;
    let pid = pids.get(node);
    if (pid === undefined) {
      pid = pids.size + 1;
      pids.set(node, pid);
      meta("process_name", pid, 0, { name: nameOf(node) });
      meta("process_sort_index", pid, 0, { sort_index: pid });
    }
    // Each row holds one thing at a time: `ends` says until when it is taken.
    const key = `${pid} ${group}`;
    const ends = rows.get(key) ?? [];
    rows.set(key, ends);
    const room = group === "slot" ? slotsOf.get(node) : undefined;
    const row = rowFor(span, ends, room ?? Number.POSITIVE_INFINITY);
    const tid = groups.indexOf(group) * 10_000 + row + 1;
    if (row === ends.length) {
      meta("thread_name", pid, tid, { name: `${group} ${row + 1}` });
      meta("thread_sort_index", pid, tid, { sort_index: tid });
    }
    const startMs = Math.max(span.startMs, ends[row] ?? originMs, originMs);
    const endMs = Math.max(span.endMs, startMs);
    ends[row] = endMs;
    const ts = microseconds(startMs - originMs);
    // Not rounded by itself: what ends here must not reach into what begins here.
    const dur = microseconds(endMs - originMs) - ts;
    events.push({ name, cat: group, ph: "X", pid, tid, ts, dur, args });
  }
  return events;
}

/** The row that is free, a new one, or the one that is free first: news may be late by any time. */
function rowFor({ startMs }: Span, ends: readonly number[], rowsMax: number): number {
  const free = ends.findIndex((endMs) => endMs <= startMs + slackMs);
  if (free >= 0) return free;
  return ends.length < rowsMax ? ends.length : ends.indexOf(Math.min(...ends));
}

function microseconds(ms: number): number {
  return Math.round(ms * 1000);
}
