/**
 * How many tasks that do nothing one submitter gets done a second, with two thieves in processes of
 * their own; against the same actions run in this process without any mesh, and against Ray with as
 * many processes where there is one.
 *
 * Each task is another action, so that no node knows its result; all have one input, so that no
 * bytes move. What is measured is the owner, the thieves and the way between them: once with a slot
 * at the owner too, which has the shortest way to its own tasks, and once with every task stolen.
 */
import { createWorld } from "../../chaos-tests/live/nodes.ts";
import type { OpenNode } from "../../src/node/open.ts";
import type { Outcome, Task } from "../../src/work/task.ts";
import { atLeast, type Bench, type BenchOptions, type Result, rowOf } from "../bench.ts";
import { cpuOfThreadsMs } from "../command.ts";
import { createBareNoOps } from "../micro/wasm-tasks.ts";
import { holdSlot, inviteOf, openOwner, peersKnown } from "../owner.ts";
import { findRay, type Ray } from "./ray.ts";

const thieves = 2;
const batchesDefault = 8;
const tasksPerBatch = 2000;
const rateMin = 1000;

export const noOp: Bench = {
  name: "no-op",
  about: "tasks that do nothing through one submitter and two thieves, against no mesh at all",
  async run(options) {
    const world = await createWorld();
    const ray = findRay(thieves + 1);
    let node: OpenNode | undefined;
    try {
      node = await openOwner(world, "owner", 1, options.signal);
      const pids: number[] = [];
      for (let at = 0; at < thieves; at += 1) {
        const thief = await world.start({ invite: inviteOf(node), slots: 1, onEvent: () => {} });
        if (thief.child.pid !== undefined) pids.push(thief.child.pid);
      }
      await peersKnown(node, thieves);
      return await measure(node, pids, ray, options);
    } finally {
      await ray?.stop();
      await node?.stop();
      await world.close();
    }
  },
};

async function measure(
  node: OpenNode,
  pids: readonly number[],
  ray: Ray | undefined,
  { runs = batchesDefault, say, signal }: BenchOptions,
): Promise<Result> {
  const make = await createBareNoOps(node);
  const direct: number[] = [];
  const shared = { rates: [] as number[], ran: new Map<string, number>() };
  const stolen = { rates: [] as number[], ran: new Map<string, number>() };
  const rayRates: number[] = [];
  const ownCpu: number[] = [];
  const thiefCpu: number[] = [];
  let made = 0;
  for (let batch = 0; batch <= runs; batch += 1) {
    for (const { rates, ran } of [shared, stolen]) {
      signal.throwIfAborted();
      const tasks = Array.from({ length: tasksPerBatch }, () => make(++made));
      const free = rates === stolen.rates ? await holdSlot(node) : () => {};
      const [ownMs, thievesMs] = [cpuMs([process.pid]), cpuMs(pids)];
      const startMs = performance.now();
      const outcomes = await Promise.all(tasks.map((task) => node.owner.submit(task, signal)));
      const rate = rateSince(startMs);
      free();
      // The first batch moves the module and warms all processes up.
      if (batch === 0) continue;
      rates.push(rate);
      count(outcomes, ran);
      if (rates === shared.rates) direct.push(await directRate(tasks, signal));
      else {
        ownCpu.push((cpuMs([process.pid]) - ownMs) / tasksPerBatch);
        thiefCpu.push((cpuMs(pids) - thievesMs) / tasksPerBatch);
      }
    }
    signal.throwIfAborted();
    const rayRate = await ray?.tasksPerSecond(tasksPerBatch);
    if (batch === 0) continue;
    if (rayRate !== undefined) rayRates.push(rayRate);
    const [some, all] = [shared, stolen].map(({ rates }) => Math.round(rates.at(-1) ?? 0));
    say(`batch ${batch} of ${runs}: ${some} tasks/s, all stolen ${all} tasks/s`);
  }
  const base = rowOf("no mesh", "tasks/s", direct);
  const rows = rayRates.length > 0 ? [rowOf(`Ray ${ray?.version}`, "tasks/s", rayRates, base)] : [];
  const withOwner = rowOf("owner and two thieves", "tasks/s", shared.rates, base);
  const withoutOwner = rowOf("two thieves", "tasks/s", stolen.rates, base);
  return {
    rows: [
      base,
      ...rows,
      withOwner,
      withoutOwner,
      rowOf("two thieves: CPU of the owner", "ms/task", ownCpu),
      rowOf("two thieves: CPU of the thieves", "ms/task", thiefCpu),
    ],
    checks: [
      atLeast("owner and two thieves", withOwner.median, rateMin, "tasks/s"),
      atLeast("two thieves, all stolen", withoutOwner.median, rateMin, "tasks/s"),
      atLeast("thieves that took part", thievesOf(shared.ran).length, thieves, ""),
    ],
    notes: [
      `owner and two thieves: ${shared.ran.get("here") ?? 0} ran at the owner, ` +
        `${thievesOf(shared.ran).join(" and ")} were stolen`,
      `two thieves: ${stolen.ran.get("here") ?? 0} ran at the owner, ` +
        `${thievesOf(stolen.ran).join(" and ")} were stolen`,
      `${tasksPerBatch} tasks a batch, submitted at once; one slot at each node`,
      ray === undefined
        ? "python3 has no Ray; published for it: 569 tasks/s (10,000 tasks on 2,500 CPUs)"
        : "Ray has as many slots, but one node, and neither encrypts nor signs",
    ],
  };
}

/** One after the other, as one slot would. */
async function directRate(tasks: readonly Task[], signal: AbortSignal): Promise<number> {
  const startMs = performance.now();
  for (const task of tasks) await task.runHere(signal);
  return rateSince(startMs);
}

function rateSince(startMs: number): number {
  return (tasksPerBatch / (performance.now() - startMs)) * 1000;
}

/** Of all threads; what they do besides counts too. */
function cpuMs(pids: readonly number[]): number {
  return pids
    .map(cpuOfThreadsMs)
    .reduce((sum, { mainMs, engineMs, poolMs }) => sum + mainMs + engineMs + poolMs, 0);
}

function count(outcomes: readonly Outcome[], ran: Map<string, number>): void {
  for (const outcome of outcomes) {
    const where = outcome.source === "there" ? outcome.peer : "here";
    ran.set(where, (ran.get(where) ?? 0) + 1);
  }
}

function thievesOf(ran: ReadonlyMap<string, number>): readonly number[] {
  return [...ran].filter(([where]) => where !== "here").map(([, tasks]) => tasks);
}
