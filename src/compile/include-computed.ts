/**
 * `#include` of something other than a header's name: what can be told without the compiler, and
 * which look-ups stand behind what the compiler then says.
 */
import type { FolderNode, Look, Trail } from "../exec/file-view.ts";
import type { Family } from "../exec/toolchain.ts";
import { type Edges, type Reached, resolveAll } from "./include-resolve.ts";
import { type Mention, macroHash } from "./scan.ts";
import type { SearchPath } from "./search-path.ts";

/** What of a query decides here. */
interface Asked {
  readonly family: Family;
  readonly defined: readonly string[];
}

/**
 * `#include NAME`: any header's name that some reached file gives to NAME may be meant. Anything
 * else that NAME may stand for is for the compiler to say.
 */
export function followMacros(
  look: Look,
  path: SearchPath,
  reached: readonly Reached[],
  query: Asked,
  onEdges: (edges: Edges) => void,
): { readonly unresolved: boolean } {
  let unresolved = false;
  for (const one of reached) {
    for (const name of one.lexical.includedMacros) {
      const hash = macroHash(name);
      if (name.startsWith("__") || query.defined.includes(name)) unresolved = true;
      const mentions: Mention[] = [];
      for (const { lexical } of reached) {
        if (lexical.otherMacros.includes(hash)) unresolved = true;
        mentions.push(...(lexical.headerMacros.get(name) ?? []));
      }
      onEdges(resolveAll(look, path, one, mentions, query.family));
    }
  }
  return { unresolved };
}

/** Whether some file reached so far includes what a macro says. */
export function hasComputed(reached: readonly Reached[]): boolean {
  return reached.some(isComputed);
}

/**
 * The compiler said that `names` are opened, some by the word of a macro. Which part of a path the
 * macro said is unknown, so every part is looked for everywhere. The answers, mostly that there is
 * no such file, are what the compiler's word depends on.
 */
export function askEverywhere(
  look: Look,
  path: SearchPath,
  reached: readonly Reached[],
  names: readonly string[],
  trail: Trail,
): void {
  const folders = new Set<FolderNode>(path.chain);
  for (const one of reached) if (isComputed(one)) folders.add(one.at.folder);
  const byFirst = new Map<string, Set<string>>();
  for (const name of names) {
    const parts = name.split("/").filter((part) => part !== "");
    for (const [from, first] of parts.entries()) {
      const rests = byFirst.get(first) ?? new Set();
      byFirst.set(first, rests.add(parts.slice(from).join("/")));
    }
  }
  for (const folder of folders) {
    for (const [first, rests] of byFirst) {
      if (look.find(folder, first, trail) === undefined) continue;
      for (const rest of rests) look.find(folder, rest, trail);
    }
  }
}

function isComputed({ lexical }: Reached): boolean {
  return lexical.seen.computed || lexical.includedMacros.length > 0;
}
