/**
 * A wait that somebody else can end early: how a loop sleeps until it is due or needed.
 */
import type { Clock } from "../host/host.ts";

export interface Alarm {
  /** Waits, or less when `ring` was called since the last wait ended. Rejects when aborted. */
  wait(durationMs: number, signal: AbortSignal): Promise<void>;
  ring(): void;
}

/** Nobody sees it; without one, each abort makes an exception with a stack. */
const over = "the wait is over";

export function createAlarm(clock: Clock): Alarm {
  let rung = false;
  let sleeping: AbortController | undefined;
  return {
    async wait(durationMs, signal) {
      signal.throwIfAborted();
      if (!rung && durationMs > 0) {
        const nap = new AbortController();
        const abort = (): void => nap.abort(over);
        signal.addEventListener("abort", abort, { once: true });
        sleeping = nap;
        // Rejects only because it was rung or aborted, and which of them is asked below.
        await clock.sleep(durationMs, nap.signal).catch(() => {});
        sleeping = undefined;
        signal.removeEventListener("abort", abort);
      }
      rung = false;
      signal.throwIfAborted();
    },
    ring() {
      rung = true;
      sleeping?.abort(over);
    },
  };
}
