/**
 * One run: a mesh of real processes, work that never rests, storms of faults, and after each of them
 * calm, in which work has to go on at once; in the end nothing may be lost, wrong or left over.
 */
import { join } from "node:path";
import { createSeededRandom } from "../../../src/sim/random.ts";
import { createWorld, type World } from "../nodes.ts";
import {
  complaints,
  crashes,
  heldAtRest,
  leftBehind,
  lostTasks,
  type Sightings,
  sightings,
  temporaryFiles,
} from "./checks.ts";
import { mountSmallDisk } from "./disk-faults.ts";
import { createStorm, type Storm } from "./faults.ts";
import { type Fleet, type Member, startFleet, whole } from "./fleet.ts";
import { type Liar, type LieCount, startLiarProcess } from "./liar-control.ts";
import type { Seen } from "./processes.ts";
import type { ProjectOptions } from "./project.ts";
import { pause } from "./strike.ts";
import { startWorkload, type Workload } from "./workload.ts";

export interface ChaosOptions {
  readonly seed: number;
  /** Of storms and calms together; start and end come on top. */
  readonly durationMs: number;
  readonly stormMs: number;
  /** Between two faults, on average. */
  readonly gapMs: number;
  /** Nodes that only work for others. */
  readonly workers: number;
  /** In which some task has to end at every node that has work, once all is calm. */
  readonly progressMaxMs: number;
  readonly project: ProjectOptions;
  /** Kinds of fault; undefined: all that this machine allows. */
  readonly only?: readonly string[];
  readonly say: (line: string) => void;
}

export interface Verdict {
  readonly seed: number;
  readonly minutes: number;
  readonly only: readonly string[] | undefined;
  readonly wallMs: number;
  readonly fired: ReadonlyMap<string, number>;
  /** Kinds that this machine does not allow, and why. */
  readonly skipped: ReadonlyMap<string, string>;
  /** Kinds that might have struck and did not. */
  readonly unfired: readonly string[];
  readonly lies: ReadonlyMap<string, LieCount>;
  readonly builds: number;
  readonly jobs: number;
  readonly seen: Sightings;
  readonly progressMs: readonly number[];
  readonly lost: readonly string[];
  readonly wrong: readonly string[];
  readonly leaked: readonly string[];
  /** Everything else that must not be. */
  readonly broken: readonly string[];
}

const smallDiskMiB = 256;
const commandMaxMs = 240_000;
const wholeMaxMs = 90_000;
const lookMs = 50;
const textBytes = 1_500_000;

export async function runChaos(options: ChaosOptions, signal: AbortSignal): Promise<Verdict> {
  const startedMs = performance.now();
  const { say } = options;
  const skipped = new Map<string, string>();
  const world = await createWorld();
  const disk = mountSmallDisk(join(world.folder, "small"), smallDiskMiB);
  if (typeof disk === "string") {
    skipped.set("full-disk", disk);
    say(`skipped full-disk: ${disk}`);
  }
  const running: Running = {
    fleet: undefined,
    liar: undefined,
    workload: undefined,
    storm: undefined,
    orphans: [],
  };
  const outcome: Outcome = { lost: [], wrong: [], leaked: [], broken: [], progressMs: [] };
  try {
    await weather(world, typeof disk === "string" ? undefined : disk.folder);
    await settle(world, running, outcome, signal);
  } catch (error) {
    if (!signal.aborted) outcome.broken.push(String(error instanceof Error ? error.stack : error));
  } finally {
    await shutDown(world, running, outcome, () => {
      if (typeof disk !== "string") disk.unmount();
    });
  }
  signal.throwIfAborted();
  const { fleet, liar, workload, storm } = running;
  const fired = storm?.fired ?? new Map<string, number>();
  return {
    seed: options.seed,
    minutes: options.durationMs / 60_000,
    only: options.only,
    wallMs: performance.now() - startedMs,
    fired,
    skipped,
    unfired: (storm?.kinds ?? []).filter((kind) => !fired.has(kind)),
    lies: liar?.counts() ?? new Map(),
    builds: workload?.counts.builds ?? 0,
    jobs: workload?.counts.jobs ?? 0,
    seen: sightings(fleet?.members ?? []),
    ...outcome,
  };

  /** Starts everything and lets it storm until the time is over. */
  async function weather(world: World, smallDisk: string | undefined): Promise<void> {
    const random = createSeededRandom(`live ${options.seed}`);
    const fleet = await startFleet(world, random.fork("fleet"), {
      workers: options.workers,
      smallDisk,
    });
    running.fleet = fleet;
    await whole(world, fleet.members, wholeMaxMs);
    say(`${fleet.members.length} nodes, each behind a proxy`);
    const liar = startLiarProcess(fleet, world.folder);
    running.liar = liar;
    const [builder, jobber] = fleet.members;
    if (builder === undefined || jobber === undefined) throw new Error("no mesh");
    const workload = await startWorkload(
      { world, builder, jobber, random: random.fork("work"), say },
      { ...options.project, textBytes, commandMaxMs },
      signal,
    );
    running.workload = workload;
    const { orphans } = running;
    const context = { world, fleet, workload, liar, orphans, signal };
    const storm = createStorm(context, random.fork("storm"), {
      without: new Set(skipped.keys()),
      only: options.only,
      say,
    });
    running.storm = storm;
    const gaps = random.fork("gaps");
    const endMs = performance.now() + options.durationMs;
    while (performance.now() < endMs && !signal.aborted) {
      const calmMs = Math.min(endMs, performance.now() + options.stormMs);
      while (performance.now() < calmMs && !signal.aborted) {
        await pause(options.gapMs * gaps.between(0.5, 1.5), signal);
        if (!signal.aborted) await storm.next();
      }
      await storm.calm();
      if (signal.aborted) break;
      outcome.progressMs.push(...(await progress(workload, [builder, jobber], outcome)));
      outcome.broken.push(...crashes(fleet.members, () => false));
    }
  }

  /** How long each of them takes to get something done, now that all is calm. */
  function progress(
    workload: Workload,
    members: readonly Member[],
    { broken }: Outcome,
  ): Promise<readonly number[]> {
    return Promise.all(
      members.map(async (member) => {
        const before = workload.progressOf(member);
        const fromMs = performance.now();
        const spentMs = (): number => performance.now() - fromMs;
        while (workload.progressOf(member) === before && !signal.aborted) {
          if (spentMs() > options.progressMaxMs) {
            broken.push(
              `${member.name} got nothing done within ${options.progressMaxMs} ms of calm`,
            );
            break;
          }
          await pause(lookMs, signal);
        }
        say(`calm: ${member.name} went on after ${(spentMs() / 1000).toFixed(1)} s`);
        return spentMs();
      }),
    );
  }
}

interface Running {
  fleet: Fleet | undefined;
  liar: Liar | undefined;
  workload: Workload | undefined;
  storm: Storm | undefined;
  readonly orphans: Seen[];
}

interface Outcome {
  readonly lost: string[];
  readonly wrong: string[];
  readonly leaked: string[];
  readonly broken: string[];
  readonly progressMs: number[];
}

/** Lets the work end, and looks at the nodes while they are still there. */
async function settle(
  world: World,
  { fleet, liar, workload }: Running,
  { lost, leaked, broken }: Outcome,
  signal: AbortSignal,
): Promise<void> {
  if (fleet === undefined || signal.aborted) return;
  await workload?.stop();
  await liar?.quiet();
  if (signal.aborted) return;
  await whole(world, fleet.members, wholeMaxMs).catch((error: Error) => broken.push(error.message));
  leaked.push(...(await heldAtRest(world, fleet)));
  lost.push(...lostTasks(fleet.members));
  broken.push(...complaints(fleet.members), ...(liar?.unpunished() ?? []));
}

/** Ends everything, whatever happened, and looks at what is left. */
async function shutDown(
  world: World,
  { fleet, liar, workload, storm, orphans }: Running,
  { lost, wrong, leaked, broken }: Outcome,
  unmount: () => void,
): Promise<void> {
  const members = fleet?.members ?? [];
  // Nobody may be brought back once all are ended.
  await storm?.calm().catch((error: unknown) => broken.push(String(error)));
  // Whoever is stopped hears no signal but SIGKILL.
  for (const member of members) member.node()?.child.kill("SIGCONT");
  await workload?.stop().catch((error: unknown) => broken.push(String(error)));
  lost.push(...(workload?.lost ?? []));
  wrong.push(...(workload?.wrong ?? []));
  await liar?.close();
  const pids = members.flatMap(({ lives }) => lives().map(({ child }) => child.pid ?? 0));
  for (const member of members) member.node()?.child.kill("SIGTERM");
  await Promise.race([
    Promise.all(members.map((member) => member.lives().at(-1)?.exited)),
    pause(8_000, new AbortController().signal),
  ]);
  leaked.push(...(await temporaryFiles(members)));
  // Mounted in the folder that goes next.
  for (const member of members) member.node()?.child.kill("SIGKILL");
  unmount();
  await world.close();
  await fleet?.close();
  const groups = [...pids, ...(workload?.groups ?? [])].filter((group) => group > 0);
  leaked.push(...(await leftBehind(world.folder, orphans, groups)));
}
