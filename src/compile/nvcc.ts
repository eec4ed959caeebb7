/**
 * Serves nvcc commands that make one object from one source: asks nvcc what it would run, and runs
 * that as separate steps, so that every architecture is compiled, stolen and remembered by itself.
 *
 * What it does not understand, and what fails, is left to the real nvcc as a whole; the object is
 * then the same except for the number of a process in the name of an intermediate file. It does not
 * know who runs steps, and keeps no results.
 */
import { utf8 } from "../base/bytes.ts";
import { isMeshError } from "../base/errors.ts";
import type { TreeEntry } from "../blob/tree.ts";
import { createTrail, type FileView } from "../exec/file-view.ts";
import type { Toolchains } from "../exec/toolchain.ts";
import type { Clock, Disk, Processes } from "../host/host.ts";
import { locateOutputs } from "./gcc-outputs.ts";
import { familyOf } from "./gcc-verdict.ts";
import { type NvccDependencies, type ParsedNvcc, parseNvccArgs } from "./nvcc-args.ts";
import { createNvccAsk, type NvccAnswer } from "./nvcc-ask.ts";
import { type NvccGraph, type NvccNode, readGraph } from "./nvcc-graph.ts";
import { createNvccPlans, type NvccSetting, type PlannedStep } from "./nvcc-plans.ts";
import { type NvccStep, type NvccWork, type RunStep, runNvcc, type StepEnd } from "./nvcc-run.ts";
import { openScratch } from "./nvcc-scratch.ts";
import { createNvccToolkit, findProgram, type NvccProgram } from "./nvcc-toolkit.ts";
import { wholePlan } from "./nvcc-whole.ts";
import type { Invocation, Planner } from "./plan.ts";

export type { RunStep, StepEnd } from "./nvcc-run.ts";

export interface NvccRequest {
  readonly invocation: Invocation;
  readonly runStep: RunStep;
}

export type NvccEnd =
  /** The real nvcc is to run in place; whatever was written before, it writes again. */
  | { readonly at: "here"; readonly reason: string; readonly kind: "cuda"; readonly label: string }
  /** Outputs are in place. */
  | ({ readonly at: "done"; readonly kind: "cuda"; readonly label: string } & StepEnd);

export interface Nvcc {
  /** Rejects only with the reason of `signal` and with what `runStep` rejects with unforeseen. */
  serve(request: NvccRequest, signal: AbortSignal): Promise<NvccEnd>;
}

export interface NvccDeps {
  readonly disk: Disk;
  readonly processes: Processes;
  readonly clock: Clock;
  readonly view: FileView;
  readonly toolchains: Toolchains;
  readonly planGcc: Planner;
}

export interface NvccOptions {
  /** What the executing node must be, e.g. "linux/x86_64". */
  readonly platform: string;
  readonly timeoutMs: number;
  /** Whether a folder holds compiler names that lead to the shim: nvcc is not to find those. */
  readonly isShimFolder: (folder: string) => boolean;
}

/** Variables that change what the toolkit's programs do, or what is loaded into them. */
const forbidden = /^(?:LD_PRELOAD|LD_AUDIT|GLIBC_TUNABLES|NVVM_\w*|CICC_\w*|PTXAS_\w*|CUDAFE_\w*)$/;

/** Why a pass may be left to this machine while the others go on: what it gives is looked at. */
const readingHere: ReadonlySet<string> = new Set([
  "twin-headers",
  "time-macro",
  "computed-has-include",
]);

/** What the host compile opens besides what the steps before it wrote. */
const hostHeaders = '#include "crt/host_runtime.h"\n#include "fatbinary_section.h"\n';

/** One command, understood as far as possible without running any of it. */
interface Job {
  readonly invocation: Invocation;
  readonly parsed: ParsedNvcc;
  readonly answer: NvccAnswer;
  readonly graph: NvccGraph;
  readonly setting: NvccSetting;
  readonly objectPath: string;
  readonly dependencies: { readonly what: NvccDependencies; readonly path: string } | undefined;
}

export function createNvcc(deps: NvccDeps, options: NvccOptions): Nvcc {
  const { disk, view } = deps;
  const toolkit = createNvccToolkit(deps);
  const ask = createNvccAsk({ ...deps, toolkit });
  const plans = createNvccPlans({ ...deps, toolkit }, options);
  const runDeps = { ...deps, plans };

  /** A text is the reason to leave the command to the real nvcc. */
  async function attempt(
    { invocation, runStep }: NvccRequest,
    signal: AbortSignal,
  ): Promise<StepEnd | string> {
    const bad = Object.keys(invocation.env).find((name) => forbidden.test(name));
    if (bad !== undefined) return `environment ${bad}`;
    const parsed = parseNvccArgs(invocation, disk);
    if (parsed.at === "here") {
      const named = parsed.reason === "unknown-flag" && parsed.culprit !== undefined;
      return named ? `unknown-flag ${parsed.culprit}` : parsed.reason;
    }
    const env = withoutShim(invocation.env, options.isShimFolder);
    const { compiler, cwd } = invocation;
    const { dryArgs, responseFiles } = parsed;
    const answer = await ask({ compiler, args: dryArgs, cwd, env, responseFiles }, signal);
    if (answer === undefined) return "dry-run";
    const scratch = await openScratch(deps, scratchName(invocation, parsed, answer));
    if (scratch === undefined) return "no-scratch-folder";
    try {
      const job = await understand(invocation, parsed, answer, env, scratch.folder);
      return typeof job === "string" ? job : await work(job, runStep, signal);
    } finally {
      await scratch.close();
    }
  }

  async function understand(
    invocation: Invocation,
    parsed: ParsedNvcc,
    answer: NvccAnswer,
    env: Readonly<Record<string, string>>,
    folder: string,
  ): Promise<Job | string> {
    const { dry } = answer;
    const graph = readGraph(dry.commands, folder, parsed.source);
    if (graph === undefined) return "commands";
    // nvcc writes one where the command line asks for none, or none where it does.
    if ((dry.dependencies === undefined) !== (parsed.dependencies === undefined)) return "commands";
    const names = [graph.object, ...(dry.dependencies ? [dry.dependencies.path] : [])];
    const outputs = locateOutputs(view.look(), disk, invocation.cwd, names);
    if (outputs.at === "here") return outputs.reason;
    const [objectPath, dependencyPath] = outputs.paths;
    if (objectPath === undefined) return "commands";
    const setting = await settingOf(invocation, parsed.source, answer, env, graph, folder);
    if (typeof setting === "string") return setting;
    const dependencies =
      parsed.dependencies && dependencyPath
        ? { what: parsed.dependencies, path: dependencyPath }
        : undefined;
    return { invocation, parsed, answer, graph, setting, objectPath, dependencies };
  }

  async function settingOf(
    invocation: Invocation,
    source: string,
    { dry }: NvccAnswer,
    given: Readonly<Record<string, string>>,
    graph: NvccGraph,
    folder: string,
  ): Promise<NvccSetting | string> {
    const look = view.look();
    const path = dry.variables.get("PATH") ?? given.PATH ?? "";
    const programs = new Map<string, string>();
    for (const { program, tool } of graph.nodes) {
      const found = findProgram(look, disk, program, path, createTrail());
      if (found === undefined) return "no-program";
      const host = tool === "host-preprocess" || tool === "host-compile";
      if (host && familyOf((await disk.realPath(found)) ?? found) === undefined)
        return "host-compiler";
      programs.set(program, found);
    }
    // nvcc leaves an empty element, the working directory, in which nobody keeps libraries.
    const listed = dry.variables.get("LD_LIBRARY_PATH") ?? given.LD_LIBRARY_PATH ?? "";
    const libraryPath = listed.split(":").filter(Boolean).join(":");
    const libraries = dry.variables.get("NVVMIR_LIBRARY_DIR");
    const { LD_LIBRARY_PATH: _, ...rest } = given;
    const env = {
      ...rest,
      PATH: path,
      ...(libraryPath && { LD_LIBRARY_PATH: libraryPath }),
      ...(libraries && { NVVMIR_LIBRARY_DIR: libraries }),
    };
    const listing = (libraries && (await disk.list(libraries))) || [];
    const deviceLibraries = listing
      .filter(({ name }) => name.endsWith(".bc"))
      .map(({ name }) => `${libraries}/${name}`);
    return { source, folder, invocation, env, libraryPath, programs, deviceLibraries };
  }

  async function work(job: Job, runStep: RunStep, signal: AbortSignal): Promise<StepEnd | string> {
    const { graph, setting, answer, dependencies } = job;
    const reading = await planReading(job, signal);
    if (typeof reading === "string") return reading;
    let hostInputs: readonly TreeEntry[] | undefined;
    const texts = graph.nodes.slice(0, answer.dry.dependencies?.after ?? 0);
    const parts: NvccWork = {
      graph,
      setting,
      planned: reading,
      notes: answer.dry.notes,
      dependencies: dependencies && {
        ...dependencies,
        texts: texts.flatMap(({ tool, outputs }) => (tool === "host-preprocess" ? outputs : [])),
      },
      onHostPlan({ plan }) {
        hostInputs = plan.at === "anywhere" ? plan.spec.inputs : undefined;
      },
    };
    const runParts = (during: AbortSignal): Promise<StepEnd> =>
      runNvcc(runDeps, options, parts, runStep, during);
    const whole = await planWhole(job, reading, () => hostInputs, signal);
    if (whole === undefined) return runParts(signal);
    const end = await runStep({ plan: whole, whole: true, runHere: runParts }, signal);
    return end.exitCode === 0 ? end : "step-failed";
  }

  async function planReading(
    { graph, setting }: Job,
    signal: AbortSignal,
  ): Promise<ReadonlyMap<NvccNode, PlannedStep> | string> {
    const planned = new Map<NvccNode, PlannedStep>();
    let local: string | undefined;
    for (const node of graph.nodes) {
      if (node.tool !== "host-preprocess") continue;
      // What one pass cannot share, the others cannot either, and finding that out is slow.
      const step: PlannedStep =
        local === undefined
          ? await plans.host(node, setting, signal)
          : plans.local(node, setting, local);
      planned.set(node, step);
      if (step.plan.at !== "here") continue;
      local = step.plan.reason;
      if (!readingHere.has(local)) return local;
    }
    return planned;
  }

  async function planWhole(
    { invocation, graph, setting, answer, objectPath, dependencies }: Job,
    reading: ReadonlyMap<NvccNode, PlannedStep>,
    hostInputs: () => readonly TreeEntry[] | undefined,
    signal: AbortSignal,
  ): Promise<NvccStep["plan"] | undefined> {
    const last = graph.nodes.at(-1);
    const [hostSource] = last?.inputs ?? [];
    const steps = [...reading.values()];
    if (last === undefined || hostSource === undefined) return undefined;
    if (steps.length === 0 || steps.some(({ plan }) => plan.at === "here")) return undefined;
    const { folder } = setting;
    const stand = { source: `${folder}/headers.cpp`, object: `${folder}/headers.o` };
    await disk.writeAtomic(stand.source, utf8(hostHeaders), { mode: 0o600, sync: false });
    const args = last.args.map((arg, i) => {
      if (arg === hostSource) return stand.source;
      return i === last.args.length - 1 ? stand.object : arg;
    });
    const headers = await plans.host({ ...last, args }, setting, signal);
    const programs: NvccProgram[] = [];
    for (const node of graph.nodes) {
      if (node.tool === "host-preprocess" || node.tool === "host-compile") continue;
      programs.push(await plans.program(node, setting, signal));
    }
    return wholePlan({
      invocation,
      source: setting.source,
      folder,
      graph,
      notes: answer.dry.notes,
      reading: steps,
      headers,
      programs: [...new Set(programs)],
      facts: answer.facts,
      dependencyPath: dependencies?.path,
      objectPath,
      timeoutMs: options.timeoutMs,
      hostInputs,
    });
  }

  return {
    async serve(request, signal) {
      const { args } = request.invocation;
      const label = args.find((arg) => /^[^-].*\.(?:cu|cc|cpp|cxx|c)$/.test(arg)) ?? "nvcc";
      const here = (reason: string): NvccEnd => ({ at: "here", reason, kind: "cuda", label });
      try {
        const end = await attempt(request, signal);
        return typeof end === "string" ? here(end) : { at: "done", kind: "cuda", label, ...end };
      } catch (error) {
        signal.throwIfAborted();
        // Whatever went wrong goes wrong again for the real nvcc, which also says so.
        if (!isMeshError(error)) throw error;
        return here(error.code === "refused" ? "step-failed" : `cannot-plan ${error.code}`);
      }
    },
  };
}

function withoutShim(
  env: Readonly<Record<string, string>>,
  isShimFolder: (folder: string) => boolean,
): Readonly<Record<string, string>> {
  if (env.PATH === undefined) return env;
  const folders = env.PATH.split(":").filter((folder) => !isShimFolder(folder));
  return { ...env, PATH: folders.join(":") };
}

/** The same source to the same object is the same folder, whatever the options between. */
function scratchName({ cwd }: Invocation, { source }: ParsedNvcc, { dry }: NvccAnswer): string {
  const object = dry.commands.at(-1)?.at(-1) ?? "";
  return JSON.stringify([cwd, source, object]);
}
