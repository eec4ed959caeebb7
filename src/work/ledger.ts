/**
 * Every task that its owner answers for, and where it stands.
 *
 * All changes go through `apply`, which is `lease.ts`; what follows from a change is its caller's
 * matter.
 */
import type { Digest } from "../base/digest.ts";
import { asTaskId, type PeerId, type TaskId } from "../base/ids.ts";
import type { Queued } from "./deque.ts";
import { type Holder, holdersOf, step, type TaskEvent, type TaskState } from "./lease.ts";
import type { Outcome, Task } from "./task.ts";

export interface Entry extends Queued {
  readonly id: TaskId;
  readonly task: Task;
  readonly expectedMs: number;
  /** That is its own earlier time, not only its kind's. */
  readonly isFamiliar: boolean;
  /** Its large inputs. */
  readonly heavy: readonly Digest[];
  readonly submittedMs: number;
  /** Of these, what its last thief had to fetch. */
  movedBytes: number;
  /** When it began to run here, in the time of leases. */
  startedMs: number;
  state: TaskState;
  readonly settle: (outcome: Outcome) => void;
  readonly fail: (error: unknown) => void;
  readonly cancelled: AbortController;
  /** A queued entry's place changes when it may no longer leave. */
  stealable: boolean;
  /** No attempt up to this one is shown before its end: there were two at a time. */
  hushedTo: number;
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
  /** Tasks that run here. */
  here(): ReadonlySet<Entry>;
  /** Tasks that some peer may be running, also while an answer is put in place. */
  away(): ReadonlySet<Entry>;
  /** Tasks that two attempts hold. */
  doubled(): ReadonlySet<Entry>;
  /** Those of them that this peer may be running. */
  awayAt(peer: PeerId): Iterable<Entry>;
  /** This attempt of this peer, if it holds the task's lease. */
  heldBy(peer: PeerId, task: string, attempt: number): readonly [Entry, Holder] | undefined;
  /** The state before, or undefined when the event means nothing to this task now. */
  apply(entry: Entry, event: TaskEvent): TaskState | undefined;
  counts(): Counts;
}

export function createLedger(): Ledger {
  const entries = new Map<TaskId, Entry>();
  const here = new Set<Entry>();
  const away = new Set<Entry>();
  const doubled = new Set<Entry>();
  const byPeer = new Map<PeerId, Set<Entry>>();

  function place(entry: Entry, before: TaskState): void {
    const holders = holdersOf(entry.state);
    for (const { thief } of holdersOf(before)) {
      if (holders.some((one) => one.thief === thief)) continue;
      const held = byPeer.get(thief);
      held?.delete(entry);
      if (held?.size === 0) byPeer.delete(thief);
    }
    for (const { thief } of holders) {
      const held = byPeer.get(thief) ?? new Set();
      byPeer.set(thief, held.add(entry));
    }
    if (holders.length > 0) away.add(entry);
    else away.delete(entry);
    if (holders.length > 1) doubled.add(entry);
    else doubled.delete(entry);
    if (entry.state.at === "here") here.add(entry);
    else here.delete(entry);
  }

  function apply(entry: Entry, event: TaskEvent): TaskState | undefined {
    const before = entry.state;
    entry.state = step(before, event);
    if (entry.state === before) return undefined;
    place(entry, before);
    return before;
  }

  return {
    get size() {
      return entries.size;
    },
    add: (entry) => void entries.set(entry.id, entry),
    remove(id) {
      const entry = entries.get(id);
      entries.delete(id);
      if (entry === undefined) return;
      apply(entry, { type: "cancel" });
      here.delete(entry);
    },
    get: (id) => entries.get(id),
    entries: () => entries.values(),
    here: () => here,
    away: () => away,
    doubled: () => doubled,
    awayAt: (peer) => byPeer.get(peer) ?? [],
    heldBy(peer, task, attempt) {
      const entry = entries.get(asTaskId(task));
      if (entry === undefined) return undefined;
      const { state } = entry;
      const holders = state.at === "leased" || state.at === "committing" ? state.holders : [];
      const holder = holders.find((one) => one.thief === peer && one.attempt === attempt);
      return holder && [entry, holder];
    },
    apply,
    counts() {
      const counts = { queued: 0, here: 0, leased: 0, committing: 0 };
      for (const { state } of entries.values()) {
        if (state.at !== "done" && state.at !== "cancelled") counts[state.at] += 1;
      }
      return counts;
    },
  };
}
