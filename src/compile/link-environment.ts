/** Which environment variables a linker and its driver obey: those to pass on, those that forbid. */

export type LinkEnvironment =
  | {
      readonly at: "anywhere";
      /** What matters, locale and PATH aside. */
      readonly env: Readonly<Record<string, string>>;
      /** LD_LIBRARY_PATH: where the tools find their libraries, and where ld looks for others. */
      readonly libraryPath: string;
      /** LD_RUN_PATH. */
      readonly runPath: string;
      /** LIBRARY_PATH: the driver makes -L of it. */
      readonly linkPath: string;
    }
  | { readonly at: "here"; readonly culprit: string };

/** They change what runs or how files are read, or make it write more than any option says. */
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
  "CC_LOG_DIAGNOSTICS",
  "CLANG_CONFIG_FILE_SYSTEM_DIR",
  "CLANG_CONFIG_FILE_USER_DIR",
  "COLLECT_GCC_OPTIONS",
  "COLLECT_LTO_WRAPPER",
  "LDEMULATION",
  "GNUTARGET",
  "LD_ORIGIN_PATH",
  "LLD_REPRODUCE",
  "LLD_VERSION",
  "LLD_IN_TEST",
  "LD_PRELOAD",
  "LD_AUDIT",
  "LD_DEBUG",
  "GLIBC_TUNABLES",
  "POSIXLY_CORRECT",
];

export function linkEnvironment(given: Readonly<Record<string, string>>): LinkEnvironment {
  const culprit = forbidden.find((name) => given[name] !== undefined && given[name] !== "");
  if (culprit !== undefined) return { at: "here", culprit };
  const env: Record<string, string> = { TMPDIR: "/tmp" };
  const passed = ["LIBRARY_PATH", "LD_RUN_PATH", "LD_LIBRARY_PATH", "SOURCE_DATE_EPOCH"];
  for (const name of [...passed, "GCC_COLORS", "COLLECT_NO_DEMANGLE"]) {
    const value = given[name];
    if (value !== undefined) env[name] = value;
  }
  return {
    at: "anywhere",
    env,
    libraryPath: given.LD_LIBRARY_PATH ?? "",
    runPath: given.LD_RUN_PATH ?? "",
    linkPath: given.LIBRARY_PATH ?? "",
  };
}
