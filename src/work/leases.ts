/**
 * Looks after leases for as long as there are any, in time during which this node was awake.
 *
 * A process that was stopped, or whose event loop was blocked, has not heard the beats that wait in
 * its sockets: time that it slept through is taken off no lease. It does not know what a lease is
 * on.
 */
import type { Clock } from "../host/host.ts";

export interface Leases {
  /** Monotonic time without the time this node slept through. Leases end in this time only. */
  nowMs(): number;
  /** Looks until nothing is left to look after. Does nothing while it looks already. */
  watch(): void;
  stop(): void;
}

export interface LeasesDeps {
  readonly clock: Clock;
  /** Ends what is due, and says when the next is: `Infinity` when there is none. */
  readonly expire: (nowMs: number) => number;
}

/** The longest nap between two looks: how fine a sleep of the whole node is told apart. */
const napMaxMs = 250;

export function createLeases({ clock, expire }: LeasesDeps): Leases {
  const stopped = new AbortController();
  let asleepMs = 0;
  let dueMs = Number.POSITIVE_INFINITY;
  let watching = false;

  function nowMs(): number {
    const ms = clock.nowMs();
    // Also while the nap's own timer has not fired yet: after a sleep, beats may be read first.
    if (ms > dueMs) {
      asleepMs += ms - dueMs;
      dueMs = ms;
    }
    return ms - asleepMs;
  }

  /** Never rejects. */
  async function look(): Promise<void> {
    watching = true;
    for (;;) {
      const nextMs = expire(nowMs());
      if (nextMs === Number.POSITIVE_INFINITY || stopped.signal.aborted) break;
      const napMs = Math.min(napMaxMs, Math.max(1, nextMs - nowMs()));
      dueMs = clock.nowMs() + napMs;
      await clock.sleep(napMs, stopped.signal).catch(() => {});
    }
    dueMs = Number.POSITIVE_INFINITY;
    watching = false;
  }

  return {
    nowMs,
    watch() {
      if (!watching && !stopped.signal.aborted) void look();
    },
    stop: () => stopped.abort(),
  };
}
