/**
 * Finds every file that compiling one source may open, without running the compiler.
 *
 * What a file mentions is kept by its content; where a mention leads is kept for as long as every
 * folder that was asked still gives the same answers. So a second translation unit costs one look
 * at each file and folder. Branches are not evaluated: more is found than the compiler opens, and
 * never less, or `unresolved` says that only the compiler can tell.
 */
import { createRecentMap, type RecentMap } from "../base/bounded.ts";
import { type Digest, digestOf } from "../base/digest.ts";
import { MeshError } from "../base/errors.ts";
import type { TreeEntry } from "../blob/tree.ts";
import { type Facts, factsOf } from "../exec/facts.ts";
import {
  createTrail,
  type FileNode,
  type FileView,
  type FolderNode,
  type Look,
  parentOf,
  type Trail,
} from "../exec/file-view.ts";
import type { Family } from "../exec/toolchain.ts";
import type { Clock, Disk } from "../host/host.ts";
import { askEverywhere, followMacros, hasComputed } from "./include-computed.ts";
import {
  asFile,
  type Edges,
  type FoundFile,
  holds,
  mustFind,
  type Reached,
  resolveAll,
  search,
} from "./include-resolve.ts";
import { judge } from "./include-verdict.ts";
import { joinFacts } from "./join-facts.ts";
import { findPrecompiled } from "./precompiled.ts";
import { type Lexical, type Seen, scanSource } from "./scan.ts";
import { findSearchPath, type SearchDirs, type SearchPath } from "./search-path.ts";

export interface IncludeQuery {
  readonly family: Family;
  readonly cwd: string;
  /** As typed. */
  readonly source: string;
  readonly dirs: SearchDirs;
  /** The compiler's own header folders. */
  readonly standard: readonly string[];
  /** --embed-dir. */
  readonly embedDirs?: readonly string[];
  /** `-include` and `-imacros`, as typed. */
  readonly forced: readonly string[];
  /** Names of macros that the command line defines. */
  readonly defined: readonly string[];
  /** More files known to be opened, e.g. from the compiler itself; absolute or relative to `cwd`. */
  readonly also: readonly string[];
  /** The planning step in which this is asked; a new one where there is none. */
  readonly look?: Look;
}

export interface Scan {
  /** Files, symlinks and folders by path: all that is needed. The caller may add to it. */
  readonly entries: Map<string, TreeEntry>;
  /** Files that are read, the source first. */
  readonly files: readonly FileNode[];
  /** Anything seen in any file. */
  readonly seen: Seen;
  /** Some `#include` depends on a macro: the compiler must be asked. */
  readonly unresolved: boolean;
  /** A precompiled header lies where the compiler would look for one, and cannot go elsewhere. */
  readonly precompiled: boolean;
  /** Two files with the same bytes, which a compiler may take for one. */
  readonly twins: boolean;
  /** All that was read and asked for on the way. */
  readonly facts: Facts;
}

export interface IncludeScanner {
  /**
   * Codes: "io" when a file is missing or cannot be read, "limit" when there are too many or too
   * large ones, "unsupported" when something is neither file nor folder.
   */
  scan(query: IncludeQuery, signal: AbortSignal): Promise<Scan>;
}

export interface IncludeScannerDeps {
  readonly view: FileView;
  readonly disk: Pick<Disk, "readNow">;
  readonly clock: Pick<Clock, "sleep">;
}

export interface IncludeScannerOptions {
  /** Contents whose mentions are remembered. */
  readonly lexicalsMax: number;
  /** Search paths remembered; each target of a project has one. */
  readonly contextsMax: number;
  /** Linked files per search path whose mentions are remembered as resolved. */
  readonly linkedMax: number;
  /** Files that one source may reach. */
  readonly reachMax: number;
  /** Files read before others get a turn. */
  readonly readsPerTurn: number;
}

export const includeScannerDefaults: IncludeScannerOptions = {
  lexicalsMax: 65_536,
  contextsMax: 256,
  linkedMax: 4096,
  reachMax: 20_000,
  readsPerTurn: 64,
};

interface Context {
  readonly path: SearchPath;
  /** Gone with the file they belong to, which the view keeps a bounded number of. */
  readonly edges: WeakMap<FileNode, Edges>;
  /** Of files reached by a link: what is beside the link decides, too. */
  readonly linked: RecentMap<string, Edges>;
}

export function createIncludeScanner(
  deps: IncludeScannerDeps,
  options: IncludeScannerOptions = includeScannerDefaults,
): IncludeScanner {
  const { view, disk, clock } = deps;
  const lexicals = createRecentMap<Digest, Lexical>(options.lexicalsMax);
  const lexicalsOfNodes = new WeakMap<FileNode, Lexical>();
  const contexts = createRecentMap<string, Context>(options.contextsMax);

  function lexicalOf(node: FileNode, bytes: Uint8Array | undefined): Lexical {
    const quickly = lexicalsOfNodes.get(node);
    if (quickly !== undefined) return quickly;
    const lexical = lexicals.get(node.digest) ?? readLexical(node, bytes);
    lexicalsOfNodes.set(node, lexical);
    return lexical;
  }

  function readLexical(node: FileNode, bytes: Uint8Array | undefined): Lexical {
    const text = bytes ?? disk.readNow(node.path);
    if (bytes === undefined && digestOf(text) !== node.digest)
      throw new MeshError("io", `${node.path} changed while it was read`);
    const lexical = scanSource(text);
    lexicals.set(node.digest, lexical);
    return lexical;
  }

  function contextOf(look: Look, cwd: FolderNode, query: IncludeQuery, trail: Trail): Context {
    const path = findSearchPath(look, cwd, { embedDirs: [], ...query }, trail);
    if (path === undefined)
      throw new MeshError("unsupported", "an include directory is not a directory");
    const key = contextKey(query);
    const known = contexts.get(key);
    if (known !== undefined && samePath(known.path, path)) return known;
    const linked = createRecentMap<string, Edges>(options.linkedMax);
    const made = { path, edges: new WeakMap<FileNode, Edges>(), linked };
    contexts.set(key, made);
    return made;
  }

  function edgesOf(
    look: Look,
    context: Context,
    at: FoundFile,
    node: FileNode,
    bytes: Uint8Array | undefined,
    family: Family,
  ): Edges {
    const linked = at.apparentPath !== at.path;
    const known = linked ? context.linked.get(at.apparentPath) : context.edges.get(node);
    if (known !== undefined && known.from.node === node && holds(look, known)) return known;
    const from = { at, node, lexical: lexicalOf(node, bytes) };
    const made = resolveAll(look, context.path, from, from.lexical.mentions, family);
    if (linked) context.linked.set(at.apparentPath, made);
    else context.edges.set(node, made);
    return made;
  }

  /** Undefined when a file that was known to be there is gone: all is to be looked up again. */
  async function attempt(query: IncludeQuery, signal: AbortSignal): Promise<Scan | undefined> {
    const look = query.look ?? view.look();
    const trail = createTrail();
    const cwd = folderOf(look, query.cwd, trail);
    const context = contextOf(look, cwd, query, trail);
    const start = startingPoints(look, cwd, context.path, query, trail);
    const walk = createWalk(look, trail, start);
    const before = factsOf([], trail.asked);
    let turn = 0;
    let unresolved = false;
    let bytes: Uint8Array | undefined;
    const onBytes = (_: FileNode, read: Uint8Array): void => {
      bytes = read;
    };
    for (;;) {
      const at = walk.next();
      if (at === undefined) {
        const macros = followMacros(look, context.path, walk.reached, query, walk.addEdges);
        unresolved ||= macros.unresolved;
        if (walk.isAtEnd()) break;
        continue;
      }
      if (walk.reached.length >= options.reachMax)
        throw new MeshError("limit", `${query.source} reaches over ${options.reachMax} files`);
      bytes = undefined;
      const node = look.file(at.path, onBytes);
      if (node === undefined) {
        distrust(look, at);
        return undefined;
      }
      const edges = edgesOf(look, context, at, node, bytes, query.family);
      walk.addFile(edges.from);
      walk.addEdges(edges);
      if (look.filesRead - turn < options.readsPerTurn) continue;
      // Reading is synchronous: a cold scan must let the rest of the node live.
      turn = look.filesRead;
      await clock.sleep(0, signal);
    }
    for (const gone of walk.gone) distrust(look, gone);
    if (walk.gone.length > 0) return undefined;
    const probes = createTrail();
    const pch = await precompiledOf(look, context.path, walk, start, query, probes);
    if (query.also.length > 0) askEverywhere(look, context.path, walk.reached, query.also, probes);
    const entries = walk.entries();
    for (const node of pch.nodes) entries.set(node.path, node.entry);
    for (const [path, link] of probes.links) entries.set(path, link);
    return {
      entries,
      files: walk.reached.map(({ node }) => node),
      facts: joinFacts(before, walk.facts(), factsOf(pch.nodes, probes.asked)),
      ...judge(walk.reached, unresolved, query.family),
      precompiled: pch.strange,
    };
  }

  return {
    async scan(query, signal) {
      const scan =
        (await attempt(query, signal)) ?? (await attempt({ ...query, look: view.look() }, signal));
      if (scan === undefined)
        throw new MeshError("io", `headers of ${query.source} went away while it was planned`);
      return scan;
    },
  };
}

function distrust(look: Look, { folder, path }: FoundFile): void {
  look.distrust(folder);
  look.distrust(look.folder(parentOf(path)));
}

/** Precompiled headers, read; those that go nowhere are only noticed. */
async function precompiledOf(
  look: Look,
  path: SearchPath,
  { reached }: Walk,
  start: readonly FoundFile[],
  query: IncludeQuery,
  trail: Trail,
): Promise<{ readonly nodes: readonly FileNode[]; readonly strange: boolean }> {
  const first = start.slice(0, 1 + query.forced.length).map(({ apparentPath }) => apparentPath);
  const roots = reached.filter(({ at }) => first.includes(at.apparentPath));
  const { files, strange } = findPrecompiled(look, path, roots, query, trail);
  if (strange || files.length === 0) return { nodes: [], strange };
  // What a macro in it says is nowhere else to be read once its headers have changed.
  if (hasComputed(reached)) return { nodes: [], strange: true };
  const nodes: FileNode[] = [];
  for (const { path } of files) {
    const node = await look.largeFile(path);
    if (node === undefined) return { nodes: [], strange: true };
    nodes.push(node);
  }
  return { nodes, strange: false };
}

function contextKey({ cwd, family, dirs, standard, embedDirs = [] }: IncludeQuery): string {
  const parts = [dirs.quote, dirs.bracket, dirs.system, dirs.after, standard, embedDirs];
  return [cwd, family, ...parts.map((names) => names.join("\0"))].join("\0\0");
}

function samePath(a: SearchPath, b: SearchPath): boolean {
  return a.cwd === b.cwd && sameFolders(a.chain, b.chain) && sameFolders(a.embed, b.embed);
}

function sameFolders(a: readonly FolderNode[], b: readonly FolderNode[]): boolean {
  return a.length === b.length && a.every((folder, i) => folder === b[i]);
}

function folderOf(look: Look, path: string, trail: Trail): FolderNode {
  const found = look.find(look.folder("/"), path, trail);
  if (found?.kind !== "folder") throw new MeshError("io", `ENOENT: no directory ${path}`);
  trail.folders.add(found.folder);
  return found.folder;
}

/** The source, the files that are included before it, and those the caller knows of. */
function startingPoints(
  look: Look,
  cwd: FolderNode,
  path: SearchPath,
  query: IncludeQuery,
  trail: Trail,
): FoundFile[] {
  const points = [mustFind(look.find(cwd, query.source, trail), query.source)];
  for (const name of query.forced) {
    // Looked for in the working directory first, then like "name".
    const there = asFile(look.find(cwd, name, trail));
    const found = there ?? search(look, path.chain, 0, name, trail);
    points.push(mustFind(found, name));
  }
  for (const name of query.also) points.push(mustFind(look.find(cwd, name, trail), name));
  // GCC on GNU systems begins every source with this header, if there is one.
  const predefined = search(look, path.chain, path.bracketStart, "stdc-predef.h", trail);
  if (predefined !== undefined) points.push(predefined);
  return points;
}

/** The way through all files, and what is collected on it for the input root. */
interface Walk {
  readonly reached: readonly Reached[];
  /** Files that were asked about and are not there any more. */
  readonly gone: readonly FoundFile[];
  /** The next file not seen yet; undefined at the end of what is known. */
  next(): FoundFile | undefined;
  isAtEnd(): boolean;
  addFile(one: Reached): void;
  addEdges(edges: Edges): void;
  entries(): Map<string, TreeEntry>;
  facts(): Facts;
}

function createWalk(look: Look, trail: Trail, start: readonly FoundFile[]): Walk {
  const entries = new Map<string, TreeEntry>();
  const reached: Reached[] = [];
  const gone: FoundFile[] = [];
  const queue: FoundFile[] = [...start];
  const visited = new Set<string>();
  const probed: FileNode[] = [];
  const asked = new Map<FolderNode, number>();
  let at = 0;
  return {
    reached,
    gone,
    next() {
      for (; at < queue.length; at++) {
        const found = queue[at];
        if (found === undefined || visited.has(found.apparentPath)) continue;
        visited.add(found.apparentPath);
        return found;
      }
      return undefined;
    },
    isAtEnd: () => queue.slice(at).every((found) => visited.has(found.apparentPath)),
    addFile(one) {
      reached.push(one);
      entries.set(one.node.path, one.node.entry);
    },
    addEdges(edges) {
      for (const [index, folder] of edges.asked.entries())
        if (!asked.has(folder)) asked.set(folder, edges.versions[index] ?? -1);
      for (const link of edges.links) entries.set(link.path, link);
      for (const folder of edges.folders) trail.folders.add(folder);
      for (const found of edges.opened) if (!visited.has(found.apparentPath)) queue.push(found);
      for (const found of edges.probed) {
        const node = look.file(found.path);
        if (node === undefined) gone.push(found);
        else {
          entries.set(node.path, node.entry);
          probed.push(node);
        }
      }
    },
    entries() {
      for (const [path, link] of trail.links) entries.set(path, link);
      for (const { path } of trail.folders) entries.set(path, { kind: "directory", path });
      return entries;
    },
    facts: () => ({
      files: [...new Set([...reached.map(({ node }) => node), ...probed])],
      asked: [...asked.keys()],
      versions: [...asked.values()],
    }),
  };
}
