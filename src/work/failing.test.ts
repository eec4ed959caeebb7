/** What becomes of tasks at which a peer failed, and of the peer. */
import { expect, test } from "vitest";
import type { MeshOptions } from "../../chaos-tests/simulator/mesh.ts";
import type { Execute } from "../action/action.ts";
import { utf8 } from "../base/bytes.ts";
import { digestOf } from "../base/digest.ts";
import { MeshError } from "../base/errors.ts";
import { asPeerId } from "../base/ids.ts";
import { stage } from "./stage.fixture.ts";
import { createStanding } from "./standing.ts";

test("a peer's failure is decided by one run here", async () => {
  const on = await stage("failing", { nodes: 3, slots: (index) => (index === 0 ? 1 : 2) });
  const blocker = on.work.submit(on.mesh.node("n0"), { durationMs: 1000, stealable: false });
  const job = on.work.submit(on.mesh.node("n0"), { durationMs: 100, exitCode: 3 });
  expect(await on.settled(job)).toMatchObject({
    source: "here",
    exitCode: 3,
    fallback: "remote exit 3",
  });
  expect(job.runsHere).toBe(1);
  expect(job.commits).toBe(0);
  expect(
    on.said("n0", "task-started").filter((event) => "peer" in event && event.peer),
  ).toHaveLength(1);
  await on.settled(blocker);
});

test("a commit that fails brings the task home", async () => {
  const around =
    (execute: Execute): Execute =>
    async (...args) => {
      const outcome = await execute(...args);
      const digest = digestOf(utf8("nobody has these bytes".repeat(1000)));
      return { ...outcome, outputs: outcome.outputs.map((output) => ({ ...output, digest })) };
    };
  const on = await stage("failing", { nodes: 2, slots: () => 1, around });
  on.work.submit(on.mesh.node("n0"), { durationMs: 2000, stealable: false });
  await on.pass(10);
  const job = on.work.submit(on.mesh.node("n0"), { durationMs: 100 });
  expect(await on.settled(job)).toMatchObject({
    source: "here",
    fallback: expect.stringMatching(/^blob-missing/),
  });
  await on.pass(100);
  expect(on.mesh.node("n1").thief.held()).toBe(0);
  expect(on.mesh.node("n1").store.stats().pinned).toBe(0);
});

/** Hosts whose disk or sandbox is broken: they take tasks and fail at once. */
const broken =
  (...names: readonly string[]): NonNullable<MeshOptions["around"]> =>
  (execute, name) =>
    names.includes(name)
      ? () => Promise.reject(new MeshError("no-space", "the disk is full"))
      : execute;

test("after two different peers have failed at it, a task stays at home", async () => {
  const on = await stage("failing", {
    nodes: 5,
    slots: () => 1,
    around: broken("n1", "n2", "n3", "n4"),
  });
  on.work.submit(on.mesh.node("n0"), { durationMs: 3000, stealable: false });
  await on.pass(10);
  const job = on.work.submit(on.mesh.node("n0"), { durationMs: 100 });
  expect(await on.settled(job)).toMatchObject({
    source: "here",
    fallback: expect.stringMatching(/the disk is full/),
  });
  const failed = on.said("n0", "task-requeued").map((event) => "peer" in event && event.peer);
  expect(new Set(failed).size).toBe(2);
  expect(failed).toHaveLength(2);
});

test("a task goes to no peer that failed at it before", async () => {
  const on = await stage("failing", { nodes: 2, slots: () => 1, around: broken("n1") });
  on.work.submit(on.mesh.node("n0"), { durationMs: 3000, stealable: false });
  await on.pass(10);
  const job = on.work.submit(on.mesh.node("n0"), { durationMs: 100 });
  expect(await on.settled(job)).toMatchObject({ source: "here" });
  expect(on.said("n0", "task-requeued")).toHaveLength(1);
});

test("one broken peer does not take the work from the others", async () => {
  const on = await stage("failing", { nodes: 3, slots: () => 1, around: broken("n1") });
  on.work.submit(on.mesh.node("n0"), { durationMs: 60_000, stealable: false });
  await on.pass(10);
  const jobs = Array.from({ length: 30 }, () =>
    on.work.submit(on.mesh.node("n0"), { durationMs: 300 }),
  );
  for (const job of jobs)
    expect(await on.settled(job)).toMatchObject({ source: "there", peer: "sim-n2" });
  expect(on.said("n0", "task-requeued").length).toBeLessThan(10);
});

test("a peer that fails again and again waits longer each time, up to 1.5 s, until it does one right", () => {
  let nowMs = 0;
  const standing = createStanding({ nowMs: () => nowMs });
  const peer = asPeerId("p");
  const waitMs = (): number => {
    const fromMs = nowMs;
    while (!standing.isWelcome(peer)) nowMs += 10;
    return nowMs - fromMs;
  };
  const waits = [1, 2, 3, 4].map(() => {
    standing.failed(peer);
    return waitMs();
  });
  expect(waits).toEqual([500, 1000, 1500, 1500]);
  standing.delivered(peer);
  standing.failed(peer);
  expect(waitMs()).toBe(500);
});

test("a peer without room is no broken peer, unless it never has any", () => {
  const standing = createStanding({ nowMs: () => 0 });
  const peer = asPeerId("p");
  for (let count = 0; count < 8; count++) standing.refused(peer);
  expect(standing.isWelcome(peer)).toBe(true);
  standing.refused(peer);
  expect(standing.isWelcome(peer)).toBe(false);
});
