/**
 * Everything of a C or C++ compiler that one compile needs, as input-root entries: driver,
 * compiler proper, assembler, loader, libraries, and every symlink on the way to them. A node
 * without any compiler can then run it at the same paths.
 *
 * Headers are not here; what they are found by, the list of standard folders, is.
 */
import { createRecentMap } from "../base/bounded.ts";
import { utf8 } from "../base/bytes.ts";
import { type Digest, digestOf } from "../base/digest.ts";
import { MeshError } from "../base/errors.ts";
import type { BlobStore } from "../blob/store.ts";
import type { TreeEntry } from "../blob/tree.ts";
import type { Clock, Disk, Processes } from "../host/host.ts";
import { interpreterOf, loadedBy } from "./elf.ts";
import { type Facts, factsHold, factsOf } from "./facts.ts";
import {
  createFileView,
  createTrail,
  type FileNode,
  type FileView,
  type Look,
  type Trail,
  trailEntries,
} from "./file-view.ts";
import { type Family, probeCompiler, type ToolchainQuery } from "./toolchain-probe.ts";

export type { Family, ToolchainQuery } from "./toolchain-probe.ts";

export interface Toolchain {
  readonly entries: readonly TreeEntry[];
  /** Of all entries: the same digest, the same compiler. */
  readonly digest: Digest;
  /** argv[0]. */
  readonly driver: string;
  readonly family: Family;
  /** Standard header folders in search order, as the compiler spells them. */
  readonly includeDirs: readonly string[];
  readonly targetTriple: string;
  /** PATH under which the driver finds the same tools. */
  readonly path: string;
  /** For as long as they hold, this is the answer. */
  readonly facts: Facts;
}

export interface Toolchains {
  /** Codes: "unsupported" when this is no compiler that can travel, "io". */
  closure(query: ToolchainQuery, signal: AbortSignal): Promise<Toolchain>;
  /** What loading these programs and shared libraries needs, themselves included. */
  elfClosure(paths: readonly string[], signal: AbortSignal): Promise<readonly TreeEntry[]>;
}

export interface ToolchainDeps {
  readonly disk: Disk;
  readonly processes: Processes;
  readonly store: Pick<BlobStore, "has" | "adopt">;
  readonly clock: Clock;
  /** Shared with the include scanner where there is one. */
  readonly view?: FileView;
}

export interface ToolchainOptions {
  /** Compilers, each with its sets of options, that are remembered. */
  readonly toolchainsMax: number;
}

interface Gathering {
  readonly look: Look;
  readonly trail: Trail;
  readonly files: Map<string, FileNode>;
}

export function createToolchains(
  deps: ToolchainDeps,
  options: ToolchainOptions = { toolchainsMax: 128 },
): Toolchains {
  const view = deps.view ?? createFileView(deps);
  const kept = createRecentMap<string, Promise<Toolchain>>(options.toolchainsMax);

  async function addFile(gathering: Gathering, path: string): Promise<boolean> {
    const { look, trail, files } = gathering;
    const found = look.find(look.folder("/"), path, trail);
    if (found?.kind !== "file") return false;
    const node = files.get(found.path) ?? (await look.largeFile(found.path));
    if (node !== undefined) files.set(node.path, node);
    return node !== undefined;
  }

  async function addPrograms(
    gathering: Gathering,
    paths: readonly string[],
    libraryPath: string,
    signal: AbortSignal,
  ): Promise<void> {
    let loader = "";
    for (const path of paths) loader ||= (await interpreterOf(deps.disk, path)) ?? "";
    for (const path of paths) {
      if (!(await addFile(gathering, path)))
        throw new MeshError("unsupported", `${path} is no regular file`);
      const loaded = await loadedBy(deps, path, loader, libraryPath, signal);
      for (const library of loaded.paths) await addFile(gathering, library);
      if (loaded.needsCache) await addFile(gathering, "/etc/ld.so.cache");
    }
  }

  function startGathering(): Gathering {
    return { look: view.look(), trail: createTrail(), files: new Map() };
  }

  async function gather(query: ToolchainQuery, signal: AbortSignal): Promise<Toolchain> {
    const gathering = startGathering();
    const { look, trail } = gathering;
    if (look.find(look.folder("/"), "/etc/ld.so.preload", trail) !== undefined)
      throw new MeshError("unsupported", "/etc/ld.so.preload changes every program here");
    const found = await probeCompiler(deps, query, signal);
    await addPrograms(gathering, [query.driver, ...found.programs], query.libraryPath, signal);
    for (const path of found.files) await addFile(gathering, path);
    for (const path of found.folders) {
      // Where it is called from is no part of a compiler that says nothing relative to there.
      const root = look.folder("/");
      const cwd = path.startsWith("/") ? undefined : look.find(root, query.cwd, trail);
      const from = path.startsWith("/") ? root : cwd?.kind === "folder" ? cwd.folder : undefined;
      const folder = from && look.find(from, path, trail);
      // One that is not there now may come: it counts as asked about, and no more.
      if (folder?.kind === "folder") trail.folders.add(folder.folder);
    }
    const entries = [...gathering.files.values()].map((node) => node.entry);
    entries.push(...trailEntries(trail));
    return {
      entries,
      digest: digestOfEntries(entries),
      driver: query.driver,
      family: query.family,
      includeDirs: found.includeDirs,
      targetTriple: found.targetTriple,
      path: found.path,
      facts: factsOf(gathering.files.values(), trail.asked),
    };
  }

  return {
    async closure(query, signal) {
      signal.throwIfAborted();
      const key = keyOf(query);
      const before = kept.get(key);
      const known = await before?.catch(() => undefined);
      if (known !== undefined && factsHold(known.facts, query.look ?? view.look())) return known;
      // Somebody else may have asked anew while this one waited. The answer is shared, so it is
      // not this caller's to cancel.
      const now = kept.get(key);
      const shared = now !== before ? now : undefined;
      const gathered = shared ?? gather(query, new AbortController().signal);
      kept.set(key, gathered);
      try {
        return await gathered;
      } catch (error) {
        if (kept.get(key) === gathered) kept.delete(key);
        throw error;
      }
    },
    async elfClosure(paths, signal) {
      const gathering = startGathering();
      await addPrograms(gathering, paths, "", signal);
      const files = [...gathering.files.values()].map((node) => node.entry);
      return [...files, ...trailEntries(gathering.trail)];
    },
  };
}

function keyOf(query: ToolchainQuery): string {
  const { driver, language, flags, cwd, path, libraryPath } = query;
  const relative = flags.some((flag) => /(?:^|=|B)(?:\.|[^-/][^/]*\/)/.test(flag));
  return [driver, language, relative ? cwd : "", path, libraryPath, ...flags].join("\0");
}

function digestOfEntries(entries: readonly TreeEntry[]): Digest {
  const lines = entries.map((entry) => {
    if (entry.kind === "file") return `f${entry.path}\0${entry.digest}\0${entry.executable}`;
    return entry.kind === "symlink" ? `l${entry.path}\0${entry.target}` : `d${entry.path}`;
  });
  return digestOf(utf8(lines.sort().join("\n")));
}
