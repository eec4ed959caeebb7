/**
 * What a thief gets, and of what: the owner's choice, made in one round trip.
 *
 * 1. Up to half of the queue, most urgent first. Among the most urgent, what the thief can begin
 *    without moving much goes before what it would have to fetch first.
 * 2. Nothing that would be done sooner if it were left where it is (`worth.ts`).
 * 3. Ahead of a free slot only what is worth it: a task whose way there takes a good part of its
 *    run, one of those, or tiny ones for a few milliseconds. Whatever else waits at a busy thief would have
 *    begun sooner at the next one that comes free.
 * 4. To a thief with an idle slot, when the queue has nothing for it: a task that another thief has
 *    taken ahead and not begun, or a backup of one that lags behind (`backups.ts`). A backup of what
 *    is more urgent than the queue goes before it.
 *
 * It only chooses; the owner makes the leases.
 */
import type { PeerId } from "../base/ids.ts";
import { grantsMax } from "../peer/control-frames.ts";
import type { StealRequest } from "../wire/gen/mesh/v1/mesh_pb.ts";
import type { Backups } from "./backups.ts";
import { grantBytesOf, grantsMaxBytes } from "./grant.ts";
import { type Holder, holdersOf, mayHave } from "./lease.ts";
import type { Entry, Ledger } from "./ledger.ts";
import type { Pace } from "./pace.ts";
import type { Worth } from "./worth.ts";

export interface GrantingDeps {
  readonly stealable: readonly Entry[];
  readonly ledger: Pick<Ledger, "away" | "awayAt">;
  readonly pace: Pick<Pace, "slowness" | "isMeasured" | "transferMs" | "chargeMs">;
  readonly worth: Worth;
  readonly backups: Backups;
  /** Slots of a peer, and the way there and back. */
  readonly peerOf: (peer: PeerId) => { readonly slots: number; readonly rttMs: number };
}

/** What one thief would be given now. */
export interface Choice {
  readonly entry: Entry;
  readonly how: "first" | "recall" | "backup";
  /** It would wait there for a slot. */
  readonly waits: boolean;
}

export interface Granting {
  choose(peer: PeerId, request: StealRequest): readonly Choice[];
  /** Waits at a thief behind other tasks: a slot that is free can have it. */
  waiting(): Entry | undefined;
  /** Tasks that an idle peer could have although the queue is empty. Looks at what is late now. */
  spare(): number;
}

/** So many times as many as are given are looked at. */
const windowFactor = 4;
const windowMin = 16;
/** Moving up to this part of the run costs nothing worth a change of order ... */
const cheapPart = 0.1;
/** ... nor does this much at all. */
const cheapMs = 5;
/** Asking, small inputs and a turn or two of two event loops, however short the way is. */
const gapMinMs = 1;
/** A slot that idles for less than this part of a run is no loss. */
const gapPart = 0.05;
/** Tiny tasks are taken ahead for this long. */
const aheadMaxMs = 20;

export function createGranting(deps: GrantingDeps): Granting {
  const { ledger, pace, worth, backups, stealable } = deps;
  /** The most that hangs on a task that lags behind, when it was looked at last. */
  let lateUrgencyMs = 0;

  function choose(peer: PeerId, request: StealRequest): readonly Choice[] {
    // What lags behind and has more of the build behind it than anything that waits goes first.
    const isLate = request.idle > 0 && lateUrgencyMs > (stealable[0]?.urgencyMs ?? Infinity);
    const urgent = isLate ? backupFor(peer, request) : [];
    if (urgent.length > 0) return urgent;
    const first = fromQueue(peer, request);
    if (first.length > 0 || request.idle === 0) return first;
    const entry = recallable(peer, request);
    if (entry !== undefined) return [{ entry, how: "recall", waits: false }];
    return backupFor(peer, request);
  }

  function backupFor(peer: PeerId, request: StealRequest): readonly Choice[] {
    const entry = mostLate(peer, request);
    return entry === undefined ? [] : [{ entry, how: "backup", waits: false }];
  }

  interface Candidate {
    readonly entry: Entry;
    readonly chargeMs: number;
  }

  function fromQueue(peer: PeerId, request: StealRequest): readonly Choice[] {
    const count = Math.min(request.room, grantsMax, Math.ceil(stealable.length / 2));
    if (count === 0) return [];
    const candidates = candidatesFor(peer, request, Math.max(windowMin, windowFactor * count));
    const isCheap = ({ entry, chargeMs }: Candidate): boolean =>
      chargeMs <= Math.max(cheapMs, cheapPart * entry.expectedMs);
    const cheap = candidates.filter(isCheap);
    const dear = candidates
      .filter((one) => !isCheap(one))
      .sort((a, b) => ratioOf(a) - ratioOf(b) || a.entry.order - b.entry.order);
    return fitting(peer, request, [...cheap, ...dear], count);
  }

  /** The most urgent ones that it may have, can run, and would finish sooner than others. */
  function candidatesFor(peer: PeerId, request: StealRequest, countMax: number): Candidate[] {
    const seen: Candidate[] = [];
    const isWorthIt = worth.look();
    let aheadMs = 0;
    for (const entry of startingAt(probePlace(peer))) {
      if (seen.length >= countMax) break;
      // A long queue of tasks that this peer cannot run must cost next to nothing.
      if (canRun(entry, request) && mayHave(entry.state, peer)) {
        const chargeMs = pace.chargeMs(peer, entry.heavy, request.holds);
        if (isWorthIt(entry, peer, chargeMs, aheadMs)) seen.push({ entry, chargeMs });
      }
      aheadMs += entry.expectedMs;
    }
    return seen;
  }

  /**
   * Nobody knows yet how fast that peer is: what decides over the end of the build is not what to
   * find it out with.
   */
  function probePlace(peer: PeerId): number {
    const middle = stealable.length >> 1;
    if (pace.isMeasured(peer) || stealable[middle]?.isFamiliar !== true) return 0;
    return middle;
  }

  /** From there to the least urgent, and then the others. */
  function startingAt(place: number): readonly Entry[] {
    return place === 0 ? stealable : [...stealable.slice(place), ...stealable.slice(0, place)];
  }

  /** As many as one answer has room for, and those beyond its free slots only if that is worth it. */
  function fitting(
    peer: PeerId,
    request: StealRequest,
    candidates: readonly Candidate[],
    count: number,
  ): readonly Choice[] {
    const chosen: Choice[] = [];
    const there = thereNow(peer);
    // Its request may have crossed with an earlier grant: its slots are counted here, too.
    let idle = Math.min(request.idle, deps.peerOf(peer).slots - there.running);
    let roomBytes = grantsMaxBytes;
    for (const { entry } of candidates) {
      if (chosen.length >= count) break;
      const waits = idle <= 0;
      if (waits && !isWorthAhead(peer, request, entry, there)) continue;
      const { action } = entry.task;
      const grantBytes = action === undefined ? 0 : grantBytesOf(action);
      if (grantBytes > roomBytes) continue;
      roomBytes -= grantBytes;
      chosen.push({ entry, how: "first", waits });
      if (!waits) idle -= 1;
      else {
        there.waiting += 1;
        there.waitingMs += entry.expectedMs;
      }
    }
    return chosen;
  }

  interface There {
    readonly running: number;
    waiting: number;
    waitingMs: number;
  }

  /** What of this owner's tasks is with that peer. */
  function thereNow(peer: PeerId): There {
    let running = 0;
    let waiting = 0;
    let waitingMs = 0;
    for (const { state, expectedMs } of ledger.awayAt(peer)) {
      // What it has answered takes none of its slots any more.
      const holders = state.at === "leased" || state.at === "committing" ? state.holders : [];
      for (const { thief, waits } of holders) {
        if (thief !== peer) continue;
        if (!waits) running += 1;
        else {
          waiting += 1;
          waitingMs += expectedMs;
        }
      }
    }
    return { running, waiting, waitingMs };
  }

  function isWorthAhead(
    peer: PeerId,
    { holds }: StealRequest,
    { expectedMs, heavy }: Entry,
    { waiting, waitingMs }: There,
  ): boolean {
    if (expectedMs === 0) return false;
    const wayMs = Math.max(gapMinMs, deps.peerOf(peer).rttMs);
    const gapMs = wayMs + pace.transferMs(peer, heavy, holds);
    if (gapMs < gapPart * expectedMs) return false;
    return waiting === 0 || waitingMs + expectedMs <= aheadMaxMs;
  }

  function isWaiting({ state }: Entry): boolean {
    if (state.at !== "leased" || state.holders.length !== 1) return false;
    const [only] = state.holders;
    return only?.waits === true && !only.running;
  }

  function mostUrgent(is: (entry: Entry) => boolean): Entry | undefined {
    let found: Entry | undefined;
    for (const entry of ledger.away())
      if (is(entry) && (found === undefined || entry.urgencyMs > found.urgencyMs)) found = entry;
    return found;
  }

  function recallable(peer: PeerId, request: StealRequest): Entry | undefined {
    return mostUrgent(
      (entry) => isWaiting(entry) && mayHave(entry.state, peer) && canRun(entry, request),
    );
  }

  /** The one with the longest way to its end. */
  function mostLate(peer: PeerId, request: StealRequest): Entry | undefined {
    let found: Entry | undefined;
    let mostMs = 0;
    for (const entry of ledger.away()) {
      if (!backups.isDue(entry) || !mayHave(entry.state, peer) || !canRun(entry, request)) continue;
      const holder: Holder | undefined = holdersOf(entry.state)[0];
      if (holder === undefined) continue;
      const leftMs = worth.leftMs(entry, holder.grantedMs, pace.slowness(holder.thief));
      if (leftMs > mostMs) [found, mostMs] = [entry, leftMs];
    }
    return found;
  }

  return {
    choose,
    waiting: () => mostUrgent(isWaiting),
    spare() {
      let count = 0;
      lateUrgencyMs = 0;
      for (const entry of ledger.away()) {
        const isDue = backups.isDue(entry);
        if (isDue) lateUrgencyMs = Math.max(lateUrgencyMs, entry.urgencyMs);
        if (isDue || isWaiting(entry)) count += 1;
      }
      return count;
    },
  };
}

function ratioOf({ entry, chargeMs }: { entry: Entry; chargeMs: number }): number {
  return chargeMs / Math.max(1, entry.expectedMs);
}

function canRun({ task: { action } }: Entry, { platforms }: StealRequest): boolean {
  return action !== undefined && platforms.includes(action.spec.platform.platform ?? "");
}
