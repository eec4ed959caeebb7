/**
 * How many slots a node lends to others at the moment: fewer while whoever uses the machine needs
 * its cores or its memory. Its own tasks are not held back by this.
 */
import type { Clock, Processes } from "../host/host.ts";
import type { Slots } from "./slots.ts";

export interface LendingDeps {
  readonly processes: Pick<Processes, "vitals">;
  readonly clock: Pick<Clock, "nowMs">;
  readonly slots: Pick<Slots, "count" | "busy">;
}

/** A look at the machine is good for this long. */
const lookMs = 1000;
/** What was seen longer ago says nothing about now. */
const forgetMs = 5000;
/** Weight of the newest look: what lasts one second is no reason to stop lending. */
const alpha = 0.4;
/** Less than this of others' work is the machine's own background. */
const quietCores = 0.75;
/** One task should find this much memory. */
const memoryPerTaskBytes = 384 * 1024 * 1024;

/** @returns slots that may run something foreign, this node's present foreign tasks included. */
export function createLending({ processes, clock, slots }: LendingDeps): () => number {
  let lookedMs = Number.NEGATIVE_INFINITY;
  let others = 0;
  let lent = slots.count;

  function look(isFirst: boolean): number {
    const { runnable, cores, memoryFreeBytes } = processes.vitals();
    others += (isFirst ? 1 : alpha) * (Math.max(0, runnable - slots.busy) - others);
    const free = others < quietCores ? slots.count : Math.round(cores - others);
    const fed = slots.busy + Math.floor(memoryFreeBytes / memoryPerTaskBytes);
    return Math.max(0, Math.min(slots.count, free, fed));
  }

  return () => {
    const nowMs = clock.nowMs();
    if (nowMs - lookedMs >= lookMs) {
      lent = look(nowMs - lookedMs >= forgetMs);
      lookedMs = nowMs;
    }
    return lent;
  };
}
