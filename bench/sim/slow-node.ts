/** One of eight nodes ten times as slow: the makespan against that of eight good ones and of 7.1. */
import { atMost, type Bench, medianOf, rowOf } from "../bench.ts";
import { lognormalMs, lowerBoundMs } from "../model.ts";
import { runMesh } from "./mesh-run.ts";

const nodes = 8;
const slowIndex = 3;
const slowness = 10;
const tasksPerNode = 30;
const seedsDefault = 9;
const makespanMax = 1.15;
const duplicateMax = 10;

export const simSlowNode: Bench = {
  name: "sim-slow-node",
  about: "one of 8 nodes 10 times as slow, against 8 good ones and against the best 7.1 could do",
  async run({ runs, say, signal }) {
    const good: number[] = [];
    const bad: number[] = [];
    const best: number[] = [];
    const ratios: number[] = [];
    const toBest: number[] = [];
    const duplicate: number[] = [];
    for (let seed = 1; seed <= (runs ?? seedsDefault); seed++) {
      signal.throwIfAborted();
      const durationsMs = lognormalMs(nodes * tasksPerNode, 2000, 0.8, seed);
      const run = {
        ...{ seed: `slow ${seed}`, nodes, slots: 1, durationsMs },
        ...{ estimateError: 0.3, receiveMs: 0.1 },
      };
      const eight = await runMesh(run);
      const seven = await runMesh({
        ...run,
        slowness: (index) => (index === slowIndex ? slowness : 1),
      });
      const bestMs = lowerBoundMs(durationsMs, nodes - 1 + 1 / slowness);
      good.push(eight.makespanMs / 1000);
      bad.push(seven.makespanMs / 1000);
      best.push(bestMs / 1000);
      ratios.push(seven.makespanMs / eight.makespanMs);
      toBest.push(seven.makespanMs / bestMs);
      duplicate.push(100 * seven.duplicatePart);
      say(
        `seed ${seed}: ${ratios.at(-1)?.toFixed(3)} of eight good nodes, ${toBest.at(-1)?.toFixed(3)} of the best`,
      );
    }
    const eight = rowOf("eight good nodes", "s", good);
    const bound = rowOf("lower bound for 7.1 nodes", "s", best);
    return {
      rows: [
        eight,
        bound,
        rowOf("one of them 10 times as slow", "s", bad, eight),
        rowOf("duplicate work", "%", duplicate),
      ],
      checks: [
        atMost("makespan with the slow node", medianOf(ratios), makespanMax, "x of eight good"),
        atMost("the same", medianOf(toBest), makespanMax, "x of the best of 7.1"),
        atMost("duplicate work", medianOf(duplicate), duplicateMax, "%"),
      ],
      notes: ["losing a whole node of eight alone would make it 1.143 times as long"],
    };
  },
};
