import { expect, test } from "vitest";
import { clockContract } from "../host/clock.contract.ts";
import { createSimulation } from "./simulation.ts";

clockContract(async (body) => {
  const simulation = createSimulation(1);
  await simulation.finish(body(simulation.addHost("a").clock), 1e6);
});

test("a year passes without waiting for it", async () => {
  const simulation = createSimulation(1);
  const { clock } = simulation.addHost("a");
  const yearMs = 365 * 24 * 3600 * 1000;
  const startMs = clock.nowMs();
  await simulation.finish(clock.sleep(yearMs, new AbortController().signal), 2 * yearMs);
  expect(clock.nowMs() - startMs).toBeCloseTo(yearMs, 3);
});

test("a step of the wall clock leaves the monotonic one alone", async () => {
  const simulation = createSimulation(1);
  const { clock } = simulation.addHost("a");
  const [nowMs, wallMs] = [clock.nowMs(), clock.wallMs()];
  simulation.faults.stepWallClock("a", -3_600_000);
  expect(clock.nowMs()).toBe(nowMs);
  expect(clock.wallMs()).toBe(wallMs - 3_600_000);
});

test("hosts and lives do not share an origin of monotonic time", () => {
  const simulation = createSimulation(1);
  const first = simulation.addHost("a").clock.nowMs();
  const other = simulation.addHost("b").clock.nowMs();
  const second = simulation.faults.restart("a").clock.nowMs();
  expect(new Set([first, other, second]).size).toBe(3);
});

test("timers fire late where they are told to, and never early", async () => {
  const simulation = createSimulation(1);
  const { clock } = simulation.addHost("a");
  const sleep = async (): Promise<number> => {
    const startMs = simulation.nowMs();
    await simulation.finish(clock.sleep(100, new AbortController().signal), startMs + 1000);
    return simulation.nowMs() - startMs;
  };
  simulation.faults.setLateTimers("a", 0.5, 50);
  const slept: number[] = [];
  for (let count = 0; count < 40; count++) slept.push(await sleep());
  const late = slept.filter((ms) => ms > 100.001);
  expect(Math.min(...slept)).toBeCloseTo(100, 6);
  expect(Math.max(...slept)).toBeLessThan(150);
  expect(late.length).toBeGreaterThan(10);
  expect(late.length).toBeLessThan(30);
  simulation.faults.setLateTimers("a", 0, 0);
  expect(await sleep()).toBeCloseTo(100, 6);
});

test("the wall clock counts whole milliseconds, as the system's own does", async () => {
  const simulation = createSimulation(1);
  const { clock } = simulation.addHost("a");
  simulation.faults.stepWallClock("a", 0.3);
  await simulation.run(12.7);
  expect(Number.isInteger(clock.wallMs())).toBe(true);
});
