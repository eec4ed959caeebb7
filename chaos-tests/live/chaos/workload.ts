/**
 * Work that never rests while faults strike: builds at one node, jobs and builds at another. Each is
 * held against what this machine alone would have given, byte for byte.
 */
import { readFile, rm, writeFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import type { SeededRandom } from "../../../src/sim/random.ts";
import { leftovers } from "../files.ts";
import { program, type World } from "../nodes.ts";
import { type Ran, runCommand } from "./command.ts";
import type { Member } from "./fleet.ts";
import { createProject, type Project, type ProjectOptions } from "./project.ts";
import { countWords, makeText } from "./words.ts";

export interface Workload {
  readonly counts: { builds: number; jobs: number };
  /** Command lines that did not end well, or not in time. */
  readonly lost: readonly string[];
  /** Outputs that are not what they have to be. */
  readonly wrong: readonly string[];
  /** Process groups of all commands so far. */
  readonly groups: readonly number[];
  /** Whether that node's own command is running. */
  isRunning(member: Member): boolean;
  /** Tasks and commands that have ended at that node. */
  progressOf(member: Member): number;
  /** Starts nothing more; resolves when what runs has ended. */
  stop(): Promise<void>;
}

export interface WorkloadDeps {
  readonly world: World;
  readonly builder: Member;
  readonly jobber: Member;
  readonly random: SeededRandom;
  readonly say: (line: string) => void;
}

export interface WorkloadOptions extends ProjectOptions {
  readonly textBytes: number;
  /** A command that takes longer is lost. */
  readonly commandMaxMs: number;
}

const job = resolve(import.meta.dirname, "../../../examples/wordcount/job.json");
const startWaitMs = 50;
/** Jobs between two builds of the node that does both. */
const jobsInARow = 3;

export async function startWorkload(
  { world, builder, jobber, random, say }: WorkloadDeps,
  options: WorkloadOptions,
  signal: AbortSignal,
): Promise<Workload> {
  const counts = { builds: 0, jobs: 0 };
  const lost: string[] = [];
  const wrong: string[] = [];
  const groups: number[] = [];
  const running = new Set<Member>();
  const ended = new Map<Member, number>();
  let isStopping = false;

  const own = await createProject(join(world.folder, "own"), random.fork("own"), options, signal);
  const side = await createProject(
    join(world.folder, "side"),
    random.fork("side"),
    { ...options, cUnits: Math.ceil(options.cUnits / 2), cxxUnits: 1 },
    signal,
  );
  const text = makeText(random.fork("text"), options.textBytes);
  const input = join(world.folder, "text");
  await writeFile(input, text);
  const expected = countWords(text);

  async function run(member: Member, what: string, args: readonly string[], cwd: string) {
    running.add(member);
    try {
      const ran = await runCommand(
        [process.execPath, program, ...args],
        { cwd, env: { MESH_DIR: member.dataDir }, timeoutMs: options.commandMaxMs },
        signal,
      );
      if (ran.group !== undefined) groups.push(ran.group);
      if (!signal.aborted) judge(what, args, ran);
      return ran;
    } finally {
      running.delete(member);
      ended.set(member, (ended.get(member) ?? 0) + 1);
    }
  }

  function judge(what: string, args: readonly string[], ran: Ran): void {
    if (ran.exitCode === 0) return;
    const how = ran.timedOut ? `not done in ${options.commandMaxMs} ms` : `exit ${ran.exitCode}`;
    lost.push(`${what} (mesh ${args.join(" ")}): ${how}: ${tail(ran.stderr || ran.stdout)}`);
  }

  async function build(member: Member, project: Project, draw: SeededRandom): Promise<void> {
    const variant = draw.below(project.variants);
    const cache = ["--no-cache", "--no-cache", "--no-cache-read", undefined][draw.below(4)];
    const flags = cache === undefined ? [] : [cache];
    const isBuild = draw.chance(0.5);
    const args = isBuild
      ? ["build", ...flags, project.folder]
      : ["exec", ...flags, "--", "make", `-j${2 + draw.below(8)}`];
    await project.prepare(variant);
    counts.builds += 1;
    const what = `build ${counts.builds} at ${member.name}`;
    const ran = await run(member, what, args, project.folder);
    if (signal.aborted) return;
    const bad = ran.exitCode === 0 ? await project.wrong(variant) : [];
    for (const line of bad) wrong.push(`${what} (mesh ${args.join(" ")}): ${line}`);
    const left = await leftovers(project.folder);
    if (left.length > 0) wrong.push(`${what}: it left ${left.join(", ")}`);
    const verdict = ran.exitCode !== 0 ? "FAILED" : bad.length > 0 ? "WRONG" : "right";
    say(`${what}: mesh ${args.slice(0, 2).join(" ")}: ${verdict}, ${seconds(ran.wallMs)}`);
  }

  async function count(member: Member): Promise<void> {
    counts.jobs += 1;
    const output = join(world.folder, `counts-${counts.jobs}`);
    const what = `job ${counts.jobs} at ${member.name}`;
    const args = ["run", job, "--input", input, "--output", output];
    const ran = await run(member, what, args, world.folder);
    if (signal.aborted || ran.exitCode !== 0) return;
    if ((await readFile(output, "utf8")) !== expected) wrong.push(`${what}: other counts`);
    await rm(output, { force: true });
  }

  async function loop(
    member: Member,
    step: (draw: SeededRandom, turn: number) => Promise<void>,
  ): Promise<void> {
    for (let turn = 0; !isStopping && !signal.aborted; turn += 1) {
      // Without its node a build would start one of its own in the same folder.
      if (member.node() === undefined) await new Promise((wake) => setTimeout(wake, startWaitMs));
      else await step(random.fork(`${member.name} ${turn}`), turn);
    }
  }

  const loops = Promise.all([
    loop(builder, (draw) => build(builder, own, draw)),
    loop(jobber, (draw, turn) =>
      turn % (jobsInARow + 1) < jobsInARow ? count(jobber) : build(jobber, side, draw),
    ),
  ]);
  // Whatever it rejects with, `stop` tells.
  loops.catch(() => {});
  return {
    counts,
    lost,
    wrong,
    groups,
    isRunning: (member) => running.has(member),
    progressOf(member) {
      const events = member.lives().flatMap((life) => life.events);
      const tasks = events.filter(({ event }) => event === "task-done").length;
      return tasks + (ended.get(member) ?? 0);
    },
    async stop() {
      isStopping = true;
      await loops;
    },
  };
}

const seconds = (ms: number): string => `${(ms / 1000).toFixed(1)} s`;

function tail(text: string): string {
  return text.trim().split("\n").slice(-6).join(" | ").slice(-1500);
}
