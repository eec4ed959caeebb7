/** `mesh build` and `mesh exec` from their flags: finds the project, chooses a display, starts it. */
import { existsSync, readdirSync, readFileSync, statSync } from "node:fs";
import { availableParallelism, homedir } from "node:os";
import { delimiter, dirname, join, resolve } from "node:path";
import { MeshError } from "../base/errors.ts";
import { type BuildOptions, runBuild } from "./build.ts";
import { cargoConfigPaths, detect, type Look, lookedFor, rustcWrapperIn } from "./detect.ts";
import type { Display } from "./display.ts";
import { createPlainDisplay } from "./display-plain.ts";
import { createTtyDisplay } from "./display-tty.ts";
import type { Env, Interception } from "./environment.ts";
import { planBuild, planExec } from "./native.ts";
import type { NativeOptions, NativePlan } from "./step.ts";
import { createTally, type Tally } from "./tally.ts";
import type { Terminal } from "./terminal.ts";

export interface BuildFlags {
  readonly dataDir: string;
  readonly jobs: number | undefined;
  readonly steal: boolean;
  readonly cacheRead: boolean;
  readonly cacheWrite: boolean;
  readonly compare: boolean;
  readonly summary: string | undefined;
  readonly trace: string | undefined;
}

export interface BuildPlace {
  readonly terminal: Terminal;
  readonly env: Env;
  readonly cwd: string;
  readonly terminalSignals: boolean;
}

export async function buildCommand(
  folder: string,
  args: readonly string[],
  flags: BuildFlags,
  place: BuildPlace,
): Promise<number> {
  const dir = resolve(place.cwd, folder);
  const stat = statSync(dir, { throwIfNoEntry: false });
  if (stat?.isDirectory() !== true) {
    const what = stat === undefined ? "there is no such folder" : "it is not a folder";
    throw new MeshError("usage", `cannot build ${folder}: ${what}`);
  }
  const project = detect(dir, look);
  if (project === undefined) {
    throw new MeshError(
      "usage",
      `no build system found in ${folder} (looked for ${lookedFor}); ` +
        "name another folder, or run any command with `mesh exec -- COMMAND`",
    );
  }
  const plan = (options: NativeOptions) => planBuild(project, options);
  return await start(dir, args, plan, "built", flags, place);
}

export async function execCommand(
  command: readonly string[],
  flags: BuildFlags,
  place: BuildPlace,
): Promise<number> {
  const [name, ...args] = command;
  if (name === undefined) {
    throw new MeshError("usage", "exec takes a command: mesh exec -- make -j8");
  }
  const plan = (options: NativeOptions) => planExec([name, ...args], place.cwd, options);
  return await start(place.cwd, args, plan, "done", flags, place);
}

async function start(
  dir: string,
  args: readonly string[],
  plan: (options: NativeOptions) => NativePlan,
  verb: BuildOptions["verb"],
  flags: BuildFlags,
  { terminal, env, cwd, terminalSignals }: BuildPlace,
): Promise<number> {
  const { jobs } = flags;
  const summaryFile = outputPath("--summary", flags.summary, cwd);
  const traceFile = outputPath("--trace", flags.trace, cwd);
  const keeper = createTally();
  const display = chooseDisplay(terminal, keeper.tally);
  const native = (mesh: Interception | undefined): NativeOptions => ({
    mesh,
    args,
    env,
    piped: display.pipes.stderr,
    color: terminal.errColor,
    jobs,
    cores: availableParallelism(),
    hasNinja: onPath("ninja", env),
    rustcWrapper: configuredWrapper(dir, env),
    exists: existsSync,
  });
  return await runBuild(
    { display, keeper, plan: (mesh) => plan(native(mesh)), terminalSignals },
    { ...flags, dir, jobs, summaryFile, traceFile, verb },
  );
}

/** A file that could not be written at the end had better be refused at the start. */
function outputPath(name: string, flag: string | undefined, cwd: string): string | undefined {
  if (flag === undefined) return undefined;
  const path = resolve(cwd, flag);
  if (look.isDirectory(path) || !look.isDirectory(dirname(path))) {
    const why = look.isDirectory(path) ? "it is a folder" : "its folder does not exist";
    throw new MeshError("usage", `${name} cannot write ${flag}: ${why}`);
  }
  return path;
}

function chooseDisplay(terminal: Terminal, tally: Tally): Display {
  if (!terminal.errTty) return createPlainDisplay(terminal);
  return createTtyDisplay({
    terminal,
    tally,
    nowMs: () => performance.now(),
    every: (periodMs, run) => {
      const timer = setInterval(run, periodMs);
      return () => clearInterval(timer);
    },
  });
}

const look: Look = {
  isFile: (path) => statSync(path, { throwIfNoEntry: false })?.isFile() === true,
  isDirectory: (path) => statSync(path, { throwIfNoEntry: false })?.isDirectory() === true,
  list: (path) => (look.isDirectory(path) ? readdirSync(path) : []),
  text: (path) => {
    try {
      return readFileSync(path, "utf8");
    } catch {
      return "";
    }
  },
};

function onPath(name: string, env: Env): boolean {
  const folders = (env.PATH ?? "").split(delimiter).filter((folder) => folder !== "");
  return folders.some((folder) => look.isFile(join(folder, name)));
}

function configuredWrapper(dir: string, env: Env): string | undefined {
  const parents: string[] = [];
  for (let at = dir; dirname(at) !== at; at = dirname(at)) parents.push(dirname(at));
  const cargoHome = env.CARGO_HOME ?? join(homedir(), ".cargo");
  for (const path of cargoConfigPaths(dir, cargoHome, parents)) {
    const found = rustcWrapperIn(look.text(path));
    if (found !== undefined) return found;
  }
  return undefined;
}
