import { create } from "@bufbuild/protobuf";
import { expect, test } from "vitest";
import type { MeshOptions } from "../../chaos-tests/simulator/mesh.ts";
import type { Order } from "../../chaos-tests/simulator/workload.ts";
import type { ControlHandlers } from "../peer/control.ts";
import { GrantSchema, type StealGrant, StealGrantSchema } from "../wire/gen/mesh/v1/mesh_pb.ts";
import { type Stage, stage } from "./stage.fixture.ts";

function sentBy({ mesh }: Stage, name: string): number {
  const { sends: _, ...counts } = mesh.node(name).control.sent();
  return Object.values(counts).reduce((sum, count) => sum + count, 0);
}

test("an idle mesh says nothing but that it lives", async () => {
  const on = await stage("thief", { nodes: 6 });
  const job = on.work.submit(on.mesh.node("n0"), { durationMs: 100 });
  await on.mesh.simulation.finish(job.settled, 60_000);
  await on.pass(10_000);
  const signs = (name: string): number => {
    const sent = on.mesh.node(name).control.sent();
    return (sent.ping ?? 0) + (sent.pong ?? 0);
  };
  const before = on.mesh.names.map((name) => [name, sentBy(on, name), signs(name)] as const);
  await on.pass(600_000);
  for (const [name, total, earlier] of before) {
    const alive = signs(name) - earlier;
    expect(sentBy(on, name) - total).toBe(alive);
    // One a second, and not one more.
    expect(alive).toBeLessThanOrEqual(600);
    expect(on.log.filter(([who, { event }]) => who === name && event === "steal-asked")).toEqual(
      [],
    );
  }
});

test("idle thieves start at once when work appears, at whichever peer it does", async () => {
  for (const giver of ["n0", "n3"]) {
    const on = await stage("thief", { nodes: 4, slots: () => 1 });
    await on.pass(120_000);
    const askedMs = on.mesh.simulation.nowMs();
    for (let count = 0; count < 5; count++)
      on.work.submit(on.mesh.node(giver), { durationMs: 1000 });
    const busy = () => on.mesh.nodes().every(({ slots }) => slots.busy === 1);
    await on.mesh.simulation.until(busy, askedMs + 1000);
    expect(on.mesh.simulation.nowMs() - askedMs).toBeLessThan(50);
    await on.allDone();
  }
});

test("a thief that has stolen is a source itself of nothing: each task has one owner", async () => {
  const on = await stage("thief", { nodes: 3, slots: () => 1 });
  for (let count = 0; count < 12; count++) on.work.submit(on.mesh.node("n0"), { durationMs: 200 });
  await on.allDone();
  for (const name of ["n1", "n2"]) expect(on.mesh.node(name).owner.load().queued).toBe(0);
  expect(on.log.filter(([, { event }]) => event === "task-queued")).toHaveLength(12);
});

test("a node with work of its own that waits does not steal", async () => {
  const on = await stage("thief", { nodes: 2, slots: () => 1 });
  for (let count = 0; count < 6; count++) {
    on.work.submit(on.mesh.node("n1"), { durationMs: 500, stealable: false });
    on.work.submit(on.mesh.node("n0"), { durationMs: 500 });
  }
  for (let looks = 0; looks < 10; looks++) {
    await on.pass(200);
    expect(on.mesh.node("n1").owner.load().queued).toBeGreaterThan(0);
    expect(on.mesh.node("n1").thief.held()).toBe(0);
  }
  await on.allDone();
});

/** Lets the owner learn how long tasks of that name take, and how large inputs get to its thieves. */
async function teach({ work, mesh }: Stage, owner: string, label: string, durationMs: number) {
  const jobs = Array.from({ length: 4 }, () =>
    work.submit(mesh.node(owner), { durationMs, label, inputBytes: 100 }),
  );
  const all = Promise.all(jobs.map(({ settled }) => settled));
  await mesh.simulation.finish(all, mesh.simulation.nowMs() + 60_000);
}

test("tasks whose inputs take long to move are taken one ahead, others are not", async () => {
  const on = await stage("thief", { nodes: 3, slots: (index) => (index === 0 ? 1 : 3) });
  await teach(on, "n0", "big", 300);
  const most = { big: 0, small: 0 };
  for (const [name, inputBytes] of [
    ["small", 100],
    ["big", 8_000_000],
  ] as const) {
    for (let count = 0; count < 20; count++)
      on.work.submit(on.mesh.node("n0"), { durationMs: 300, label: "big", inputBytes });
    while (on.work.open().length > 0) {
      await on.pass(5);
      const held = ["n1", "n2"].map((node) => {
        const { thief, slots } = on.mesh.node(node);
        return slots.busy < 3 ? 0 : thief.held();
      });
      most[name] = Math.max(most[name], ...held);
    }
  }
  // What has run and whose close has not come yet is held besides.
  expect(most.big).toBeGreaterThan(3);
  const ahead = on.log.filter(([, { event }]) => event === "task-requeued");
  expect(ahead.length).toBeLessThan(6);
});

test("tiny tasks are taken in batches", async () => {
  const on = await stage("thief", { nodes: 2, slots: () => 1 });
  await teach(on, "n0", "tiny", 2);
  on.work.submit(on.mesh.node("n0"), { durationMs: 3000, stealable: false });
  await on.pass(10);
  const before = on.mesh.node("n1").control.sent().stealRequest ?? 0;
  for (let count = 0; count < 200; count++)
    on.work.submit(on.mesh.node("n0"), { durationMs: 2, label: "tiny" });
  await on.allDone();
  const asked = (on.mesh.node("n1").control.sent().stealRequest ?? 0) - before;
  expect(asked).toBeLessThan(60);
});

test("a thief holds no more than its slots and what it has answered", async () => {
  const on = await stage("thief", { nodes: 3, slots: (index) => (index === 0 ? 1 : 3) });
  for (let count = 0; count < 40; count++) on.work.submit(on.mesh.node("n0"), { durationMs: 300 });
  let most = 0;
  while (on.work.open().length > 0) {
    await on.pass(5);
    for (const name of ["n1", "n2"]) most = Math.max(most, on.mesh.node(name).thief.held());
  }
  expect(most).toBeGreaterThanOrEqual(3);
  expect(on.log.filter(([, { event }]) => event === "task-requeued")).toEqual([]);
  const gaps = on.mesh.nodes().map(({ control }) => control.sent());
  expect(gaps.reduce((sum, sent) => sum + (sent.stealRequest ?? 0), 0)).toBeLessThanOrEqual(60);
});

test("stolen tasks that would wait behind a node's own work go back to their owner", async () => {
  const on = await stage("thief", { nodes: 3, slots: () => 1 });
  await teach(on, "n0", "big", 1000);
  on.work.submit(on.mesh.node("n0"), { durationMs: 6000, stealable: false });
  for (const label of ["first", "second"])
    on.work.submit(on.mesh.node("n0"), { durationMs: 500, label });
  await on.pass(20);
  // When they have done the first, n1 and n2 each run one of these and hold one more.
  const stolen = [1, 2, 3, 4].map(() =>
    on.work.submit(on.mesh.node("n0"), {
      durationMs: 1000,
      label: "big",
      inputBytes: 10_000_000,
    }),
  );
  await on.pass(1600);
  expect(on.mesh.node("n1").thief.held()).toBe(2);
  for (let count = 0; count < 20; count++)
    on.work.submit(on.mesh.node("n1"), { durationMs: 5000, stealable: false });
  await on.mesh.simulation.finish(
    Promise.all(stolen.map(({ settled }) => settled)),
    on.mesh.simulation.nowMs() + 8000,
  );
  expect(on.mesh.node("n1").thief.held()).toBe(0);
});

/** Makes a node answer every steal with that, and promise more. */
function lie({ mesh }: Stage, name: string, answer: StealGrant): { asked: number } {
  const seen = { asked: 0 };
  const handlers: ControlHandlers = {
    load: () => ({ queued: 9, stealable: 9, slots: 1, busy: 1, hot: 0n }),
    onSteal() {
      seen.asked += 1;
      return answer;
    },
    onPush() {},
    onLifeline() {},
    onMessage() {},
    onLoad() {},
  };
  mesh.node(name).control.attach(handlers);
  mesh.node(name).control.hint(99);
  return seen;
}

test("a malformed grant costs the peer that sent it its place, and the thief nothing", async () => {
  const on = await stage("thief", { nodes: 3, slots: () => 1 });
  lie(on, "n1", create(StealGrantSchema, { grants: [create(GrantSchema, { task: "" })] }));
  await on.pass(2000);
  expect(on.mesh.node("n0").directory.get(on.mesh.node("n1").self)).toBeUndefined();
  for (let count = 0; count < 4; count++) on.work.submit(on.mesh.node("n2"), { durationMs: 500 });
  await on.pass(100);
  expect(on.mesh.node("n0").thief.held()).toBeGreaterThan(0);
  await on.allDone();
});

test("more grants than there was room for are not kept", async () => {
  const on = await stage("thief", { nodes: 2, slots: () => 1 });
  const grants = Array.from({ length: 100 }, (_, index) =>
    create(GrantSchema, { task: `t${index}`, attempt: 1 }),
  );
  let most = 0;
  on.mesh.onEvent(({ thief }) => {
    most = Math.max(most, thief.held());
  });
  lie(on, "n1", create(StealGrantSchema, { grants }));
  await on.pass(20);
  expect(on.log.some(([who, { event }]) => who === "n0" && event === "steal-asked")).toBe(true);
  expect(most).toBeLessThanOrEqual(18);
});

test("a peer that promises work and gives none is asked less and less", async () => {
  const on = await stage("thief", { nodes: 3, slots: () => 1 });
  const seen = lie(on, "n1", create(StealGrantSchema, {}));
  await on.pass(60_000);
  // Two thieves, at most one question each per 2.5 s in the long run.
  expect(seen.asked).toBeLessThan(70);
  const before = on.log.length;
  for (let count = 0; count < 4; count++) on.work.submit(on.mesh.node("n2"), { durationMs: 500 });
  await on.pass(50);
  const kept = on.log.slice(before).filter(([, { event }]) => event === "foreign-started");
  expect(kept.length).toBeGreaterThan(0);
  await on.allDone();
});

/** One owner whose only slot is taken, so that whatever else it has is stolen. */
async function busyOwner(options: Partial<MeshOptions> = {}) {
  const runs: string[] = [];
  const on = await stage("thief", {
    nodes: 2,
    slots: () => 1,
    around: (execute, name) => (spec, onProgress, signal) => {
      runs.push(`${name} ${spec.argv[1]}`);
      return execute(spec, onProgress, signal);
    },
    ...options,
  });
  const owner = on.mesh.node("n0");
  on.work.submit(owner, { durationMs: 50_000, stealable: false, exitCode: 1 });
  await on.pass(100);
  const steal = async (order: Partial<Order>) => {
    const job = on.work.submit(owner, { durationMs: 100, unit: "u", lookUp: false, ...order });
    const startMs = on.mesh.simulation.nowMs();
    const outcome = await on.mesh.simulation.finish(job.settled, startMs + 10_000);
    if (outcome.source !== "there") throw new Error("it was not stolen");
    return { ...outcome, action: job.action, tookMs: on.mesh.simulation.nowMs() - startMs };
  };
  const pass = () => on.pass(1500);
  return { ...on, owner, thief: on.mesh.node("n1"), runs, steal, pass };
}

test("a thief answers at once with a result that it knows, under the name of who ran it", async () => {
  const { steal, runs, log, owner, thief, pass } = await busyOwner();
  const first = await steal({});
  const second = await steal({});
  expect(runs).toEqual(["n1 u"]);
  expect(second.record).toEqual(first.record);
  expect(second.tookMs).toBeLessThan(50);
  expect(second.phases.runMs).toBe(0);
  expect(owner.results.find(second.action)).toMatchObject({ signer: thief.self });
  await pass();
  const events = log.flatMap(([, event]) =>
    event.event === "foreign-done" ? [event.outcome] : [],
  );
  expect(events).toEqual(["accepted", "accepted"]);
  const started = log.filter(([, { event }]) => event === "foreign-started");
  expect(started).toHaveLength(2);
});

test("a task that is to be run is run, whatever is known of it", async () => {
  const { steal, runs } = await busyOwner();
  await steal({});
  await steal({ fresh: true });
  expect(runs).toEqual(["n1 u", "n1 u"]);
});

test("what is to be forgotten is neither signed nor remembered", async () => {
  const { steal, runs, thief, pass } = await busyOwner();
  const first = await steal({ forget: true });
  await pass();
  expect(first.record).toHaveLength(0);
  expect(thief.results.stats().records).toBe(0);
  await steal({});
  expect(runs).toEqual(["n1 u", "n1 u"]);
});

test("a run without walls is not signed: it may have seen more than its inputs", async () => {
  const { steal, thief, pass } = await busyOwner({ sandbox: () => "none" });
  const { record } = await steal({});
  await pass();
  expect(record).toHaveLength(0);
  expect(thief.results.stats().records).toBe(0);
});

test("a thief remembers what its owner took, and nothing else", async () => {
  const { steal, thief, runs, pass, work, owner } = await busyOwner();
  work.submit(owner, { durationMs: 100, unit: "v", lookUp: false, refuse: true });
  await pass();
  expect(runs).toEqual(["n1 v"]);
  expect(thief.results.stats().records).toBe(0);
  await steal({});
  await pass();
  expect(thief.results.stats().records).toBe(1);
});

test("a genuine record that names other outputs is no answer", async () => {
  const { steal, thief, runs, pass } = await busyOwner();
  const { action } = await steal({});
  await pass();
  const known = thief.results.find(action);
  const outputs = known?.outcome.outputs.map((output) => ({ ...output, path: "/etc/passwd" }));
  if (known === undefined || outputs === undefined) throw new Error("it knows nothing");
  thief.results.sign(action, { ...known.outcome, outputs }, 1)?.keep();
  await pass();
  const { record } = await steal({});
  expect(runs).toEqual(["n1 u", "n1 u"]);
  expect(record).not.toHaveLength(0);
  expect(thief.results.stats().refused).toEqual({ "other-outputs": 1 });
});
