/**
 * Every task that its owner answers for, and where it stands.
 *
 * All changes go through `apply`, which is `lease.ts`; what follows from a change is its caller's
 * matter.
 */
import { asTaskId, type PeerId, type TaskId } from "../base/ids.ts";
import type { Queued } from "./deque.ts";
import { step, type TaskEvent, type TaskState } from "./lease.ts";
import type { Outcome, Task } from "./task.ts";

export interface Entry extends Queued {
  readonly id: TaskId;
  readonly task: Task;
  readonly submittedMs: number;
  /** When the attempt that runs now, or ran last, was given away. */
  grantedMs: number;
  state: TaskState;
  readonly settle: (outcome: Outcome) => void;
  readonly fail: (error: unknown) => void;
  readonly cancelled: AbortController;
  /** A queued entry's place changes when it may no longer leave. */
  stealable: boolean;
  /** Said that the command itself fails. */
  accuser: PeerId | undefined;
}

/** Tasks by where they stand. */
export type Counts = Readonly<Record<"queued" | "here" | "leased" | "committing", number>>;

export interface Ledger {
  readonly size: number;
  add(entry: Entry): void;
  remove(id: TaskId): void;
  get(id: TaskId): Entry | undefined;
  entries(): Iterable<Entry>;
  leased(): Iterable<Entry>;
  /** The task, if this attempt of this peer holds its lease. */
  heldBy(peer: PeerId, task: string, attempt: number): Entry | undefined;
  /** The state before, or undefined when the event means nothing to this task now. */
  apply(entry: Entry, event: TaskEvent): TaskState | undefined;
  counts(): Counts;
}

export function createLedger(): Ledger {
  const entries = new Map<TaskId, Entry>();
  const leased = new Set<Entry>();
  return {
    get size() {
      return entries.size;
    },
    add: (entry) => void entries.set(entry.id, entry),
    remove(id) {
      const entry = entries.get(id);
      entries.delete(id);
      if (entry !== undefined) leased.delete(entry);
    },
    get: (id) => entries.get(id),
    entries: () => entries.values(),
    leased: () => leased,
    heldBy(peer, task, attempt) {
      const entry = entries.get(asTaskId(task));
      const { state } = entry ?? {};
      const held = state?.at === "leased" && state.thief === peer && state.attempt === attempt;
      return held ? entry : undefined;
    },
    apply(entry, event) {
      const before = entry.state;
      entry.state = step(before, event);
      if (entry.state === before) return undefined;
      if (entry.state.at === "leased") leased.add(entry);
      else leased.delete(entry);
      return before;
    },
    counts() {
      const counts = { queued: 0, here: 0, leased: 0, committing: 0 };
      for (const { state } of entries.values()) {
        if (state.at !== "done" && state.at !== "cancelled") counts[state.at] += 1;
      }
      return counts;
    },
  };
}
