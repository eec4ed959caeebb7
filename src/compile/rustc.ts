/**
 * The rustc planner: what one unit of a Cargo build may read, and the action that compiles it.
 *
 * 1. Read the command line (`rustc-args.ts`). What links, queries or surprises stays here.
 * 2. Inputs are over-approximated rather than asked for: the package's folder, `OUT_DIR`, the
 *    dependencies that earlier units of this build were seen to have, and the compiler itself.
 *    A file that was needed and not there fails the remote run, and one run here decides.
 * 3. Environment: what Cargo sets and what the sources name; everything, when a proc-macro may
 *    look for itself.
 * 4. Afterwards the dependency file tells which variables were really read; if one of them is not
 *    what it is here, the answer is refused.
 */
import { join } from "node:path";
import type { ActionSpec } from "../action/action.ts";
import { textOf } from "../base/bytes.ts";
import { MeshError } from "../base/errors.ts";
import type { Clock, Disk } from "../host/host.ts";
import { type InputFiles, mergeEntries } from "./inputs.ts";
import type { Invocation, LocalPlan, Plan, Planner } from "./plan.ts";
import { parseRustc, type RustUnit } from "./rustc-args.ts";
import { createDependencies } from "./rustc-dependencies.ts";
import {
  createVariables,
  type PackageFiles,
  readPackage,
  type Variables,
} from "./rustc-package.ts";
import type { RustToolchains } from "./rustc-toolchain.ts";

export interface RustcDeps {
  readonly disk: Disk;
  readonly clock: Clock;
  readonly files: InputFiles;
  readonly toolchains: RustToolchains;
}

export interface RustcOptions {
  /** "linux/x86_64" and the like: where the compiler's own files run. */
  readonly platform: string;
  readonly timeoutMs: number;
}

export function createRustcPlanner(deps: RustcDeps, options: RustcOptions): Planner {
  const dependencies = createDependencies(deps.disk);
  const variables = createVariables(deps.disk);
  return async (invocation, signal) => {
    const parsed = parseRustc(invocation.args, invocation.cwd);
    if (parsed.at === "here") {
      if (parsed.stem !== undefined) dependencies.learn(parsed.stem, parsed.externs);
      return stays(parsed.reason, parsed.crateName);
    }
    const { unit } = parsed;
    dependencies.learn(unit.stem, unit.externs);
    if (unit.incremental !== undefined && (await hasState(deps.disk, unit))) {
      return stays("incremental", unit.crateName);
    }
    const libraries = await dependencies.closure(unit);
    return plan(deps, options, variables, libraries, invocation, unit, signal);
  };
}

function stays(reason: string, crateName: string): LocalPlan {
  const kind = reason === "links" ? "link" : "rustc";
  return { at: "here", reason, kind, label: crateName === "" ? "rustc" : crateName };
}

async function plan(
  { disk, files, toolchains }: RustcDeps,
  { platform, timeoutMs }: RustcOptions,
  variables: Variables,
  libraries: readonly string[],
  { compiler, cwd, env }: Invocation,
  unit: RustUnit,
  signal: AbortSignal,
): Promise<Plan> {
  const toolchain = await toolchains.find(compiler, cwd, env, unit.target, signal);
  const manifestDir = env.CARGO_MANIFEST_DIR;
  const folders = [manifestDir, env.OUT_DIR].filter((folder) => folder !== undefined);
  const found = await readPackage(disk, variables, folders, unit.source);
  if (found === undefined) return stays("package-too-large", unit.crateName);
  const { entries, missing } = await files.entries([...found.paths, unit.source, ...libraries]);
  if (missing.length > 0) return stays("input-vanished", unit.crateName);

  const macros = libraries.some((path) => path.endsWith(".so"));
  const spec: ActionSpec = {
    argv: [toolchain.rustc, ...remoteArgs(unit)],
    env: environment(env, found, macros),
    cwd,
    outputPaths: unit.outputs,
    inputs: mergeEntries(toolchain.entries, entries, [{ kind: "directory", path: cwd }]),
    platform: { platform, stream: "stderr" },
    timeoutMs,
  };
  return {
    at: "anywhere",
    kind: "rustc",
    label: unit.crateName,
    spec,
    check: async (read) => {
      if (unit.depInfo === undefined) return;
      const bytes = await read(unit.depInfo);
      if (bytes === undefined) throw new MeshError("refused", "the dependency file is missing");
      checkEnvironment(textOf(bytes), env);
    },
  };
}

/** The folder of incremental state is this node's own; elsewhere a scratch one has the same effect. */
function remoteArgs(unit: RustUnit): readonly string[] {
  return unit.incremental === undefined
    ? unit.args
    : [...unit.args, "-C", "incremental=/tmp/incremental"];
}

/** Whether an earlier run left state that would make a run here quicker than anywhere else. */
async function hasState(disk: Disk, { incremental, crateName }: RustUnit): Promise<boolean> {
  const crates = (await disk.list(incremental ?? "/")) ?? [];
  for (const { name } of crates) {
    if (!name.startsWith(`${crateName}-`)) continue;
    const sessions = (await disk.list(join(incremental ?? "/", name))) ?? [];
    if (
      sessions.some((session) => session.kind === "directory" && !session.name.endsWith("-working"))
    ) {
      return true;
    }
  }
  return false;
}

/** Set by Cargo for its own purposes, or naming this machine only: no compile depends on them. */
const neverSent =
  /^(CARGO_MAKEFLAGS|MAKEFLAGS|MFLAGS|NUM_JOBS|MESH_.*|SSH_.*|DISPLAY|_|OLDPWD|SHLVL)$/;

/** Names that commonly hold credentials: not for other people's machines. */
const secret = /TOKEN|SECRET|PASSW|CREDENTIAL|API_?KEY|PRIVATE|AUTH/i;

/** What every compile may see. */
const always =
  /^(CARGO|CARGO_.*|OUT_DIR|RUST_.*|RUSTC_.*|LANG|LANGUAGE|LC_.*|SOURCE_DATE_EPOCH|TARGET|HOST|PROFILE)$/;

function environment(
  env: Readonly<Record<string, string>>,
  found: PackageFiles,
  macros: boolean,
): Record<string, string> {
  const sent: Record<string, string> = {};
  for (const [name, value] of Object.entries(env)) {
    if (neverSent.test(name) || secret.test(name)) continue;
    if (macros || always.test(name) || found.variables.has(name)) sent[name] = value;
  }
  return sent;
}

/**
 * Compares what the compiler says it read with what is set here. rustc writes one line for each
 * variable that `env!` or `option_env!` looked at: `# env-dep:NAME` when it was unset, else
 * `# env-dep:NAME=value` with backslash, newline and carriage return escaped.
 */
export function checkEnvironment(depInfo: string, env: Readonly<Record<string, string>>): void {
  for (const [, name, , escaped] of depInfo.matchAll(/^# env-dep:([^=\n]+)(=(.*))?$/gm)) {
    if (name === undefined) continue;
    const value = escaped?.replace(/\\([\\nr])/g, (_, c: string) =>
      c === "n" ? "\n" : c === "r" ? "\r" : "\\",
    );
    if (env[name] !== value) {
      throw new MeshError("refused", `the unit reads ${name}, which is set differently there`);
    }
  }
}
