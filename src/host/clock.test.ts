import { expect, test } from "vitest";
import { clockContract } from "./clock.contract.ts";
import { createClock } from "./clock.ts";

clockContract((body) => body(createClock()));

test("sleeps that start between two ticks of the timer do not end early", async () => {
  const clock = createClock();
  const signal = new AbortController().signal;
  const sleptMs: number[] = [];
  for (let round = 0; round < 40; round++) {
    // Spread over some ticks: about one in twenty of Node's own timers would end early.
    const sleeping = Array.from({ length: 25 }, (_, index) => {
      const startMs = clock.nowMs();
      while (clock.nowMs() - startMs < 0.13);
      const lengthMs = 5 + index / 25;
      const sleepStartMs = clock.nowMs();
      return clock.sleep(lengthMs, signal).then(() => clock.nowMs() - sleepStartMs - lengthMs);
    });
    sleptMs.push(...(await Promise.all(sleeping)));
  }
  expect(Math.min(...sleptMs)).toBeGreaterThanOrEqual(0);
});

test("a sleep longer than a machine timer can count does not end at once", async () => {
  const clock = createClock();
  const stop = new AbortController();
  const long = clock.sleep(2 ** 31 + 1000, stop.signal).then(
    () => "ended",
    () => "stopped",
  );
  await clock.sleep(20, new AbortController().signal);
  stop.abort();
  expect(await long).toBe("stopped");
});

test("an ended deadline leaves no timer that would keep the program alive", async () => {
  const before = timers();
  await createClock().withDeadline(new AbortController().signal, 1e6, async () => {});
  expect(timers()).toBe(before);
});

function timers(): number {
  return process.getActiveResourcesInfo().filter((kind) => kind === "Timeout").length;
}
