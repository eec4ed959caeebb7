/**
 * The environment of a native build tool whose compilers are to be intercepted. Pure.
 *
 * Whatever the user has set for the same purpose stays as it is.
 */
import { basename, delimiter, isAbsolute } from "node:path";

export type Env = Readonly<Record<string, string | undefined>>;

/** What a node said about how to reach it; `jobs` is what the build tool is told. */
export interface Interception {
  readonly build: string;
  readonly shim: string;
  readonly shimDir: string;
  readonly shimSocket: string;
  readonly slots: number;
  readonly jobs: number;
}

/** How the shim finds its node, and how many compiles may run here when that node dies. */
export function shimEnv(env: Env, mesh: Interception): Env {
  return {
    ...env,
    MESH_SOCKET: mesh.shimSocket,
    MESH_BUILD: mesh.build,
    MESH_SLOTS: String(mesh.slots),
    MESH_JOBS: String(mesh.jobs),
  };
}

/** Puts the folder of compiler names in front, once. */
export function withMasquerade(env: Env, mesh: Interception): Env {
  const rest = (env.PATH ?? "/bin:/usr/bin").split(delimiter).filter((dir) => dir !== mesh.shimDir);
  return { ...env, PATH: [mesh.shimDir, ...rest].join(delimiter) };
}

/** Rust's compiler through the shim, unless a wrapper is there already. */
export function withRustcWrapper(env: Env, mesh: Interception, configured: boolean): Env {
  if (configured || set(env.RUSTC_WRAPPER) || set(env.CARGO_BUILD_RUSTC_WRAPPER)) return env;
  return { ...env, RUSTC_WRAPPER: mesh.shim };
}

/** Asks the tools for colours that they would drop because their output goes through us. */
export function withColors(env: Env): Env {
  return {
    CARGO_TERM_COLOR: "always",
    CLICOLOR_FORCE: "1",
    MESH_COLOR: "1",
    ...env,
  };
}

/** Cargo draws its bar for us too: it carries the totals. Width is Cargo's own default. */
export function withCargoBar(env: Env): Env {
  return { CARGO_TERM_PROGRESS_WHEN: "always", CARGO_TERM_PROGRESS_WIDTH: "80", ...env };
}

/** @param names of the variables that a first configure of CMake takes its launchers from */
export function withLaunchers(env: Env, mesh: Interception, names: readonly string[]): Env {
  return { ...Object.fromEntries(names.map((name) => [name, mesh.shim])), ...env };
}

/**
 * A compiler that CC or CXX names by its absolute path is not found through PATH: put the shim
 * before it. Not where the shim's own path would fall apart in a shell.
 */
export function withWrappedCompilers(env: Env, mesh: Interception): Env {
  if (/[^A-Za-z0-9_@%+=:,./-]/.test(mesh.shim)) return env;
  const wrapped = ["CC", "CXX"].flatMap((name) => {
    const compiler = env[name];
    return compiler !== undefined && isAbsolute(compiler)
      ? [[name, `${mesh.shim} ${compiler}`]]
      : [];
  });
  return { ...env, ...Object.fromEntries(wrapped) };
}

/**
 * The jobserver of a make that called us. One that hands out open files has lost them on the way
 * (Node closes what it does not know), and tools that look for it would warn and run one job at
 * a time; a named pipe still works.
 */
export function withoutLostJobserver(env: Env): { readonly env: Env; readonly jobserver: boolean } {
  const cleaned: Record<string, string | undefined> = { ...env };
  let jobserver = false;
  for (const name of ["MAKEFLAGS", "MFLAGS", "CARGO_MAKEFLAGS"]) {
    const flags = env[name];
    if (flags === undefined) continue;
    if (/--jobserver-(auth|fds)=fifo:/.test(flags)) jobserver = true;
    if (!/--jobserver-(auth|fds)=-?\d/.test(flags)) continue;
    const kept = flags
      .replace(/ ?--jobserver-(auth|fds)=-?\d+,-?\d+/g, "")
      .replace(/(^| )-j\d*(?= |$)/g, "")
      .trim();
    if (kept === "") delete cleaned[name];
    else cleaned[name] = kept;
  }
  return { env: cleaned, jobserver };
}

/** Whether the environment already says how many jobs `tool` runs at once. */
export function envSaysJobs(tool: string, env: Env): boolean {
  if (tool === "cargo") return set(env.CARGO_BUILD_JOBS);
  if (tool === "cmake") return set(env.CMAKE_BUILD_PARALLEL_LEVEL);
  if (tool === "make") return /(^|\s)-?[a-zA-Z]*j\d*(\s|$)/.test(env.MAKEFLAGS ?? "");
  return false;
}

/** Whether arguments of the native tool already say so: `-j8`, `-j 8`, `--jobs=8`, `--parallel`. */
export function argsSayJobs(tool: string, args: readonly string[]): boolean {
  const names = tool === "cmake" ? ["--parallel", "--jobs"] : ["--jobs"];
  // Make takes several letters behind one dash: `-kj8`.
  const short = tool === "make" ? /^-[a-zA-Z]*j\d*$/ : /^-j\d*$/;
  const end = tool === "cargo" ? args.indexOf("--") : -1;
  return (end < 0 ? args : args.slice(0, end)).some(
    (arg) => short.test(arg) || names.some((name) => arg === name || arg.startsWith(`${name}=`)),
  );
}

/** The build tool that a command is, by its name: "make" for gmake and a path to it, too. */
export function toolOf(command: string): "cargo" | "cmake" | "ninja" | "make" | undefined {
  const name = basename(command);
  if (name === "cargo" || name === "cmake") return name;
  if (name === "ninja" || name === "ninja-build" || name === "samu") return "ninja";
  if (name === "make" || name === "gmake") return "make";
  return undefined;
}

function set(value: string | undefined): boolean {
  return value !== undefined && value !== "";
}
