/**
 * For tests: a planner, a folder for a project, and both ways to run what was planned: here with the
 * real compiler, and in a root that holds nothing but the plan's inputs.
 */
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
import { digestOf } from "../base/digest.ts";
import { createFileView, type FileView } from "../exec/file-view.ts";
import { createToolchains } from "../exec/toolchain.ts";
import { createClock } from "../host/clock.ts";
import { createDisk } from "../host/disk.ts";
import { createProcesses } from "../host/processes.ts";
import { createGccPlanner } from "./gcc.ts";
import type { ActionPlan, Invocation, Plan } from "./plan.ts";
import { createStage, type Ran, type Stage } from "./staged-root.contract.ts";

export interface Compiler {
  readonly name: string;
  readonly path: string;
}

/** Those of gcc, g++, clang and clang++ that are here. */
export function findCompilers(): readonly Compiler[] {
  const found = ["gcc", "g++", "clang", "clang++"].flatMap((name) => {
    const path = spawnSync("which", [name], { encoding: "utf8" }).stdout.trim();
    return path === "" ? [] : [{ name, path }];
  });
  if (found.length < 4)
    console.warn(`only ${found.map(({ name }) => name)} of gcc, g++, clang, clang++ are here`);
  return found;
}

export interface GccWorld {
  /** Canonical; its name holds a space. */
  readonly folder: string;
  readonly stage: Stage;
  readonly view: FileView;
  /** Writes a file below the folder. */
  write(name: string, text: string): void;
  /** @param cwd below the folder */
  invocation(
    compiler: string,
    args: readonly string[],
    cwd?: string,
    env?: Readonly<Record<string, string>>,
  ): Invocation;
  plan(invocation: Invocation): Promise<Plan>;
  /** Throws with the reason where the plan is to stay here. */
  mustPlan(invocation: Invocation): Promise<ActionPlan>;
  close(): Promise<void>;
}

export const baseEnv: Readonly<Record<string, string>> = {
  PATH: "/usr/bin:/bin",
  LANG: "C.UTF-8",
};

export function createGccWorld(): GccWorld {
  const disk = createDisk();
  const clock = createClock();
  const processes = createProcesses();
  const stage = createStage();
  const { store } = stage;
  const view = createFileView({ disk, store, clock });
  const toolchains = createToolchains({ disk, processes, store, clock, view });
  const planner = createGccPlanner(
    { disk, processes, store, toolchains, clock, view },
    { platform: "linux/test", timeoutMs: 60_000 },
  );
  const folder = realpathSync(mkdtempSync(join(tmpdir(), "mesh gcc-")));
  const { signal } = new AbortController();
  const plan = (invocation: Invocation): Promise<Plan> => planner(invocation, signal);
  return {
    folder,
    stage,
    view,
    write(name, text) {
      mkdirSync(dirname(join(folder, name)), { recursive: true });
      writeFileSync(join(folder, name), text);
    },
    invocation: (compiler, args, cwd = "", env = {}) => ({
      compiler,
      args,
      cwd: realpathSync(join(folder, cwd)),
      env: { ...baseEnv, ...env },
      umask: 0o022,
    }),
    plan,
    async mustPlan(invocation) {
      const planned = await plan(invocation);
      if (planned.at === "here") throw new Error(`stays here: ${planned.reason}`);
      return planned;
    },
    async close() {
      stage.close();
      rmSync(folder, { recursive: true, force: true });
      await processes.close();
    },
  };
}

/** What the real compiler does here; its outputs are taken away again. */
export function runHere({ compiler, args, cwd, env }: Invocation, outputs: readonly string[]): Ran {
  const ran = spawnSync(compiler, args, { cwd, env, encoding: "utf8" });
  const written = outputs.filter((path) => existsSync(path));
  const bytes = new Map(written.map((path) => [path, readFileSync(path)] as const));
  for (const path of written) rmSync(path);
  return { exitCode: ran.status ?? 1, stdout: ran.stdout, stderr: ran.stderr, outputs: bytes };
}

/** Objects by their digests: a difference of thousands of bytes says nothing. */
export function readable(ran: Ran): unknown {
  const outputs = [...ran.outputs].map(([path, bytes]) => [
    path,
    path.endsWith(".d") ? bytes.toString() : digestOf(bytes),
  ]);
  return { ...ran, outputs: Object.fromEntries(outputs) };
}
