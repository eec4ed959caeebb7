/**
 * Which running tasks lag behind so far that a second attempt is worth its cost.
 *
 * Backups may cost a tenth of all that has run; beyond that, one at a time, and only for a task that
 * has all but stopped.
 * Source: M. Zaharia et al., "Improving MapReduce Performance in Heterogeneous Environments" (LATE),
 * OSDI 2008: the longest time to the end first, a cap, and only to slots that idle.
 */
import type { Durations } from "./durations.ts";
import { holdersOf } from "./lease.ts";
import type { Entry, Ledger } from "./ledger.ts";

export interface Backups {
  isDue(entry: Entry): boolean;
  began(entry: Entry): void;
  /** A run was paid for. */
  spent(runMs: number): void;
}

const costPart = 0.1;
/** So many times as long as late. */
const stoppedFactor = 2;

export function createBackups(
  ledger: Pick<Ledger, "doubled">,
  durations: Pick<Durations, "lateMs">,
  nowMs: () => number,
): Backups {
  let spentMs = 0;
  let costMs = 0;

  /**
   * What a second attempt will take at least: of a task never seen before, nothing is known but how
   * long it has taken up to now.
   */
  function costOf({ isFamiliar, expectedMs, state }: Entry): number {
    const [first] = holdersOf(state);
    if (isFamiliar || first === undefined) return expectedMs;
    return Math.max(expectedMs, nowMs() - first.grantedMs);
  }

  return {
    isDue(entry) {
      const { state, task } = entry;
      if (state.at !== "leased" || state.holders.length !== 1) return false;
      const [only] = state.holders;
      if (only === undefined || only.waits) return false;
      const elapsedMs = nowMs() - only.grantedMs;
      const lateMs = durations.lateMs(task.kind, task.label);
      if (elapsedMs <= lateMs) return false;
      if (costMs + costOf(entry) <= costPart * spentMs) return true;
      // A small build must not be lost to one peer that has all but stopped.
      return elapsedMs > stoppedFactor * lateMs && ledger.doubled().size === 0;
    },
    began(entry) {
      costMs += costOf(entry);
    },
    spent(runMs) {
      spentMs += runMs;
    },
  };
}
