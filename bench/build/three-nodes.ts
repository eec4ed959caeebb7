/**
 * What three nodes make of work that holds a slot and needs no CPU: the time until all of it is
 * done, against one node of the same kind in the same run. One machine is enough for that, and what
 * is lost against 3 × is what stealing loses.
 *
 * Two kinds of work. Tasks that sleep, of equal and of unequal length, submitted all at once by a
 * node in this process, with /bin/sleep and what it loads as inputs; thieves are processes of their
 * own that run it in their sandboxes. And a real `mesh build` of C files with the real gcc, whose
 * assembler has been replaced by one that sleeps first: see slow-assembler.ts.
 */
import { mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { createWorld, startMesh, type World } from "../../chaos-tests/live/nodes.ts";
import type { OpenNode } from "../../src/node/open.ts";
import { atLeast, type Bench, type BenchOptions, type Result, rowOf } from "../bench.ts";
import { program, timed } from "../command.ts";
import { lognormalMs } from "../model.ts";
import { inviteOf, openOwner, peersKnown } from "../owner.ts";
import { type Project, smallC } from "../projects.ts";
import { createSleeps, type Makespan, makespan } from "../steal/sleeps.ts";
import { buildSlowAssembler } from "./slow-assembler.ts";

const thieves = 2;
const runsDefault = 1;
const speedUpMin = 2.7;
const equalMs = 500;
const equalTasks = 30;
const unequal = { tasks: 30, meanMs: 400, sigma: 0.8, seed: 1 };
const slowedFiles = 30;
const slowedMs = 1000;

interface Work {
  readonly what: string;
  readonly sleepsMs: readonly number[];
}

export const threeNodes: Bench = {
  name: "three-nodes",
  about: "slot-bound work on three nodes with one slot each, against one of them",
  async run(options) {
    const slept = await sleepingTasks(options);
    const built = await slowedBuild(options);
    return {
      rows: [...slept.rows, ...built.rows],
      checks: [...slept.checks, ...built.checks],
      notes: [...slept.notes, ...built.notes],
    };
  },
};

async function sleepingTasks({ runs = runsDefault, say, signal }: BenchOptions): Promise<Result> {
  const works: readonly Work[] = [
    {
      what: `${equalTasks} tasks of ${equalMs} ms`,
      sleepsMs: Array.from({ length: equalTasks }, () => equalMs),
    },
    {
      what: `${unequal.tasks} tasks of lognormal length`,
      sleepsMs: lognormalMs(unequal.tasks, unequal.meanMs, unequal.sigma, unequal.seed),
    },
  ];
  const world = await createWorld();
  let node: OpenNode | undefined;
  try {
    node = await openOwner(world, "owner", 1, signal);
    const sleeping = await createSleeps(node, undefined, signal);
    const owner = node;
    const measure = async (what: string, { sleepsMs }: Work): Promise<Makespan[]> => {
      const spans: Makespan[] = [];
      for (let run = 0; run < runs; run += 1) {
        const span = await makespan(
          owner,
          sleepsMs.map((sleepMs, at) => sleeping({ label: `sleep ${at}`, sleepMs })),
          signal,
        );
        say(`${what}: ${Math.round(span.wallMs)} ms, ${span.stolen} stolen`);
        spans.push(span);
      }
      return spans;
    };
    const alone: Makespan[][] = [];
    for (const work of works) alone.push(await measure(`one node, ${work.what}`, work));
    for (let at = 0; at < thieves; at += 1) await world.start({ invite: inviteOf(node), slots: 1 });
    await peersKnown(node, thieves);
    const rows: Result["rows"][number][] = [];
    const checks: Result["checks"][number][] = [];
    for (const [at, work] of works.entries()) {
      const one = rowOf(
        `${work.what}: one node`,
        "ms",
        (alone[at] ?? []).map(({ wallMs }) => wallMs),
      );
      const helped = await measure(`three nodes, ${work.what}`, work);
      const three = rowOf(
        `${work.what}: three nodes`,
        "ms",
        helped.map(({ wallMs }) => wallMs),
        one,
      );
      rows.push(one, { ...three, against: "one node" });
      checks.push(atLeast(work.what, one.median / three.median, speedUpMin, "× faster"));
    }
    return { rows, checks, notes: [] };
  } finally {
    await node?.stop();
    await world.close();
  }
}

async function slowedBuild({ runs = runsDefault, say, signal }: BenchOptions): Promise<Result> {
  const world = await createWorld();
  try {
    const project = await smallC(world.folder, slowedFiles);
    const slow = join(world.folder, "slow");
    mkdirSync(slow);
    const why = await buildSlowAssembler(slow, slowedMs, signal);
    if (why !== undefined) return { rows: [], checks: [], notes: [`no slowed build: ${why}`] };
    const env = { PATH: `${slow}:${process.env.PATH ?? ""}` };
    const alone = await world.start({ slots: 1 });
    const [builder] = await startMesh(world, thieves + 1, { slots: 1 });
    const what = `${slowedFiles} C files, assembler slowed by ${slowedMs} ms`;
    const one: number[] = [];
    const three: number[] = [];
    const first = await meshBuild(world, builder?.dataDir ?? "", project, env, signal);
    say(`${what}: three nodes, first build ${Math.round(first.wallMs)} ms`);
    for (let run = 0; run < runs; run += 1) {
      const lonely = await meshBuild(world, alone.dataDir, project, env, signal);
      const helped = await meshBuild(world, builder?.dataDir ?? "", project, env, signal);
      one.push(lonely.wallMs);
      three.push(helped.wallMs);
      say(
        `${what}: one node ${Math.round(lonely.wallMs)} ms, ` +
          `three ${Math.round(helped.wallMs)} ms with ${helped.stolen} stolen`,
      );
    }
    const base = rowOf(`${what}: one node`, "ms", one);
    const cold = rowOf(`${what}: three nodes, first`, "ms", [first.wallMs], base);
    const warm = rowOf(`${what}: three nodes`, "ms", three, base);
    return {
      rows: [base, ...[cold, warm].map((row) => ({ ...row, against: "one node" }))],
      checks: [atLeast(what, base.median / warm.median, speedUpMin, "× faster")],
      notes: ["in the slowed project's first build, each thief takes the compiler into its store"],
    };
  } finally {
    await world.close();
  }
}

async function meshBuild(
  world: World,
  dataDir: string,
  project: Project,
  env: Readonly<Record<string, string>>,
  signal: AbortSignal,
): Promise<Makespan> {
  await project.clean();
  const summary = join(world.folder, "summary.json");
  const { wallMs } = await timed(
    [process.execPath, program, "build", "--summary", summary],
    { cwd: project.dir, env: { ...env, MESH_DIR: dataDir } },
    signal,
  );
  return {
    wallMs,
    stolen: (JSON.parse(readFileSync(summary, "utf8")) as { stolen: number }).stolen,
  };
}
