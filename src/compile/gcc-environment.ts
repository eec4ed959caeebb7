/** Which environment variables a compiler obeys: those that travel, and those that forbid it. */
import type { SearchDirs } from "./search-path.ts";

export type CompileEnvironment =
  | {
      readonly at: "anywhere";
      /** What to pass on, locale and PATH aside. */
      readonly env: Readonly<Record<string, string>>;
      readonly libraryPath: string;
      /** Folders from CPATH and its like, behind those of the command line. */
      readonly dirs: Pick<SearchDirs, "bracket" | "system">;
      /** Fixes __DATE__ and __TIME__ where the compiler obeys it. */
      readonly sourceDateEpoch: boolean;
    }
  | { readonly at: "here"; readonly culprit: string };

/** They change what runs, or make it write or read files that no option names. */
const forbidden: readonly string[] = [
  "GCC_EXEC_PREFIX",
  "COMPILER_PATH",
  "GCC_COMPARE_DEBUG",
  "GCC_EXTRA_DIAGNOSTIC_OUTPUT",
  "GCC_ROOT",
  "DEPENDENCIES_OUTPUT",
  "SUNPRO_DEPENDENCIES",
  "CCC_OVERRIDE_OPTIONS",
  "CCC_ADD_ARGS",
  "CC_PRINT_OPTIONS",
  "CC_PRINT_HEADERS",
  "CC_PRINT_PROC_STAT",
  "CC_LOG_DIAGNOSTICS",
  "CLANG_CONFIG_FILE_SYSTEM_DIR",
  "CLANG_CONFIG_FILE_USER_DIR",
  "LD_PRELOAD",
  "LD_AUDIT",
  "GLIBC_TUNABLES",
  "POSIXLY_CORRECT",
];

export function compileEnvironment(
  given: Readonly<Record<string, string>>,
  language: "c" | "c++",
): CompileEnvironment {
  const culprit = forbidden.find((name) => given[name] !== undefined && given[name] !== "");
  if (culprit !== undefined) return { at: "here", culprit };
  const own = language === "c" ? "C_INCLUDE_PATH" : "CPLUS_INCLUDE_PATH";
  const env: Record<string, string> = { TMPDIR: "/tmp" };
  for (const name of ["SOURCE_DATE_EPOCH", "GCC_COLORS", "CPATH", own, "LD_LIBRARY_PATH"]) {
    const value = given[name];
    if (value !== undefined) env[name] = value;
  }
  return {
    at: "anywhere",
    env,
    libraryPath: given.LD_LIBRARY_PATH ?? "",
    dirs: { bracket: foldersOf(given.CPATH), system: foldersOf(given[own]) },
    sourceDateEpoch: /^\d+$/.test(given.SOURCE_DATE_EPOCH ?? ""),
  };
}

/** An empty element is the working directory. */
function foldersOf(list: string | undefined): string[] {
  if (list === undefined || list === "") return [];
  return list.split(":").map((folder) => (folder === "" ? "." : folder));
}
