/**
 * What a thief gets, and of what: the owner's choice, made in one round trip.
 *
 * 1. Up to half of the queue, most urgent first. Among the most urgent, what the thief can begin
 *    without moving much goes before what it would have to fetch first.
 * 2. Nothing that would be done sooner if it were left where it is (`isWorthIt`).
 * 3. To a thief with an idle slot, when the queue has nothing for it: a task that another thief
 *    has taken ahead and not begun, or a backup of one that lags behind.
 *
 * It only chooses; the owner makes the leases.
 */
import type { PeerId } from "../base/ids.ts";
import type { StealRequest } from "../wire/gen/mesh/v1/mesh_pb.ts";
import type { Durations } from "./durations.ts";
import { grantBytesOf, grantsMaxBytes } from "./grant.ts";
import { type Holder, holdersOf, mayHave } from "./lease.ts";
import type { Entry, Ledger } from "./ledger.ts";
import type { Pace } from "./pace.ts";
import type { Slots } from "./slots.ts";

export interface GrantingDeps {
  readonly stealable: readonly Entry[];
  readonly ledger: Pick<Ledger, "here" | "away">;
  readonly pace: Pace;
  readonly durations: Pick<Durations, "lateMs">;
  readonly slots: Pick<Slots, "count" | "busy">;
  readonly nowMs: () => number;
}

/** What one thief would be given now. */
export interface Choice {
  readonly entry: Entry;
  readonly how: "first" | "recall" | "backup";
}

export interface Granting {
  choose(peer: PeerId, request: StealRequest): readonly Choice[];
  /** Waits at a thief behind other tasks: a slot that is free can have it. */
  waiting(): Entry | undefined;
  /** Tasks that an idle peer could have although the queue is empty. */
  spare(): number;
  /** A run was paid for: backups may cost a tenth of all. */
  spent(runMs: number): void;
}

/** So many times as many as are given are looked at. */
const windowFactor = 4;
const windowMin = 16;
/** Moving up to this part of the run costs nothing worth a change of order ... */
const cheapPart = 0.1;
/** ... nor does this much at all. */
const cheapMs = 5;
/** What backups may cost, as a part of all that ran. */
const backupPart = 0.1;
/** So many times as long as late: then one backup at a time may cost more than that. */
const veryLate = 2;
/** A task that has outrun its expectation will run on for this part of its time so far. */
const overtimePart = 0.25;

export function createGranting(deps: GrantingDeps): Granting {
  const { ledger, pace, durations, nowMs } = deps;
  let spentMs = 0;
  let backupMs = 0;

  function choose(peer: PeerId, request: StealRequest): readonly Choice[] {
    const first = fromQueue(peer, request);
    if (first.length > 0 || request.idle === 0) return first;
    const entry = recallable(peer, request);
    if (entry !== undefined) return [{ entry, how: "recall" }];
    const late = backup(peer, request);
    return late === undefined ? [] : [{ entry: late, how: "backup" }];
  }

  function fromQueue(peer: PeerId, request: StealRequest): readonly Choice[] {
    const { stealable } = deps;
    const count = Math.min(request.room, Math.ceil(stealable.length / 2));
    if (count === 0) return [];
    const windowSize = Math.max(windowMin, windowFactor * count);
    const seen: { readonly entry: Entry; readonly transferMs: number }[] = [];
    const view = createView();
    let aheadMs = 0;
    for (const entry of stealable) {
      if (seen.length >= windowSize) break;
      const transferMs = pace.transferMs(peer, entry.heavy, request.holds);
      const isFit = canRun(entry, request) && mayHave(entry.state, peer);
      if (isFit && isWorthIt(entry, peer, { transferMs, aheadMs, view })) {
        seen.push({ entry, transferMs });
      }
      aheadMs += entry.expectedMs;
    }
    const isCheap = ({ entry, transferMs }: (typeof seen)[number]): boolean =>
      transferMs <= Math.max(cheapMs, cheapPart * entry.expectedMs);
    const cheap = seen.filter(isCheap);
    const dear = seen
      .filter((one) => !isCheap(one))
      .sort((a, b) => ratioOf(a) - ratioOf(b) || a.entry.order - b.entry.order);
    return fitting(
      [...cheap, ...dear].map(({ entry }) => entry),
      count,
    );
  }

  /** The three things that speak for leaving it here: an own slot, another thief, and a slow one. */
  function isWorthIt(
    { expectedMs }: Entry,
    peer: PeerId,
    {
      transferMs,
      aheadMs,
      view,
    }: { readonly transferMs: number; readonly aheadMs: number; readonly view: View },
  ): boolean {
    // Nothing is known of it: then the idle slot decides.
    if (expectedMs === 0) return true;
    const thereMs = transferMs + expectedMs * pace.slowness(peer);
    const { servers, ownWaitMs, nextMs } = view();
    const queueMs = aheadMs / servers;
    const hereMs = ownWaitMs + queueMs + expectedMs;
    const elsewhereMs = nextMs + queueMs + transferMs + expectedMs;
    return thereMs <= Math.min(hereMs, elsewhereMs) + cheapMs;
  }

  interface Servers {
    readonly servers: number;
    /** Until one of this node's slots comes free. */
    readonly ownWaitMs: number;
    /** Until any that works for this owner does, on average. */
    readonly nextMs: number;
  }
  type View = () => Servers;

  /** Looked at when first needed. */
  function createView(): View {
    let known: Servers | undefined;
    return () => {
      known ??= look();
      return known;
    };
  }

  function look(): Servers {
    let ownWaitMs = deps.slots.busy < deps.slots.count ? 0 : Number.POSITIVE_INFINITY;
    let sumMs = 0;
    let count = 0;
    for (const entry of ledger.here()) {
      const leftMs = leftOf(entry, entry.startedMs, 1);
      ownWaitMs = Math.min(ownWaitMs, leftMs);
      sumMs += leftMs;
      count += 1;
    }
    for (const entry of ledger.away())
      for (const { grantedMs, thief, waits } of holdersOf(entry.state)) {
        if (waits) continue;
        sumMs += leftOf(entry, grantedMs, pace.slowness(thief));
        count += 1;
      }
    const servers = Math.max(1, count, deps.slots.count);
    // Of equal servers the next comes free after a part of the mean; somebody else's work is no bound.
    const nextMs = count === 0 ? 0 : sumMs / count / servers;
    return { servers, ownWaitMs: Number.isFinite(ownWaitMs) ? ownWaitMs : nextMs, nextMs };
  }

  function leftOf({ expectedMs }: Entry, sinceMs: number, slowness: number): number {
    const elapsedMs = Math.max(0, nowMs() - sinceMs);
    return Math.max(expectedMs * slowness - elapsedMs, overtimePart * elapsedMs);
  }

  function isWaiting(entry: Entry): boolean {
    const { state } = entry;
    if (state.at !== "leased" || state.holders.length !== 1) return false;
    const [only] = state.holders;
    return only?.waits === true && !only.running;
  }

  function recallable(peer: PeerId, request: StealRequest): Entry | undefined {
    let found: Entry | undefined;
    for (const entry of ledger.away()) {
      if (!isWaiting(entry) || !mayHave(entry.state, peer) || !canRun(entry, request)) continue;
      if (found === undefined || entry.urgencyMs > found.urgencyMs) found = entry;
    }
    return found;
  }

  /** It lags behind, and what a second attempt would cost is within the bound. */
  function mayBackUp(entry: Entry): boolean {
    const { state, task, expectedMs } = entry;
    if (state.at !== "leased" || state.holders.length !== 1) return false;
    const [only] = state.holders;
    if (only === undefined || only.waits) return false;
    const elapsedMs = nowMs() - only.grantedMs;
    const lateMs = durations.lateMs(task.kind, task.label);
    if (elapsedMs <= lateMs) return false;
    if (backupMs + expectedMs <= backupPart * spentMs) return true;
    // A small build must not be lost to one peer that has all but stopped.
    return elapsedMs > veryLate * lateMs && !isAnyBackedUp();
  }

  function isAnyBackedUp(): boolean {
    for (const { state } of ledger.away()) if (holdersOf(state).length > 1) return true;
    return false;
  }

  /** The one with the longest way to its end. */
  function backup(peer: PeerId, request: StealRequest): Entry | undefined {
    let found: Entry | undefined;
    let mostMs = 0;
    for (const entry of ledger.away()) {
      if (!mayBackUp(entry) || !mayHave(entry.state, peer) || !canRun(entry, request)) continue;
      const holder: Holder | undefined = holdersOf(entry.state)[0];
      const leftMs = leftOf(entry, holder?.grantedMs ?? 0, pace.slowness(holder?.thief ?? peer));
      if (leftMs > mostMs) [found, mostMs] = [entry, leftMs];
    }
    backupMs += found?.expectedMs ?? 0;
    return found;
  }

  return {
    choose,
    waiting() {
      let found: Entry | undefined;
      for (const entry of ledger.away())
        if (isWaiting(entry) && (found === undefined || entry.urgencyMs > found.urgencyMs))
          found = entry;
      return found;
    },
    spare() {
      let count = 0;
      for (const entry of ledger.away()) {
        if (isWaiting(entry)) count += 1;
        else if (mayBackUp(entry)) count += 1;
      }
      return count;
    },
    spent(runMs) {
      spentMs += runMs;
    },
  };
}

function ratioOf({ entry, transferMs }: { entry: Entry; transferMs: number }): number {
  return transferMs / Math.max(1, entry.expectedMs);
}

function canRun({ task: { action } }: Entry, { platforms }: StealRequest): boolean {
  return action !== undefined && platforms.includes(action.spec.platform.platform ?? "");
}

/** As many as one answer has room for. */
function fitting(entries: readonly Entry[], count: number): readonly Choice[] {
  const chosen: Choice[] = [];
  let roomBytes = grantsMaxBytes;
  for (const entry of entries) {
    const { action } = entry.task;
    if (chosen.length >= count) break;
    const grantBytes = action === undefined ? 0 : grantBytesOf(action);
    if (grantBytes > roomBytes) continue;
    roomBytes -= grantBytes;
    chosen.push({ entry, how: "first" });
  }
  return chosen;
}
