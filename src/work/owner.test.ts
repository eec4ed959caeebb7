import { create } from "@bufbuild/protobuf";
import { expect, test } from "vitest";
import type { MeshOptions } from "../../chaos-tests/simulator/mesh.ts";
import { MeshError } from "../base/errors.ts";
import { asPeerId } from "../base/ids.ts";
import { BeatSchema, StealRequestSchema, TaskFailedSchema } from "../wire/gen/mesh/v1/mesh_pb.ts";
import { type Stage, stage } from "./stage.fixture.ts";
import type { Task } from "./task.ts";

const stranger = asPeerId("stranger");
const platforms = ["linux/x86_64"];

/** One slot at n0, taken for long, so that everything else there has to wait or leave. */
async function busyOwner(options: MeshOptions): Promise<Stage> {
  const on = await stage("owner", { slots: (index) => (index === 0 ? 1 : 2), ...options });
  on.work.submit(on.mesh.node("n0"), { durationMs: 300_000, stealable: false });
  await on.pass(10);
  expect(on.mesh.node("n0").slots.busy).toBe(1);
  return on;
}

/** The peer that runs the only task that has left n0. */
function thiefIn({ mesh }: Stage): string {
  const holders = mesh.nodes().filter(({ thief }) => thief.held() > 0);
  expect(holders).toHaveLength(1);
  return holders[0]?.name ?? "";
}

test("a killed thief's task runs elsewhere", async () => {
  const on = await busyOwner({ nodes: 3 });
  const job = on.work.submit(on.mesh.node("n0"), { durationMs: 5000 });
  await on.pass(1000);
  const first = thiefIn(on);
  on.mesh.kill(first);
  const outcome = await on.settled(job);
  expect(outcome).toMatchObject({ source: "there", exitCode: 0 });
  expect(outcome).not.toMatchObject({ peer: `sim-${first}` });
  expect(on.said("n0", "task-requeued")).toMatchObject([{ reason: "peer left", attempt: 1 }]);
});

test("a task whose tree is too large for its grant is stolen all the same", async () => {
  const on = await busyOwner({ nodes: 2 });
  const job = on.work.submit(on.mesh.node("n0"), { durationMs: 1000, folders: 1500 });
  expect(await on.settled(job)).toMatchObject({ source: "there" });
  expect(on.said("n0", "task-requeued")).toEqual([]);
  await on.pass(1000);
  expect(on.mesh.node("n0").store.stats().pinned).toBe(0);
});

test("tasks that do not fit into one answer stay queued, and nobody is blamed for them", async () => {
  const on = await busyOwner({ nodes: 2, slots: (index) => (index === 0 ? 1 : 40) });
  const jobs = Array.from({ length: 40 }, () =>
    on.work.submit(on.mesh.node("n0"), { durationMs: 1000, folders: 700 }),
  );
  for (const job of jobs) expect(await on.settled(job)).toMatchObject({ source: "there" });
  expect(on.said("n0", "task-requeued")).toEqual([]);
});

test("a thief that only beats does not hold a task for ever", async () => {
  const on = await busyOwner({ nodes: 1 });
  on.work.submit(on.mesh.node("n0"), { durationMs: 1000 });
  await on.pass(10);
  const { owner } = on.mesh.node("n0");
  const request = create(StealRequestSchema, { room: 1, idle: 1, platforms });
  const [grant] = owner.onSteal(stranger, request).grants;
  if (grant === undefined) throw new Error("nothing to steal");
  const held = [{ task: grant.task, attempt: grant.attempt, running: false }];
  for (let beat = 0; beat < 400 && on.said("n0", "task-requeued").length === 0; beat += 1) {
    owner.onBeat(stranger, create(BeatSchema, { held }));
    await on.pass(500);
  }
  expect(on.said("n0", "task-requeued")).toMatchObject([{ reason: "lease expired" }]);
});

test("a thief that dies without a word loses its lease within two seconds", async () => {
  const on = await busyOwner({ nodes: 3 });
  const job = on.work.submit(on.mesh.node("n0"), { durationMs: 5000 });
  await on.pass(1000);
  on.mesh.kill(thiefIn(on), { silent: true });
  const diedMs = on.mesh.simulation.nowMs();
  await on.mesh.simulation.until(
    () => on.said("n0", "task-requeued").length > 0,
    on.mesh.simulation.nowMs() + 10_000,
  );
  expect(on.mesh.simulation.nowMs() - diedMs).toBeLessThanOrEqual(2000);
  expect(await on.settled(job)).toMatchObject({ source: "there" });
});

test("a stopped thief loses its lease, is told so, and its late answer changes nothing", async () => {
  const on = await busyOwner({ nodes: 3 });
  const job = on.work.submit(on.mesh.node("n0"), { durationMs: 1000 });
  await on.pass(500);
  const zombie = thiefIn(on);
  on.mesh.simulation.faults.pause(zombie);
  const outcome = await on.settled(job);
  expect(outcome).toMatchObject({ source: "there" });
  expect(outcome).not.toMatchObject({ peer: `sim-${zombie}` });
  on.mesh.simulation.faults.resume(zombie);
  await on.pass(3000);
  expect(on.said("n0", "task-stale").length).toBeGreaterThan(0);
  expect(on.said("n0", "task-done")).toHaveLength(1);
  expect(job.commits).toBe(1);
  expect(on.said(zombie, "foreign-done")).toMatchObject([
    { outcome: expect.stringMatching(/refused|cancelled/) },
  ]);
  expect(on.mesh.node(zombie).thief.held()).toBe(0);
});

test("an answer to an old attempt changes nothing while another peer holds the task", async () => {
  const on = await busyOwner({ nodes: 3 });
  const job = on.work.submit(on.mesh.node("n0"), { durationMs: 4000 });
  await on.pass(500);
  const zombie = thiefIn(on);
  on.mesh.simulation.faults.partition([zombie]);
  await on.pass(4000);
  // Its lease is over and somebody else works on it; now its beats and its answer arrive.
  expect(on.said("n0", "task-started").at(-1)).toMatchObject({ attempt: 2 });
  on.mesh.simulation.faults.heal();
  await on.pass(100);
  expect(on.mesh.node("n0").owner.counts()).toMatchObject({ leased: 1, committing: 0 });
  expect(on.said(zombie, "foreign-done")).toHaveLength(1);
  const outcome = await on.settled(job);
  expect(outcome).toMatchObject({ source: "there" });
  expect(outcome).not.toMatchObject({ peer: `sim-${zombie}` });
  expect(on.said("n0", "task-requeued")).toHaveLength(1);
  expect(job.commits).toBe(1);
});

test("an owner that was stopped itself believes no thief dead", async () => {
  const on = await busyOwner({ nodes: 4 });
  const jobs = [1, 2, 3].map(() => on.work.submit(on.mesh.node("n0"), { durationMs: 9000 }));
  await on.pass(700);
  for (const pauseMs of [1900, 4000, 3000]) {
    on.mesh.simulation.faults.pause("n0");
    await on.pass(pauseMs);
    on.mesh.simulation.faults.resume("n0");
    await on.pass(300);
  }
  for (const job of jobs) expect(await on.settled(job)).toMatchObject({ source: "there" });
  expect(on.said("n0", "task-requeued")).toEqual([]);
});

test("after its own stop an owner still finds out who died meanwhile", async () => {
  const on = await busyOwner({ nodes: 3 });
  const job = on.work.submit(on.mesh.node("n0"), { durationMs: 5000 });
  await on.pass(700);
  on.mesh.kill(thiefIn(on), { silent: true });
  on.mesh.simulation.faults.pause("n0");
  await on.pass(5000);
  on.mesh.simulation.faults.resume("n0");
  await on.pass(2500);
  expect(on.said("n0", "task-requeued")).toMatchObject([{ reason: "lease expired" }]);
  expect(await on.settled(job)).toMatchObject({ source: "there" });
});

test("a thief gets at most half of what may leave, and nobody unknown the longest", async () => {
  const on = await stage("owner", { nodes: 1, slots: () => 1 });
  const owner = on.mesh.node("n0");
  for (const [label, durationMs] of [
    ["short", 100],
    ["long", 900],
  ] as const)
    await on.settled(on.work.submit(owner, { label, durationMs }));
  on.work.submit(owner, { durationMs: 60_000, stealable: false });
  await on.pass(10);
  for (const label of ["short", "long", "short", "long", "short", "long"])
    on.work.submit(owner, { label, durationMs: 100 });
  await on.pass(10);
  const ask = (room: number) =>
    owner.owner
      .onSteal(stranger, create(StealRequestSchema, { room, idle: room, platforms }))
      .grants.map(({ label }) => label);
  expect(ask(100)).toEqual(["short", "short", "short"]);
  expect(ask(1)).toEqual(["long"]);
  expect(owner.owner.load()).toMatchObject({ queued: 2, stealable: 2 });
});

test("a thief that can run nothing of it gets nothing", async () => {
  const on = await busyOwner({ nodes: 1 });
  const { owner } = on.mesh.node("n0");
  on.work.submit(on.mesh.node("n0"), { durationMs: 100 });
  await on.pass(10);
  const ask = (names: string[], room: number) =>
    owner.onSteal(stranger, create(StealRequestSchema, { room, idle: room, platforms: names }))
      .grants.length;
  expect(ask(["linux/aarch64", "wasm"], 5)).toBe(0);
  expect(ask(platforms, 0)).toBe(0);
  expect(ask(platforms, 5)).toBe(1);
});

test("a thief that asks and always says that it has no room is left alone for a while", async () => {
  const on = await busyOwner({ nodes: 1 });
  const { owner } = on.mesh.node("n0");
  on.work.submit(on.mesh.node("n0"), { durationMs: 100 });
  await on.pass(10);
  const request = create(StealRequestSchema, { room: 1, idle: 1, platforms });
  let given = 0;
  for (let round = 0; round < 50; round += 1) {
    const [grant] = owner.onSteal(stranger, request).grants;
    if (grant === undefined) continue;
    given += 1;
    const { task, attempt } = grant;
    const value = create(TaskFailedSchema, { task, attempt, code: "refused", message: "no room" });
    owner.onFailed(stranger, value);
  }
  expect(given).toBe(9);
  await on.pass(3000);
  expect(owner.onSteal(stranger, request).grants).toHaveLength(1);
});

test("local slots compete for the same queue however many thieves there are", async () => {
  const on = await stage("owner", { nodes: 6, slots: () => 2 });
  const jobs = Array.from({ length: 60 }, () =>
    on.work.submit(on.mesh.node("n0"), { durationMs: 500 }),
  );
  for (let looks = 0; looks < 8; looks++) {
    await on.pass(250);
    expect(on.mesh.node("n0").owner.counts().here).toBe(2);
  }
  for (const job of jobs) await on.settled(job);
});

test("an owner alone finishes everything", async () => {
  const on = await stage("owner", { nodes: 1, slots: () => 2 });
  const jobs = Array.from({ length: 20 }, () =>
    on.work.submit(on.mesh.node("n0"), { durationMs: 300 }),
  );
  for (const job of jobs) expect(await on.settled(job)).toMatchObject({ source: "here" });
});

test("cancelling a task stops it wherever it runs, and nobody holds it any more", async () => {
  const on = await busyOwner({ nodes: 3 });
  const job = on.work.submit(on.mesh.node("n0"), { durationMs: 60_000 });
  const waiting = on.work.submit(on.mesh.node("n0"), { durationMs: 1, stealable: false });
  await on.pass(1000);
  const thief = thiefIn(on);
  const reason = new Error("not wanted any more");
  job.cancel(reason);
  waiting.cancel(reason);
  await expect(on.settled(job)).rejects.toBe(reason);
  await expect(on.settled(waiting)).rejects.toBe(reason);
  await on.pass(5);
  expect(on.mesh.node(thief).thief.held()).toBe(0);
  expect(on.mesh.node(thief).slots.busy).toBe(0);
  expect(on.said(thief, "foreign-done")).toMatchObject([{ outcome: "cancelled" }]);
  expect(on.mesh.node("n0").owner.counts()).toMatchObject({ queued: 0, leased: 0 });
});

function taskOf(runHere: Task["runHere"]): Task {
  return {
    build: "b",
    kind: "c",
    label: "x.c",
    action: undefined,
    whyHere: "a test",
    runHere,
    commit: async () => {},
  };
}

test("a task that was cancelled settles even when its process ended well all the same", async () => {
  const on = await stage("owner", { nodes: 1 });
  const { owner, slots, host } = on.mesh.node("n0");
  const cancelled = new AbortController();
  const never = new AbortController().signal;
  const task = taskOf(async () => {
    await host.clock.sleep(1000, never);
    return 0;
  });
  const submitted = owner.submit(task, cancelled.signal);
  await on.pass(500);
  const reason = new Error("not wanted any more");
  cancelled.abort(reason);
  await expect(
    on.mesh.simulation.finish(submitted, on.mesh.simulation.nowMs() + 5000),
  ).rejects.toBe(reason);
  expect(owner.counts()).toEqual({ queued: 0, here: 0, leased: 0, committing: 0 });
  expect(slots.busy).toBe(0);
  expect(on.said("n0", "task-cancelled")).toHaveLength(1);
});

test("a task whose requester went away is told of as cancelled", async () => {
  const on = await stage("owner", { nodes: 1 });
  const { owner } = on.mesh.node("n0");
  const gone = new MeshError("peer-gone", "the shim went away");
  const submitted = owner.submit(
    taskOf(() => Promise.reject(gone)),
    new AbortController().signal,
  );
  await expect(
    on.mesh.simulation.finish(submitted, on.mesh.simulation.nowMs() + 5000),
  ).rejects.toBe(gone);
  expect(on.said("n0", "task-queued", "task-started", "task-cancelled", "task-done")).toMatchObject(
    [{ event: "task-queued" }, { event: "task-started" }, { event: "task-cancelled" }],
  );
});

test("a node that stops lets go of every task at once and starts none", async () => {
  const on = await busyOwner({ nodes: 2 });
  const node = on.mesh.node("n0");
  const jobs = [1, 2, 3, 4, 5].map(() => on.work.submit(node, { durationMs: 5000 }));
  await on.pass(100);
  const startedBefore = on.said("n0", "task-started").length;
  await on.mesh.simulation.finish(node.stop(), on.mesh.simulation.nowMs() + 5000);
  for (const job of jobs) await expect(on.settled(job, 1000)).rejects.toThrow("stopping");
  await on.pass(10_000);
  expect(on.said("n0", "task-started")).toHaveLength(startedBefore);
  // Only what runs here goes on: its process is not the node's.
  expect(node.owner.counts()).toEqual({ queued: 0, here: 1, leased: 0, committing: 0 });
  expect(on.mesh.node("n1").thief.held()).toBe(0);
  await expect(
    node.owner.submit(
      taskOf(async () => 0),
      new AbortController().signal,
    ),
  ).rejects.toMatchObject({ code: "cancelled" });
});
