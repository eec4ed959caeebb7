/** For tests of links and archives: a folder with objects and libraries made by the real compiler. */
import { spawnSync } from "node:child_process";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  realpathSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { createFileView, type FileView } from "../exec/file-view.ts";
import { createClock } from "../host/clock.ts";
import { createDisk } from "../host/disk.ts";
import type { Disk, Processes } from "../host/host.ts";
import { createProcesses } from "../host/processes.ts";
import type { ActionPlan, Invocation, Plan, Planner } from "./plan.ts";
import { canStage, createStage, type Stage } from "./staged-root.contract.ts";

export interface LinkWorld {
  /** Real path of a new folder that is removed at the end. */
  readonly folder: string;
  readonly scratch: string;
  readonly deps: { readonly disk: Disk; readonly processes: Processes; readonly view: FileView };
  readonly stage: Stage;
  write(name: string, text: string): void;
  /** Compiles or links, and fails the test when that fails. */
  make(compiler: string, args: string): void;
  invocation(compiler: string, args: readonly string[], env?: Record<string, string>): Invocation;
  close(): Promise<void>;
}

export const linkEnv: Readonly<Record<string, string>> = { PATH: "/usr/bin:/bin", LANG: "C.UTF-8" };

export function createLinkWorld(): LinkWorld {
  const folder = realpathSync(mkdtempSync(join(tmpdir(), "mesh link-")));
  const scratch = realpathSync(mkdtempSync(join(tmpdir(), "mesh-scratch,-")));
  const stage = createStage();
  const disk = createDisk();
  const processes = createProcesses();
  const view = createFileView({ disk, store: stage.store, clock: createClock() });
  return {
    folder,
    scratch,
    deps: { disk, processes, view },
    stage,
    write(name, text) {
      mkdirSync(dirname(join(folder, name)), { recursive: true });
      writeFileSync(join(folder, name), text);
    },
    make(compiler, args) {
      const ran = spawnSync(compiler, args.split(" "), { cwd: folder, encoding: "utf8" });
      if (ran.status !== 0) throw new Error(`${compiler} ${args}: ${ran.stderr}`);
    },
    invocation: (compiler, args, env = {}) => ({
      compiler,
      args,
      cwd: folder,
      env: { ...linkEnv, ...env },
      umask: 0o022,
    }),
    async close() {
      stage.close();
      for (const path of [folder, scratch]) rmSync(path, { recursive: true, force: true });
      await processes.close();
    },
  };
}

/** Absolute path of a program in the PATH, or "". */
export function programAt(name: string): string {
  return spawnSync("which", [name], { encoding: "utf8" }).stdout.trim();
}

const { signal } = new AbortController();

export async function mustPlan(planner: Planner, asked: Invocation): Promise<ActionPlan> {
  const planned: Plan = await planner(asked, signal);
  if (planned.at === "here") throw new Error(`stays here: ${planned.reason}`);
  return planned;
}

export async function reasonFor(planner: Planner, asked: Invocation): Promise<string> {
  const planned: Plan = await planner(asked, signal);
  return planned.at === "here" ? planned.reason : "goes";
}

export interface RanHere {
  readonly exitCode: number | null;
  readonly stderr: string;
  readonly stdout: string;
  readonly outputs: ReadonlyMap<string, Buffer>;
}

/** What the real tool does here; its outputs are taken away again. */
export function runHere(
  { compiler, args, cwd, env }: Invocation,
  { spec }: ActionPlan,
  extra: readonly string[] = [],
): RanHere {
  const ran = spawnSync(compiler, [...extra, ...args], { cwd, env, encoding: "utf8" });
  const outputs = new Map<string, Buffer>();
  for (const path of spec.outputPaths) {
    if (!existsSync(path)) continue;
    outputs.set(path, readFileSync(path));
    rmSync(path);
  }
  return { exitCode: ran.status, stdout: ran.stdout, stderr: ran.stderr, outputs };
}

/**
 * Plans a command, runs it as the user typed it and as the plan asks, and once more where it can
 * see nothing but the plan's inputs: each must give the same bytes.
 */
export async function expectFaithful(planner: Planner, asked: Invocation): Promise<ActionPlan> {
  const plan = await mustPlan(planner, asked);
  const plain = runHere(asked, plan);
  if (plain.exitCode !== 0) throw new Error(`it fails by itself: ${plain.stderr}`);
  for (const path of plan.required)
    if (!plain.outputs.has(path)) throw new Error(`it does not write ${path}`);
  const ran = spawnSync(asked.compiler, [...(plan.hereArgs ?? []), ...asked.args], {
    cwd: asked.cwd,
    env: asked.env,
    encoding: "utf8",
  });
  try {
    await plan.checkHere?.();
    compare("with the plan's arguments", plain, {
      ...{ exitCode: ran.status, stdout: ran.stdout, stderr: ran.stderr },
      outputs: new Map(
        plan.spec.outputPaths
          .filter((path) => existsSync(path))
          .map((path) => [path, readFileSync(path)] as const),
      ),
    });
  } finally {
    for (const path of plan.spec.outputPaths) rmSync(path, { force: true });
  }
  return plan;
}

export function expectStaged(stage: Stage, asked: Invocation, plan: ActionPlan): void {
  if (canStage) compare("among its inputs only", runHere(asked, plan), stage.run(plan.spec));
}

function compare(how: string, a: RanHere, b: RanHere): void {
  if (a.exitCode !== b.exitCode || a.stderr !== b.stderr || a.stdout !== b.stdout)
    throw new Error(`${how}: exit ${b.exitCode} ${b.stdout} ${b.stderr}, not ${a.stderr}`);
  if ([...a.outputs.keys()].join() !== [...b.outputs.keys()].join())
    throw new Error(`${how}: it writes ${[...b.outputs.keys()]}`);
  for (const [path, bytes] of a.outputs)
    if (!b.outputs.get(path)?.equals(bytes)) throw new Error(`${how}: ${path} has other bytes`);
}
