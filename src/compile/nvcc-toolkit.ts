/**
 * The programs of the CUDA toolkit as inputs of an action, each with what it loads, and the host
 * compiler that nvcc would find. It does not know command lines.
 */
import { createRecentMap } from "../base/bounded.ts";
import { MeshError } from "../base/errors.ts";
import type { TreeEntry } from "../blob/tree.ts";
import { interpreterOf, loadedBy } from "../exec/elf.ts";
import { type Facts, factsHold, factsOf } from "../exec/facts.ts";
import {
  createTrail,
  type FileNode,
  type FileView,
  type Look,
  type Trail,
  trailEntries,
} from "../exec/file-view.ts";
import type { Disk, Processes } from "../host/host.ts";

export interface NvccProgram {
  /** Canonical. */
  readonly path: string;
  readonly entries: readonly TreeEntry[];
  readonly facts: Facts;
}

export interface NvccToolkit {
  /**
   * One program with its libraries and `files` beside it. Codes: "unsupported", "io".
   * @param libraryPath LD_LIBRARY_PATH under which it runs
   */
  program(
    path: string,
    libraryPath: string,
    files: readonly string[],
    signal: AbortSignal,
  ): Promise<NvccProgram>;
}

export interface NvccToolkitDeps {
  readonly disk: Disk;
  readonly processes: Processes;
  readonly view: FileView;
}

/** A handful per toolkit. */
const programsMax = 64;

export function createNvccToolkit(deps: NvccToolkitDeps): NvccToolkit {
  const { disk, view } = deps;
  const kept = createRecentMap<string, Promise<NvccProgram>>(programsMax);

  async function gather(
    path: string,
    libraryPath: string,
    files: readonly string[],
    signal: AbortSignal,
  ): Promise<NvccProgram> {
    const look = view.look();
    const trail = createTrail();
    const nodes = new Map<string, FileNode>();
    const add = async (wanted: string): Promise<string | undefined> => {
      const found = look.find(look.folder("/"), wanted, trail);
      const node = found?.kind === "file" ? await look.largeFile(found.path) : undefined;
      if (node !== undefined) nodes.set(node.path, node);
      return node?.path;
    };
    if (look.find(look.folder("/"), "/etc/ld.so.preload", trail) !== undefined)
      throw new MeshError("unsupported", "/etc/ld.so.preload changes every program here");
    const real = await add(path);
    if (real === undefined) throw new MeshError("unsupported", `${path} is no regular file`);
    const loader = (await interpreterOf(disk, real)) ?? "";
    const loaded = await loadedBy(deps, real, loader, libraryPath, signal);
    for (const library of loaded.paths) await add(library);
    if (loaded.needsCache) await add("/etc/ld.so.cache");
    for (const file of files) await add(file);
    return {
      path: real,
      entries: [...[...nodes.values()].map(({ entry }) => entry), ...trailEntries(trail)],
      facts: factsOf(nodes.values(), trail.asked),
    };
  }

  return {
    async program(path, libraryPath, files, signal) {
      signal.throwIfAborted();
      const key = [path, libraryPath, ...files].join("\0");
      const before = kept.get(key);
      const known = await before?.catch(() => undefined);
      if (known !== undefined && factsHold(known.facts, view.look())) return known;
      const now = kept.get(key);
      // Shared by whoever else asks meanwhile, so it is not this caller's to cancel.
      const asked =
        now !== before && now !== undefined
          ? now
          : gather(path, libraryPath, files, new AbortController().signal);
      kept.set(key, asked);
      try {
        return await asked;
      } catch (error) {
        if (kept.get(key) === asked) kept.delete(key);
        throw error;
      }
    },
  };
}

/**
 * The program that a search in PATH finds, by the path under which it is found; a name with a
 * folder is that path. Undefined when there is none.
 */
export function findProgram(
  look: Look,
  disk: Pick<Disk, "statFollowNow">,
  name: string,
  path: string,
  trail: Trail,
): string | undefined {
  const places = name.includes("/")
    ? [name]
    : path
        .split(":")
        .filter((folder) => folder.startsWith("/"))
        .map((folder) => `${folder}/${name}`);
  return places.find((place) => {
    if (!place.startsWith("/") || look.find(look.folder("/"), place, trail)?.kind !== "file")
      return false;
    return ((disk.statFollowNow(place)?.mode ?? 0) & 0o111) !== 0;
  });
}
