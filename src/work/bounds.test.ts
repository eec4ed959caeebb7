/** What neither a peer, nor a bad moment, may make of a node's work: simulated, real code. */
import { create } from "@bufbuild/protobuf";
import { expect, test } from "vitest";
import { encodeAction } from "../action/encode.ts";
import { textOf, utf8 } from "../base/bytes.ts";
import { emptyDigest } from "../base/digest.ts";
import { MeshError } from "../base/errors.ts";
import { asPeerId, asTaskId } from "../base/ids.ts";
import type { ControlHandlers } from "../peer/control.ts";
import { GrantSchema, StealGrantSchema, StealRequestSchema } from "../wire/gen/mesh/v1/mesh_pb.ts";
import { writeDone, writeProgress } from "./answer.ts";
import { createBackups } from "./backups.ts";
import { createDurations } from "./durations.ts";
import { createGranting } from "./granting.ts";
import { queued } from "./lease.ts";
import { createLedger, type Entry } from "./ledger.ts";
import { createPace } from "./pace.ts";
import { createSlots } from "./slots.ts";
import { type Stage, stage } from "./stage.fixture.ts";
import type { Task } from "./task.ts";
import { createWorth } from "./worth.ts";

/** Does nothing. Its tree grows by about 140 bytes with each folder. */
function nothing(folders: number): Task {
  const action = encodeAction({
    argv: ["/bin/true"],
    env: {},
    cwd: "/work",
    outputPaths: [],
    inputs: Array.from({ length: folders }, (_, index) => ({
      kind: "directory" as const,
      path: `/work/${"folder-".repeat(8)}${index}`,
    })),
    platform: { platform: "linux/x86_64" },
    timeoutMs: 60_000,
  });
  return {
    ...{ build: "b", kind: "c", label: "nothing", action, whyHere: undefined },
    runHere: async () => 0,
    commit: async () => {},
  };
}

test("a thief with room for more tasks than one answer holds takes them in several", async () => {
  const on = await stage("bounds", { nodes: 1, slots: (index) => (index === 0 ? 1 : 600) });
  for (let count = 0; count < 900; count++)
    on.work.submit(on.mesh.node("n0"), { durationMs: 2000, lookUp: false, forget: true });
  await on.pass(1000);
  await on.mesh.simulation.finish(on.mesh.join(), on.mesh.simulation.nowMs() + 10_000);
  await on.allDone();
  // Else those that do not fit would count as failed, and after two thieves as home work.
  expect(on.said("n0", "task-requeued")).toEqual([]);
  expect(on.said("n0", "task-fallback")).toEqual([]);
});

test("a task whose tree is still being stored when its node stops ends, and leaves nothing pinned", async () => {
  const on = await stage("bounds", { nodes: 1 });
  const { owner, store } = on.mesh.node("n0");
  const reason = new MeshError("cancelled", "this node is stopping");
  const end = owner.submit(nothing(1500), new AbortController().signal).catch((error) => error);
  owner.stop(reason);
  expect(await on.mesh.simulation.finish(end, on.mesh.simulation.nowMs() + 1000)).toBe(reason);
  expect(store.stats().pinned).toBe(0);
});

test("a task that is cancelled while its tree is being stored leaves nothing pinned", async () => {
  const on = await stage("bounds", { nodes: 1 });
  const { owner, store } = on.mesh.node("n0");
  const cancelled = new AbortController();
  const end = owner.submit(nothing(1500), cancelled.signal).catch((error) => error);
  const reason = new Error("Ctrl-C");
  cancelled.abort(reason);
  expect(await on.mesh.simulation.finish(end, on.mesh.simulation.nowMs() + 1000)).toBe(reason);
  expect(store.stats().pinned).toBe(0);
});

test("long tasks that nobody has seen before are not all run twice", async () => {
  const on = await stage("bounds", { nodes: 9, slots: (index) => (index === 0 ? 1 : 4) });
  // The short ones end first, and say little about the long ones, which were queued with them.
  for (const [count, durationMs] of [
    [60, 20],
    [16, 20_000],
  ] as const)
    for (let index = 0; index < count; index++)
      on.work.submit(on.mesh.node("n0"), { durationMs, lookUp: false, forget: true });
  await on.allDone();
  const backups = on.said("n0", "task-started").filter(({ backup }) => backup);
  // A tenth of all that has run, and one that was worth a try.
  expect(backups.length).toBeLessThanOrEqual(2);
});

test("a thief that says its run took weeks is not believed", async () => {
  const durations = createDurations(10);
  const on = await stage("bounds", { nodes: 1, slots: () => 1, durations: () => durations });
  const { owner, store } = on.mesh.node("n0");
  on.work.submit(on.mesh.node("n0"), { durationMs: 5000, stealable: false });
  await on.pass(10);
  const end = owner.submit(nothing(0), new AbortController().signal);
  const liar = asPeerId("liar");
  const request = create(StealRequestSchema, { room: 1, idle: 1, platforms: ["linux/x86_64"] });
  const [grant] = owner.onSteal(liar, request).grants;
  if (grant === undefined) throw new Error("nothing to steal");
  await on.pass(200);
  const weeksMs = 4_000_000_000;
  const timings = { queueMs: 0, fetchMs: weeksMs, runMs: weeksMs, storeMs: weeksMs };
  const outcome = { exitCode: 0, outputs: [], stdout: emptyDigest, stderr: emptyDigest };
  const answer = { outcome, timings, record: new Uint8Array() };
  owner.onDone(liar, await writeDone(grant.task, grant.attempt, answer, store));
  const { phases } = await on.mesh.simulation.finish(end, on.mesh.simulation.nowMs() + 1000);
  expect(durations.expectedMs("c", "nothing")).toBeCloseTo(200, -1);
  const { queueMs, fetchMs, runMs, returnMs } = phases;
  expect(queueMs + fetchMs + runMs + returnMs).toBeCloseTo(200, -1);
  await on.allDone();
});

/** Answers in the place of a node's own halves; promises one task. */
function impostor(on: Stage, name: string, given: Partial<ControlHandlers>): void {
  const { control } = on.mesh.node(name);
  control.attach({
    load: () => ({ queued: 1, stealable: 1, slots: 1, busy: 1, hot: 0n }),
    onSteal: () => create(StealGrantSchema, {}),
    onPush() {},
    onLifeline() {},
    onMessage() {},
    onLoad() {},
    ...given,
  });
  control.hint(99);
}

test("tasks that come while a node is leaving go back at once", async () => {
  const on = await stage("bounds", { nodes: 2, slots: () => 1 });
  const { thief } = on.mesh.node("n1");
  let left: Promise<void> | undefined;
  const failed: string[] = [];
  impostor(on, "n0", {
    onSteal() {
      left ??= thief.drain(5000);
      const grants = [create(GrantSchema, { task: "t", attempt: 1 })];
      return create(StealGrantSchema, { grants });
    },
    onMessage(_, { type, value }) {
      if (type === "failed") failed.push(value.code);
    },
  });
  await on.pass(100);
  expect(left).toBeDefined();
  expect(failed).toEqual(["refused"]);
});

test("a node that lends nothing refuses what is pushed to it", async () => {
  const on = await stage("bounds", { nodes: 2, slots: (index) => 1 - index });
  const failed: string[] = [];
  impostor(on, "n0", {
    onMessage(_, { type, value }) {
      if (type === "failed") failed.push(value.code);
    },
  });
  const grants = [create(GrantSchema, { task: "t", attempt: 1 })];
  on.mesh.node("n0").control.push(on.mesh.node("n1").self, create(StealGrantSchema, { grants }));
  await on.pass(100);
  expect(failed).toEqual(["refused"]);
});

test("an owner that calls its tasks off before they end is not served for nothing", async () => {
  const on = await stage("bounds", { nodes: 3, slots: () => 1 });
  const submit = (owner: string, durationMs: number, stealable = true) =>
    on.work.submit(on.mesh.node(owner), { durationMs, stealable, lookUp: false, forget: true });
  for (const owner of ["n0", "n1"]) submit(owner, 60_000, false);
  await on.pass(10);
  const jobs = [1, 2, 3, 4, 5, 6, 7, 8].map(() => ["n0", "n1"].map((name) => submit(name, 1000)));
  const [given = [], small = []] = [0, 1].map((at) => jobs.flatMap((pair) => pair[at] ?? []));
  for (let round = 0; round < 80; round++) {
    await on.pass(100);
    for (const job of given) {
      const started = on.said("n2", "foreign-started").find(({ label }) => label === job.label);
      if (started !== undefined) job.cancel(new Error("enough"));
    }
    if (on.mesh.node("n0").owner.load().stealable < 8) given.push(submit("n0", 1000));
  }
  expect(small.filter(({ outcome }) => outcome).length).toBeGreaterThan(2);
});

test("inputs of what a thief cannot run are not looked at, however long the queue is", () => {
  const ledger = createLedger();
  const pace = createPace(1);
  const nowMs = () => 0;
  const task = nothing(0);
  const entry: Entry = {
    ...{ id: asTaskId("t"), task, order: 1, urgencyMs: 0, stealable: true, state: queued },
    ...{ expectedMs: 1000, isFamiliar: true, submittedMs: 0, startedMs: 0, movedBytes: 0 },
    ...{ settle() {}, fail() {}, cancelled: new AbortController() },
    ...{ hushedTo: 0, accuser: undefined },
    get heavy(): Entry["heavy"] {
      throw new Error("32 digests of each of 100,000 tasks, for each thief that sleeps");
    },
  };
  const granting = createGranting({
    ...{ stealable: [entry], ledger, pace, peerOf: () => ({ slots: 1, rttMs: 1 }) },
    worth: createWorth({ ledger, pace, slots: createSlots(1), nowMs }),
    backups: createBackups(ledger, createDurations(1), nowMs),
  });
  const ask = (platform: string) => () =>
    granting.choose(
      asPeerId("p"),
      create(StealRequestSchema, { room: 1, idle: 1, platforms: [platform] }),
    );
  expect(ask("linux/x86_64")).toThrow("32 digests");
  expect(ask("wasm")()).toEqual([]);
});

test("a node whose slots are busy with others' tasks gives its own away, also with large inputs", async () => {
  const on = await stage("bounds", { nodes: 3, slots: () => 1 });
  const [n0, n2] = [on.mesh.node("n0"), on.mesh.node("n2")];
  const known = { durationMs: 1000, label: "unit", lookUp: false, forget: true } as const;
  for (let count = 0; count < 4; count++) on.work.submit(n0, known);
  await on.allDone();
  on.work.submit(n2, { durationMs: 30_000, stealable: false });
  for (let count = 0; count < 2; count++) on.work.submit(n2, { durationMs: 30_000 });
  await on.pass(500);
  expect(n0.thief.held()).toBe(1);
  const job = on.work.submit(n0, { ...known, inputBytes: 8_000_000 });
  await on.mesh.simulation.finish(on.mesh.join(), on.mesh.simulation.nowMs() + 5000);
  const end = await on.mesh.simulation.finish(job.settled, on.mesh.simulation.nowMs() + 60_000);
  expect(end).toMatchObject({ source: "there", peer: "sim-n3" });
  await on.allDone();
});

test("the one idle node that can run a task hears of it at once, among many that cannot", async () => {
  const on = await stage("bounds", {
    nodes: 12,
    slots: () => 1,
    sandbox: (index) => (index === 0 || index === 5 ? "bwrap" : ""),
  });
  on.work.submit(on.mesh.node("n0"), { durationMs: 60_000, stealable: false });
  // The first is pushed to n5, which is registered; then it registers with others.
  for (let count = 0; count < 4; count++) {
    const startMs = on.mesh.simulation.nowMs();
    const job = on.work.submit(on.mesh.node("n0"), { durationMs: 50, lookUp: false });
    await on.mesh.simulation.finish(job.settled, startMs + 60_000);
    expect(on.mesh.simulation.nowMs() - startMs).toBeLessThan(100);
    await on.pass(3000);
  }
  await on.allDone();
});

test("of an attempt that was not listened to while there were two, no later part is shown either", async () => {
  const durations = createDurations(10);
  for (let count = 0; count < 20; count++) durations.learn("c", "nothing", 20);
  const on = await stage("bounds", { nodes: 1, slots: () => 1, durations: () => durations });
  const { owner } = on.mesh.node("n0");
  on.work.submit(on.mesh.node("n0"), { durationMs: 3000, stealable: false });
  await on.pass(10);
  const shown: string[] = [];
  const cancelled = new AbortController();
  const onProgress: Task["onProgress"] = ({ stderr }) => void shown.push(textOf(stderr));
  const end = owner.submit({ ...nothing(0), onProgress }, cancelled.signal).catch(() => {});
  const [first, second] = [asPeerId("first"), asPeerId("second")];
  const steal = (thief: typeof first) => {
    const request = create(StealRequestSchema, { room: 1, idle: 1, platforms: ["linux/x86_64"] });
    const [grant] = owner.onSteal(thief, request).grants;
    if (grant === undefined) throw new Error("nothing to steal");
    const say = (text: string) =>
      owner.onProgress(
        thief,
        writeProgress(grant.task, grant.attempt, { stderr: utf8(text), outputs: [] }),
      );
    return say;
  };
  const say = steal(first);
  say("one ");
  await on.pass(200);
  const sayAsWell = steal(second);
  say("two ");
  sayAsWell("one ");
  owner.onPeerLeft(second);
  say("three ");
  expect(shown).toEqual(["one "]);
  // Nobody has said anything of it before.
  owner.onPeerLeft(first);
  await on.pass(3000);
  cancelled.abort(new Error("enough"));
  await end;
});

test("tasks that nobody asked for are not taken", async () => {
  const on = await stage("bounds", { nodes: 3, slots: () => 1 });
  const { thief, self } = on.mesh.node("n2");
  const failed: string[] = [];
  let pushes = 0;
  const push = (): void => {
    const grants = [create(GrantSchema, { task: `t${++pushes}`, attempt: 1 })];
    on.mesh.node("n1").control.push(self, create(StealGrantSchema, { grants }));
  };
  impostor(on, "n1", {
    load: () => ({ queued: 0, stealable: 0, slots: 1, busy: 1, hot: 0n }),
    onMessage(_, { type, value }) {
      if (type === "failed") failed.push(value.code);
    },
  });
  // It is registered with n0 alone.
  for (let count = 0; count < 5; count++) push();
  await on.pass(100);
  expect(failed.filter((code) => code === "refused")).toHaveLength(5);
  expect(thief.held()).toBe(0);
});
