/**
 * Plans GCC and Clang compiles: an action that gives the same bytes on any node, or the reason
 * why this compile stays here.
 *
 * The command line travels as it is, so everything a compiler records about itself stays true.
 * What it may open is found without running it. This file does not run or schedule anything.
 */
import { textOf } from "../base/bytes.ts";
import { isMeshError, MeshError } from "../base/errors.ts";
import type { BlobStore } from "../blob/store.ts";
import type { TreeEntry } from "../blob/tree.ts";
import { factsOf, mergeFacts } from "../exec/facts.ts";
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
import { compilerFamilyOf, glance } from "./compilers.ts";
import { type ParsedCompile, parseGccArgs } from "./gcc-args.ts";
import { checkDependencies } from "./gcc-check.ts";
import { type CompileEnvironment, compileEnvironment } from "./gcc-environment.ts";
import { locateOutputs } from "./gcc-outputs.ts";
import { createIncludeScanner, type IncludeQuery, type Scan } from "./includes.ts";
import { addEntry } from "./inputs.ts";
import { createLocales, type Locale } from "./locale.ts";
import { prerequisitesOf } from "./make-rule.ts";
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
}

/** The largest command line and argument that any Linux can start, with room for the rest. */
const argsMaxBytes = 1_500_000;
const argMaxBytes = 120_000;
/** A look at the file system that is older than this is taken again before the scan. */
const lookMaxMs = 5;
const askMaxMs = 5 * 60_000;
const answerMaxBytes = 64 * 1024 * 1024;

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
  const locales = createLocales(disk);
  const native = createNativeFlags(processes);

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

  async function scan(
    { invocation, family, parsed, environment, args }: Request,
    toolchain: Toolchain,
    look: Look,
    signal: AbortSignal,
  ): Promise<Scan> {
    const { dirs } = parsed;
    const query: IncludeQuery = {
      family,
      cwd: invocation.cwd,
      source: parsed.source,
      dirs: {
        quote: dirs.quote,
        bracket: [...dirs.bracket, ...environment.dirs.bracket],
        system: [...dirs.system, ...environment.dirs.system],
        after: dirs.after,
      },
      standard: toolchain.includeDirs,
      forced: parsed.forced,
      defined: parsed.defined,
      also: [],
      look,
    };
    const found = await scanner.scan(query, signal);
    if (!found.unresolved || reasonAgainst(found, parsed, family, environment)) return found;
    const also = await askCompiler({ invocation, family, parsed, environment, args }, signal);
    return scanner.scan({ ...query, also, look: view.look() }, signal);
  }

  /** The files that the compiler's own preprocessor opens. */
  async function askCompiler(request: Request, signal: AbortSignal): Promise<readonly string[]> {
    const { invocation, parsed } = request;
    const { bareArgs, language, source } = parsed;
    const run = await processes.run(
      {
        argv: [invocation.compiler, ...bareArgs, "-x", language, "-M", "-MT", "x", source],
        env: invocation.env,
        cwd: invocation.cwd,
        timeoutMs: askMaxMs,
        outputMaxBytes: answerMaxBytes,
      },
      signal,
    );
    const names = run.exitCode === 0 ? prerequisitesOf(textOf(run.stdout)) : undefined;
    if (names === undefined) throw new MeshError("unsupported", `${source} cannot be preprocessed`);
    return names;
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
    const { parsed, environment, family } = request;
    const outputs = locateOutputs(look, disk, invocation.cwd, outputNames(parsed));
    if (outputs.at === "here") return here(outputs.reason);
    const toolchain = await findToolchain(request, look, signal);
    const locale = await locales.find(invocation.env, prefixOf(toolchain));
    if (locale === undefined) return here("locale");
    const argv = await native.expand({ ...request, ...nativeContext(request, toolchain) }, signal);
    if (argv === undefined) return here("march-native");
    // Where the compiler had to be asked, what was seen before that is old.
    if (clock.nowMs() - startMs > lookMaxMs) look = view.look();
    const scanned = await scan(request, toolchain, look, signal);
    const reason = reasonAgainst(scanned, parsed, family, environment);
    if (reason !== undefined) return here(reason);
    const inputs = scanned.entries;
    const asked = createTrail();
    const cwd = workingPlace(look, invocation, inputs, asked);
    const localeFiles = addLocale(look, locale, inputs, asked);
    for (const entry of toolchain.entries) addEntry(inputs, entry);
    for (const entry of outputs.entries) addEntry(inputs, entry);
    const [, dependencyPath] = parsed.dependencies ? outputs.paths : [];
    return {
      at: "anywhere",
      kind: parsed.language,
      label: parsed.source,
      spec: {
        argv: [invocation.compiler, ...argv],
        env: { ...environment.env, ...locale.env, PATH: toolchain.path },
        cwd,
        outputPaths: outputs.paths,
        inputs: [...inputs.values()],
        platform: { platform: options.platform },
        timeoutMs: options.timeoutMs,
      },
      // The others are left out where there is nothing to say in them.
      required: outputs.paths.slice(0, 1),
      facts: mergeFacts(
        scanned.facts,
        toolchain.facts,
        outputs.facts,
        factsOf(localeFiles, asked.asked),
      ),
      ...(dependencyPath && { check: checkDependencies(view, dependencyPath, cwd, inputs) }),
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

/**
 * By the name of the real file: wrappers such as ccache are no compilers, and neither is what is
 * still called `c89` or `c99-gcc` when all links have been followed, a script around one.
 */
export function familyOf(realPath: string): Family | undefined {
  const name = realPath.slice(realPath.lastIndexOf("/") + 1);
  if (compilerFamilyOf(name) !== "gcc" || /^c[89]9/.test(name)) return undefined;
  return name.includes("clang") ? "clang" : "gcc";
}

function misfitOf(words: readonly string[]): string | undefined {
  let bytes = 0;
  for (const word of words) {
    // The shim's text of bytes that are no UTF-8: such a path cannot be named here.
    if (word.includes("\ufffd")) return "not-utf8";
    const wordBytes = Buffer.byteLength(word);
    if (wordBytes > argMaxBytes) return "too-long";
    bytes += wordBytes + 9;
  }
  return bytes > argsMaxBytes ? "too-long" : undefined;
}

function outputNames({ output, dependencies, extraOutputs }: ParsedCompile): readonly string[] {
  return [output, ...(dependencies ? [dependencies.path] : []), ...extraOutputs];
}

function nativeContext(
  { invocation }: Request,
  toolchain: Toolchain,
): { driver: string; cwd: string; env: Readonly<Record<string, string>>; toolchain: string } {
  const { compiler, cwd, env } = invocation;
  return { driver: compiler, cwd, env, toolchain: toolchain.digest };
}

/** What a scan saw that only this machine's compiler gets right. */
function reasonAgainst(
  { seen, precompiled, twins }: Scan,
  { modern, trickyDefine }: ParsedCompile,
  family: Family,
  { sourceDateEpoch }: AnywhereEnvironment,
): string | undefined {
  if (seen.timestamp || trickyDefine === "timestamp") return "time-macro";
  // Clang learned SOURCE_DATE_EPOCH late.
  const fixedTime = sourceDateEpoch && family === "gcc";
  if ((seen.time || trickyDefine === "time") && !fixedTime) return "time-macro";
  if (seen.incbin) return "incbin";
  if (seen.embed) return "embed";
  if (seen.computedProbe) return "computed-has-include";
  if (seen.filePragma) return "file-pragma";
  if (seen.strangeName) return "not-utf8";
  if (seen.modules && modern && family === "clang") return "modules";
  if (precompiled) return "pch-use";
  return twins ? "twin-headers" : undefined;
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
  { paths }: Locale,
  inputs: Map<string, TreeEntry>,
  trail: Trail,
): readonly FileNode[] {
  const files: FileNode[] = [];
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
