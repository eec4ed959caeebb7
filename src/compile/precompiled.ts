/**
 * Precompiled headers that a compiler would look at before a header itself: `x.h.gch` wherever it
 * looks for `x.h`, for the first header of a source.
 *
 * GCC judges one by what is in it, and makes the same object with it as without, so such a file is
 * an input like any other. Making one is another matter: no two runs of GCC 12 give the same bytes.
 * Clang compares the time stamps of all headers with those it has written into its own; time stamps
 * do not travel, so whatever would use such a file stays here.
 */
import type { FolderNode, Look, Trail } from "../exec/file-view.ts";
import type { Family } from "../exec/toolchain.ts";
import { type FoundFile, forEachPlace, type Reached } from "./include-resolve.ts";
import type { SearchPath } from "./search-path.ts";

export interface Precompiled {
  readonly files: readonly FoundFile[];
  /** Set where one is not a file for GCC: a folder of several, or one that Clang would use. */
  readonly strange: boolean;
}

/** @param roots the source and what is included by force, first of all */
export function findPrecompiled(
  look: Look,
  path: SearchPath,
  roots: readonly Reached[],
  { family, forced }: { readonly family: Family; readonly forced: readonly string[] },
  trail: Trail,
): Precompiled {
  const files: FoundFile[] = [];
  let strange = false;
  const isThere = (folder: FolderNode, name: string): boolean => {
    const found = look.find(folder, name, trail);
    if (found === undefined) return false;
    if (found.kind === "file" && family === "gcc") files.push(found);
    else strange = true;
    return true;
  };
  for (const name of forced) {
    for (const folder of [path.cwd, ...path.chain]) {
      isThere(folder, `${name}.gch`);
      if (family === "clang") isThere(folder, `${name}.pch`);
    }
  }
  if (family === "clang") return { files, strange };
  for (const { at, lexical } of roots)
    for (const mention of lexical.mentions)
      forEachPlace(look, path, at, mention, family, (folder) =>
        isThere(folder, `${mention.name}.gch`),
      );
  return { files, strange };
}
