/**
 * How near eight nodes come to the best that any schedule could: tasks of lognormal length that
 * hold a slot and need no CPU, all submitted at once at one of the nodes.
 *
 * The bound is max(total / slots, longest). Each set is submitted twice. The first time nothing is
 * known of it, and its lengths are off by up to 30 % from what they will be the second time, when
 * the owner has learned them. The peer is a model, exact and without any cost: one central queue,
 * first come, first served.
 */

import { createWorld, type World } from "../../chaos-tests/live/nodes.ts";
import type { OpenNode } from "../../src/node/open.ts";
import { createSeededRandom } from "../../src/sim/random.ts";
import {
  atLeast,
  type Bench,
  type BenchOptions,
  type Check,
  type Result,
  type Row,
  rowOf,
} from "../bench.ts";
import { centralQueueMs, lognormalMs, lowerBoundMs } from "../model.ts";
import { inviteOf, openOwner, peersKnown } from "../owner.ts";
import { createSleeps, makespan } from "./sleeps.ts";

const nodes = 8;
const tasksPerSlot = 15;
const sigma = 0.8;
const means = [2000, 500];
const noise = 0.3;
const efficiencyMin = 90;
const runsDefault = 1;

export const efficiency: Bench = {
  name: "efficiency",
  about: "makespan on eight nodes of one slot against the lower bound and a free central queue",
  async run(options) {
    const world = await createWorld();
    let node: OpenNode | undefined;
    try {
      node = await openOwner(world, "owner", 1, options.signal);
      await addThieves(world, node, nodes - 1);
      return await measure(node, options);
    } finally {
      await node?.stop();
      await world.close();
    }
  },
};

/** One slot each. */
export async function addThieves(world: World, node: OpenNode, count: number): Promise<void> {
  for (let at = 0; at < count; at += 1) await world.start({ invite: inviteOf(node), slots: 1 });
  await peersKnown(node, count);
}

async function measure(
  node: OpenNode,
  { runs = runsDefault, say, signal }: BenchOptions,
): Promise<Result> {
  const sleeping = await createSleeps(node, undefined, signal);
  // Every thief has the program in its store then.
  await makespan(
    node,
    Array.from({ length: 4 * nodes }, (_, at) => sleeping(warmUp(at))),
    signal,
  );
  const rows: Row[] = [];
  const checks: Check[] = [];
  for (const meanMs of means) {
    const unknown: number[] = [];
    const known: number[] = [];
    const queue: number[] = [];
    const queueBefore: number[] = [];
    for (let run = 0; run < runs; run += 1) {
      const sleepsMs = lognormalMs(nodes * tasksPerSlot, meanMs, sigma, run + 1);
      const boundMs = lowerBoundMs(sleepsMs, nodes);
      queue.push(share(boundMs, centralQueueMs(sleepsMs, nodes)));
      const chance = createSeededRandom(`noise ${-run - 1}`).fraction;
      const offMs = sleepsMs.map((ms) => Math.round(ms * (1 + noise * (2 * chance() - 1))));
      queueBefore.push(share(lowerBoundMs(offMs, nodes), centralQueueMs(offMs, nodes)));
      const submit = async (lengthsMs: readonly number[]) => {
        signal.throwIfAborted();
        const tasks = lengthsMs.map((sleepMs, at) =>
          sleeping({ label: `${meanMs} ${run} ${at}`, sleepMs }),
        );
        const { wallMs, stolen } = await makespan(node, tasks, signal);
        const bestMs = lowerBoundMs(lengthsMs, nodes);
        say(
          `mean ${meanMs} ms: bound ${Math.round(bestMs)} ms, took ${Math.round(wallMs)} ms, ` +
            `${stolen} of ${tasks.length} stolen`,
        );
        return share(bestMs, wallMs);
      };
      unknown.push(await submit(offMs));
      known.push(await submit(sleepsMs));
    }
    const what = `mean ${meanMs} ms`;
    const before = rowOf(`${what}, first time: free central queue`, "%", queueBefore);
    const central = rowOf(`${what}, again: free central queue`, "%", queue);
    const learned = rowOf(`${what}, again: lengths known to ${noise * 100} %`, "%", known, central);
    const blind = rowOf(`${what}, first time: lengths unknown`, "%", unknown, before);
    rows.push(before, { ...blind, against: "its queue" });
    rows.push(central, { ...learned, against: "its queue" });
    checks.push(atLeast(`${what}, lengths known`, learned.median, efficiencyMin, "% of the bound"));
  }
  const notes = [
    `${nodes} nodes of one slot, ${tasksPerSlot} tasks a slot, lognormal with sigma ${sigma}; ` +
      `the lower bound in % of the makespan`,
  ];
  return { rows, checks, notes };
}

function warmUp(at: number): { readonly label: string; readonly sleepMs: number } {
  return { label: `warm-up ${at}`, sleepMs: 100 };
}

function share(boundMs: number, wallMs: number): number {
  return (boundMs / wallMs) * 100;
}
