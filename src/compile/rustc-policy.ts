/**
 * What a procedural macro may look at, as the tracer reads it (`rust-trace.c`): things that are in
 * the inputs anyway, and things of which the inputs say that they are not there.
 *
 * A policy is made of what the plan knows, and is part of the command: who knows more, or other
 * things, has another action.
 */
import { basename, dirname, join } from "node:path";
import type { RustUnit } from "./rustc-args.ts";
import { isUnsteady, unsteadyNames } from "./rustc-environment.ts";
import type { PackageFiles } from "./rustc-package.ts";

export interface PolicyParts {
  readonly unit: RustUnit;
  readonly macros: readonly string[];
  readonly files: Pick<PackageFiles, "folders" | "left">;
  /** Names that sources may give to macros. */
  readonly named: Iterable<string>;
  /** Names that macros turned out to ask for. */
  readonly learned: Iterable<string>;
  /** What earlier runs looked for, and what is not there now. */
  readonly absent: readonly string[];
}

/** One argument of a command. */
const policyMaxBytes = 100 * 1024;

/** Undefined when it would be too long, or cannot be written. */
export function policyOf(parts: PolicyParts): string | undefined {
  const { unit, macros, files, named, learned, absent } = parts;
  const folders = new Set(files.folders);
  const lines: string[] = macros.map((path) => `m ${path}`);
  for (const start of ownStarts(unit)) lines.push(`o ${start}`);
  for (const folder of files.folders) lines.push(`d ${folder}`);
  // The tracer takes hidden names for left out, whether they are there or not.
  for (const path of files.left)
    if (folders.has(dirname(path)) && !basename(path).startsWith(".")) lines.push(`x ${path}`);
  for (const path of absent) lines.push(`a ${path}`);
  for (const name of named) if (!isUnsteady(name)) lines.push(`n ${name}`);
  for (const name of learned) lines.push(`n ${name}`);
  for (const name of unsteadyNames) lines.push(`v ${name}`);
  if (unit.linking !== undefined) lines.push("p");
  const sorted = [...new Set(lines)].sort();
  const text = sorted.join("\n");
  if (sorted.some((line) => line.includes("\n")) || Buffer.byteLength(text) > policyMaxBytes)
    return undefined;
  return text;
}

/** How the names of everything begin that rustc itself writes: outputs, and what it makes them of. */
function ownStarts({ outDir, crateName }: RustUnit): readonly string[] {
  const names = [crateName, `lib${crateName}`, "rmeta", "rustc", ".tmp", "raw-dylibs"];
  return [...names.map((name) => join(outDir, name)), "/tmp/rustc", "/tmp/rmeta", "/tmp/cc"];
}
