/**
 * Plans GCC and Clang compiles: an action that gives the same bytes on any node, or the reason
 * why this compile stays here.
 *
 * The command line travels as it is, so everything a compiler records about itself stays true.
 * What it may open is found without running it. This file does not run or schedule anything.
 */
import { isMeshError } from "../base/errors.ts";
import type { BlobStore } from "../blob/store.ts";
import type { TreeEntry } from "../blob/tree.ts";
import { factsOf } from "../exec/facts.ts";
import {
  createFileView,
  createTrail,
  type FileNode,
  type FileView,
  type Look,
  type Trail,
  trailEntries,
} from "../exec/file-view.ts";
import type { Toolchain, Toolchains } from "../exec/toolchain.ts";
import type { Clock, Disk, Processes } from "../host/host.ts";
import { glance } from "./compilers.ts";
import { type ParsedCompile, parseGccArgs } from "./gcc-args.ts";
import { checkDependencies } from "./gcc-check.ts";
import { type CompileEnvironment, compileEnvironment } from "./gcc-environment.ts";
import { createFindHeaders } from "./gcc-headers.ts";
import { locateOutputs } from "./gcc-outputs.ts";
import { familyOf, mayHide, misfitOf } from "./gcc-verdict.ts";
import { createWitness } from "./gcc-witness.ts";
import { createIncludeScanner } from "./includes.ts";
import { addEntry } from "./inputs.ts";
import { joinFacts } from "./join-facts.ts";
import { createLocales, type Locale } from "./locale.ts";
import { createNativeFlags } from "./native-flags.ts";
import type { Invocation, LocalPlan, Plan, Planner } from "./plan.ts";
import { expandResponseFiles } from "./response-file.ts";
import type { Family } from "./search-path.ts";

export interface GccPlannerDeps {
  readonly disk: Disk;
  readonly processes: Processes;
  readonly store: Pick<BlobStore, "has" | "adopt">;
  readonly toolchains: Toolchains;
  readonly clock: Clock;
  /** Shared with the toolchains where there is one. */
  readonly view?: FileView;
}

export interface GccPlannerOptions {
  /** What the executing node must be, e.g. "linux/x86_64". */
  readonly platform: string;
  readonly timeoutMs: number;
  /**
   * An existing folder for what compilers write for us; without one, a compile that writes no
   * dependency file is believed.
   */
  readonly scratch?: string;
}

/** A look at the file system that is older than this is taken again before the scan. */
const lookMaxMs = 5;

type AnywhereEnvironment = Extract<CompileEnvironment, { at: "anywhere" }>;

/** What the stages of planning agree on. */
interface Request {
  readonly invocation: Invocation;
  readonly family: Family;
  /** Response files expanded, native flags not. */
  readonly args: readonly string[];
  readonly parsed: ParsedCompile;
  readonly environment: AnywhereEnvironment;
}

export function createGccPlanner(deps: GccPlannerDeps, options: GccPlannerOptions): Planner {
  const { disk, processes, toolchains, clock } = deps;
  const view = deps.view ?? createFileView(deps);
  const scanner = createIncludeScanner({ view, disk, clock });
  const findHeaders = createFindHeaders({ clock, scanner, processes, view });
  const locales = createLocales(disk);
  const native = createNativeFlags(processes);
  const witness = createWitness(disk, view, options.scratch);

  /** The command line, understood; a text is the reason to stay here. */
  function read(invocation: Invocation, look: Look): Request | string {
    const { compiler, cwd, env } = invocation;
    const real = look.find(look.folder("/"), compiler, createTrail());
    const family = real?.kind === "file" ? familyOf(real.path) : undefined;
    if (family === undefined) return "compiler-unknown";
    const args = expandResponseFiles(invocation.args, cwd, disk);
    const misfit = misfitOf([compiler, cwd, ...args]);
    if (misfit !== undefined) return misfit;
    const driver = compiler.slice(compiler.lastIndexOf("/") + 1);
    const parsed = parseGccArgs(args, driver, family);
    if (parsed.at === "here")
      return parsed.reason === "unknown-flag" && parsed.culprit !== undefined
        ? `unknown-flag ${parsed.culprit}`
        : parsed.reason;
    const environment = compileEnvironment(env, parsed.language);
    if (environment.at === "here") return `environment ${environment.culprit}`;
    if (parsed.trickyDefine === "probe") return "computed-has-include";
    return { invocation, family, args, parsed, environment };
  }

  function findToolchain(request: Request, look: Look, signal: AbortSignal): Promise<Toolchain> {
    const { invocation, family, parsed, environment } = request;
    return toolchains.closure(
      {
        driver: invocation.compiler,
        family,
        language: parsed.language,
        flags: parsed.toolFlags,
        cwd: invocation.cwd,
        path: invocation.env.PATH ?? "",
        libraryPath: environment.libraryPath,
        look,
      },
      signal,
    );
  }

  async function plan(
    invocation: Invocation,
    here: (reason: string) => LocalPlan,
    signal: AbortSignal,
  ): Promise<Plan> {
    let look = view.look();
    const startMs = clock.nowMs();
    const request = read(invocation, look);
    if (typeof request === "string") return here(request);
    const { parsed, environment } = request;
    const outputs = locateOutputs(look, disk, invocation.cwd, outputNames(parsed));
    if (outputs.at === "here") return here(outputs.reason);
    const toolchain = await findToolchain(request, look, signal);
    const locale = await locales.find(invocation.env, prefixOf(toolchain));
    if (locale === undefined) return here("locale");
    const argv = await native.expand({ ...request, ...nativeContext(request, toolchain) }, signal);
    if (argv === undefined) return here("march-native");
    // Where the compiler had to be asked, what was seen before that is old.
    if (clock.nowMs() - startMs > lookMaxMs) look = view.look();
    const found = await findHeaders(request, toolchain, look, signal);
    if ("reason" in found) return here(found.reason);
    const inputs = found.entries;
    const asked = createTrail();
    const cwd = workingPlace(look, invocation, inputs, asked);
    const localeFiles = addLocale(look, locale, inputs, asked);
    for (const entry of toolchain.entries) addEntry(inputs, entry);
    for (const entry of outputs.entries) addEntry(inputs, entry);
    const entries = [...inputs.values()];
    const units = parsed.units.length;
    const dependencyPaths = outputs.paths.slice(units, units + dependencyNames(parsed).length);
    return {
      at: "anywhere",
      kind: parsed.language,
      label: parsed.units.map(({ source }) => source).join(" "),
      spec: {
        argv: [invocation.compiler, ...argv],
        env: { ...environment.env, ...locale.env, PATH: toolchain.path },
        cwd,
        outputPaths: outputs.paths,
        inputs: entries,
        platform: { platform: options.platform },
        timeoutMs: options.timeoutMs,
      },
      // The others are left out where there is nothing to say in them.
      required: outputs.paths.slice(0, units),
      ...(found.scans.some((scan) => mayHide(scan, parsed)) && { sandboxed: true }),
      facts: joinFacts(
        found.facts,
        toolchain.facts,
        outputs.facts,
        factsOf(localeFiles, asked.asked),
      ),
      ...witness.of(parsed, request.args, cwd, entries),
      ...(dependencyPaths.length > 0 && {
        check: checkDependencies(view, dependencyPaths, cwd, entries),
      }),
    };
  }

  return async (invocation, signal) => {
    const glanced = glance(invocation.compiler, invocation.args);
    const here = (reason: string): LocalPlan => ({ at: "here", reason, ...glanced });
    try {
      return await plan(invocation, here, signal);
    } catch (error) {
      signal.throwIfAborted();
      // Whatever could not be found out is found out by the real compiler, which also says so.
      if (isMeshError(error)) return here(`cannot-plan ${error.code}`);
      throw error;
    }
  };
}

/** What every source makes first, then all dependency files, then the rest. */
function outputNames(parsed: ParsedCompile): readonly string[] {
  const { units } = parsed;
  return [
    ...units.map(({ output }) => output),
    ...dependencyNames(parsed),
    ...units.flatMap(({ extraOutputs }) => extraOutputs),
  ];
}

function dependencyNames({ units }: ParsedCompile): readonly string[] {
  return units.flatMap(({ dependencyPath }) => dependencyPath ?? []);
}

function nativeContext(
  { invocation }: Request,
  toolchain: Toolchain,
): { driver: string; cwd: string; env: Readonly<Record<string, string>>; toolchain: string } {
  const { compiler, cwd, env } = invocation;
  return { driver: compiler, cwd, env, toolchain: toolchain.digest };
}

function prefixOf({ driver }: Toolchain): string {
  return driver.replace(/\/bin\/[^/]*$/, "");
}

/**
 * Where the compiler believes to be: $PWD, if that is another name of the working directory. A
 * sandbox sets PWD to the folder it is told to start in.
 */
function workingPlace(
  look: Look,
  { cwd, env }: Invocation,
  inputs: Map<string, TreeEntry>,
  trail: Trail,
): string {
  const root = look.folder("/");
  const real = look.find(root, cwd, trail);
  const canonical = real?.kind === "folder" ? real.folder.path : cwd;
  const name = env.PWD ?? "";
  const named = isNormal(name) ? look.find(root, name, trail) : undefined;
  for (const entry of trailEntries(trail)) addEntry(inputs, entry);
  return named?.kind === "folder" && named.folder.path === canonical ? name : canonical;
}

function isNormal(path: string): boolean {
  return /^(?:\/(?!\.{0,2}(?:\/|$))[^/]+)+$/.test(path);
}

function addLocale(
  look: Look,
  { paths, folders }: Locale,
  inputs: Map<string, TreeEntry>,
  trail: Trail,
): readonly FileNode[] {
  const files: FileNode[] = [];
  // One that is not there now may come, and would be taken then.
  for (const path of folders) look.find(look.folder("/"), path, trail);
  for (const path of paths) {
    const found = look.find(look.folder("/"), path, trail);
    const node = found?.kind === "file" ? look.file(found.path) : undefined;
    if (node === undefined) continue;
    addEntry(inputs, node.entry);
    files.push(node);
  }
  for (const entry of trailEntries(trail)) addEntry(inputs, entry);
  return files;
}
