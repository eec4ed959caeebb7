/**
 * Time: the machine's clocks and timers.
 *
 * `deadlineOn` is shared with the simulated clock, so that a deadline means
 * the same in both.
 */
import { MeshError } from "../base/errors.ts";
import type { Clock } from "./host.ts";

/** Calls `fire` once after `durationMs`, unless the returned function is called first. */
export type StartTimer = (durationMs: number, fire: () => void) => () => void;

/** The machine's clock. */
export function createClock(): Clock {
  return {
    nowMs: () => performance.now(),
    wallMs: () => Date.now(),
    sleep: sleepOn(startTimer),
    withDeadline: deadlineOn(startTimer),
  };
}

/** `Clock.sleep` on any kind of timer. */
export function sleepOn(start: StartTimer): Clock["sleep"] {
  return (durationMs, signal) =>
    new Promise((resolve, reject) => {
      if (signal.aborted) {
        reject(signal.reason);
        return;
      }
      const stop = start(durationMs, () => {
        signal.removeEventListener("abort", onAbort);
        resolve();
      });
      const onAbort = (): void => {
        stop();
        reject(signal.reason);
      };
      signal.addEventListener("abort", onAbort, { once: true });
    });
}

/**
 * `Clock.withDeadline` on any kind of timer.
 *
 * Rejects as soon as the parent aborts or the time is up, whether or not `run` takes notice:
 * a deadline that can be held up by what it bounds is none. What `run` says later is dropped.
 * `AbortSignal.any` would do the same with less code, but it keeps memory for as long as the
 * parent lives (nodejs/node #54614).
 */
export function deadlineOn(start: StartTimer): Clock["withDeadline"] {
  return <T>(
    parent: AbortSignal,
    durationMs: number,
    run: (signal: AbortSignal) => Promise<T>,
  ): Promise<T> =>
    new Promise<T>((resolve, reject) => {
      if (parent.aborted) {
        reject(parent.reason);
        return;
      }
      const controller = new AbortController();
      const release = (): void => {
        stop();
        parent.removeEventListener("abort", onParentAbort);
      };
      const give = (reason: unknown): void => {
        release();
        // The caller hears first: its rejection must not depend on what `run` makes of the abort.
        reject(reason);
        controller.abort(reason);
      };
      const onParentAbort = (): void => give(parent.reason);
      const stop = start(durationMs, () =>
        give(new MeshError("deadline", `no answer within ${Math.round(durationMs)} ms`)),
      );
      parent.addEventListener("abort", onParentAbort, { once: true });
      // In an async function, so that a synchronous throw in `run` also releases the timer.
      (async () => run(controller.signal))().then(
        (value) => {
          release();
          resolve(value);
        },
        (error: unknown) => {
          release();
          reject(error);
        },
      );
    });
}

/** The longest delay that `setTimeout` takes; it turns longer ones into 1 ms. */
const timerMaxMs = 2 ** 31 - 1;

/** Node may call a timer up to 1 ms early; a lease must not end before its time, so wait again. */
function startTimer(durationMs: number, fire: () => void): () => void {
  const endMs = performance.now() + durationMs;
  let timer: NodeJS.Timeout;
  const arm = (leftMs: number): void => {
    timer = setTimeout(
      () => {
        const stillMs = endMs - performance.now();
        if (stillMs > 0) arm(stillMs);
        else fire();
      },
      Math.min(Math.ceil(leftMs), timerMaxMs),
    );
  };
  arm(durationMs);
  return () => clearTimeout(timer);
}
