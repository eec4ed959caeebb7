/**
 * CPU time that handing one C++ compile to a peer takes from the machine that builds: all of its
 * node's, and the shim's. Against the preprocessor (what a client that sends preprocessed text
 * pays) and against `g++ -M` (what one that asks the compiler for the headers pays) on the same
 * files.
 *
 * Everything is stolen: the building node has one slot, and a compiler that waits for its stdin
 * holds it. The thieves run on the same machine; their CPU time is not counted. Every build has
 * another definition on its command lines, which ends up in the objects: no result is known, and
 * every object has to come over.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { appendFile, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { createWorld, until, type World } from "../../chaos-tests/live/nodes.ts";
import { atMost, type Bench, type Row, rowOf } from "../bench.ts";
import { cpuOfThreadsMs, program, type ThreadTimes, timed } from "../command.ts";
import { answeredCase, measureShim } from "../micro/shim.ts";
import { cxxProject, type Project } from "../projects.ts";

const runsDefault = 3;
const thieves = 2;
const jobs = 6;
const cxxFiles = 20;
const shimRounds = 5;
const cpuMaxMs = 3;
/** Builds before the measured ones: the program's own code is compiled as it runs. */
const warmBuilds = 4;
/** A task that must run here waits for a slot that is never free: rather an error than for ever. */
const buildMaxMs = 120_000;

export const clientCpu: Bench = {
  name: "client-cpu",
  about: "the building machine's CPU time per C++ file handed to a peer, against g++ -E and g++ -M",
  async run({ runs = runsDefault, say, signal }) {
    const world = await createWorld();
    try {
      const project = await cxxProject(world.folder, "-O0", cxxFiles, signal);
      await mindRuns(project);
      const owner = await startOwner(world);
      try {
        await holdSlot(world, owner);
        const preprocessed: number[] = [];
        const listed: number[] = [];
        const builds: StolenBuild[] = [];
        for (let run = 0; run <= warmBuilds + runs; run += 1) {
          const files = project.sources.length;
          preprocessed.push((await compilerCpuMs(project, "-E", signal)) / files);
          listed.push((await compilerCpuMs(project, "-M", signal)) / files);
          const build = await stolenBuild(world, owner, project, run, signal);
          builds.push(build);
          say(
            `build ${run + 1} of ${warmBuilds + runs + 1}: ${build.stolen} of ${files} stolen, ` +
              `${totalOf(build.node).toFixed(1)} ms each`,
          );
        }
        const shims = await measureShim(shimRounds, signal);
        const shim = rowOf(
          "shim",
          "ms/file",
          shims.find(({ name }) => name === answeredCase)?.cpuMs ?? [],
        );
        const [first, ...others] = builds.map(({ node }) => node);
        const later = others.slice(warmBuilds);
        const expansion = rowOf("g++ -E", "ms/file", preprocessed);
        const nodeRow = (what: string, nodes: readonly ThreadTimes[], part: Part): Row =>
          rowOf(what, "ms/file", nodes.map(part), expansion);
        const whole = nodeRow("node, later builds", later, totalOf);
        return {
          rows: [
            expansion,
            rowOf("g++ -M", "ms/file", listed, expansion),
            nodeRow("node, first build after its start", first ? [first] : [], totalOf),
            whole,
            nodeRow("  its main thread", later, ({ mainMs }) => mainMs),
            nodeRow("  collecting garbage, compiling itself", later, ({ engineMs }) => engineMs),
            nodeRow("  its threads for files", later, ({ poolMs }) => poolMs),
            shim,
            rowOf(
              "mesh, make and all shims",
              "ms/build",
              builds.map(({ commandCpuMs }) => commandCpuMs),
            ),
          ],
          checks: [
            atMost("client CPU per file, later builds", whole.median + shim.median, cpuMaxMs, "ms"),
          ],
          notes: [
            `${project.name}; the first build hashes the compiler and every header once`,
            `later builds are those after the first ${warmBuilds + 1}`,
          ],
        };
      } finally {
        await owner.stop();
      }
    } finally {
      await world.close();
    }
  },
};

interface BuildingNode {
  readonly dataDir: string;
  readonly pid: number;
  /** Ended with the node, latest first. */
  readonly children: ChildProcess[];
  stop(): Promise<void>;
}

/** Without --json, as a person starts it: telling every event to a script costs CPU time too. */
async function startOwner(world: World): Promise<BuildingNode> {
  const first = await world.start({ slots: 1 });
  for (let at = 1; at < thieves; at += 1) await world.start({ slots: 1, invite: first.invite });
  const dataDir = join(world.folder, "owner");
  const place = ["--data-dir", dataDir, "--listen", "/ip4/127.0.0.1/tcp/0", "--no-mdns"];
  const child = spawn(process.execPath, [program, "join", first.invite, ...place, "--slots", "1"], {
    stdio: "ignore",
  });
  const children = [child];
  const stop = async () => {
    for (const running of children.toReversed()) await ended(running);
  };
  const owner = { dataDir, pid: child.pid ?? 0, children, stop };
  try {
    await until("the building node knows its peers", async () => {
      return (await statusOf(world, owner))?.peers.length === thieves;
    });
  } catch (error) {
    await stop();
    throw error;
  }
  return owner;
}

async function ended(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const exited = new Promise<void>((done) => child.once("exit", () => done()));
  child.kill("SIGTERM");
  await exited;
}

interface Status {
  readonly busy: number;
  readonly peers: readonly unknown[];
}

async function statusOf(world: World, { dataDir }: BuildingNode): Promise<Status | undefined> {
  const { exitCode, stdout } = await world.mesh(dataDir, ["status", "--json"]);
  return exitCode === 0 ? (JSON.parse(stdout) as Status) : undefined;
}

/** Takes the node's only slot with a compile that waits for its source and needs no CPU. */
async function holdSlot(world: World, owner: BuildingNode): Promise<void> {
  const script = "sleep 1000 | gcc -x c -c - -o /dev/null";
  const child = spawn(process.execPath, [program, "exec", "--", "sh", "-c", script], {
    cwd: world.folder,
    env: { ...process.env, MESH_DIR: owner.dataDir },
    stdio: "ignore",
  });
  owner.children.push(child);
  await until("the slot is held", async () => (await statusOf(world, owner))?.busy === 1);
}

async function compilerCpuMs(project: Project, mode: string, signal: AbortSignal): Promise<number> {
  const [compiler = "", ...flags] = project.compile;
  const command = [compiler, ...flags, mode, '"$f"'].join(" ");
  const script = `for f in ${project.sources.join(" ")}; do ${command} > /dev/null || exit 1; done`;
  return (await timed(["sh", "-c", script], { cwd: project.dir }, signal)).cpuMs;
}

type Part = (node: ThreadTimes) => number;

function totalOf({ mainMs, engineMs, poolMs }: ThreadTimes): number {
  return mainMs + engineMs + poolMs;
}

/** Has every object hold the number of the build that made it. */
async function mindRuns({ dir, sources }: Project): Promise<void> {
  const line =
    "\n#ifdef BENCH_RUN\n__attribute__((used)) static const int benchRun = BENCH_RUN;\n#endif\n";
  for (const source of sources) await appendFile(join(dir, source), line);
  const makefile = join(dir, "Makefile");
  const text = await readFile(makefile, "utf8");
  await writeFile(makefile, text.replace(/^FLAGS = .*$/m, "$& -DBENCH_RUN=$(BENCH_RUN)"));
}

interface StolenBuild {
  readonly stolen: number;
  /** Per file. */
  readonly node: ThreadTimes;
  readonly commandCpuMs: number;
}

async function stolenBuild(
  world: World,
  owner: BuildingNode,
  project: Project,
  run: number,
  signal: AbortSignal,
): Promise<StolenBuild> {
  await project.clean();
  const summary = join(world.folder, "summary.json");
  const build = ["build", "--no-cache", "--jobs", `${jobs}`, "--summary", summary];
  const before = cpuOfThreadsMs(owner.pid);
  const { cpuMs } = await timed(
    [process.execPath, program, ...build],
    { cwd: project.dir, env: { MESH_DIR: owner.dataDir, BENCH_RUN: `${run}` } },
    AbortSignal.any([signal, AbortSignal.timeout(buildMaxMs)]),
  );
  const after = cpuOfThreadsMs(owner.pid);
  const { stolen } = JSON.parse(readFileSync(summary, "utf8")) as { stolen: number };
  if (stolen === 0) throw new Error("nothing was stolen");
  const node = {
    mainMs: (after.mainMs - before.mainMs) / stolen,
    engineMs: (after.engineMs - before.engineMs) / stolen,
    poolMs: (after.poolMs - before.poolMs) / stolen,
  };
  return { stolen, node, commandCpuMs: cpuMs };
}
