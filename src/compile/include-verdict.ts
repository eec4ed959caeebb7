/**
 * Looks at all files that one source reaches together: macros that name headers, and whatever
 * keeps the compile on this machine.
 */
import type { Digest } from "../base/digest.ts";
import type { FolderNode, Look, Trail } from "../exec/file-view.ts";
import type { Family } from "../exec/toolchain.ts";
import { type Edges, forEachPlace, type Reached, resolveAll } from "./include-resolve.ts";
import { type Mention, macroHash, type Seen } from "./scan.ts";
import type { SearchPath } from "./search-path.ts";

/** What of a query decides here. */
interface Asked {
  readonly family: Family;
  readonly forced: readonly string[];
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

export function judge(
  reached: readonly Reached[],
  macrosUnresolved: boolean,
  family: Family,
): { readonly seen: Seen; readonly unresolved: boolean; readonly twins: boolean } {
  const all: Record<keyof Seen, boolean> = { ...nothingSeen };
  const probing = new Set<string>();
  const firstPaths = new Map<Digest, string>();
  let twins = false;
  for (const { node, lexical } of reached) {
    const { seen } = lexical;
    for (const key of seenKeys) if (seen[key]) all[key] = true;
    for (const name of lexical.probingMacros) probing.add(name);
    // GCC compares the bytes of files read once only; Clang compares inodes, and equal blobs
    // share one in an input root made of hard links.
    if (!seen.once && family === "gcc") continue;
    const first = firstPaths.get(node.digest);
    if (first === undefined) firstPaths.set(node.digest, node.path);
    else if (first !== node.path) twins = true;
  }
  if (probing.size > 0)
    for (const { lexical } of reached)
      for (const name of lexical.conditionCalls) if (probing.has(name)) all.computedProbe = true;
  return { seen: all, unresolved: macrosUnresolved || all.computed, twins };
}

const nothingSeen: Seen = {
  time: false,
  timestamp: false,
  incbin: false,
  embed: false,
  once: false,
  modules: false,
  computed: false,
  computedProbe: false,
  filePragma: false,
  strangeName: false,
};

const seenKeys: readonly (keyof Seen)[] = [
  "time",
  "timestamp",
  "incbin",
  "embed",
  "once",
  "modules",
  "computed",
  "computedProbe",
  "filePragma",
  "strangeName",
];

/** Whether a precompiled header would be used for a file included first of all. */
export function hasPrecompiled(
  look: Look,
  path: SearchPath,
  cwd: FolderNode,
  roots: readonly Reached[],
  query: Asked,
  trail: Trail,
): boolean {
  const exists = (folder: FolderNode, name: string): boolean =>
    look.find(folder, name, trail) !== undefined;
  for (const suffix of query.family === "gcc" ? [".gch"] : [".gch", ".pch"])
    for (const name of query.forced)
      for (const folder of [cwd, ...path.chain]) if (exists(folder, name + suffix)) return true;
  if (query.family === "clang") return false;
  return roots.some(({ at, lexical }) =>
    lexical.mentions.some((mention) => {
      let found = false;
      forEachPlace(look, path, at, mention, query.family, (folder) => {
        found = exists(folder, `${mention.name}.gch`);
        return found;
      });
      return found;
    }),
  );
}
