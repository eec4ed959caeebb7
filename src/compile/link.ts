/**
 * Plans links: by a GCC or Clang driver, or by a linker called directly. A link runs here, because
 * its inputs are large and mostly here; its result is a function of them, so it is remembered.
 *
 * The inputs are found before the run, without the linker. After it, the linker's own list of the
 * files it has read decides whether the prediction was right. This file runs no link.
 */
import { join } from "node:path";
import type { TreeEntry } from "../blob/tree.ts";
import { factsOf, mergeFacts } from "../exec/facts.ts";
import { createTrail, trailEntries } from "../exec/file-view.ts";
import { locateOutputs } from "./gcc-outputs.ts";
import { familyOf } from "./gcc-verdict.ts";
import { addEntry } from "./inputs.ts";
import { parseLinkArgs } from "./link-args.ts";
import { checkLinkList, createLinkLists } from "./link-check.ts";
import { createLinkFiles } from "./link-files.ts";
import { createLoaderFolders } from "./link-needed.ts";
import {
  createRequestPlanner,
  type LinkPlannerDeps,
  type LinkRequest,
  nodesAt,
  pathFor,
} from "./link-request.ts";
import { resolveLink } from "./link-resolve.ts";
import { createLinkTools, type Driver, type Linker } from "./link-tools.ts";
import { type LinkStaysHere, type LinkWords, readLinkWords } from "./link-words.ts";
import type { ActionPlan, Plan, Planner } from "./plan.ts";
import { shimMarker } from "./shim-build.ts";

export type { LinkPlannerDeps } from "./link-request.ts";

export interface LinkPlannerOptions {
  /** What the result is for, e.g. "linux/x86_64". */
  readonly platform: string;
  readonly timeoutMs: number;
  /** An existing folder, absolute, for the lists that linkers write: one node's alone. */
  readonly scratch: string;
}

/** What one command line asks for, once its driver has been asked. */
interface Wanted {
  readonly words: LinkWords;
  /** -L given to the driver. */
  readonly folders: readonly string[];
  readonly output: string;
  readonly linker: Linker;
  readonly driver: Driver | undefined;
}

type Read = (request: LinkRequest, signal: AbortSignal) => Promise<Wanted | string>;

/** For gcc, g++, clang and clang++ without -c, -S or -E. */
export function createLinkPlanner(deps: LinkPlannerDeps, options: LinkPlannerOptions): Planner {
  const tools = createLinkTools(deps);

  async function read(request: LinkRequest, signal: AbortSignal): Promise<Wanted | string> {
    const { invocation, args, environment, look, cwd } = request;
    const { compiler, env } = invocation;
    const real = look.find(look.folder("/"), compiler, createTrail());
    const family = real?.kind === "file" ? familyOf(real.path) : undefined;
    if (family === undefined) return "compiler-unknown";
    const parsed = parseLinkArgs(args);
    if (parsed.at === "here") return textOf(parsed);
    const own = readLinkWords([{ words: parsed.words, own: false }]);
    if (own.at === "here") return textOf(own);
    if (own.items.length === 0 && own.scripts.length === 0) return "no-input";
    const { libraryPath, linkPath } = environment;
    const driver = await tools.driver(
      {
        driver: compiler,
        family,
        flags: parsed.modeFlags,
        cwd: cwd.path,
        path: withoutShims(deps.disk, env.PATH ?? ""),
        libraryPath,
        linkPath,
        look,
      },
      signal,
    );
    const words = readLinkWords([
      { words: driver.before, own: true },
      { words: parsed.words, own: false },
      { words: driver.after, own: true },
    ]);
    if (words.at === "here") return textOf(words);
    const { emulation } = words;
    const linker = await tools.linker(
      { path: driver.linker, emulation, libraryPath, look },
      signal,
    );
    const output = words.output ?? parsed.output ?? "a.out";
    return { words, folders: parsed.folders, output, linker, driver };
  }

  return createPlanner(deps, options, "link", ["-Xlinker"], read);
}

/** For ld, ld.bfd, ld.gold and ld.lld called directly. */
export function createLdPlanner(deps: LinkPlannerDeps, options: LinkPlannerOptions): Planner {
  const tools = createLinkTools(deps);

  async function read(request: LinkRequest, signal: AbortSignal): Promise<Wanted | string> {
    const { invocation, args, environment, look } = request;
    const words = readLinkWords([{ words: args, own: false }]);
    if (words.at === "here") return textOf(words);
    if (words.items.length === 0 && words.scripts.length === 0) return "no-input";
    const { emulation, output = "a.out" } = words;
    const { libraryPath } = environment;
    const asked = { path: invocation.compiler, emulation, libraryPath, look };
    const linker = await tools.linker(asked, signal);
    return { words, folders: [], output, linker, driver: undefined };
  }

  return createPlanner(deps, options, "ld", [], read);
}

function createPlanner(
  deps: LinkPlannerDeps,
  options: LinkPlannerOptions,
  prefix: string,
  wrapping: readonly string[],
  read: Read,
): Planner {
  const { disk, view } = deps;
  const files = createLinkFiles(disk, view);
  const loader = createLoaderFolders(disk);
  const lists = createLinkLists(disk, options.scratch, prefix);

  /** Where the linker's list of files will be, and how to look at it. */
  function checks(
    { words }: Wanted,
    cwd: string,
    inputs: ReadonlyMap<string, TreeEntry>,
  ): Pick<ActionPlan, "hereArgs" | "hereFile" | "checkHere"> {
    const own = words.dependencyFile;
    if (own !== undefined) {
      const path = own.startsWith("/") ? own : `${cwd}/${own}`;
      return { checkHere: () => checkLinkList(deps, path, cwd, inputs) };
    }
    const path = lists.next();
    return {
      hereArgs: [...wrapping, `--dependency-file=${path}`],
      hereFile: path,
      checkHere: () => checkLinkList(deps, path, cwd, inputs).finally(() => lists.remove(path)),
    };
  }

  async function plan(request: LinkRequest, signal: AbortSignal): Promise<Plan> {
    const { invocation, environment, look, cwd, here } = request;
    const wanted = await read(request, signal);
    if (typeof wanted === "string") return here(wanted);
    const { words, linker, driver } = wanted;
    if (linker.kind === "unknown") return here("linker-unknown");
    if (!linker.namesFiles) return here("linker-unverified");
    const { libraryPath, runPath } = environment;
    const written = [wanted.output, words.map, words.dependencyFile].filter(isGiven);
    const outputs = locateOutputs(look, disk, cwd.path, written);
    if (outputs.at === "here") return here(outputs.reason);
    const loading = await loader.find();
    const found = await resolveLink(files, {
      ...{ look, cwd, words, folders: wanted.folders, linker, libraryPath, runPath },
      loaderFolders: loading.folders,
    });
    if (found.at === "here") return here(found.reason);
    const { nodes, trail } = found;
    const beside = await request.beside(linker.path, trail);
    if (beside === undefined) return here("locale");
    const inputs = new Map<string, TreeEntry>();
    for (const node of [...nodes.values(), ...beside.nodes]) addEntry(inputs, node.entry);
    for (const tool of driver ? [driver, linker] : [linker])
      for (const entry of tool.entries) addEntry(inputs, entry);
    for (const entry of [...trailEntries(trail), ...outputs.entries]) addEntry(inputs, entry);
    const loaderFiles = await nodesAt(look, cwd, loading.files, trail);
    const looked = [...nodes.values(), ...beside.nodes, ...loaderFiles];
    const tools = [linker.facts, ...(driver ? [driver.facts] : [])];
    return {
      at: "anywhere",
      kind: request.kind,
      label: request.label,
      spec: {
        argv: [invocation.compiler, ...invocation.args],
        env: { ...environment.env, ...beside.env, PATH: pathFor(linker.path) },
        cwd: cwd.path,
        outputPaths: outputs.paths,
        inputs: [...inputs.values()],
        platform: { platform: options.platform },
        timeoutMs: options.timeoutMs,
      },
      required: outputs.paths,
      facts: mergeFacts(factsOf(looked, trail.asked), outputs.facts, ...tools),
      whyHere: "link",
      ...checks(wanted, cwd.path, inputs),
    };
  }

  return createRequestPlanner(deps, plan);
}

function textOf({ reason, culprit }: LinkStaysHere): string {
  return culprit === "" ? reason : `${reason} ${culprit}`;
}

function isGiven(path: string | undefined): path is string {
  return path !== undefined;
}

/** The search path without folders of our own stand-ins, behind which the real tools are found. */
function withoutShims(disk: LinkPlannerDeps["disk"], path: string): string {
  const isShims = (folder: string) => disk.statNow(join(folder, shimMarker)) !== undefined;
  return path
    .split(":")
    .filter((folder) => !(folder.startsWith("/") && isShims(folder)))
    .join(":");
}
