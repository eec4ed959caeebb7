/**
 * What the mesh costs where it cannot help: a cold build of which nothing is known, on one node,
 * against the same build without any mesh, at the same -j. Every result is written to the store.
 *
 * Two projects: real C++ as its makefile builds it, and C files that compile in no time, where a fixed
 * cost per compile weighs most. Four ways: with a node that runs already, alone or with peers that
 * are told of every result; with one that lives for the build only, whose start is then part of the
 * build; and with the first build ever of a data directory. Every round defines another macro, so
 * that nothing of an earlier one is known.
 */
import { rmSync } from "node:fs";
import { join } from "node:path";
import { createWorld, type LiveNode, startMesh, type World } from "../../chaos-tests/live/nodes.ts";
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
const peers = 2;
const ratioMax = 1.03;

interface Case {
  readonly what: string;
  /** `flags` of make differ from round to round. */
  readonly build: (flags: readonly string[]) => Promise<Sample>;
  readonly samples: Sample[];
}

interface Sample {
  readonly wallMs: number;
  readonly cpuMs: number;
}

export const oneNode: Bench = {
  name: "one-node",
  about: "a cold build on one node that knows no result, against the same build without the mesh",
  async run(options) {
    const world = await createWorld();
    try {
      const alone = await world.start({ slots: jobs });
      const [amongPeers] = await startMesh(world, peers + 1, { slots: jobs });
      const cxx = await cxxProject(world.folder, "-O2", cxxFiles, options.signal);
      const c = await smallC(world.folder, cFiles);
      const works: readonly Work[] = [
        { what: cxx.name, project: cxx, rebuilds: true, ratioMax },
        { what: c.name, project: c, rebuilds: true, ratioMax },
        { what: "nothing to do", project: c, rebuilds: false, ratioMax: undefined },
      ];
      const rows: Row[] = [];
      const checks: Check[] = [];
      const notes: string[] = [];
      for (const work of works) {
        const cases = casesOf(work, world, { alone, amongPeers }, options.signal);
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
  /** False: everything is up to date. */
  readonly rebuilds: boolean;
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

interface Nodes {
  readonly alone: LiveNode;
  readonly amongPeers: LiveNode | undefined;
}

function casesOf(
  { project, rebuilds }: Work,
  world: World,
  { alone, amongPeers }: Nodes,
  signal: AbortSignal,
): readonly Case[] {
  const cwd = project.dir;
  const mesh = (dataDir: string, flags: readonly string[], ...more: readonly string[]) => {
    const command = [process.execPath, program, "build", "--jobs", `${jobs}`, ...more];
    return timed([...command, "--", ...flags], { cwd, env: { MESH_DIR: dataDir } }, signal);
  };
  const embedded = join(world.folder, "embedded");
  const fresh = join(world.folder, "fresh");
  const running = (
    what: string,
    { dataDir, child }: LiveNode,
    ...more: readonly string[]
  ): Case => ({
    what,
    samples: [],
    async build(flags) {
      const before = cpuOfTreeMs(child.pid ?? 0);
      const { wallMs, cpuMs } = await mesh(dataDir, flags, ...more);
      return { wallMs, cpuMs: cpuMs + cpuOfTreeMs(child.pid ?? 0) - before };
    },
  });
  const cases: Case[] = [
    {
      what: "plain",
      samples: [],
      build: (flags) => timed(["make", `-j${jobs}`, ...flags], { cwd }, signal),
    },
    { what: "embedded node", samples: [], build: (flags) => mesh(embedded, flags) },
    running("running node", alone),
  ];
  if (!rebuilds || amongPeers === undefined) return cases;
  return [
    ...cases,
    // The peers are on this machine: what they would take over is not what is measured here.
    running(`running node, ${peers} peers`, amongPeers, "--no-steal"),
    {
      what: "first build ever",
      samples: [],
      build(flags) {
        rmSync(fresh, { recursive: true, force: true });
        return mesh(fresh, flags);
      },
    },
  ];
}

/** Interleaved, and each round begins with another case. The first round warms up. */
async function measure(
  cases: readonly Case[],
  { what: work, project, rebuilds }: Work,
  { runs = runsDefault, say }: BenchOptions,
): Promise<void> {
  for (let round = 0; round <= runs; round += 1) {
    for (let at = 0; at < cases.length; at += 1) {
      const one = cases[(at + round) % cases.length];
      if (rebuilds) await project.clean();
      const [, ...flags] = project.compile;
      const sample = await one?.build([`FLAGS=${flags.join(" ")} -DROUND=${round}`]);
      if (round > 0 && sample !== undefined) one?.samples.push(sample);
    }
    const medians = cases.map(({ what, samples }) => {
      const ms = medianOf(samples.map(({ wallMs }) => wallMs));
      return `${what} ${Math.round(ms)} ms`;
    });
    if (round > 0) say(`${work}, round ${round} of ${runs}: ${medians.join(", ")}`);
  }
}
