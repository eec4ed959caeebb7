/**
 * What the mesh costs where it cannot help: a cold build on one node that has no peers, against the
 * same build without any mesh, at the same -j.
 *
 * Two projects: real C++ without optimization, and C files that compile in no time, where a fixed
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
  type Row,
  rowOf,
} from "../bench.ts";
import { cpuOfTreeMs, program, timed } from "../command.ts";
import { cxxProject, type Project, smallC } from "../projects.ts";

const runsDefault = 5;
const jobs = 2;
const cxxFiles = 20;
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
      const rows: Row[] = [];
      const checks: Check[] = [];
      const projects = [
        await cxxProject(world.folder, "-O0", cxxFiles, options.signal),
        await smallC(world.folder, cFiles),
      ];
      for (const project of projects) {
        const cases = casesOf(project, world, daemon, options.signal);
        await measure(cases, project, options);
        const [plain, ...meshed] = cases;
        if (plain === undefined) continue;
        const wall = rowOf(
          `${project.name}: plain`,
          "ms",
          plain.samples.map(({ wallMs }) => wallMs),
        );
        const cpu = rowOf(
          `${project.name}: plain, CPU`,
          "ms",
          plain.samples.map(({ cpuMs }) => cpuMs),
        );
        rows.push(wall, cpu);
        for (const { what, samples } of meshed) {
          const name = `${project.name}: ${what}`;
          const walls = rowOf(
            name,
            "ms",
            samples.map(({ wallMs }) => wallMs),
            wall,
          );
          rows.push(
            walls,
            rowOf(
              `${name}, CPU`,
              "ms",
              samples.map(({ cpuMs }) => cpuMs),
              cpu,
            ),
          );
          const pairs = samples.map(({ wallMs }, at) => wallMs / (plain.samples[at]?.wallMs ?? 0));
          rows.push(rowOf(`${name}, wall of each round`, "× plain", pairs));
          checks.push(atMost(name, walls.ratio ?? 0, ratioMax, "× plain"));
        }
      }
      return {
        rows: rows.map(short),
        checks,
        notes: [
          "a ratio of wall times needs an idle machine; CPU time is that of all processes, the node's too",
        ],
      };
    } finally {
      await world.close();
    }
  },
};

/** The project is in the name already. */
function short(row: Row): Row {
  return { ...row, against: row.against?.endsWith("CPU") ? "plain CPU" : row.against && "plain" };
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
  project: Project,
  { runs = runsDefault, say }: BenchOptions,
): Promise<void> {
  for (let round = 0; round <= runs; round += 1) {
    for (let at = 0; at < cases.length; at += 1) {
      const one = cases[(at + round) % cases.length];
      await project.clean();
      const sample = await one?.build();
      if (round > 0 && sample !== undefined) one?.samples.push(sample);
    }
    const medians = cases.map(({ what, samples }) => {
      const ms = medianOf(samples.map(({ wallMs }) => wallMs));
      return `${what} ${Math.round(ms)} ms`;
    });
    if (round > 0) say(`${project.name}, round ${round} of ${runs}: ${medians.join(", ")}`);
  }
}
