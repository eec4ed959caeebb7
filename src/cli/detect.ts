/**
 * Which native build tool a folder is for. Looks at file names and the CMake cache, runs nothing.
 */
import { join } from "node:path";

/** What detection needs of a disk; everything it asks is answered at once. */
export interface Look {
  isFile(path: string): boolean;
  isDirectory(path: string): boolean;
  /** Names in a folder; none when there is no such folder. */
  list(path: string): readonly string[];
  /** Text of a file; empty when it cannot be read. */
  text(path: string): string;
}

export type Project =
  | { readonly tool: "cargo"; readonly dir: string }
  | CMakeProject
  | { readonly tool: "ninja"; readonly dir: string }
  | { readonly tool: "make"; readonly dir: string };

export interface CMakeProject {
  readonly tool: "cmake";
  readonly dir: string;
  readonly buildDir: string;
  /** Undefined: not configured yet. */
  readonly cache: CMakeCache | undefined;
}

export interface CMakeCache {
  /** By variable, those that this CMake knows for its languages; empty when one has none. */
  readonly launchers: Readonly<Record<string, string>>;
  readonly generator: string;
}

/** For the line that says that nothing was found. */
export const lookedFor: string =
  "Cargo.toml, CMakeLists.txt, CMakeCache.txt, build.ninja, GNUmakefile, makefile, Makefile";

/** The languages whose compilers CMake can be told to start through the shim. */
const languages: readonly string[] = ["C", "CXX", "CUDA"];
/** Those whose linker it can; since CMake 3.21. */
const linkedLanguages: readonly string[] = ["C", "CXX"];

/** What tells CMake, in its environment or its cache, to start tools through another program. */
export const launcherNames: readonly string[] = namesFor(languages, true);

function namesFor(present: readonly string[], links: boolean): readonly string[] {
  const linked = links ? present.filter((name) => linkedLanguages.includes(name)) : [];
  return [
    ...present.map((name) => `CMAKE_${name}_COMPILER_LAUNCHER`),
    ...linked.map((name) => `CMAKE_${name}_LINKER_LAUNCHER`),
  ];
}

/** Undefined when nothing in `dir` says how it is built. */
export function detect(dir: string, look: Look): Project | undefined {
  const has = (name: string) => look.isFile(join(dir, name));
  if (has("Cargo.toml")) return { tool: "cargo", dir };
  if (has("CMakeLists.txt") || has("CMakeCache.txt")) return cmakeProject(dir, look);
  if (has("build.ninja")) return { tool: "ninja", dir };
  if (["GNUmakefile", "makefile", "Makefile"].some(has)) return { tool: "make", dir };
  return undefined;
}

function cmakeProject(dir: string, look: Look): CMakeProject {
  for (const buildDir of [dir, join(dir, "build"), join(dir, "build-mesh")]) {
    const cacheFile = join(buildDir, "CMakeCache.txt");
    if (!look.isFile(cacheFile)) continue;
    return { tool: "cmake", dir, buildDir, cache: parseCMakeCache(look.text(cacheFile)) };
  }
  // A `build` folder that holds something else (scripts, often) is not ours to fill.
  const free = look.list(join(dir, "build")).length === 0;
  const buildDir = join(dir, free ? "build" : "build-mesh");
  return { tool: "cmake", dir, buildDir, cache: undefined };
}

export function parseCMakeCache(text: string): CMakeCache {
  const values = new Map<string, string>();
  for (const line of text.split(/\r?\n/)) {
    const parts = /^"?([A-Za-z0-9_.+-]+)"?:[A-Z]+=(.*)$/.exec(line);
    if (parts?.[1] !== undefined) values.set(parts[1], parts[2] ?? "");
  }
  const number = (name: string): number => Number(values.get(`CMAKE_CACHE_${name}_VERSION`) ?? 0);
  const links = number("MAJOR") > 3 || (number("MAJOR") === 3 && number("MINOR") >= 21);
  const names = namesFor(
    languages.filter((name) => values.get(`CMAKE_${name}_COMPILER`)),
    links,
  );
  return {
    launchers: Object.fromEntries(names.map((name) => [name, values.get(name) ?? ""])),
    generator: values.get("CMAKE_GENERATOR") ?? "",
  };
}

/** The wrapper that a Cargo configuration file names, read as far as one line of TOML goes. */
export function rustcWrapperIn(configText: string): string | undefined {
  let section = "";
  for (const line of configText.split(/\r?\n/)) {
    const header = /^\s*\[([^\]]+)\]/.exec(line);
    if (header?.[1] !== undefined) section = header[1].trim();
    const parts = /^\s*([A-Za-z.-]+)\s*=\s*["']([^"']+)["']/.exec(line);
    const key = section === "" ? parts?.[1] : `${section}.${parts?.[1]}`;
    if (key === "build.rustc-wrapper" && parts?.[2] !== undefined) return parts[2];
  }
  return undefined;
}

/** Where Cargo looks for its configuration, nearest first. */
export function cargoConfigPaths(
  dir: string,
  cargoHome: string,
  parents: readonly string[],
): readonly string[] {
  const folders = [...[dir, ...parents].map((folder) => join(folder, ".cargo")), cargoHome];
  return folders.flatMap((folder) => [join(folder, "config.toml"), join(folder, "config")]);
}
