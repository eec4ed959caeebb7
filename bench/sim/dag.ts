/**
 * A skewed graph of 400 tasks, twice over: the first build shows the owner what waits for what, the
 * second is measured; critical path first against first come, first served.
 */
import { createDag, criticalPathMs, runDag, skewedDag } from "../../chaos-tests/simulator/dag.ts";
import { createMesh } from "../../chaos-tests/simulator/mesh.ts";
import { createWorkload } from "../../chaos-tests/simulator/workload.ts";
import { createSeededRandom } from "../../src/sim/random.ts";
import type { OwnerOptions } from "../../src/work/owner.ts";
import { atMost, type Bench, medianOf, rowOf } from "../bench.ts";

const nodes = 12;
const seedsDefault = 7;
/** A sixth faster is the same as 0.85 of the time. */
const ratioMax = 0.85;
const buildMaxMs = 3_600_000;

export const simDag: Bench = {
  name: "sim-dag",
  about: "a skewed graph of 400 tasks: critical path first against first come, first served",
  async run({ runs, say, signal }) {
    const fifo: number[] = [];
    const ours: number[] = [];
    const cold: number[] = [];
    const best: number[] = [];
    const ratios: number[] = [];
    for (let seed = 1; seed <= (runs ?? seedsDefault); seed++) {
      signal.throwIfAborted();
      const first = await buildTwice(seed, "first-come");
      const critical = await buildTwice(seed, "critical-path");
      fifo.push(first.secondMs / 1000);
      ours.push(critical.secondMs / 1000);
      cold.push(critical.firstMs / 1000);
      best.push(critical.boundMs / 1000);
      ratios.push(critical.secondMs / first.secondMs);
      say(`seed ${seed}: ${ratios.at(-1)?.toFixed(3)} of the time`);
    }
    const base = rowOf("first come, first served", "s", fifo);
    return {
      rows: [
        rowOf("lower bound", "s", best),
        base,
        rowOf("critical path, first build", "s", cold, base),
        rowOf("critical path, second build", "s", ours, base),
      ],
      checks: [atMost("critical path / first come", medianOf(ratios), ratioMax, "x")],
      notes: [`${nodes} nodes of one slot; lognormal tasks, median 1 s, sigma 0.8`],
    };
  },
};

async function buildTwice(seed: number, order: OwnerOptions["order"]) {
  const dag = createDag(createSeededRandom(`dag ${seed}`), skewedDag);
  const mesh = await createMesh(`dag ${seed}`, {
    nodes,
    slots: () => 1,
    node: () => ({ lend: "always", order }),
    simulation: { eventsMax: 1e9 },
  });
  const { simulation } = mesh;
  await mesh.assembled(60_000);
  const owner = mesh.node("n0");
  const build = async (): Promise<number> => {
    const startMs = simulation.nowMs();
    const run = runDag(
      createWorkload(() => true),
      owner,
      dag,
      ({ durationMs }, index) => ({
        ...{
          durationMs,
          label: `task-${index}`,
          unit: `task-${index}`,
          lookUp: false,
          forget: true,
        },
      }),
    );
    await simulation.until(run.isDone, startMs + buildMaxMs);
    return simulation.nowMs() - startMs;
  };
  const firstMs = await build();
  const secondMs = await build();
  const sumMs = dag.reduce((sum, { durationMs }) => sum + durationMs, 0);
  return { firstMs, secondMs, boundMs: Math.max(sumMs / nodes, criticalPathMs(dag)) };
}
