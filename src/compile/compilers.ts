/**
 * Compilers, archivers and linkers by their names: whose command line syntax they speak, and what
 * to call a task that nobody plans. It looks at names only, never at files.
 */
import { basename } from "node:path";

/** Whose command line syntax a program speaks. */
export type CompilerFamily = "gcc" | "rustc" | "nvcc" | "ar" | "ld";

/** `gcc`, `g++-12`, `x86_64-linux-gnu-gcc`, `clang++-14`: a prefix, a name, a version. */
const gccLike = /^(?:[A-Za-z0-9_.+]+-)*(gcc|g\+\+|cc|c\+\+|clang|clang\+\+|c89|c99)(?:-[0-9.]+)?$/;

/** `ar`, `gcc-ar-12`, `x86_64-linux-gnu-gcc-ar`, `llvm-ar-14`. */
const arLike = /^(?:[A-Za-z0-9_.+]+-)*ar(?:-[0-9.]+)?$/;

/** `ld`, `ld.lld-14`, `gold`, `arm-none-eabi-ld.bfd`. WebAssembly's linker is another program. */
const ldLike = /^(?!wasm-)(?:[A-Za-z0-9_.+]+-)*(?:ld(?:\.(?:bfd|gold|lld))?|gold)(?:-[0-9.]+)?$/;

/** Programs that pass a compile on; what they add is not in any command line we could move. */
const wrappers: ReadonlySet<string> = new Set(["ccache", "sccache", "distcc", "icecc", "nocc"]);

const source = /\.(?:c|i|cc|cp|cpp|cxx|c\+\+|C|CPP|ii|m|mm|s|S|rs|cu)$/;

/** Undefined for programs whose command lines nobody here reads. */
export function compilerFamilyOf(compiler: string): CompilerFamily | undefined {
  const name = basename(compiler);
  if (name === "rustc" || name === "nvcc") return name;
  if (gccLike.test(name)) return "gcc";
  if (arLike.test(name)) return "ar";
  return ldLike.test(name) ? "ld" : undefined;
}

/**
 * Whether a file of this name in the PATH is stood in for by the shim. Cargo is told of it in
 * another way, since rustc's PATH entry is often a proxy that chooses among several.
 */
export function isMasqueraded(name: string): boolean {
  const family = compilerFamilyOf(name);
  return family !== undefined && family !== "rustc";
}

/** @param resolved the compiler's path with all symlinks followed */
export function isCompilerWrapper(resolved: string): boolean {
  return wrappers.has(basename(resolved));
}

interface Glance {
  readonly kind: string;
  readonly label: string;
}

/** Kind and label, as a planner would choose them, from a glance at the command line. */
export function glance(compiler: string, args: readonly string[]): Glance {
  const name = basename(compiler);
  const from = args.find((arg) => !arg.startsWith("-") && source.test(arg));
  switch (compilerFamilyOf(name)) {
    case "rustc": {
      const crate = args.indexOf("--crate-name");
      return { kind: "rustc", label: (crate >= 0 ? args[crate + 1] : undefined) ?? name };
    }
    case "ar":
      return { kind: "ar", label: archiveIn(args) ?? name };
    case "ld":
      return { kind: "link", label: outputIn(args) ?? name };
    case "nvcc": {
      const output = from === undefined ? outputIn(args) : undefined;
      if (output !== undefined) return { kind: "link", label: output };
      return { kind: "cuda", label: from ?? name };
    }
    case "gcc":
      return glanceAtGcc(name, args, from);
    case undefined:
      return { kind: "other", label: from ?? name };
  }
}

function glanceAtGcc(name: string, args: readonly string[], from: string | undefined): Glance {
  const label = from ?? name;
  if (!args.some((arg) => arg === "-c" || arg === "-S" || arg === "-E")) {
    return { kind: "link", label: outputIn(args) ?? label };
  }
  const driver = gccLike.exec(name)?.[1] ?? "";
  const isCxx = driver.endsWith("++") || /\.(?:cc|cp|cpp|cxx|c\+\+|C|CPP|ii)$/.test(label);
  return { kind: isCxx ? "c++" : "c", label };
}

/** `-o app`, `-oapp`, `--output=app`; the last one counts. */
function outputIn(args: readonly string[]): string | undefined {
  let output: string | undefined;
  for (const [at, arg] of args.entries()) {
    if (arg === "-o" || arg === "--output") output = args[at + 1] ?? output;
    else if (arg.startsWith("--output=")) output = arg.slice("--output=".length);
    else if (/^-o[^-]/.test(arg)) output = arg.slice(2);
  }
  return output;
}

/** `ar rcs lib.a x.o`, `ar -rcs lib.a x.o`, `ar rb before.o lib.a x.o`. */
function archiveIn(args: readonly string[]): string | undefined {
  const key = args.find((arg) => !arg.startsWith("--")) ?? "";
  const names = args.filter((arg) => arg !== key && !arg.startsWith("-"));
  return names[/^-?[a-zA-Z]*[abiN]/.test(key) ? 1 : 0];
}

/**
 * The arguments that make gcc and clang colour their diagnostics, where the user's own do not say
 * already. Not when the command line itself is recorded in the object, which must stay the same.
 */
export function colourArgs(args: readonly string[]): readonly string[] {
  const says = /^-f(?:no-)?(?:diagnostics-color|color-diagnostics|ansi-escape-codes)|^-[fg]record-/;
  return args.some((arg) => says.test(arg)) ? [] : ["-fdiagnostics-color=always"];
}
