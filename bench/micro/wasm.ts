/**
 * WebAssembly tasks a second that do nothing: what a task costs besides its work. The module alone
 * on a worker thread, then the same through the owner on one node, then with two thieves.
 *
 * All nodes are on this machine: with fewer cores than nodes, thieves share the owner's CPU, and no
 * speed-up is to be seen; what is seen is what stealing costs.
 */
import { createWorld } from "../../chaos-tests/live/nodes.ts";
import type { OpenNode } from "../../src/node/open.ts";
import type { Task } from "../../src/work/task.ts";
import { type Bench, rowOf } from "../bench.ts";
import { inviteOf, openOwner, peersKnown } from "../owner.ts";
import { createNoOps } from "./wasm-tasks.ts";

const runsDefault = 5;
const tasksPerRun = 400;
const thieves = 2;

export const wasm: Bench = {
  name: "wasm",
  about:
    "no-op WebAssembly tasks a second: one node, and with two thieves, against the bare executor",
  async run({ runs = runsDefault, say, signal }) {
    const world = await createWorld();
    let node: OpenNode | undefined;
    try {
      node = await openOwner(world, "owner", 1, signal);
      const noOp = await createNoOps(node);
      let made = 0;
      const tasks = async (): Promise<readonly Task[]> => {
        const list: Task[] = [];
        for (let at = 0; at < tasksPerRun; at += 1) list.push(await noOp(made++));
        return list;
      };
      const bare: number[] = [];
      const alone: number[] = [];
      for (let run = 0; run <= runs; run += 1) {
        const list = await tasks();
        const bareRate = await perSecond(list, async () => {
          for (const task of list) await task.runHere(signal);
        });
        const aloneRate = await perSecond(list, () => submitAll(node, list, signal));
        // The first round starts the worker thread and lets the compiler of the language warm up.
        if (run > 0) {
          bare.push(bareRate);
          alone.push(aloneRate);
        }
      }
      for (let at = 0; at < thieves; at += 1)
        await world.start({ invite: inviteOf(node), slots: 1 });
      await peersKnown(node, thieves);
      const helped: number[] = [];
      const shares: number[] = [];
      for (let run = 0; run <= runs; run += 1) {
        signal.throwIfAborted();
        const list = await tasks();
        let stolen = 0;
        const rate = await perSecond(list, async () => {
          stolen = await submitAll(node, list, signal);
        });
        say(
          `with ${thieves} thieves: ${Math.round(rate)} tasks/s, ${stolen} of ${tasksPerRun} stolen`,
        );
        if (run > 0) {
          helped.push(rate);
          shares.push((100 * stolen) / tasksPerRun);
        }
      }
      const executor = rowOf("executor alone, one after another", "tasks/s", bare);
      const one = rowOf("one node", "tasks/s", alone, executor);
      return {
        rows: [
          executor,
          one,
          rowOf(`one node and ${thieves} thieves`, "tasks/s", helped, one),
          rowOf("stolen", "% of tasks", shares),
        ],
        checks: [],
        notes: [`${tasksPerRun} tasks a run, submitted at once; one slot a node`],
      };
    } finally {
      await node?.stop();
      await world.close();
    }
  },
};

async function perSecond(list: readonly Task[], run: () => Promise<unknown>): Promise<number> {
  const startMs = performance.now();
  await run();
  return (1000 * list.length) / (performance.now() - startMs);
}

/** How many a peer did. */
async function submitAll(
  node: OpenNode | undefined,
  list: readonly Task[],
  signal: AbortSignal,
): Promise<number> {
  if (node === undefined) throw new Error("no node");
  const { owner } = node;
  const outcomes = await Promise.all(list.map((task) => owner.submit(task, signal)));
  return outcomes.filter(({ source }) => source === "there").length;
}
