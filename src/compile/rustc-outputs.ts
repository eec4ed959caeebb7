/**
 * What the types of a crate mean for a unit: the files it writes, and whether the linker makes
 * them. File names are those of Linux.
 */
import { join } from "node:path";

/** Everything that can change what the linker reads of its own accord. */
export interface Linking {
  /** The first of its types for which the linker is needed: "bin", "proc-macro" and the like. */
  readonly type: string;
  /** Undefined: rustc's choice. */
  readonly linker: string | undefined;
  /** Options of rustc that choose linkers, start files or standard libraries. */
  readonly flags: readonly string[];
  /** All that is said to the linker directly. */
  readonly linkArgs: readonly string[];
}

type Codegen = readonly (readonly [name: string, value: string])[];

const programTypes = /^bin$/;
const linkedTypes = /^(dylib|cdylib|proc-macro)$/;
const packedTypes = /^(lib|rlib|staticlib)$/;

export function whyTypesHere(
  types: readonly string[],
  emits: readonly string[],
  target: string | undefined,
): "links" | "unusual-outputs" | undefined {
  // A type can also stand in the source, where nobody looks.
  if (types.length === 0) return "links";
  const known = types.every(
    (type) => programTypes.test(type) || linkedTypes.test(type) || packedTypes.test(type),
  );
  if (!known) return "unusual-outputs";
  if (target === undefined || /-linux-/.test(target) || !emits.includes("link")) return undefined;
  return types.every((type) => packedTypes.test(type)) ? undefined : "links";
}

export function outputsOf(
  unit: { readonly crateName: string; readonly extra: string; readonly outDir: string },
  types: readonly string[],
  emits: readonly string[],
): readonly string[] {
  const name = `${unit.crateName}${unit.extra}`;
  const outputs = emits.includes("link")
    ? types.map((type) => (programTypes.test(type) ? name : `lib${name}.${endings[type]}`))
    : [];
  if (emits.includes("metadata")) outputs.push(`lib${name}.rmeta`);
  return [...new Set(outputs)].map((output) => join(unit.outDir, output));
}

const endings: Readonly<Record<string, string>> = {
  lib: "rlib",
  rlib: "rlib",
  staticlib: "a",
  dylib: "so",
  cdylib: "so",
  "proc-macro": "so",
};

/** Options of `-C` that choose start files, standard libraries or the linker itself. */
const choosing =
  /^(default-linker-libraries|link-self-contained|linker|linker-features|linker-flavor|linker-plugin-lto|prefer-dynamic|relocation-model|target-feature)$/;

/** What of the linker's own options does the same; the others belong to one unit. */
const choosingArg = /^(-fuse-ld=|-B|--ld-path|-m|--target|--sysroot|-static|-no-pie|-pie|-nost|-f)/;

export function linkingOf(
  types: readonly string[],
  emits: readonly string[],
  target: string | undefined,
  codegen: Codegen,
): Linking | undefined {
  if (!emits.includes("link")) return undefined;
  const type = types.find((one) => programTypes.test(one) || linkedTypes.test(one));
  if (type === undefined) return undefined;
  const linkArgs = codegen.flatMap(([name, value]) => {
    if (name === "link-arg") return [value];
    return name === "link-args" ? value.split(" ").filter((word) => word !== "") : [];
  });
  const flags = codegen.flatMap(([name, value]) =>
    choosing.test(name) ? ["-C", value === "" ? name : `${name}=${value}`] : [],
  );
  for (const arg of linkArgs) if (choosingArg.test(arg)) flags.push("-C", `link-arg=${arg}`);
  if (target !== undefined) flags.push("--target", target);
  const linker = codegen.findLast(([name]) => name === "linker")?.[1];
  return { type, linker, flags, linkArgs };
}
