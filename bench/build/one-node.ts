/**
 * What the mesh costs where it cannot help: a cold build on one node that has no peers, against the
 * same build without any mesh, at the same -j.
 *
 * Two projects: real C++ as its makefile builds it, and C files that compile in no time, where a fixed
 * cost per compile weighs most. Two ways: with a node that runs already, and with one that lives
 * for the build only, whose start is then part of the build.
 */
import { join } from "node:path";
import { createWorld, type LiveNode, type World } from "../../chaos-tests/live/nodes.ts";
import {
  atMost,
  type Bench,
  type BenchOptions,
  type Check,
  medianOf,
  type Result,
  type Row,
  rowOf,
} from "../bench.ts";
import { cpuOfTreeMs, program, timed } from "../command.ts";
import { cxxProject, type Project, smallC } from "../projects.ts";

const runsDefault = 3;
const jobs = 2;
const cxxFiles = 38;
const cFiles = 40;
const ratioMax = 1.05;

interface Case {
  readonly what: string;
  readonly build: () => Promise<Sample>;
  readonly samples: Sample[];
}

interface Sample {
  readonly wallMs: number;
  readonly cpuMs: number;
}

export const oneNode: Bench = {
  name: "one-node",
  about: "a cold build on one node without peers, against the same build without the mesh",
  async run(options) {
    const world = await createWorld();
    try {
      const daemon = await world.start({ slots: jobs });
      const cxx = await cxxProject(world.folder, "-O2", cxxFiles, options.signal);
      const c = await smallC(world.folder, cFiles);
      const works: readonly Work[] = [
        { what: cxx.name, project: cxx, prepare: cxx.clean, ratioMax },
        { what: c.name, project: c, prepare: c.clean, ratioMax },
        { what: "nothing to do", project: c, prepare: async () => {}, ratioMax: undefined },
      ];
      const rows: Row[] = [];
      const checks: Check[] = [];
      const notes: string[] = [];
      for (const work of works) {
        const cases = casesOf(work.project, world, daemon, options.signal);
        await measure(cases, work, options);
        const result = resultOf(work, cases);
        rows.push(...result.rows);
        checks.push(...result.checks);
        if (work.ratioMax === undefined) notes.push(...fixedCosts(cases));
      }
      return {
        rows,
        checks,
        notes: [
          ...notes,
          "CPU time is that of all processes, the node's too; on a busy machine it says more than wall time",
        ],
      };
    } finally {
      await world.close();
    }
  },
};

interface Work {
  readonly what: string;
  readonly project: Project;
  readonly prepare: () => Promise<void>;
  readonly ratioMax: number | undefined;
}

function resultOf(
  { what, ratioMax }: Work,
  [plain, ...meshed]: readonly Case[],
): Pick<Result, "rows" | "checks"> {
  if (plain === undefined) throw new Error("nothing to compare with");
  const row = (one: Case, unit: "wallMs" | "cpuMs", base?: Row): Row => {
    const name = `${what}: ${one.what}${unit === "cpuMs" ? ", CPU" : ""}`;
    const samples = one.samples.map((sample) => sample[unit]);
    const { against, ...rest } = rowOf(name, "ms", samples, base);
    return { ...rest, against: against && (unit === "cpuMs" ? "plain CPU" : "plain") };
  };
  const wall = row(plain, "wallMs");
  const cpu = row(plain, "cpuMs");
  const rows = [wall, cpu];
  const checks: Check[] = [];
  for (const one of meshed) {
    const its = row(one, "wallMs", wall);
    const pairs = one.samples.map(({ wallMs }, at) => wallMs / (plain.samples[at]?.wallMs ?? 0));
    const name = `${what}: ${one.what}`;
    rows.push(its, rowOf(`${name}, round by round`, "× plain", pairs), row(one, "cpuMs", cpu));
    if (ratioMax !== undefined) checks.push(atMost(name, its.ratio ?? 0, ratioMax, "× plain"));
  }
  return { rows, checks };
}

/** What is added to any build, however short, and for how long a build it stays in the bound. */
function fixedCosts([plain, ...meshed]: readonly Case[]): readonly string[] {
  const wallOf = (one: Case | undefined) =>
    medianOf((one?.samples ?? []).map(({ wallMs }) => wallMs));
  return meshed.map((one) => {
    const addedMs = wallOf(one) - wallOf(plain);
    const enoughS = addedMs / (ratioMax - 1) / 1000;
    return (
      `${one.what}: start and end add ${Math.round(addedMs)} ms, ` +
      `${ratioMax} × of a build of ${enoughS.toFixed(1)} s`
    );
  });
}

function casesOf(
  project: Project,
  world: World,
  daemon: LiveNode,
  signal: AbortSignal,
): readonly Case[] {
  const cwd = project.dir;
  const command = [process.execPath, program, "build", "--jobs", String(jobs)];
  const embedded = join(world.folder, "embedded");
  return [
    {
      what: "plain",
      samples: [],
      build: () => timed(["make", `-j${jobs}`], { cwd }, signal),
    },
    {
      what: "embedded node",
      samples: [],
      build: () => timed(command, { cwd, env: { MESH_DIR: embedded } }, signal),
    },
    {
      what: "running node",
      samples: [],
      async build() {
        const before = cpuOfTreeMs(daemon.child.pid ?? 0);
        const { wallMs, cpuMs } = await timed(
          command,
          { cwd, env: { MESH_DIR: daemon.dataDir } },
          signal,
        );
        return { wallMs, cpuMs: cpuMs + cpuOfTreeMs(daemon.child.pid ?? 0) - before };
      },
    },
  ];
}

/** Interleaved, and each round begins with another case. The first round warms up. */
async function measure(
  cases: readonly Case[],
  { what: work, prepare }: Work,
  { runs = runsDefault, say }: BenchOptions,
): Promise<void> {
  for (let round = 0; round <= runs; round += 1) {
    for (let at = 0; at < cases.length; at += 1) {
      const one = cases[(at + round) % cases.length];
      await prepare();
      const sample = await one?.build();
      if (round > 0 && sample !== undefined) one?.samples.push(sample);
    }
    const medians = cases.map(({ what, samples }) => {
      const ms = medianOf(samples.map(({ wallMs }) => wallMs));
      return `${what} ${Math.round(ms)} ms`;
    });
    if (round > 0) say(`${work}, round ${round} of ${runs}: ${medians.join(", ")}`);
  }
}
