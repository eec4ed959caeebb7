/**
 * Compilers by their names: which planner reads their command lines, and what to call a task that
 * nobody plans. It looks at names only, never at files.
 */
import { basename } from "node:path";

/** Whose command line syntax a program speaks. */
export type CompilerFamily = "gcc" | "rustc";

/** `gcc`, `g++-12`, `x86_64-linux-gnu-gcc`, `clang++-14`: a prefix, a name, a version. */
const gccLike = /^(?:[A-Za-z0-9_.+]+-)*(gcc|g\+\+|cc|c\+\+|clang|clang\+\+|c89|c99)(?:-[0-9.]+)?$/;

/** Programs that pass a compile on; what they add is not in any command line we could move. */
const wrappers: ReadonlySet<string> = new Set(["ccache", "sccache", "distcc", "icecc", "nocc"]);

const source = /\.(?:c|i|cc|cp|cpp|cxx|c\+\+|C|CPP|ii|m|mm|s|S|rs|cu)$/;

/** Undefined for programs whose command lines nobody here reads. */
export function compilerFamilyOf(compiler: string): CompilerFamily | undefined {
  const name = basename(compiler);
  if (name === "rustc") return "rustc";
  return gccLike.test(name) ? "gcc" : undefined;
}

/** Whether a file of this name in the PATH is stood in for by the shim. */
export function isMasqueraded(name: string): boolean {
  return gccLike.test(name);
}

/** @param resolved the compiler's path with all symlinks followed */
export function isCompilerWrapper(resolved: string): boolean {
  return wrappers.has(basename(resolved));
}

/** Kind and label, as a planner would choose them, from a glance at the command line. */
export function glance(
  compiler: string,
  args: readonly string[],
): { readonly kind: string; readonly label: string } {
  const name = basename(compiler);
  if (name === "rustc") {
    const crate = args.indexOf("--crate-name");
    return { kind: "rustc", label: (crate >= 0 ? args[crate + 1] : undefined) ?? name };
  }
  const driver = gccLike.exec(name)?.[1];
  const label = args.find((arg) => !arg.startsWith("-") && source.test(arg)) ?? name;
  if (driver === undefined) return { kind: "other", label };
  if (!args.some((arg) => arg === "-c" || arg === "-S" || arg === "-E")) {
    return { kind: "link", label };
  }
  const isCxx = driver.endsWith("++") || /\.(?:cc|cp|cpp|cxx|c\+\+|C|CPP|ii)$/.test(label);
  return { kind: isCxx ? "c++" : "c", label };
}

/**
 * The arguments that make gcc and clang colour their diagnostics, where the user's own do not say
 * already. Not when the command line itself is recorded in the object, which must stay the same.
 */
export function colourArgs(args: readonly string[]): readonly string[] {
  const says = /^-f(?:no-)?(?:diagnostics-color|color-diagnostics|ansi-escape-codes)|^-[fg]record-/;
  return args.some((arg) => says.test(arg)) ? [] : ["-fdiagnostics-color=always"];
}
