/**
 * Watches attempts of tasks at one owner and its thieves: how much slot time went into those whose
 * outcome was used, and how much into others.
 *
 * It reads events only, and takes their times when they come.
 */
import type { MeshEvent } from "../../src/base/events.ts";

export interface Attempts {
  /** Listener for the owner's own events. */
  seeOwner(event: MeshEvent): void;
  /** Listener for what a thief prints. */
  seeThief(thief: string, event: Readonly<Record<string, unknown>>): void;
  /** Attempts that have begun and not ended, as far as events have told. */
  open(): number;
  /** Since the last call. Attempts that have not ended count up to now, as not used. */
  take(): Work;
}

export interface Work {
  readonly tasks: number;
  /** Attempts beyond one per task that have really begun. */
  readonly again: number;
  readonly usedMs: number;
  readonly unusedMs: number;
}

export function createAttempts(): Attempts {
  /** By node and task: when it began. */
  const begun = new Map<string, number>();
  const tasks = new Set<string>();
  let starts = 0;
  let usedMs = 0;
  let unusedMs = 0;

  function begin(node: string, task: string): void {
    begun.set(`${node} ${task}`, performance.now());
    tasks.add(task);
    starts += 1;
  }

  function end(node: string, task: string, used: boolean): void {
    const key = `${node} ${task}`;
    const startMs = begun.get(key);
    if (startMs === undefined) return;
    begun.delete(key);
    const wallMs = performance.now() - startMs;
    if (used) usedMs += wallMs;
    else unusedMs += wallMs;
  }

  return {
    seeOwner(event) {
      if (event.event === "task-started" && event.peer === undefined) begin("", event.task);
      if (event.event === "task-done") end("", event.task, event.source === "here");
    },
    seeThief(thief, { event, task, outcome }) {
      if (event === "foreign-started") begin(thief, String(task));
      if (event === "foreign-done") end(thief, String(task), outcome === "accepted");
    },
    open: () => begun.size,
    take() {
      for (const startMs of begun.values()) unusedMs += performance.now() - startMs;
      const work = { tasks: tasks.size, again: starts - tasks.size, usedMs, unusedMs };
      begun.clear();
      tasks.clear();
      starts = 0;
      usedMs = 0;
      unusedMs = 0;
      return work;
    },
  };
}
