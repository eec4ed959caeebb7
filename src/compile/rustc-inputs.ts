/**
 * Every file that a Rust unit may read, more rather than fewer: its package and `OUT_DIR`, what its
 * sources name, what earlier runs of it read, the libraries below it and those of the system.
 */
import { basename, dirname, join, resolve } from "node:path";
import { textOf } from "../base/bytes.ts";
import { type Facts, mergeFacts } from "../exec/facts.ts";
import type { FileNode } from "../exec/file-view.ts";
import type { Disk } from "../host/host.ts";
import { type FoundInputs, type InputFiles, mergeEntries } from "./inputs.ts";
import type { Invocation } from "./plan.ts";
import type { RustUnit } from "./rustc-args.ts";
import type { Closure } from "./rustc-dependencies.ts";
import { sourcesIn } from "./rustc-depinfo.ts";
import type { Sources } from "./rustc-environment.ts";
import type { Learned } from "./rustc-learned.ts";
import { filesInArgs, type LinkTools, librariesNamed } from "./rustc-link.ts";
import {
  isRust,
  isSecretFile,
  type Listing,
  type PackageFiles,
  readPackage,
} from "./rustc-package.ts";
import type { Root } from "./rustc-portable.ts";
import type { RustToolchain } from "./rustc-toolchain.ts";

/** A unit, and what was found out about it on the way. */
export interface RustRequest {
  readonly unit: RustUnit;
  readonly invocation: Invocation;
  readonly toolchain: RustToolchain;
  readonly libraries: Closure;
  readonly learned: Learned;
  /** Folders that are elsewhere in another checkout. */
  readonly roots: readonly Root[];
}

export interface UnitInputs extends Pick<PackageFiles, "withheld" | "folders" | "left"> {
  readonly entries: FoundInputs["entries"];
  readonly nodes: ReadonlyMap<string, FileNode>;
  readonly facts: Facts;
  /** What the sources give to `env!`, and what else in them could name a variable. */
  readonly variables: ReadonlySet<string>;
  readonly mentioned: ReadonlySet<string>;
  /** What earlier runs looked for, and what is not there now. */
  readonly absent: readonly string[];
}

export interface UnitInputsDeps {
  readonly disk: Disk;
  readonly list: Listing;
  readonly files: InputFiles;
  readonly sources: Sources;
}

export const isMacro = (path: string): boolean => path.endsWith(".so");

/** A text is the reason to stay here. */
export async function findUnitInputs(
  { disk, list, files, sources }: UnitInputsDeps,
  { unit, invocation, toolchain, libraries, learned }: RustRequest,
  tools: LinkTools | undefined,
): Promise<UnitInputs | string> {
  const { cwd, env } = invocation;
  const macros = libraries.files.some(isMacro);
  const { CARGO_MANIFEST_DIR, OUT_DIR } = env;
  const roots = [CARGO_MANIFEST_DIR, OUT_DIR].filter((folder) => folder !== undefined);
  const found = await readPackage(
    { disk, list },
    { folders: roots, source: unit.source, cwd, macros },
  );
  if (found === undefined) return "package-too-large";
  const before = await readBefore(disk, unit, cwd);
  const more = learnedFiles(disk, learned.paths);
  if (macros && more.files.some((path) => isSecretFile(basename(path))))
    return "macro-reads-secret";
  const inputs = await files.find({
    files: [...found.large, ...before, ...libraries.files],
    smallFiles: [unit.source, ...found.small],
    folders: [cwd, unit.outDir, ...roots, ...more.folders],
    onBytes: (node, bytes) => {
      if (isRust(node.path)) sources.onBytes(node, bytes);
    },
  });
  if (inputs.missing.length > 0) return "input-vanished";
  const names = namesIn(sources, inputs.nodes);
  const optional = new Set([
    ...names.files,
    ...learned.paths,
    ...nativeFiles(unit, cwd, libraries, learned, tools),
  ]);
  const extra = optional.size === 0 ? undefined : await files.find({ files: optional });
  const missing = new Set(extra?.missing);
  return {
    ...{ withheld: found.withheld, folders: found.folders, left: found.left },
    entries: extra === undefined ? inputs.entries : mergeEntries(inputs.entries, extra.entries),
    nodes: extra === undefined ? inputs.nodes : new Map([...inputs.nodes, ...extra.nodes]),
    facts: extra === undefined ? inputs.facts : mergeFacts(inputs.facts, extra.facts),
    ...{ variables: names.variables, mentioned: names.mentioned },
    absent: [
      ...[...learned.paths].filter((path) => missing.has(path) && !more.folders.includes(path)),
      // Where rustc itself looks for the standard library in vain.
      ...absentOf(disk, join(toolchain.sysroot, "lib64")),
    ],
  };
}

function absentOf(disk: Disk, path: string): readonly string[] {
  return disk.statFollowNow(path) === undefined ? [path] : [];
}

interface NamesInSources {
  readonly variables: ReadonlySet<string>;
  readonly mentioned: ReadonlySet<string>;
  readonly files: ReadonlySet<string>;
}

function namesIn(sources: Sources, nodes: FoundInputs["nodes"]): NamesInSources {
  const variables = new Set<string>();
  const mentioned = new Set<string>();
  const files = new Set<string>();
  for (const [path, node] of nodes) {
    if (!isRust(path)) continue;
    const names = sources.namesIn(node);
    for (const name of names.variables) variables.add(name);
    for (const name of names.others) mentioned.add(name);
    for (const name of names.files) {
      const file = resolve(dirname(path), name);
      if (!nodes.has(file)) files.add(file);
    }
  }
  return { variables, mentioned, files };
}

/** System libraries, wherever the linker could find one of that name; and what its options name. */
function nativeFiles(
  unit: RustUnit,
  cwd: string,
  libraries: Closure,
  learned: Learned,
  tools: LinkTools | undefined,
): readonly string[] {
  if (tools === undefined) return [];
  const names = new Set([...libraries.nativeNames, ...learned.libraries]);
  const folders = [...new Set([...unit.nativeDirs, ...tools.folders])];
  return [...librariesNamed(names, folders), ...filesInArgs(unit.linking?.linkArgs ?? [], cwd)];
}

function learnedFiles(
  disk: Disk,
  paths: ReadonlySet<string>,
): { readonly files: readonly string[]; readonly folders: readonly string[] } {
  const all = [...paths].map((path) => ({ path, kind: disk.statFollowNow(path)?.kind }));
  const of = (wanted: string) => all.flatMap(({ path, kind }) => (kind === wanted ? path : []));
  return { files: of("file"), folders: of("directory") };
}

/** What the unit read last time, wherever that lies, as far as it is still there. */
async function readBefore(disk: Disk, { depInfo }: RustUnit, cwd: string): Promise<string[]> {
  if (disk.statFollowNow(depInfo)?.kind !== "file") return [];
  const sources = sourcesIn(textOf(await disk.read(depInfo)), cwd);
  return sources.filter((path) => disk.statFollowNow(path)?.kind === "file");
}
