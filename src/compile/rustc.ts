/**
 * The rustc planner: what one unit of a Cargo build may read, and the action that makes it.
 *
 * 1. Read the command line (`rustc-args.ts`). What queries or surprises stays here.
 * 2. Inputs are over-approximated rather than asked for (`rustc-inputs.ts`). A file that was needed
 *    and not there fails a run elsewhere, and one run here decides.
 * 3. A unit that links runs here, and its linker tells afterwards what it read (`rustc-link.ts`).
 * 4. A unit that runs macros runs in a sandbox, watched: what it looks at has to be in the inputs,
 *    or known not to exist (`rustc-policy.ts`).
 * 5. Afterwards the dependency file tells which sources and variables were really read. What is no
 *    input makes a result that nobody keeps, and is one the next time (`rustc-learned.ts`).
 */
import { basename, dirname, join } from "node:path";
import type { ActionOutcome, ActionSpec } from "../action/action.ts";
import { textOf } from "../base/bytes.ts";
import { emptyDigest } from "../base/digest.ts";
import { isMeshError } from "../base/errors.ts";
import type { BlobStore } from "../blob/store.ts";
import { mergeFacts } from "../exec/facts.ts";
import type { Clock, Disk, Processes, Random } from "../host/host.ts";
import { type InputFiles, mergeEntries } from "./inputs.ts";
import type { ActionPlan, Invocation, LocalPlan } from "./plan.ts";
import {
  createRustTracer,
  type RustTracer,
  tracerPath,
  violationExitCode,
  violationMark,
} from "./rust-tracer.ts";
import { parseRustc } from "./rustc-args.ts";
import { type CheckedUnit, checkDepInfo, createRustCheck } from "./rustc-check.ts";
import { createDependencies } from "./rustc-dependencies.ts";
import { createSources, environmentOf, forbiddenIn, secretsIn } from "./rustc-environment.ts";
import { findUnitInputs, isMacro, type RustRequest, type UnitInputs } from "./rustc-inputs.ts";
import { createLessons, type Lessons } from "./rustc-learned.ts";
import type { Linkers, LinkTools } from "./rustc-link.ts";
import { checkLinked, createLinkers, dependencyArgs, libraryNameOf } from "./rustc-link.ts";
import { createMacros, type Macros } from "./rustc-macros.ts";
import { createListing, type Listing } from "./rustc-package.ts";
import { policyOf } from "./rustc-policy.ts";
import { createPortable, findRoots } from "./rustc-portable.ts";
import type { RustToolchain, RustToolchains } from "./rustc-toolchain.ts";

export interface RustcDeps {
  readonly disk: Disk;
  readonly clock: Clock;
  readonly random: Random;
  readonly processes: Processes;
  readonly files: InputFiles;
  readonly toolchains: RustToolchains;
  readonly store: Pick<BlobStore, "read" | "put">;
}

export interface RustcOptions {
  /** "linux/x86_64" and the like: where the compiler's own files run. */
  readonly platform: string;
  readonly timeoutMs: number;
  /**
   * A folder of this planner's own, which outlives the node: for the tracer, what is known of
   * linkers, and what linkers write down.
   */
  readonly scratch: string;
}

/** A plan that wants to know why it failed, to do better the next time. */
export interface RustPlan extends ActionPlan {
  /** After a run in a sandbox that ended with another exit code than 0. */
  readonly failed: (outcome: ActionOutcome) => Promise<void>;
}

interface Parts extends RustcDeps, RustcOptions {
  readonly sources: ReturnType<typeof createSources>;
  readonly macros: Macros;
  readonly list: Listing;
  readonly lessons: Lessons;
  readonly tracer: RustTracer;
  readonly linkers: Linkers;
}

export type RustcPlanner = (
  invocation: Invocation,
  signal: AbortSignal,
) => Promise<LocalPlan | RustPlan>;

export function createRustcPlanner(deps: RustcDeps, options: RustcOptions): RustcPlanner {
  const { disk } = deps;
  const dependencies = createDependencies(disk);
  const folder = options.scratch;
  const tracer = createRustTracer(deps, { folder });
  const parts: Parts = {
    ...{ ...deps, ...options, tracer },
    ...{ sources: createSources(disk), macros: createMacros(disk), lessons: createLessons() },
    list: createListing(disk, deps.clock),
    linkers: createLinkers({ ...deps, tracer }, { folder }),
  };
  let swept: Promise<void> | undefined;
  return async (invocation, signal) => {
    const { args, cwd, env, compiler } = invocation;
    const parsed = parseRustc(args, cwd);
    if (parsed.at === "here") {
      if (parsed.stem !== undefined) dependencies.learn(parsed.stem, parsed);
      return stays(parsed.reason, parsed.crateName);
    }
    const { unit } = parsed;
    dependencies.learn(unit.stem, unit);
    const forbidden = forbiddenIn(env);
    if (forbidden !== undefined) return stays(`environment ${forbidden}`, unit.crateName);
    try {
      swept ??= sweep(disk, folder);
      await swept;
      const toolchain = await deps.toolchains.find(compiler, cwd, env, unit.target, signal);
      const libraries = await dependencies.closure(unit);
      const learned = parts.lessons.of(unit);
      const roots = findRoots(disk, unit.outDir, cwd);
      const request = { unit, invocation, toolchain, libraries, learned, roots };
      const plan = await planUnit(parts, request, signal);
      return typeof plan === "string" ? stays(plan, unit.crateName) : plan;
    } catch (error) {
      if (!isMeshError(error, "unsupported")) throw error;
      return stays("unsupported-toolchain", unit.crateName);
    }
  };
}

/** What a node left there that ended in the middle of something. */
async function sweep(disk: Disk, folder: string): Promise<void> {
  await disk.makeDirectory(folder);
  for (const { name } of (await disk.list(folder)) ?? [])
    if (/^(?:linked|link|log|build)-/.test(name)) await disk.remove(join(folder, name));
}

function stays(reason: string, crateName: string): LocalPlan {
  return { at: "here", reason, kind: "rustc", label: crateName === "" ? "rustc" : crateName };
}

/** A text is the reason to stay here. */
async function planUnit(
  parts: Parts,
  request: RustRequest,
  signal: AbortSignal,
): Promise<RustPlan | string> {
  const { toolchain, learned, invocation } = request;
  const { env } = invocation;
  if (learned.never !== undefined) return learned.never;
  if (isShadowed(parts.disk, toolchain, env.LD_LIBRARY_PATH)) return "environment LD_LIBRARY_PATH";
  const linked = await findLinker(parts, request, signal);
  if (typeof linked === "string") return linked;
  const found = await findUnitInputs(parts, request, linked?.tools);
  if (typeof found === "string") return found;
  const secrets = secretsIn(env);
  const macros = await findMacros(parts, request, found, [...secrets, ...found.withheld]);
  if (typeof macros === "string") return macros;
  const isRead = (name: string): boolean =>
    found.variables.has(name) ||
    learned.variables.has(name) ||
    (macros.paths.length > 0 && found.mentioned.has(name));
  if (secrets.some(isRead)) return "reads-secret";
  const traced = macros.paths.length === 0 ? undefined : await trace(parts, request, found, macros);
  if (typeof traced === "string") return traced;

  const spec = specOf(parts, request, { found, macros, linked, traced });
  const entries = [...(linked?.code.entries ?? []), ...(linked?.tools?.entries ?? [])];
  const inputs = mergeEntries(toolchain.entries, traced?.entries ?? [], entries, [
    ...found.entries.filter(({ path }) => !macros.left.has(path)),
  ]);
  return toPlan(parts, request, { found, macros, linked, traced }, { ...spec, inputs });
}

interface Linked {
  /** Undefined for a library that is only packed. */
  readonly tools: LinkTools | undefined;
  readonly code: Awaited<ReturnType<RustToolchain["code"]>>;
}

async function findLinker(
  { linkers }: Parts,
  { unit, toolchain, invocation }: RustRequest,
  signal: AbortSignal,
): Promise<Linked | string | undefined> {
  const { linking } = unit;
  if (linking === undefined && !unit.packs) return undefined;
  // What is packed is read by nobody who would say so.
  if (unit.packs && unit.nativeDirs.length > 0) return "native-library";
  const { cwd, env } = invocation;
  const tools = linking && (await linkers.find({ unit, linking, toolchain, cwd, env }, signal));
  if (linking !== undefined && tools === undefined) return "linker-unknown";
  return { tools, code: await toolchain.code() };
}

interface UsedMacros {
  /** Libraries of macros that may run. */
  readonly paths: readonly string[];
  /** Canonical paths of those that must not, and only lie where the unit looks. */
  readonly left: ReadonlySet<string>;
  /** Variables of this environment that they could ask for. */
  readonly variables: readonly string[];
}

/** A text is the reason to stay here. */
async function findMacros(
  { macros }: Parts,
  { unit, toolchain, libraries, invocation }: RustRequest,
  { nodes }: UnitInputs,
  withheld: readonly string[],
): Promise<UsedMacros | string> {
  const names = new Set(toolchain.libraries.map((path) => basename(path)));
  const needed = new Set(libraries.exact ? libraries.files : unit.externs);
  const paths: string[] = [];
  const left = new Set<string>();
  const variables = new Set<string>();
  for (const path of libraries.files.filter(isMacro)) {
    const node = nodes.get(path);
    if (node === undefined) continue;
    const reason = await macros.whyHere(node, names, withheld);
    if (reason !== undefined && needed.has(path)) return reason;
    if (reason !== undefined) {
      // Without them the compiler says that it misses one, if the unit does use it.
      left.add(node.path);
      continue;
    }
    // The compiler may follow a symlink before it opens the library.
    paths.push(path, node.path);
    const asked = Object.keys(invocation.env);
    for (const name of await macros.mentionedBy(node, asked)) variables.add(name);
  }
  return { paths, left, variables: [...variables] };
}

interface Traced {
  readonly policy: string;
  readonly entries: ActionSpec["inputs"];
  readonly facts: ActionPlan["facts"];
}

async function trace(
  { tracer }: Parts,
  { unit, learned, invocation, roots }: RustRequest,
  found: UnitInputs,
  { paths }: UsedMacros,
): Promise<Traced | string> {
  const made = await tracer.entries();
  if (made === undefined) return "macro-untraced";
  // Whether a macro asks for what differs between checkouts has to be known: see `readByMacros`.
  const isPlace = (name: string): boolean =>
    roots.some(({ path }) => invocation.env[name]?.includes(path));
  const policy = policyOf({
    ...{ unit, macros: paths, files: found, absent: found.absent },
    named: [...found.variables, ...found.mentioned].filter((name) => !isPlace(name)),
    learned: learned.variables,
  });
  return policy === undefined ? "macro-untraced" : { ...made, policy };
}

interface Findings {
  readonly found: UnitInputs;
  readonly macros: UsedMacros;
  readonly linked: Linked | undefined;
  readonly traced: Traced | undefined;
}

function specOf(
  { platform, timeoutMs }: Parts,
  { unit, toolchain, invocation, learned }: RustRequest,
  { found, macros, linked, traced }: Findings,
): Omit<ActionSpec, "inputs"> {
  const { cwd, env } = invocation;
  const named = new Set(found.variables);
  if (traced !== undefined) for (const name of found.mentioned) named.add(name);
  for (const name of macros.variables) named.add(name);
  const links = linked?.tools !== undefined;
  const sent = environmentOf(env, { named, learned: learned.variables, links });
  if (linked?.tools !== undefined) sent.PATH = linked.tools.path;
  const command = [toolchain.rustc, ...unit.args];
  return {
    argv: traced === undefined ? command : [tracerPath, "keep", traced.policy, "--", ...command],
    env: sent,
    cwd,
    outputPaths: unit.outputs,
    platform: { platform },
    timeoutMs,
  };
}

function toPlan(
  parts: Parts,
  request: RustRequest,
  findings: Findings,
  spec: ActionSpec,
): RustPlan {
  const { disk, store, lessons } = parts;
  const { unit, invocation, toolchain, learned, roots } = request;
  const { found, macros, linked, traced } = findings;
  const { cwd, env } = invocation;
  let known: Set<string> | undefined;
  const checked: CheckedUnit = {
    ...{ unit, cwd, env, sent: spec.env },
    get inputs() {
      known ??= new Set([...found.nodes.keys(), ...spec.inputs.map(({ path }) => path)]);
      return known;
    },
  };
  const maybeRead = [...macros.variables, ...learned.variables];
  const values = maybeRead.flatMap((name) => env[name] ?? []);
  const readByMacros = traced === undefined ? [] : [cwd, ...values];
  const portable = createPortable(store, { unit, cwd, spec, roots, readByMacros });
  return {
    ...{ at: "anywhere", kind: "rustc", label: unit.crateName, spec, required: unit.outputs },
    facts: mergeFacts(
      ...[found.facts, toolchain.facts, linked?.code.facts, linked?.tools?.facts].flatMap(
        (facts) => facts ?? [],
      ),
      ...(traced === undefined ? [] : [traced.facts]),
    ),
    ...(traced !== undefined && { sandboxed: true }),
    ...(linked?.tools !== undefined && { whyHere: "link" }),
    ...hereOf(parts, checked, traced !== undefined),
    ...(portable && { portable }),
    check: createRustCheck(disk, lessons, checked),
    failed: (outcome) => learnFrom(parts, checked, outcome),
  };
}

/** What a run in place is asked about itself. */
function hereOf(
  { disk, random, scratch, lessons }: Parts,
  checked: CheckedUnit,
  traced: boolean,
): Pick<ActionPlan, "hereArgs" | "hereFile" | "checkHere"> {
  const { unit } = checked;
  const links = unit.linking !== undefined;
  if (!links && !traced) return {};
  const name = `linked-${Buffer.from(random.bytes(8)).toString("hex")}.d`;
  const written = join(scratch, name);
  return {
    ...(links && { hereArgs: dependencyArgs(written), hereFile: written }),
    async checkHere() {
      // Where nothing is kept of it, it still tells what to do better the next time.
      if (traced && disk.statFollowNow(unit.depInfo)?.kind === "file")
        await checkDepInfo(disk, lessons, checked, textOf(await disk.read(unit.depInfo)));
      if (!links) return;
      await checkLinked(disk, written, checked, (path) => {
        const library = libraryNameOf(path);
        if (library !== undefined) lessons.add(unit, { library });
        lessons.add(unit, { path });
      });
    },
  };
}

/** The tracer's last word: what a macro looked at that is no input. */
async function learnFrom(
  { store, lessons }: Parts,
  { unit }: CheckedUnit,
  { exitCode, stdout }: ActionOutcome,
): Promise<void> {
  if (exitCode !== violationExitCode || stdout === emptyDigest) return;
  const text = textOf(await store.read(stdout));
  const [, kind, name = ""] = /^rust-trace: ([a-z]+) ([^\n]*)\n$/.exec(text) ?? [];
  if (!text.startsWith(violationMark) || kind === undefined) return;
  const isPath = kind === "file" && !/^\/(?:proc|sys|dev)(?:\/|$)/.test(name);
  if (isPath) lessons.add(unit, { path: name });
  else if (kind === "variable") lessons.add(unit, { variable: name });
  else lessons.add(unit, { never: "macro-looks-around" });
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
