/** Looks at all files that one source reaches together, for what keeps a compile here. */
import type { Digest } from "../base/digest.ts";
import type { Family } from "../exec/toolchain.ts";
import type { Reached } from "./include-resolve.ts";
import type { Seen } from "./scan.ts";

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
    if (lexical.remarkable) for (const key of seenKeys) if (seen[key]) all[key] = true;
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
  bareAssembly: false,
  embed: false,
  computedEmbed: false,
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
  "bareAssembly",
  "embed",
  "computedEmbed",
  "once",
  "modules",
  "computed",
  "computedProbe",
  "filePragma",
  "strangeName",
];
