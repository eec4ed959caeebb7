/**
 * For tests: real Cargo builds whose compiler calls are written down, and a planner whose actions
 * run in a real sandbox, as a peer would run them.
 */
import { execFileSync, spawnSync } from "node:child_process";
import * as fs from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import type { Progress } from "../action/action.ts";
import { createFileView } from "../exec/file-view.ts";
import { createWorld, never, type World } from "../exec/sandbox-world.contract.ts";
import { createToolchains } from "../exec/toolchain.ts";
import { createClock } from "../host/clock.ts";
import type { RunSpec } from "../host/host.ts";
import { createRandom } from "../host/random.ts";
import { createInputFiles, type InputFiles } from "./inputs.ts";
import type { ActionPlan, Invocation } from "./plan.ts";
import { createRustcPlanner, type RustcPlanner } from "./rustc.ts";
import { createRustToolchains } from "./rustc-toolchain.ts";

/** One call of the compiler, and what it said here. */
export interface Call extends Invocation {
  readonly crate: string;
  readonly stderr: string;
  readonly exitCode: number;
}

export interface Peer {
  readonly world: World;
  readonly plan: RustcPlanner;
  readonly files: InputFiles;
  /** Programs that planning has started. */
  readonly started: readonly RunSpec[];
  /** Runs a plan, and says whether its answer would be accepted. */
  run(plan: ActionPlan): Promise<There>;
  close(): Promise<void>;
}

export interface There {
  readonly exitCode: number;
  readonly stdout: string;
  readonly stderr: string;
  readonly outputs: ReadonlyMap<string, Buffer>;
  /** Outputs that were told before the end, in that order. */
  readonly early: readonly { readonly path: string; readonly bytes: Buffer }[];
  /** Why the planner refuses it. */
  readonly refusal: unknown;
}

/** A peer and a planner that share one store; a planner that knows nothing yet. */
export async function createPeer(): Promise<Peer> {
  const world = await createWorld("bwrap");
  const { disk, store } = world;
  const clock = createClock();
  const view = createFileView({ disk, store, clock });
  const files = createInputFiles(view);
  const started: RunSpec[] = [];
  const processes = {
    run: (spec: RunSpec, signal: AbortSignal) => {
      started.push(spec);
      return world.processes.run(spec, signal);
    },
    vitals: () => world.processes.vitals(),
    close: () => world.processes.close(),
  };
  const { elfClosure } = createToolchains({ disk, processes, store, clock, view });
  const toolchains = createRustToolchains({ disk, processes, files, elfClosure });
  const scratch = join(world.dir, "rust");
  fs.mkdirSync(scratch);
  const options = { platform: "linux/here", timeoutMs: 60_000, scratch };
  const deps = { disk, clock, random: createRandom(), processes, files, toolchains, store };
  return {
    world,
    plan: createRustcPlanner(deps, options),
    files,
    started,
    run: (plan) => runThere(world, plan),
    close: () => world.close(),
  };
}

async function runThere(world: World, plan: ActionPlan): Promise<There> {
  const announced: Progress["outputs"][number][] = [];
  let ended = false;
  const ran = await world.run(plan.spec, {
    onProgress: ({ outputs }) => {
      if (!ended) announced.push(...outputs);
    },
  });
  ended = true;
  const bytesOf = async (digest: Parameters<typeof world.store.read>[0]): Promise<Buffer> =>
    Buffer.from(await world.store.read(digest));
  const outputs = new Map<string, Buffer>();
  for (const { path, digest } of ran.outputs) outputs.set(path, await bytesOf(digest));
  const early = [];
  for (const { path, digest } of announced) early.push({ path, bytes: await bytesOf(digest) });
  const refusal = await plan.check?.(async (path) => outputs.get(path)).catch((why) => why);
  return { exitCode: ran.exitCode, stdout: ran.out, stderr: ran.err, outputs, early, refusal };
}

/** Stands between Cargo and rustc: writes down the call, its surroundings and what it printed. */
const recorder = `#!/bin/sh
call="$RECORD/$(date +%s%N)-$$"
mkdir "$call"
printf '%s\\0' "$(pwd -P)" "$@" > "$call/argv"
env -0 > "$call/env"
"$@" 2> "$call/stderr"
code=$?
cat "$call/stderr" >&2
echo $code > "$call/code"
exit $code
`;

/**
 * Runs a command with the recorder as Cargo's wrapper and returns the calls in their order.
 * `MESH_` variables and what the tests' own surroundings bring are left out.
 */
export function record(
  argv: readonly [string, ...string[]],
  cwd: string,
  env: Readonly<Record<string, string>> = {},
): readonly Call[] {
  const folder = fs.mkdtempSync(join(tmpdir(), "mesh-record-"));
  try {
    const wrapper = join(folder, "recorder");
    fs.writeFileSync(wrapper, recorder, { mode: 0o755 });
    const log = join(folder, "calls");
    fs.mkdirSync(log);
    const { PATH = "", HOME = "" } = process.env;
    const [program, ...args] = argv;
    const ran = spawnSync(program, args, {
      cwd,
      env: { PATH, HOME, CARGO_NET_OFFLINE: "true", ...env, RUSTC_WRAPPER: wrapper, RECORD: log },
      encoding: "utf8",
    });
    if (ran.status !== 0) throw new Error(`${argv.join(" ")}: ${ran.stderr}`);
    return fs
      .readdirSync(log)
      .sort()
      .map((name) => readCall(join(log, name)));
  } finally {
    fs.rmSync(folder, { recursive: true, force: true });
  }
}

function readCall(folder: string): Call {
  const text = (name: string): string => fs.readFileSync(join(folder, name), "utf8");
  const [cwd = "", compiler = "", ...args] = text("argv").split("\0").slice(0, -1);
  const env = Object.fromEntries(
    text("env")
      .split("\0")
      .filter((pair) => pair !== "")
      .map((pair) => [pair.slice(0, pair.indexOf("=")), pair.slice(pair.indexOf("=") + 1)]),
  );
  // Of the recorder itself.
  delete env.RECORD;
  return {
    ...{ args, compiler, cwd, env, umask: 0o022 },
    crate: args[args.indexOf("--crate-name") + 1] ?? "",
    stderr: text("stderr"),
    exitCode: Number(text("code")),
  };
}

/** Writes files, named by their paths below a folder. */
export function writeFiles(folder: string, files: Readonly<Record<string, string>>): void {
  for (const [name, text] of Object.entries(files)) {
    const path = join(folder, name);
    fs.mkdirSync(dirname(path), { recursive: true });
    fs.writeFileSync(path, text);
  }
}

/**
 * A toolchain of its own: symlinks, but for the files by which rustc finds its other parts. Hard
 * links would touch the real ones, which other tests rely on at the same time.
 */
export function copyToolchain(sysroot: string, to: string): void {
  const copy = `mkdir -p "$1/bin" && cp -rs "$0/lib" "$1" && cp "$0/bin/rustc" "$1/bin" &&
    ln -s "$0/bin/cargo" "$1/bin/cargo" && cp --remove-destination "$0"/lib/librustc_driver*.so "$1/lib"`;
  execFileSync("sh", ["-c", copy, sysroot, to]);
}

/** A folder for one test file, by its canonical path. */
export function makeFolder(): string {
  return fs.realpathSync(fs.mkdtempSync(join(tmpdir(), "mesh-rust-")));
}

function answers(program: string): boolean {
  return spawnSync(program, ["--version"], { stdio: "ignore" }).status === 0;
}

/** What is missing on this machine for these tests. */
export const missingTools: readonly string[] = ["cargo", "rustc"].filter((name) => !answers(name));

export { never };
