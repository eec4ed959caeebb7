/**
 * Writes the dependency file that nvcc writes: nvcc makes it from the line markers of what the
 * preprocessor gave, not with the preprocessor's own options.
 */
import type { NvccDependencies } from "./nvcc-args.ts";

export interface MarkedFile {
  /** As the preprocessor spells it. */
  readonly path: string;
  readonly system: boolean;
  /** False for names that only a `#line` mentions. */
  readonly entered: boolean;
}

/** `# 12 "file" 1 3`: flag 1 means that the file begins, 3 that it is a system header. */
const marker = /^# \d+ "((?:[^"\\]|\\.)*)"((?: \d)*)\s*$/gm;

/**
 * The files that preprocessed texts come from, in order, each once.
 * Undefined when a name is spelled with escapes, which nobody has tested.
 */
export function markedFiles(texts: readonly string[]): readonly MarkedFile[] | undefined {
  const found = new Map<string, MarkedFile>();
  for (const text of texts) {
    for (const [, path = "", flags = ""] of text.matchAll(marker)) {
      if (path.includes("\\")) return undefined;
      // `<built-in>` is no file, and `/folder//` is the working directory.
      if (path.startsWith("<") || path.endsWith("//")) continue;
      const entered = found.size === 0 || flags.includes("1");
      const before = found.get(path);
      if (before?.entered || (before !== undefined && !entered)) continue;
      if (before !== undefined) found.delete(path);
      found.set(path, { path, system: flags.includes("3"), entered });
    }
  }
  return [...found.values()];
}

/** @param object the target where the user named none: the object as nvcc spells it */
export function dependencyText(
  { systemHeaders, phony, target }: NvccDependencies,
  object: string,
  files: readonly MarkedFile[],
): string {
  const wanted = files.filter(({ system, entered }) => entered && (systemHeaders || !system));
  const names = wanted.map(({ path }) => path.replaceAll(" ", "\\ "));
  const rule = `${target ?? object} : ${names.join(" \\\n    ")}\n`;
  if (!phony) return rule;
  return (
    rule +
    names
      .slice(1)
      .map((name) => `\n${name}:\n`)
      .join("")
  );
}
