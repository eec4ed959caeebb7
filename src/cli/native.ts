/**
 * From a detected project to the commands that build it: what to run, where, in which environment.
 *
 * Pure: `mesh` undefined is the same build without a mesh, which is what runs when no node can be
 * had. CMake's two steps are in cmake.ts.
 */

import { cmakeSteps } from "./cmake.ts";
import { launcherNames, type Project } from "./detect.ts";
import {
  toolOf,
  withCargoBar,
  withLaunchers,
  withMasquerade,
  withRustcWrapper,
  withWrappedCompilers,
} from "./environment.ts";
import { jobsFor, type NativeOptions, type NativePlan, type Step, toolEnv } from "./step.ts";

const upToDate = "everything was up to date";

export function planBuild(project: Project, options: NativeOptions): NativePlan {
  if (project.tool === "cmake") return cmakeSteps(project, options);
  if (project.tool === "cargo") return planCargo(project.dir, ["cargo", "build"], options);
  return planSimple(project.tool, project.dir, [project.tool], options);
}

/** `mesh exec`: the command as it is; only a build tool's own environment is set for it. */
export function planExec(
  command: readonly [string, ...string[]],
  cwd: string,
  options: NativeOptions,
): NativePlan {
  const [name, ...args] = command;
  const tool = toolOf(name);
  const whole = { ...options, args };
  if (tool === "cargo") return planCargo(cwd, [name], whole);
  if (tool === "ninja" || tool === "make") return planSimple(tool, cwd, [name], whole);
  const { mesh } = options;
  const whyNone = `${upToDate}, or ${name} calls its compilers by absolute paths`;
  const base = toolEnv(options);
  if (mesh === undefined) return onePlan({ argv: command, cwd, env: base, tool: "other" }, whyNone);
  const jobs = String(mesh.jobs);
  const jobsEnv = { CARGO_BUILD_JOBS: jobs, CMAKE_BUILD_PARALLEL_LEVEL: jobs, ...base };
  if (tool === "cmake") {
    // Not the folder of names: a first configure would record it as the place of the compilers.
    const env = withLaunchers(jobsEnv, mesh, launcherNames);
    return onePlan({ argv: command, cwd, env, tool }, whyNone);
  }
  const env = withRustcWrapper(
    withMasquerade(jobsEnv, mesh),
    mesh,
    options.rustcWrapper !== undefined,
  );
  return onePlan(
    { argv: command, cwd, env: withWrappedCompilers(env, mesh), tool: "other" },
    whyNone,
  );
}

function planCargo(
  dir: string,
  start: readonly [string, ...string[]],
  options: NativeOptions,
): NativePlan {
  const { mesh, rustcWrapper } = options;
  const jobs = jobsFor("cargo", options);
  let env = toolEnv(options);
  if (jobs !== undefined) env = { ...env, CARGO_BUILD_JOBS: String(jobs) };
  if (options.piped) env = withCargoBar(env);
  const notes: string[] = [];
  let whyNone = upToDate;
  if (mesh !== undefined) {
    const theirs = env.RUSTC_WRAPPER || env.CARGO_BUILD_RUSTC_WRAPPER || rustcWrapper;
    env = withRustcWrapper(withMasquerade(env, mesh), mesh, rustcWrapper !== undefined);
    if (theirs !== undefined && theirs !== "" && theirs !== mesh.shim) {
      notes.push(
        `cargo already has the rustc wrapper ${theirs}: kept, so Rust is compiled here only ` +
          "(unset it to share)",
      );
      whyNone = `${upToDate}, or went to the rustc wrapper ${theirs}`;
    }
  }
  const step: Step = { argv: [...start, ...options.args], cwd: dir, env, tool: "cargo" };
  return { steps: [step], notes, whyNone };
}

function planSimple(
  tool: "ninja" | "make",
  dir: string,
  start: readonly [string, ...string[]],
  options: NativeOptions,
): NativePlan {
  const { mesh } = options;
  const jobs = jobsFor(tool, options);
  const argv: [string, ...string[]] = [...start, ...options.args];
  if (jobs !== undefined) argv.splice(1, 0, `-j${jobs}`);
  let env = toolEnv(options);
  if (mesh !== undefined) env = withWrappedCompilers(withMasquerade(env, mesh), mesh);
  const whyNone =
    tool === "ninja"
      ? `${upToDate}, or build.ninja names its compilers by absolute paths: generate it again ` +
        "with the compiler's plain name (CC=cc CXX=c++), with CMake use `mesh build` on the sources"
      : `${upToDate}, or the makefile names its compilers by absolute paths: ` +
        "try `mesh build -- CC=cc CXX=c++`";
  return onePlan({ argv, cwd: dir, env, tool }, whyNone);
}

function onePlan(step: Step, whyNone: string): NativePlan {
  return { steps: [step], notes: [], whyNone };
}
