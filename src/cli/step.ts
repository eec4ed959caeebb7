/** One command of a native build, and what all of them get from us. Pure. */
import {
  argsSayJobs,
  type Env,
  envSaysJobs,
  type Interception,
  shimEnv,
  withColors,
  withoutLostJobserver,
} from "./environment.ts";

export interface Step {
  readonly argv: readonly [string, ...string[]];
  readonly cwd: string;
  readonly env: Env;
  /** Whose output it is, for reading its progress. */
  readonly tool: "cargo" | "cmake" | "ninja" | "make" | "other";
}

export interface NativePlan {
  /** Run in order; the first that fails ends the build. */
  readonly steps: readonly Step[];
  /** Said before the build starts. */
  readonly notes: readonly string[];
  /** Why, most likely, no compiler came through the shim; said when none did. */
  readonly whyNone: string;
}

export interface NativeOptions {
  readonly mesh: Interception | undefined;
  readonly args: readonly string[];
  readonly env: Env;
  /** Our own stdout or stderr is a terminal and the tool's output goes through us. */
  readonly piped: boolean;
  readonly color: boolean;
  /** `--jobs`: stronger than the environment, weaker than the native arguments. */
  readonly jobs: number | undefined;
  /** How many jobs to run where the tool's own default is one and there is no mesh. */
  readonly cores: number;
  readonly hasNinja: boolean;
  /** A wrapper for rustc that Cargo's configuration names. */
  readonly rustcWrapper: string | undefined;
  readonly exists: (path: string) => boolean;
}

/** What every tool gets: the way to the node, colours, no dead jobserver. */
export function toolEnv(options: NativeOptions): Env {
  const { env } = withoutLostJobserver(options.env);
  const colored = options.piped && options.color ? withColors(env) : env;
  return options.mesh === undefined ? colored : shimEnv(colored, options.mesh);
}

/** How many jobs to name to a tool, or undefined when it knows already or is to decide. */
export function jobsFor(
  tool: "cargo" | "cmake" | "ninja" | "make",
  options: NativeOptions,
): number | undefined {
  const { jobserver } = withoutLostJobserver(options.env);
  if (argsSayJobs(tool, options.args)) return undefined;
  if (options.jobs !== undefined) return options.jobs;
  const { env } = withoutLostJobserver(options.env);
  if (jobserver || envSaysJobs(tool, env)) return undefined;
  if (options.mesh !== undefined) return options.mesh.jobs;
  // Without a mesh cargo and ninja use every core by themselves; make and CMake's makefiles do not.
  return tool === "make" || tool === "cmake" ? options.cores : undefined;
}
