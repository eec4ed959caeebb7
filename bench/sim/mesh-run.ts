/**
 * One owner's tasks on a simulated mesh of real nodes: what the simulated benchmarks have in common.
 *
 * Time is virtual, so a run costs no time of its own and says the same on every machine; what a
 * message costs a node is measured beforehand and handed in.
 */
import { createMesh, type MeshOptions, type SimMesh } from "../../chaos-tests/simulator/mesh.ts";
import { createWorkload, type Job } from "../../chaos-tests/simulator/workload.ts";
import type { NodeOptions } from "../../src/node/node.ts";
import { createSeededRandom, type SeededRandom } from "../../src/sim/random.ts";
import { createDurations, type Durations } from "../../src/work/durations.ts";

export interface MeshRun {
  readonly seed: string;
  readonly nodes: number;
  readonly slots: number;
  readonly durationsMs: readonly number[];
  /** What the owner expects of each task: the true value times up to this much more or less. */
  readonly estimateError: number;
  readonly receiveMs: number;
  readonly node?: MeshOptions["node"];
  /** How many times longer tasks take on the host with this index. */
  readonly slowness?: (index: number) => number;
}

export interface MeshRunEnd {
  readonly makespanMs: number;
  /** Sends on control streams of all nodes for each task, less the signs of life. */
  readonly sendsPerTask: number;
  /** Pings and pongs, for each task. */
  readonly signsPerTask: number;
  readonly framesPerTask: number;
  /** Time spent on attempts that did not win, as a part of all that was needed. */
  readonly duplicatePart: number;
  readonly wallMs: number;
}

/** The link of the model: 0.5 ms there and back. */
const link = { delayMs: 0.25, jitterMs: 0.02, bytesPerMs: 125_000, resetChance: 0 };
const joinMaxMs = 120_000;
const runMaxMs = 24 * 3_600_000;

export async function runMesh(run: MeshRun): Promise<MeshRunEnd> {
  const startedWallMs = performance.now();
  const mesh = await openMesh(run);
  const { simulation } = mesh;
  const owner = mesh.node("n0");
  run.slowness &&
    mesh.names.forEach((name, index) => {
      simulation.faults.setSlowness(name, run.slowness?.(index) ?? 1);
    });
  const before = sentBy(mesh);
  const wasted = watchWaste(mesh);
  const startMs = simulation.nowMs();
  const work = createWorkload(() => true);
  const jobs = run.durationsMs.map((durationMs, index) =>
    work.submit(owner, {
      durationMs,
      label: `task-${index}`,
      unit: `task-${index}`,
      lookUp: false,
      forget: true,
    }),
  );
  await simulation.finish(settled(jobs), startMs + runMaxMs);
  const after = sentBy(mesh);
  const neededMs = run.durationsMs.reduce((sum, ms) => sum + ms, 0);
  return {
    makespanMs: simulation.nowMs() - startMs,
    sendsPerTask: (after.sends - before.sends) / jobs.length,
    signsPerTask: (after.signs - before.signs) / jobs.length,
    framesPerTask: (after.frames - before.frames) / jobs.length,
    duplicatePart: wasted() / neededMs,
    wallMs: performance.now() - startedWallMs,
  };
}

/** In a mesh of many, the owner knows all and the others know it: what one node can take is 1024. */
function reach({ nodes }: MeshRun, index: number): Partial<NodeOptions> {
  if (nodes <= 128) return {};
  return { peersWantedMax: index === 0 ? nodes : 2, peersMax: 2 * nodes };
}

async function openMesh(run: MeshRun): Promise<SimMesh> {
  const mesh = await createMesh(run.seed, {
    nodes: run.nodes,
    slots: () => run.slots,
    node: (index) => ({ lend: "always", ...reach(run, index), ...run.node?.(index) }),
    durations: (index) => (index === 0 ? known(run) : undefined),
    simulation: {
      eventsMax: 1e9,
      network: {
        link,
        receiveMs: run.receiveMs,
        dialTimeoutMs: 5000,
        silenceMaxMs: 15_000,
        discovery: false,
      },
    },
  });
  const { simulation } = mesh;
  const owner = mesh.node("n0");
  const isMet = (): boolean => owner.directory.peers().length === run.nodes - 1;
  await simulation.until(isMet, simulation.nowMs() + joinMaxMs);
  await simulation.run(simulation.nowMs() + 2000);
  return mesh;
}

/** As after an earlier build that was not quite like this one. */
function known({ durationsMs, estimateError, seed }: MeshRun): Durations {
  const durations = createDurations(durationsMs.length + 1);
  const random = createRandomOf(seed);
  durationsMs.forEach((durationMs, index) => {
    const error = 1 + random.between(-estimateError, estimateError);
    durations.learn("c", `task-${index}`, durationMs * error);
  });
  return durations;
}

function settled(jobs: readonly Job[]): Promise<unknown> {
  return Promise.all(jobs.map((job) => job.settled));
}

function sentBy(mesh: SimMesh): Readonly<Record<"sends" | "signs" | "frames", number>> {
  const sent = { sends: 0, signs: 0, frames: 0 };
  for (const { control } of mesh.nodes()) {
    const { sends = 0, ping = 0, pong = 0, ...others } = control.sent();
    sent.signs += ping + pong;
    // A sign of life goes alone: what else there is to say makes it needless.
    sent.sends += sends - ping - pong;
    sent.frames += Object.values(others).reduce((sum, count) => sum + count, 0);
  }
  return sent;
}

/** Adds up what attempts cost that were given up or came too late. */
function watchWaste(mesh: SimMesh): () => number {
  const running = new Map<string, number>();
  let wastedMs = 0;
  mesh.onEvent((node, event) => {
    if (event.event === "foreign-started")
      running.set(`${node.name} ${event.task}`, mesh.simulation.nowMs());
    if (event.event !== "foreign-done") return;
    const key = `${node.name} ${event.task}`;
    const sinceMs = running.get(key);
    running.delete(key);
    if (sinceMs !== undefined && event.outcome !== "accepted")
      wastedMs += mesh.simulation.nowMs() - sinceMs;
  });
  return () => wastedMs;
}

function createRandomOf(seed: string): SeededRandom {
  return createSeededRandom(`estimates ${seed}`);
}
