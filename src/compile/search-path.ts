/**
 * The folders in which a compiler looks for headers, in its order, duplicates dropped by its
 * rules. It does not read files.
 */
import type { FolderNode, Look, Trail } from "../exec/file-view.ts";
import type { Family } from "../exec/toolchain.ts";

export type { Family } from "../exec/toolchain.ts";

/** As on the command line: absolute, or relative to the working directory. */
export interface SearchDirs {
  readonly quote: readonly string[];
  readonly bracket: readonly string[];
  readonly system: readonly string[];
  readonly after: readonly string[];
}

export interface SearchPath {
  /** Every folder that is searched for `"name"`, in order. */
  readonly chain: readonly FolderNode[];
  /** Where the search for `<name>` begins in `chain`. */
  readonly bracketStart: number;
  readonly cwd: FolderNode;
  /** The folders that are searched for embedded files only. */
  readonly embed: readonly FolderNode[];
}

/** What `findSearchPath` makes a path of. */
export interface SearchQuery {
  readonly dirs: SearchDirs;
  /** The compiler's own folders, which follow `dirs.system`. */
  readonly standard: readonly string[];
  readonly embedDirs: readonly string[];
  readonly family: Family;
}

/** @returns undefined when something that is no folder is named: compilers differ on that. */
export function findSearchPath(
  look: Look,
  cwd: FolderNode,
  { dirs, standard, embedDirs, family }: SearchQuery,
  trail: Trail,
): SearchPath | undefined {
  let strange = false;
  const existing = (names: readonly string[]): FolderNode[] => {
    const found: FolderNode[] = [];
    for (const name of names) {
      const there = look.find(cwd, name, trail);
      if (there?.kind === "folder") {
        trail.folders.add(there.folder);
        found.push(there.folder);
      } else if (there !== undefined) strange = true;
    }
    return found;
  };
  const system = unique(existing([...dirs.system, ...standard, ...dirs.after]));
  // A user's folder that is also a system folder is searched at the system's place only.
  const user = (names: readonly string[]): FolderNode[] =>
    unique(existing(names)).filter((folder) => !system.includes(folder));
  const bracket = user(dirs.bracket);
  // Clang leaves such folders in the quote part.
  const quote = family === "gcc" ? user(dirs.quote) : unique(existing(dirs.quote));
  const embed = existing(embedDirs);
  if (strange) return undefined;
  const chain = [...quote, ...bracket, ...system];
  return { chain, bracketStart: quote.length, cwd, embed };
}

function unique(folders: readonly FolderNode[]): FolderNode[] {
  return [...new Set(folders)];
}
