/**
 * The rustc planner: what one unit of a Cargo build may read, and the action that compiles it.
 *
 * 1. Read the command line (`rustc-args.ts`). What links, queries or surprises stays here.
 * 2. Inputs are over-approximated rather than asked for: the package's folder, `OUT_DIR`, what an
 *    earlier compile of the unit read, the dependencies that earlier units of this build were seen
 *    to have, and the compiler itself. A file that was needed and not there fails the remote run,
 *    and one run here decides.
 * 3. Environment: what Cargo sets and what the sources name; everything, when a proc-macro may
 *    look for itself. Macros that could look further than that keep their users here.
 * 4. Afterwards the dependency file tells which variables were really read; if one of them is not
 *    what it is here, the answer is refused.
 */
import { basename, dirname, join } from "node:path";
import type { ActionSpec } from "../action/action.ts";
import { textOf } from "../base/bytes.ts";
import { isMeshError, MeshError } from "../base/errors.ts";
import type { Clock, Disk } from "../host/host.ts";
import { type FoundInputs, type InputFiles, mergeEntries } from "./inputs.ts";
import type { Invocation, LocalPlan, Plan, Planner } from "./plan.ts";
import { parseRustc, type RustUnit } from "./rustc-args.ts";
import { type Closure, createDependencies } from "./rustc-dependencies.ts";
import { checkEnvironment, sourcesIn } from "./rustc-depinfo.ts";
import {
  createSources,
  environmentOf,
  forbiddenIn,
  type Sources,
  secretsIn,
} from "./rustc-environment.ts";
import { createMacros, type Macros } from "./rustc-macros.ts";
import { createListing, isRust, type Listing, readPackage } from "./rustc-package.ts";
import type { RustToolchain, RustToolchains } from "./rustc-toolchain.ts";

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

interface Parts extends RustcDeps, RustcOptions {
  readonly sources: Sources;
  readonly macros: Macros;
  readonly list: Listing;
}

/** A unit, and what was found out about it on the way. */
interface Request {
  readonly unit: RustUnit;
  readonly invocation: Invocation;
  readonly toolchain: RustToolchain;
  readonly libraries: Closure;
}

export function createRustcPlanner(deps: RustcDeps, options: RustcOptions): Planner {
  const { disk } = deps;
  const dependencies = createDependencies(disk);
  const parts = {
    ...{ ...deps, ...options },
    ...{ sources: createSources(disk), macros: createMacros(disk) },
    list: createListing(disk, deps.clock),
  };
  return async (invocation, signal) => {
    const { args, cwd, env, compiler } = invocation;
    const parsed = parseRustc(args, cwd);
    if (parsed.at === "here") {
      if (parsed.stem !== undefined) dependencies.learn(parsed.stem, parsed.externs);
      return stays(parsed.reason, parsed.crateName);
    }
    const { unit } = parsed;
    dependencies.learn(unit.stem, unit.externs);
    const forbidden = forbiddenIn(env);
    if (forbidden !== undefined) return stays(`environment ${forbidden}`, unit.crateName);
    if (unit.incremental !== undefined && (await hasState(disk, unit)))
      return stays("incremental", unit.crateName);
    try {
      const toolchain = await deps.toolchains.find(compiler, cwd, env, unit.target, signal);
      const libraries = await dependencies.closure(unit);
      return await plan(parts, { unit, invocation, toolchain, libraries });
    } catch (error) {
      if (!isMeshError(error, "unsupported")) throw error;
      return stays("unsupported-toolchain", unit.crateName);
    }
  };
}

function stays(reason: string, crateName: string): LocalPlan {
  const kind = reason === "links" ? "link" : "rustc";
  return { at: "here", reason, kind, label: crateName === "" ? "rustc" : crateName };
}

async function plan(parts: Parts, request: Request): Promise<Plan> {
  const { unit, invocation, toolchain, libraries } = request;
  const { cwd, env } = invocation;
  const found = await findInputs(parts, request);
  if (typeof found === "string") return stays(found, unit.crateName);
  const { inputs, variables, mentioned, withheld } = found;
  if (isShadowed(parts.disk, toolchain, env.LD_LIBRARY_PATH))
    return stays("environment LD_LIBRARY_PATH", unit.crateName);

  const secrets = secretsIn(env);
  const refused = await refusedMacros(parts, request, inputs, [...secrets, ...withheld]);
  const needed = libraries.exact ? libraries.files : unit.externs;
  const reason = needed.map((path) => refused.get(path)).find((why) => why !== undefined);
  if (reason !== undefined) return stays(reason, unit.crateName);
  const macros = libraries.files.filter(isMacro).length > refused.size;
  if (secrets.some((name) => variables.has(name) || (macros && mentioned.has(name))))
    return stays("reads-secret", unit.crateName);
  // Without them the compiler says that it misses one, if the unit does use it.
  const left = new Set([...refused.keys()].map((path) => inputs.nodes.get(path)?.path ?? path));
  const entries = inputs.entries.filter(({ path }) => !left.has(path));
  const spec: ActionSpec = {
    argv: [toolchain.rustc, ...remoteArgs(unit)],
    env: environmentOf(env, variables, macros),
    cwd,
    outputPaths: unit.outputs,
    inputs: mergeEntries(toolchain.entries, entries),
    platform: { platform: parts.platform },
    timeoutMs: parts.timeoutMs,
  };
  return {
    at: "anywhere",
    kind: "rustc",
    label: unit.crateName,
    spec,
    required: unit.outputs,
    facts: inputs.facts,
    check: async (read) => {
      const bytes = await read(unit.depInfo);
      if (bytes === undefined) throw new MeshError("refused", "the dependency file is missing");
      checkEnvironment(textOf(bytes), env);
    },
  };
}

const isMacro = (path: string): boolean => path.endsWith(".so");

/** Macros that must not run elsewhere, and why. */
async function refusedMacros(
  { macros }: Parts,
  { toolchain, libraries }: Request,
  inputs: FoundInputs,
  withheld: readonly string[],
): Promise<ReadonlyMap<string, string>> {
  const names = new Set(toolchain.libraries.map((path) => basename(path)));
  const refused = new Map<string, string>();
  for (const path of libraries.files.filter(isMacro)) {
    const node = inputs.nodes.get(path);
    const reason = node && (await macros.whyHere(node, names, withheld));
    if (reason !== undefined) refused.set(path, reason);
  }
  return refused;
}

interface UnitInputs {
  readonly inputs: FoundInputs;
  /** What the sources give to `env!`, and what else in them could name a variable. */
  readonly variables: ReadonlySet<string>;
  readonly mentioned: ReadonlySet<string>;
  /** Names of files that stay here. */
  readonly withheld: readonly string[];
}

/** A text is the reason to stay here. */
async function findInputs(
  { disk, list, files, sources }: Parts,
  { unit, invocation, libraries }: Request,
): Promise<UnitInputs | string> {
  const { cwd, env } = invocation;
  const macros = libraries.files.some(isMacro);
  const { CARGO_MANIFEST_DIR, OUT_DIR } = env;
  const folders = [CARGO_MANIFEST_DIR, OUT_DIR].filter((folder) => folder !== undefined);
  const found = await readPackage({ disk, list }, { folders, source: unit.source, cwd, macros });
  if (found === undefined) return "package-too-large";
  const inputs = await files.find({
    files: [...found.large, ...(await readBefore(disk, unit, cwd)), ...libraries.files],
    smallFiles: [unit.source, ...found.small],
    folders: [cwd, unit.outDir, ...folders],
    onBytes: (node, bytes) => {
      if (isRust(node.path)) sources.onBytes(node, bytes);
    },
  });
  if (inputs.missing.length > 0) return "input-vanished";
  const variables = new Set<string>();
  const mentioned = new Set<string>();
  for (const [path, node] of inputs.nodes) {
    if (!isRust(path)) continue;
    const names = sources.namesIn(node);
    for (const name of names.variables) variables.add(name);
    for (const name of names.others) mentioned.add(name);
  }
  return { inputs, variables, mentioned, withheld: found.withheld };
}

/** What the unit read last time, wherever that lies, as far as it is still there. */
async function readBefore(disk: Disk, { depInfo }: RustUnit, cwd: string): Promise<string[]> {
  if (disk.statFollowNow(depInfo)?.kind !== "file") return [];
  const sources = sourcesIn(textOf(await disk.read(depInfo)), cwd);
  return sources.filter((path) => disk.statFollowNow(path)?.kind === "file");
}

/** Whether the loader here would find another library under the name of one of the compiler's. */
function isShadowed(disk: Disk, { libraries }: RustToolchain, path: string | undefined): boolean {
  const folders = new Set(path?.split(":").filter((folder) => folder.startsWith("/")));
  for (const library of libraries) {
    for (const folder of folders) {
      if (folder === dirname(library)) continue;
      const there = disk.statFollowNow(join(folder, basename(library)));
      if (there !== undefined && there.inode !== disk.statFollowNow(library)?.inode) return true;
    }
  }
  return false;
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
