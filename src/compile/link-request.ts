/**
 * What planning a link and planning an archive have in common: the command line with its response
 * files, the environment, the language of messages. It does not know options.
 */
import { isMeshError } from "../base/errors.ts";
import {
  createTrail,
  type FileNode,
  type FileView,
  type FolderNode,
  type Look,
  parentOf,
  type Trail,
} from "../exec/file-view.ts";
import type { Disk, Processes } from "../host/host.ts";
import { glance } from "./compilers.ts";
import { type LinkEnvironment, linkEnvironment } from "./link-environment.ts";
import { createLocales } from "./locale.ts";
import type { Invocation, LocalPlan, Plan, Planner } from "./plan.ts";
import { expandResponseFiles } from "./response-file.ts";

export interface LinkPlannerDeps {
  readonly disk: Disk;
  readonly processes: Processes;
  readonly view: FileView;
}

export interface LinkRequest {
  readonly invocation: Invocation;
  /** With response files expanded. */
  readonly args: readonly string[];
  readonly environment: Extract<LinkEnvironment, { at: "anywhere" }>;
  readonly look: Look;
  readonly cwd: FolderNode;
  readonly kind: string;
  readonly label: string;
  readonly here: (reason: string) => LocalPlan;
  /** Response files and message catalogues; undefined when the locale cannot be named. */
  readonly beside: (tool: string, trail: Trail) => Promise<Beside | undefined>;
}

export interface Beside {
  readonly nodes: readonly FileNode[];
  readonly env: Readonly<Record<string, string>>;
}

export function createRequestPlanner(
  { disk, view }: LinkPlannerDeps,
  plan: (request: LinkRequest, signal: AbortSignal) => Promise<Plan>,
): Planner {
  const locales = createLocales(disk);

  return async (invocation, signal) => {
    const { compiler, env } = invocation;
    const glanced = glance(compiler, invocation.args);
    const here = (reason: string): LocalPlan => ({ at: "here", reason, ...glanced });
    try {
      const look = view.look();
      const environment = linkEnvironment(env);
      if (environment.at === "here") return here(`environment ${environment.culprit}`);
      const cwd = look.find(look.folder("/"), invocation.cwd, createTrail());
      if (cwd?.kind !== "folder") return here("output-folder");
      if ([compiler, ...invocation.args].some((word) => word.includes("\ufffd")))
        return here("not-utf8");
      const { args, files } = expand(invocation, disk);
      const beside: LinkRequest["beside"] = async (tool, trail) => {
        const locale = await locales.find(env, parentOf(parentOf(tool)));
        if (locale === undefined) return undefined;
        const paths = [...files, ...locale.paths, ...linkerCatalogues(locale.paths)];
        return { nodes: await nodesAt(look, cwd.folder, paths, trail), env: locale.env };
      };
      const request = { invocation, args, environment, look, cwd: cwd.folder, here, beside };
      return await plan({ ...request, ...glanced }, signal);
    } catch (error) {
      signal.throwIfAborted();
      // Whatever could not be found out is found out by the real tool, which also says so.
      if (isMeshError(error)) return here(`cannot-plan ${error.code}`);
      throw error;
    }
  };
}

/** Also those of -Wl,@file, which the driver passes on for the linker to expand. */
function expand(
  { args, cwd }: Invocation,
  disk: Disk,
): { readonly args: readonly string[]; readonly files: readonly string[] } {
  const files = new Set<string>();
  const noting = {
    statFollowNow: (path: string) => disk.statFollowNow(path),
    readNow: (path: string) => {
      files.add(path);
      return disk.readNow(path);
    },
  };
  const expanded = expandResponseFiles(args, cwd, noting).flatMap((arg) => {
    if (!arg.startsWith("-Wl,@") && !arg.includes(",@")) return [arg];
    if (!arg.startsWith("-Wl,")) return [arg];
    const words = expandResponseFiles(arg.slice("-Wl,".length).split(","), cwd, noting);
    return words.flatMap((word) => ["-Xlinker", word]);
  });
  return { args: expanded, files: [...files] };
}

/** The linker's own messages lie beside those of the library it shares with other tools. */
function linkerCatalogues(paths: readonly string[]): string[] {
  const folders = new Set(paths.filter((path) => path.endsWith(".mo")).map(parentOf));
  return [...folders].flatMap((folder) => [`${folder}/ld.mo`, `${folder}/gold.mo`]);
}

/** Those of the files that are there. */
export async function nodesAt(
  look: Look,
  cwd: FolderNode,
  paths: readonly string[],
  trail: Trail,
): Promise<FileNode[]> {
  const nodes: FileNode[] = [];
  for (const path of paths) {
    const found = look.find(cwd, path, trail);
    const node = found?.kind === "file" ? await look.largeFile(found.path) : undefined;
    if (node !== undefined) nodes.push(node);
  }
  return nodes;
}

/** A tool found only along the user's PATH is found along this one, too. */
export function pathFor(tool: string): string {
  return [...new Set([parentOf(tool), "/usr/bin", "/bin"])].join(":");
}
