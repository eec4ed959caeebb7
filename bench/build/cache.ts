/**
 * A rebuild of which everything is known already: leveldb after `clean`, with nothing between make
 * and the compiler but a cache. Against ccache in its direct mode and sccache, both warm, and a
 * build from nothing for scale.
 *
 * With a node that runs already, which is how a mesh is used, and with one that lives for the build
 * only, whose start and whose first look at every file are then part of the build.
 */
import { join } from "node:path";
import { createWorld } from "../../chaos-tests/live/nodes.ts";
import { atMost, type Bench, type BenchOptions, medianOf, type Row, rowOf } from "../bench.ts";
import { program } from "../command.ts";
import { cxxProject } from "../projects.ts";
import {
  findProgram,
  type Sample,
  sampled,
  settled,
  startQuietNode,
  startSccache,
} from "./cache-tools.ts";

const runsDefault = 10;
const jobs = 2;
const cxxFiles = 38;
const ratioMax = 1.1;
const peer = "ccache";
const running = "mesh, running node";

interface Case {
  readonly what: string;
  readonly build: () => Promise<Sample>;
  readonly samples: Sample[];
}

export const cache: Bench = {
  name: "cache",
  about: "a rebuild of which every result is known here, against ccache and sccache",
  async run(options) {
    const { signal } = options;
    const world = await createWorld();
    const sccache = await startSccache(world.folder, signal);
    const node = await startQuietNode(world, "running", jobs, undefined);
    try {
      const project = await cxxProject(world.folder, "-O2", cxxFiles, signal);
      const cwd = project.dir;
      const cases: Case[] = [];
      const add = (
        what: string,
        argv: readonly string[],
        env: Readonly<Record<string, string>>,
        ...servers: readonly (number | undefined)[]
      ) => {
        const build = () => sampled(argv, { cwd, env }, servers, signal);
        cases.push({ what, samples: [], build });
      };
      const make = (launcher: string) => ["make", `-j${jobs}`, `CXX=${launcher} g++`];
      const mesh = [process.execPath, program, "build", "--jobs", `${jobs}`];
      const missing: string[] = [];
      if (findProgram("ccache") === undefined) missing.push("ccache is not installed");
      else add(peer, make("ccache"), { CCACHE_DIR: join(world.folder, "ccache") });
      if (sccache === undefined) missing.push("sccache is not installed");
      else add("sccache", make("sccache"), sccache.env, sccache.pid);
      add(running, mesh, { MESH_DIR: node.dataDir }, node.pid);
      add("mesh, embedded node", mesh, { MESH_DIR: join(world.folder, "embedded") });
      await project.clean();
      const cold = await sampled(["make", `-j${jobs}`], { cwd }, [], signal);
      await measure(cases, project.clean, options);
      return resultOf(project.name, cold, cases, missing);
    } finally {
      await node.stop();
      await sccache?.stop();
      await world.close();
    }
  },
};

/** Interleaved, and each round begins with another case. */
async function measure(
  cases: readonly Case[],
  clean: () => Promise<void>,
  { runs = runsDefault, say }: BenchOptions,
): Promise<void> {
  // Once to fill them; once more because what has just been written is trusted by none of them.
  for (const filling of [true, false]) {
    for (const one of cases) {
      await clean();
      const { wallMs } = await one.build();
      if (filling) say(`filled ${one.what} in ${Math.round(wallMs)} ms`);
    }
    await settled();
  }
  for (let round = 0; round < runs; round += 1) {
    for (let at = 0; at < cases.length; at += 1) {
      const one = cases[(at + round) % cases.length];
      await clean();
      const sample = await one?.build();
      if (sample !== undefined) one?.samples.push(sample);
    }
  }
  for (const { what, samples } of cases)
    say(`${what}: ${Math.round(medianOf(samples.map(({ wallMs }) => wallMs)))} ms`);
}

function resultOf(
  project: string,
  cold: Sample,
  cases: readonly Case[],
  missing: readonly string[],
): Awaited<ReturnType<Bench["run"]>> {
  const base = cases.find(({ what }) => what === peer);
  const rows: Row[] = [
    rowOf("no cache, cold", "ms", [cold.wallMs]),
    rowOf("no cache, cold, CPU", "ms", [cold.cpuMs]),
  ];
  const row = (one: Case, unit: keyof Sample, against?: Row): Row =>
    rowOf(
      unit === "cpuMs" ? `${one.what}, CPU` : one.what,
      "ms",
      one.samples.map((sample) => sample[unit]),
      against,
    );
  const wall = base && row(base, "wallMs");
  const cpu = base && row(base, "cpuMs");
  for (const one of cases) {
    rows.push(one === base && wall ? wall : row(one, "wallMs", wall));
    rows.push(one === base && cpu ? cpu : row(one, "cpuMs", cpu));
  }
  const ratio = rows.find(({ what }) => what === running)?.ratio;
  return {
    rows,
    checks: ratio === undefined ? [] : [atMost(running, ratio, ratioMax, "× ccache")],
    notes: [
      `${project}; CPU time is that of all processes, servers included`,
      "on a machine that does other things too it says more than wall time",
      ...missing,
    ],
  };
}
