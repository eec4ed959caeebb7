/** How work spreads over a mesh: simulated, with the real code of every node. */
import { afterEach, beforeEach, expect, test } from "vitest";
import { createMesh, type MeshOptions, type SimMesh } from "../../chaos-tests/simulator/mesh.ts";
import { createWorkload, type Job, type Workload } from "../../chaos-tests/simulator/workload.ts";
import type { MeshEvent } from "../base/events.ts";

let mesh: SimMesh;
let work: Workload;
let log: (readonly [string, MeshEvent])[];

async function stage(options: MeshOptions): Promise<void> {
  mesh = await createMesh("stealing", options);
  log = [];
  mesh.onEvent((node, event) => void log.push([node.name, event]));
  await mesh.assembled(10_000);
  work = createWorkload(() => true);
}

const pass = (ms: number): Promise<void> => mesh.simulation.run(mesh.simulation.nowMs() + ms);

async function done(jobs: readonly Job[], withinMs = 120_000): Promise<void> {
  const all = Promise.all(jobs.map(({ settled }) => settled));
  await mesh.simulation.finish(all, mesh.simulation.nowMs() + withinMs);
}

function submit(
  owner: string,
  count: number,
  durationMs: number,
  label?: string,
  inputBytes = 200,
): readonly Job[] {
  const order = { durationMs, lookUp: false, forget: true, inputBytes, ...(label && { label }) };
  return Array.from({ length: count }, () => work.submit(mesh.node(owner), order));
}

/** Takes the only slot of an owner for long, and lets it learn how long tasks of a name take. */
async function teach(owner: string, label: string, durationMs: number): Promise<void> {
  await done(submit(owner, 16, durationMs, label));
}

function said<E extends MeshEvent["event"]>(
  name: string,
  event: E,
): readonly Extract<MeshEvent, { event: E }>[] {
  return log.flatMap(([who, one]) =>
    who === name && one.event === event ? [one as Extract<MeshEvent, { event: E }>] : [],
  );
}

function sentByAll(): number {
  return mesh.nodes().reduce((sum, { control }) => {
    const { sends: _, ping: __, pong: ___, ...counts } = control.sent();
    return sum + Object.values(counts).reduce((total, count) => total + count, 0);
  }, 0);
}

/** An input that takes so long on its way that its task is worth taking ahead. */
const moving = 8_000_000;

beforeEach(() => {
  log = [];
});

afterEach(async () => {
  await pass(5000);
  for (const node of mesh.nodes()) {
    expect(node.thief.held(), `${node.name} holds nothing`).toBe(0);
    expect(node.owner.counts()).toEqual({ queued: 0, here: 0, leased: 0, committing: 0 });
  }
});

test("a task that lags behind at a slow peer is run by another one as well, and the first wins", async () => {
  await stage({ nodes: 4, slots: () => 1 });
  await teach("n0", "unit", 1000);
  mesh.simulation.faults.setSlowness("n2", 20);
  const [blocker] = submit("n0", 1, 6000, "other");
  const startMs = mesh.simulation.nowMs();
  const jobs = submit("n0", 3, 1000, "unit");
  await done(jobs);
  // Without a backup it would have been 20 s.
  expect(mesh.simulation.nowMs() - startMs).toBeLessThan(5000);
  const backups = said("n0", "task-started").filter(({ backup }) => backup);
  expect(backups).toHaveLength(1);
  expect(said("n0", "task-released")).toMatchObject([
    { peer: "sim-n2", task: backups[0]?.task, reason: "another attempt was faster" },
  ]);
  for (const job of jobs) expect(job.commits).toBe(1);
  await pass(100);
  expect(said("n2", "foreign-done").at(-1)).toMatchObject({ outcome: "cancelled" });
  if (blocker) await done([blocker]);
});

test("an owner's own free slot runs the backup when nobody else can", async () => {
  await stage({ nodes: 2, slots: () => 1 });
  await teach("n0", "unit", 1000);
  mesh.simulation.faults.setSlowness("n1", 50);
  const startMs = mesh.simulation.nowMs();
  const jobs = submit("n0", 2, 1000, "unit");
  await done(jobs);
  expect(mesh.simulation.nowMs() - startMs).toBeLessThan(6000);
  expect(said("n0", "task-started").filter(({ backup }) => backup)).toMatchObject([
    { peer: "sim-n0" },
  ]);
  expect(said("n0", "task-done").slice(-2)).toMatchObject([{ source: "here" }, { source: "here" }]);
});

test("a task that waits behind another at its thief goes to whoever comes free first", async () => {
  await stage({ nodes: 2, slots: (index) => (index === 0 ? 2 : 1) });
  await teach("n0", "long", 1500);
  submit("n0", 2, 1500, "mine");
  submit("n0", 1, 500, "first");
  await pass(20);
  // When it has done the first, n1 runs one and has one more: its input is long on its way.
  const jobs = submit("n0", 3, 1500, "long", moving);
  await pass(1300);
  expect(mesh.node("n1").thief.held()).toBeGreaterThan(1);
  expect(said("n0", "task-requeued")).toEqual([]);
  await pass(500);
  expect(said("n0", "task-requeued")).toMatchObject([{ reason: "recalled" }]);
  expect(mesh.node("n0").slots.busy).toBe(2);
  await done(work.jobs);
  for (const job of jobs) expect(job.runsHere + job.commits).toBe(1);
});

test("a thief whose pace is known gets what takes longest first", async () => {
  await stage({ nodes: 2, slots: () => 1 });
  await teach("n0", "long", 900);
  await teach("n0", "short", 100);
  submit("n0", 1, 10_000);
  await pass(20);
  const before = said("n1", "foreign-started").length;
  for (const label of ["short", "long", "short", "long"]) submit("n0", 1, 100, label);
  await pass(2000);
  const labels = said("n1", "foreign-started")
    .slice(before)
    .map(({ label }) => label);
  // The first was there alone.
  expect(labels).toEqual(["short", "long", "long", "short"]);
  await done(work.jobs);
});

test("a small owner is not starved by one with a thousand times as much", async () => {
  await stage({ nodes: 5, slots: (index) => (index < 2 ? 1 : 2) });
  const giant = submit("n0", 200, 400);
  await pass(3000);
  const startMs = mesh.simulation.nowMs();
  submit("n1", 1, 60_000);
  const small = submit("n1", 8, 400);
  await done(small);
  // Half of the six slots of the others would do it in 1.1 s.
  expect(mesh.simulation.nowMs() - startMs).toBeLessThan(3000);
  expect(giant.some(({ outcome }) => outcome === undefined)).toBe(true);
  await done(work.jobs);
});

test("a machine that its user needs lends nothing, and lends again when he is done", async () => {
  await stage({ nodes: 2, slots: () => 2 });
  mesh.simulation.faults.setVitals("n1", { cores: 2, runnable: 3 });
  await pass(6000);
  submit("n0", 2, 60_000);
  const jobs = submit("n0", 4, 1000);
  await pass(8000);
  expect(said("n1", "foreign-started")).toEqual([]);
  // Its own work is not held back.
  await done(submit("n1", 2, 100), 1000);
  mesh.simulation.faults.setVitals("n1", { cores: 2, runnable: 0 });
  await done(jobs, 15_000);
  await done(work.jobs);
});

test("a machine short of memory takes no foreign task", async () => {
  await stage({ nodes: 2, slots: () => 2 });
  mesh.simulation.faults.setVitals("n1", { memoryFreeBytes: 100 * 2 ** 20 });
  await pass(6000);
  await done(submit("n0", 6, 500));
  expect(said("n1", "foreign-started")).toEqual([]);
});

test("one task wakes about one of many sleepers, and all of them hear of many tasks", async () => {
  await stage({ nodes: 20, slots: () => 1 });
  await pass(10_000);
  const [blocker] = submit("n0", 1, 30_000);
  await pass(100);
  const before = sentByAll();
  await done(submit("n0", 1, 2000));
  await pass(2000);
  // A push, three or four beats, an answer and its close, and a new registration: not one for each node.
  expect(sentByAll() - before).toBeLessThan(16);
  submit("n0", 60, 3000);
  await pass(1000);
  expect(mesh.nodes().filter(({ slots }) => slots.busy === 1)).toHaveLength(20);
  await done([...work.jobs, ...(blocker ? [blocker] : [])]);
});

test("what half of a build waits for goes first, once an earlier build has shown it", async () => {
  await stage({ nodes: 1, slots: () => 1 });
  const { owner } = mesh.node("n0");
  const order: string[] = [];
  const build = async (name: string) => {
    const run = (label: string, reads: readonly string[], writes: readonly string[]) =>
      owner.submit(
        {
          build: name,
          kind: "c",
          label,
          action: undefined,
          whyHere: "a test",
          flow: { reads, writes },
          runHere: async () => {
            order.push(label);
            await mesh.node("n0").host.clock.sleep(100, new AbortController().signal);
            return 0;
          },
          commit: async () => {},
        },
        new AbortController().signal,
      );
    const leaves = ["leaf-1", "leaf-2", "leaf-3"].map((label) => run(label, [], [`/${label}`]));
    const chain = run("first", [], ["/a"])
      .then(() => run("second", ["/a"], ["/b"]))
      .then(() => run("third", ["/b"], ["/c"]));
    await mesh.simulation.finish(Promise.all([...leaves, chain]), 1e6);
  };
  await build("one");
  expect(order.splice(0)).toEqual(["leaf-1", "leaf-2", "leaf-3", "first", "second", "third"]);
  await build("two");
  // The slot takes whatever is there; the chain is ahead of the leaves whenever it has a task ready.
  expect(order).toEqual(["leaf-1", "first", "leaf-2", "second", "leaf-3", "third"]);
});

test("a node that leaves hands back what waits, and finishes what runs", async () => {
  await stage({ nodes: 3, slots: () => 1 });
  await teach("n0", "long", 3000);
  submit("n0", 1, 20_000);
  submit("n0", 2, 500, "first");
  await pass(20);
  submit("n0", 4, 3000, "long", 3 * moving);
  await pass(2000);
  const leaver = mesh.nodes().find(({ thief }) => thief.held() === 2);
  if (leaver === undefined) throw new Error("nobody has taken one ahead");
  const before = said(leaver.name, "foreign-done").length;
  const leaving = leaver.stop();
  await pass(200);
  expect(leaver.thief.held()).toBe(1);
  await mesh.simulation.finish(leaving, mesh.simulation.nowMs() + 10_000);
  expect(said(leaver.name, "foreign-done").slice(before)).toMatchObject([
    { outcome: "cancelled" },
    { outcome: "accepted" },
  ]);
  expect(said("n0", "task-requeued")).toMatchObject([{ reason: expect.stringMatching(/leaving/) }]);
  mesh.kill(leaver.name);
  await done(work.jobs);
});

test("a node that leaves does not wait for a long task: somebody else has it within the bound", async () => {
  await stage({ nodes: 3, slots: () => 1, node: () => ({ drainMs: 2000 }) });
  submit("n0", 1, 60_000);
  await pass(10);
  const jobs = submit("n0", 2, 30_000);
  await pass(1000);
  const startMs = mesh.simulation.nowMs();
  await mesh.simulation.finish(mesh.node("n1").stop(), startMs + 10_000);
  expect(mesh.simulation.nowMs() - startMs).toBeLessThan(4000);
  mesh.kill("n1");
  await done(jobs);
  await done(work.jobs);
});

test("a push to a thief that has died in silence does not keep its leases", async () => {
  await stage({ nodes: 2, slots: () => 2 });
  submit("n0", 2, 30_000);
  await pass(10);
  const [job] = submit("n0", 1, 20_000);
  await pass(500);
  mesh.kill("n1", { silent: true });
  // Each of these is pushed to n1, which is registered, and has one slot as far as is known here.
  await pass(1200);
  submit("n0", 1, 100);
  await pass(1200);
  expect(said("n0", "task-requeued").map(({ reason }) => reason)).toContain("lease expired");
  await done(work.jobs);
  expect(job?.outcome).toMatchObject({ source: "here" });
});

test("a long task keeps its lease while its thief has much else to say to its owner", async () => {
  await stage({ nodes: 2, slots: () => 2 });
  submit("n0", 2, 170_000, "mine");
  await pass(10);
  const [long] = submit("n0", 1, 150_000, "long");
  for (let count = 0; count < 300; count++) {
    submit("n0", 1, 300);
    await pass(500);
  }
  if (long) await done([long]);
  expect(said("n0", "task-requeued")).toEqual([]);
  await done(work.jobs);
});

test("the one node that is free finds the one task that is left, however many are busy", async () => {
  await stage({ nodes: 24, slots: () => 1 });
  const { names } = mesh;
  // Everybody but the last has work that nobody else may have, and told nobody.
  for (const name of names.slice(0, -1))
    work.submit(mesh.node(name), { durationMs: 40_000, stealable: false });
  await pass(20_000);
  const startMs = mesh.simulation.nowMs();
  const jobs = submit("n0", 1, 100);
  await done(jobs, 6000);
  expect(mesh.simulation.nowMs() - startMs).toBeLessThan(5000);
  await done(work.jobs);
});
