/**
 * How much faster than the world it simulates the simulator is, at 50 nodes: idle, with one build of
 * 400 tasks that depend on each other, and with every slot busy with tasks of 2 s.
 */
import { createDag, runDag, skewedDag } from "../../chaos-tests/simulator/dag.ts";
import { createMesh, type SimMesh } from "../../chaos-tests/simulator/mesh.ts";
import { createWorkload } from "../../chaos-tests/simulator/workload.ts";
import { createSeededRandom } from "../../src/sim/random.ts";
import { atLeast, type Bench, medianOf, type Row, rowOf } from "../bench.ts";
import { lognormalMs } from "../model.ts";

const nodes = 50;
const idleMs = 600_000;
const tasksPerNode = 20;
const runsDefault = 3;
const speedMin = 100;

export const simSpeed: Bench = {
  name: "sim-speed",
  about: "virtual over real time at 50 simulated nodes: idle, one build, every slot busy",
  async run({ runs = runsDefault, say, signal }) {
    const idle: number[] = [];
    const build: number[] = [];
    const full: number[] = [];
    for (let seed = 1; seed <= runs; seed++) {
      signal.throwIfAborted();
      const mesh = await createMesh(`speed ${seed}`, {
        nodes,
        slots: () => 1,
        node: () => ({ lend: "always" }),
        simulation: { eventsMax: 1e9 },
      });
      await mesh.assembled(120_000).catch(() => {});
      idle.push(await timed(mesh, () => mesh.simulation.run(mesh.simulation.nowMs() + idleMs)));
      build.push(await timed(mesh, () => runBuild(mesh, seed)));
      full.push(await timed(mesh, () => runFull(mesh, seed)));
      say(
        `seed ${seed}: ${[idle, build, full].map((list) => Math.round(list.at(-1) ?? 0)).join(", ")} times`,
      );
    }
    const rows: Row[] = [
      rowOf("idle", "x", idle),
      rowOf("a build of 400 tasks", "x", build),
      rowOf("every slot busy", "x", full),
    ];
    return {
      rows,
      checks: [
        atLeast("idle", medianOf(idle), speedMin, "x real time"),
        atLeast("a build of 400 tasks", medianOf(build), speedMin, "x real time"),
        atLeast("every slot busy", medianOf(full), speedMin, "x real time"),
      ],
      notes: [`${nodes} nodes of one slot, one owner; the chaos seeds have 2 to 7 nodes`],
    };
  },
};

/** Virtual over real time. */
async function timed({ simulation }: SimMesh, run: () => Promise<void>): Promise<number> {
  const startMs = simulation.nowMs();
  const startedMs = performance.now();
  await run();
  return (simulation.nowMs() - startMs) / (performance.now() - startedMs);
}

async function runBuild(mesh: SimMesh, seed: number): Promise<void> {
  const dag = createDag(createSeededRandom(`speed ${seed}`), skewedDag);
  const run = runDag(
    createWorkload(() => true),
    mesh.node("n0"),
    dag,
    ({ durationMs }, index) => ({
      durationMs,
      label: `build-${index}`,
      lookUp: false,
      forget: true,
    }),
  );
  await mesh.simulation.until(run.isDone, mesh.simulation.nowMs() + 1e7);
}

async function runFull(mesh: SimMesh, seed: number): Promise<void> {
  const work = createWorkload(() => true);
  const jobs = lognormalMs(nodes * tasksPerNode, 2000, 0.8, seed).map((durationMs) =>
    work.submit(mesh.node("n0"), { durationMs, lookUp: false, forget: true }),
  );
  const all = Promise.all(jobs.map(({ settled }) => settled));
  await mesh.simulation.finish(all, mesh.simulation.nowMs() + 1e7);
}
