/**
 * CMake's part of a build: configure when needed, then build. Pure.
 *
 * Generated build files name compilers by absolute paths, so CMake itself has to put the shim
 * before them (CMAKE_<LANG>_COMPILER_LAUNCHER, and CMAKE_<LANG>_LINKER_LAUNCHER for links). The
 * environment sets that at the first configure; a build folder that exists already has to be
 * configured once more. Archives are made outside the mesh: CMake has no launcher for `ar`, and
 * its choice of one belongs to the compiler, so another CMAKE_AR might be the wrong program. The folder of compiler names
 * is never in PATH here: a configure, ours or one that a build step starts, would record it.
 */
import { basename } from "node:path";
import { type CMakeCache, type CMakeProject, launcherNames } from "./detect.ts";
import { type Env, withLaunchers } from "./environment.ts";
import { jobsFor, type NativeOptions, type NativePlan, type Step, toolEnv } from "./step.ts";

export function cmakeSteps(project: CMakeProject, options: NativeOptions): NativePlan {
  const { buildDir, cache } = project;
  const { configure, build } = splitCMakeArgs(options.args);
  const inner = { ...options, args: build };
  const env = withoutForcedColors(toolEnv(options), cache, options);
  const launched =
    options.mesh === undefined ? env : withLaunchers(env, options.mesh, launcherNames);
  const change = cache === undefined ? none : launcherChange(cache, options);
  const steps: Step[] = [];
  const notes = [...change.notes];
  if (cache === undefined || configure.length > 0 || change.args.length > 0) {
    const generator = cache === undefined ? ninjaIfFree(configure, options) : [];
    // An existing folder knows its sources; naming them again would fail where only it is left.
    const where = cache === undefined ? ["-S", project.dir, "-B", buildDir] : [buildDir];
    steps.push({
      argv: ["cmake", ...where, ...generator, ...change.args, ...configure],
      cwd: project.dir,
      env: launched,
      tool: "other",
    });
    if (cache === undefined) notes.push(`configuring into ${buildDir}`);
  }
  const jobs = jobsFor("cmake", inner);
  const parallel = jobs === undefined ? [] : ["--parallel", String(jobs)];
  steps.push({
    argv: ["cmake", "--build", buildDir, ...parallel, ...build],
    cwd: project.dir,
    env: launched,
    tool: "cmake",
  });
  return { steps, notes, whyNone: whyNone(change) };
}

/** `-D…`, `-U…`, `-G…` and the like are for the configure step, everything else for the build. */
export function splitCMakeArgs(args: readonly string[]): {
  readonly configure: readonly string[];
  readonly build: readonly string[];
} {
  const configure: string[] = [];
  const build: string[] = [];
  const end = args.indexOf("--");
  const own = end < 0 ? args : args.slice(0, end);
  for (let at = 0; at < own.length; at += 1) {
    const arg = own[at] ?? "";
    const value = own[at + 1];
    if (/^-[DUGTA]$/.test(arg) && value !== undefined) {
      configure.push(arg, value);
      at += 1;
    } else if (/^-([DUGTA].|W(no-)?(dev|error|deprecated))/.test(arg)) configure.push(arg);
    else build.push(arg);
  }
  return { configure, build: end < 0 ? build : [...build, ...args.slice(end)] };
}

interface Change {
  readonly args: readonly string[];
  readonly notes: readonly string[];
  /** Launchers that are not ours, and stay. */
  readonly kept: readonly string[];
}

const none: Change = { args: [], notes: [], kept: [] };

/** What has to be changed in an existing build folder so that compiles go through our shim. */
function launcherChange(cache: CMakeCache, options: NativeOptions): Change {
  const { mesh, exists } = options;
  const args: string[] = [];
  const kept: string[] = [];
  for (const [name, launcher] of Object.entries(cache.launchers)) {
    const flag = `-D${name}=`;
    const ours = basename(launcher).startsWith("mesh-shim");
    if (mesh === undefined) {
      // The shim is gone and so is its node: without this the build could not run at all.
      if (ours && !exists(launcher)) args.push(flag);
    } else if (launcher === "" || (ours && launcher !== mesh.shim)) args.push(flag + mesh.shim);
    else if (!ours && name.endsWith("_COMPILER_LAUNCHER")) kept.push(launcher);
  }
  const notes: string[] = [];
  if (args.length > 0) {
    notes.push(
      mesh === undefined
        ? "the compiler shim this folder was configured with is gone: configuring without it"
        : "configuring once more, so that compiles and links go through the mesh; they all run once again",
    );
  }
  if (kept.length > 0) {
    notes.push(
      `compiles already go through ${[...new Set(kept)].join(" and ")}: kept, so they stay here ` +
        "(configure with -DCMAKE_CXX_COMPILER_LAUNCHER= to share them)",
    );
  }
  return { args, notes, kept };
}

function ninjaIfFree(configure: readonly string[], options: NativeOptions): readonly string[] {
  const chosen = configure.some((arg) => arg.startsWith("-G")) || options.env.CMAKE_GENERATOR;
  return options.hasNinja && !chosen ? ["-G", "Ninja"] : [];
}

/**
 * Ninja gives compilers a pipe, so natively their messages have no colours, and a CMake project
 * that wants them asks the compiler itself; makefiles give them the terminal.
 */
function withoutForcedColors(env: Env, cache: CMakeCache | undefined, options: NativeOptions): Env {
  const ninja = cache === undefined ? options.hasNinja : /Ninja/.test(cache.generator);
  if (!ninja || options.env.MESH_COLOR !== undefined) return env;
  const { MESH_COLOR: _dropped, ...rest } = env;
  return rest;
}

function whyNone(change: Change): string {
  if (change.kept.length > 0) return `compiles went to ${change.kept[0]} instead`;
  return (
    "everything was up to date, or the project sets a compiler launcher of its own " +
    "(look for COMPILER_LAUNCHER or RULE_LAUNCH_COMPILE in its CMakeLists.txt)"
  );
}
