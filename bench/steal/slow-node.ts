/**
 * What one slow machine does to a mesh of eight: the same tasks with all nodes alike, and with one
 * at which every command takes ten times as long.
 *
 * The lower bound counts the slow node as a tenth. Lengths are known from an earlier run when all
 * were alike. Work that was done twice is told apart by whose outcome was used.
 */
import { createWorld, type LiveNode, until } from "../../chaos-tests/live/nodes.ts";
import type { OpenNode } from "../../src/node/open.ts";
import { atMost, type Bench, type BenchOptions, medianOf, type Result, rowOf } from "../bench.ts";
import { lognormalMs, lowerBoundMs } from "../model.ts";
import { inviteOf, openOwner, peersKnown } from "../owner.ts";
import { type Attempts, createAttempts } from "./attempts.ts";
import { createSleeps, makeSlow, makespan } from "./sleeps.ts";

const nodes = 8;
const slowTimes = 10;
const tasksPerSlot = 12;
const meanMs = 1000;
const sigma = 0.8;
const ratioMax = 1.15;
const againMaxPercent = 10;
const runsDefault = 1;

export const slowNode: Bench = {
  name: "slow-node",
  about: "makespan on eight nodes of which one is ten times slower, against eight that are alike",
  async run(options) {
    const world = await createWorld();
    let node: OpenNode | undefined;
    try {
      node = await openOwner(world, "owner", 1, options.signal);
      const attempts = createAttempts();
      node.events.listen(attempts.seeOwner);
      const invite = inviteOf(node);
      let started = 0;
      const start = () => {
        const name = `thief-${++started}`;
        const onEvent = (event: Readonly<Record<string, unknown>>) =>
          attempts.seeThief(name, event);
        return world.start({ name, invite, slots: 1, onEvent });
      };
      const thieves: LiveNode[] = [];
      while (thieves.length < nodes - 1) thieves.push(await start());
      await peersKnown(node, nodes - 1);
      const owner = node;
      /** Another machine in the place of the last one. */
      const replace = async (): Promise<LiveNode> => {
        const last = thieves.pop();
        last?.child.kill("SIGTERM");
        await last?.exited;
        const next = await start();
        thieves.push(next);
        await peersKnown(owner, nodes - 1);
        return next;
      };
      return await measure({ node, first: thieves[0], replace, attempts }, options);
    } finally {
      await node?.stop();
      await world.close();
    }
  },
};

interface Stage {
  readonly node: OpenNode;
  readonly first: LiveNode | undefined;
  readonly replace: () => Promise<LiveNode>;
  readonly attempts: Attempts;
}

async function measure(
  { node, first, replace, attempts }: Stage,
  { runs = runsDefault, say, signal }: BenchOptions,
): Promise<Result> {
  const sleeping = await createSleeps(node, slowTimes, signal);
  const run = async (what: string, index: number, sleepsMs: readonly number[]) => {
    signal.throwIfAborted();
    attempts.take();
    const tasks = sleepsMs.map((sleepMs, at) => sleeping({ label: `${index} ${at}`, sleepMs }));
    const { wallMs } = await makespan(node, tasks, signal);
    // The last thief hears of its success, and a loser of its end, a little after the last task.
    await until("every attempt's end", () => attempts.open() === 0);
    const { again, usedMs, unusedMs } = attempts.take();
    const unusedPercent = (unusedMs / (usedMs + unusedMs)) * 100;
    const againPercent = (again / tasks.length) * 100;
    say(
      `${what}: ${Math.round(wallMs)} ms, ${again} of ${tasks.length} tasks begun again, ` +
        `${unusedPercent.toFixed(1)} % of the slot time not used`,
    );
    return { wallMs, againPercent, unusedPercent };
  };
  const sets = Array.from({ length: runs }, (_, index) =>
    lognormalMs(nodes * tasksPerSlot, meanMs, sigma, index + 1),
  );
  const fast: number[] = [];
  for (const [index, sleepsMs] of sets.entries()) {
    await run("eight alike, lengths unknown", index, sleepsMs);
    fast.push((await run("eight alike", index, sleepsMs)).wallMs);
  }
  const slow: Awaited<ReturnType<typeof run>>[] = [];
  for (const [index, sleepsMs] of sets.entries()) {
    makeSlow((await replace()).child.pid ?? 0);
    slow.push(await run("one ten times slower", index, sleepsMs));
  }
  // Known as a fast one, it gets the longest task, and is slow at that.
  await replace();
  makeSlow(first?.child.pid ?? 0);
  const [someMs = []] = sets;
  const sudden = [(await run("one that becomes ten times slower", 0, someMs)).wallMs];
  const capacity = nodes - 1 + 1 / slowTimes;
  const bound = rowOf(
    `lower bound of ${capacity} nodes`,
    "ms",
    sets.map((sleepsMs) => lowerBoundMs(sleepsMs, capacity)),
  );
  const alike = rowOf("eight alike", "ms", fast);
  const walls = slow.map(({ wallMs }) => wallMs);
  const again = slow.map(({ againPercent }) => againPercent);
  const unused = slow.map(({ unusedPercent }) => unusedPercent);
  const one = rowOf("one ten times slower", "ms", walls, alike);
  const oneToBound = rowOf("one ten times slower", "ms", walls, bound);
  return {
    rows: [
      alike,
      bound,
      one,
      { ...oneToBound, against: "lower bound" },
      rowOf("one that becomes so in a moment", "ms", sudden, alike),
      rowOf("tasks begun again", "%", again),
      rowOf("slot time not used", "%", unused),
    ],
    checks: [
      atMost("one ten times slower", one.ratio ?? Number.NaN, ratioMax, "× eight alike"),
      atMost("work done twice", medianOf(unused), againMaxPercent, "% of the slot time"),
    ],
    notes: [
      `${nodes} nodes of one slot, ${nodes * tasksPerSlot} tasks of ${meanMs} ms on average, ` +
        `lognormal with sigma ${sigma}; the best that can be is ${(nodes / capacity).toFixed(3)} × eight alike`,
    ],
  };
}
