/**
 * The foreign tasks that a thief holds, each from its grant until its answer has been taken.
 *
 * Only where each stands; what is done about it is `thief.ts`.
 */
import type { PeerId } from "../base/ids.ts";
import type { Grant, Held as HeldLease } from "../wire/gen/mesh/v1/mesh_pb.ts";

export interface HeldTask {
  readonly owner: PeerId;
  readonly grant: Grant;
  readonly abort: AbortController;
  running: boolean;
  /** It has run; its answer is being written. */
  ran: boolean;
  startedMs: number;
  /** Since when it has waited while this node had work of its own. */
  overdueSinceMs: number | undefined;
  /** Resolves the wait for the owner's last word. */
  closed: (accepted: boolean) => void;
  answered: boolean;
}

/** One lease as a beat names it. */
export type LeaseName = Pick<HeldLease, "task" | "attempt" | "running">;

export interface Holding {
  readonly size: number;
  all(): Iterable<HeldTask>;
  /** False: it is held already. */
  add(task: HeldTask): boolean;
  remove(task: HeldTask): void;
  get(owner: PeerId, task: string, attempt: number): HeldTask | undefined;
  /** Neither run nor answered. */
  waiting(): number;
  answered(): number;
  /** Some answer goes out in a moment. */
  isAnswering(): boolean;
  /** Leases that have to be renewed, by owner. */
  open(): ReadonlyMap<PeerId, readonly LeaseName[]>;
}

export function createHolding(): Holding {
  const held = new Map<string, HeldTask>();
  const count = (is: (task: HeldTask) => boolean): number => {
    let found = 0;
    for (const task of held.values()) if (is(task)) found += 1;
    return found;
  };
  const nameOf = ({ owner, grant }: HeldTask) => keyOf(owner, grant.task, grant.attempt);
  return {
    get size() {
      return held.size;
    },
    all: () => held.values(),
    add(task) {
      const key = nameOf(task);
      if (held.has(key)) return false;
      held.set(key, task);
      return true;
    },
    remove: (task) => void held.delete(nameOf(task)),
    get: (owner, task, attempt) => held.get(keyOf(owner, task, attempt)),
    waiting: () => count(({ answered, running }) => !answered && !running),
    isAnswering: () => count(({ ran, answered }) => ran && !answered) > 0,
    answered: () => count(({ answered }) => answered),
    open() {
      const byOwner = new Map<PeerId, LeaseName[]>();
      for (const entry of held.values()) {
        if (!isOpen(entry)) continue;
        const { owner, running, grant } = entry;
        const leases = byOwner.get(owner) ?? [];
        leases.push({ task: grant.task, attempt: grant.attempt, running });
        byOwner.set(owner, leases);
      }
      return byOwner;
    },
  };
}

/** Its lease has to be renewed. */
export function isOpen({ answered, abort }: HeldTask): boolean {
  return !answered && !abort.signal.aborted;
}

function keyOf(owner: PeerId, task: string, attempt: number): string {
  return `${owner}\0${task}\0${attempt}`;
}
