/** What every Clock promises, real or simulated. */
import { getEventListeners } from "node:events";
import { expect, test } from "vitest";
import { MeshError } from "../base/errors.ts";
import type { Clock } from "./host.ts";

/** Runs `body` with a clock whose time passes for as long as the body runs. */
export type WithClock = (body: (clock: Clock) => Promise<void>) => Promise<void>;

export function clockContract(withClock: WithClock): void {
  const never = (): AbortSignal => new AbortController().signal;

  test("a sleep never ends before its time", () =>
    withClock(async (clock) => {
      for (const durationMs of [0, 0.4, 1, 2.5, 10]) {
        const startMs = clock.nowMs();
        await clock.sleep(durationMs, never());
        expect(clock.nowMs() - startMs).toBeGreaterThanOrEqual(durationMs);
      }
    }));

  test("sleeps end in the order of their lengths", () =>
    withClock(async (clock) => {
      const ended: number[] = [];
      const lengthsMs = [60, 20, 40, 1];
      await Promise.all(lengthsMs.map((ms) => clock.sleep(ms, never()).then(() => ended.push(ms))));
      expect(ended).toEqual([1, 20, 40, 60]);
    }));

  test("wall time passes with monotonic time", () =>
    withClock(async (clock) => {
      const startMs = clock.wallMs();
      await clock.sleep(20, never());
      expect(clock.wallMs() - startMs).toBeGreaterThan(10);
    }));

  test("an abort ends a sleep with the signal's reason", () =>
    withClock(async (clock) => {
      const stop = new AbortController();
      const sleeping = clock.sleep(1e12, stop.signal);
      stop.abort("enough");
      await expect(sleeping).rejects.toBe("enough");
      await expect(clock.sleep(1e12, stop.signal)).rejects.toBe("enough");
    }));

  test("what ends before its deadline answers with its own value or error", () =>
    withClock(async (clock) => {
      expect(await clock.withDeadline(never(), 1e12, async () => 7)).toBe(7);
      const failing = clock.withDeadline(never(), 1e12, () => Promise.reject(new Error("own")));
      await expect(failing).rejects.toThrow("own");
      const throwing = clock.withDeadline(never(), 1e12, () => {
        throw new Error("at once");
      });
      await expect(throwing).rejects.toThrow("at once");
    }));

  test("a deadline aborts the inner signal and rejects with code deadline", () =>
    withClock(async (clock) => {
      let inner: AbortSignal | undefined;
      const late = clock.withDeadline(never(), 5, async (signal) => {
        inner = signal;
        await clock.sleep(1e12, signal);
      });
      await expect(late).rejects.toMatchObject({ name: "MeshError", code: "deadline" });
      expect(inner?.aborted).toBe(true);
      expect(inner?.reason).toBeInstanceOf(MeshError);
    }));

  test("a deadline is kept even where nobody listens to the signal", () =>
    withClock(async (clock) => {
      const deaf = clock.withDeadline(never(), 5, () => new Promise<void>(() => {}));
      await expect(deaf).rejects.toMatchObject({ code: "deadline" });
    }));

  test("an abort of the parent passes on the parent's own reason", () =>
    withClock(async (clock) => {
      const reason = new MeshError("cancelled", "the build was stopped");
      const parent = new AbortController();
      let inner: AbortSignal | undefined;
      const running = clock.withDeadline(parent.signal, 1e12, async (signal) => {
        inner = signal;
        await clock.sleep(1e12, signal);
      });
      await clock.sleep(1, never());
      parent.abort(reason);
      await expect(running).rejects.toBe(reason);
      expect(inner?.reason).toBe(reason);
      let ran = false;
      const after = clock.withDeadline(parent.signal, 1, async () => {
        ran = true;
      });
      await expect(after).rejects.toBe(reason);
      expect(ran).toBe(false);
    }));

  test("a parent that lives long gathers no listeners", () =>
    withClock(async (clock) => {
      const parent = new AbortController().signal;
      for (let round = 0; round < 50; round++) {
        await clock.withDeadline(parent, 1e12, async (signal) => clock.sleep(0, signal));
        await clock.withDeadline(parent, 0, () => new Promise(() => {})).catch(() => {});
        await clock.withDeadline(parent, 1e12, () => Promise.reject("no")).catch(() => {});
        await clock.sleep(0, parent);
      }
      expect(getEventListeners(parent, "abort")).toEqual([]);
    }));
}
