/**
 * Whether a task would be done sooner at a thief than if it were left where it is.
 *
 * Guesses from durations and paces; where nothing is known the idle slot decides.
 */
import type { PeerId } from "../base/ids.ts";
import { holdersOf } from "./lease.ts";
import type { Entry, Ledger } from "./ledger.ts";
import type { Pace } from "./pace.ts";
import type { Slots } from "./slots.ts";

export interface WorthDeps {
  readonly ledger: Pick<Ledger, "here" | "away">;
  readonly pace: Pick<Pace, "slowness">;
  readonly slots: Pick<Slots, "count" | "busy">;
  readonly nowMs: () => number;
}

export interface Worth {
  /** For one request: looks at who is busy with what when that is first needed. */
  look(): (entry: Entry, peer: PeerId, transferMs: number, aheadMs: number) => boolean;
  /** How long the attempt that began then will still take. */
  leftMs(entry: Entry, sinceMs: number, slowness: number): number;
}

interface Servers {
  readonly count: number;
  /** Until one of this node's slots comes free. */
  readonly ownWaitMs: number;
  /** Until any that works for this owner does, on average. */
  readonly nextMs: number;
}

/** A guess is no better than this. */
const slackMs = 5;
/** A task that has outrun its expectation will run on for this part of its time so far. */
const overtimePart = 0.25;

export function createWorth({ ledger, pace, slots, nowMs }: WorthDeps): Worth {
  function leftMs({ expectedMs }: Entry, sinceMs: number, slowness: number): number {
    const elapsedMs = Math.max(0, nowMs() - sinceMs);
    return Math.max(expectedMs * slowness - elapsedMs, overtimePart * elapsedMs);
  }

  function serversNow(): Servers {
    const hasFree = slots.busy < slots.count;
    let ownWaitMs = hasFree ? 0 : Number.POSITIVE_INFINITY;
    let sumMs = 0;
    let busy = 0;
    for (const entry of ledger.here()) {
      const left = leftMs(entry, entry.startedMs, 1);
      ownWaitMs = Math.min(ownWaitMs, left);
      sumMs += left;
      busy += 1;
    }
    for (const entry of ledger.away())
      for (const { grantedMs, thief, waits } of holdersOf(entry.state)) {
        if (waits) continue;
        sumMs += leftMs(entry, grantedMs, pace.slowness(thief));
        busy += 1;
      }
    const count = Math.max(1, busy, slots.count);
    // Slots that are busy with others' work come free nobody knows when.
    if (busy === 0 && !hasFree) return { count, ownWaitMs, nextMs: Number.POSITIVE_INFINITY };
    // Of equal servers the next comes free after a part of the mean; others' work is no bound.
    const nextMs = busy === 0 ? 0 : sumMs / busy / count;
    return { count, ownWaitMs: Number.isFinite(ownWaitMs) ? ownWaitMs : nextMs, nextMs };
  }

  return {
    leftMs,
    look() {
      let servers: Servers | undefined;
      return ({ expectedMs }, peer, transferMs, aheadMs) => {
        if (expectedMs === 0) return true;
        servers ??= serversNow();
        const queueMs = aheadMs / servers.count;
        const thereMs = transferMs + expectedMs * pace.slowness(peer);
        const hereMs = servers.ownWaitMs + queueMs + expectedMs;
        const elsewhereMs = servers.nextMs + queueMs + transferMs + expectedMs;
        return thereMs <= Math.min(hereMs, elsewhereMs) + slackMs;
      };
    },
  };
}
