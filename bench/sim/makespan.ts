/**
 * How close to the best possible time a mesh comes: one owner, independent lognormal tasks of 2 s,
 * 0.5 ms there and back, against the lower bound and a central queue that costs nothing.
 *
 * The nodes are the real code in the simulator; a message costs its receiver `receiveMs` of its
 * event loop.
 */
import { atLeast, atMost, type Bench, type Check, medianOf, type Row, rowOf } from "../bench.ts";
import { centralQueueMs, lognormalMs, lowerBoundMs } from "../model.ts";
import { runMesh } from "./mesh-run.ts";

interface Size {
  readonly nodes: number;
  readonly tasksPerSlot: number;
  readonly slots: number;
  readonly seeds: number;
  readonly bound: number | undefined;
}

/** What one message costs a node, decrypted and acted upon: measured by `npm run bench -- no-op`. */
const receiveMs = 0.1;
/** As after an earlier build of sources that have changed since. */
const estimateError = 0.3;
const meanMs = 2000;
const sigma = 0.8;
const messagesMax = 4;

const sizes: readonly Size[] = [
  { nodes: 10, tasksPerSlot: 30, slots: 1, seeds: 5, bound: 0.96 },
  { nodes: 100, tasksPerSlot: 30, slots: 1, seeds: 3, bound: 0.93 },
  { nodes: 100, tasksPerSlot: 30, slots: 2, seeds: 1, bound: undefined },
];
const large: Size = { nodes: 1000, tasksPerSlot: 20, slots: 1, seeds: 1, bound: 0.84 };

export const simMakespan: Bench = {
  name: "sim-makespan",
  about: "lower bound over makespan at 10 and 100 nodes, against a central queue; messages a task",
  run: (options) => measure(sizes, options),
};

export const simThousand: Bench = {
  name: "sim-thousand",
  about: "the same at 1000 nodes: takes minutes and 4 GB",
  run: (options) => measure([large], options),
};

async function measure(
  wanted: readonly Size[],
  { runs, say, signal }: Parameters<Bench["run"]>[0],
): ReturnType<Bench["run"]> {
  const rows: Row[] = [];
  const checks: Check[] = [];
  for (const size of wanted) {
    const { nodes, slots, tasksPerSlot, seeds, bound } = size;
    const parts: Record<"mesh" | "fifo" | "sends" | "frames" | "signs", number[]> = {
      ...{ mesh: [], fifo: [], sends: [], frames: [], signs: [] },
    };
    for (let seed = 1; seed <= (runs ?? seeds); seed++) {
      signal.throwIfAborted();
      const count = nodes * slots * tasksPerSlot;
      const durationsMs = lognormalMs(count, meanMs, sigma, `${nodes} ${seed}`);
      const bestMs = lowerBoundMs(durationsMs, nodes * slots);
      const run = { seed: `${nodes} ${seed}`, nodes, slots, durationsMs, estimateError, receiveMs };
      const end = await runMesh(run);
      parts.mesh.push((100 * bestMs) / end.makespanMs);
      parts.fifo.push((100 * bestMs) / centralQueueMs(durationsMs, nodes * slots));
      parts.sends.push(end.sendsPerTask);
      parts.frames.push(end.framesPerTask);
      parts.signs.push(end.signsPerTask);
      say(`${nodes} nodes, seed ${seed}: ${parts.mesh.at(-1)?.toFixed(1)} % of the best possible`);
    }
    const name = slots === 1 ? `${nodes} nodes` : `${nodes} nodes of ${slots} slots`;
    const fifo = rowOf(`${name}: central queue without cost`, "%", parts.fifo);
    rows.push(fifo, rowOf(`${name}: mesh`, "%", parts.mesh, fifo));
    rows.push(rowOf(`${name}: messages a task`, "", parts.sends));
    rows.push(rowOf(`${name}: signs of life a task`, "", parts.signs));
    if (bound !== undefined)
      checks.push(
        atLeast(`${name}, lower bound / makespan`, medianOf(parts.mesh), 100 * bound, "%"),
      );
    if (nodes === 100)
      checks.push(atMost(`${name}, messages a task`, medianOf(parts.sends), messagesMax, ""));
  }
  return {
    rows,
    checks,
    notes: [
      `one owner; lognormal tasks, mean ${meanMs / 1000} s, sigma ${sigma}; durations known to ±${100 * estimateError} %; ${receiveMs} ms a message received`,
      "a message is one send on a control stream, of whatever kind but the signs of life (ping, pong) of pairs that have nothing else to say",
    ],
  };
}
