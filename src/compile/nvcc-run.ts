/**
 * Runs the steps of one nvcc command, each as soon as what it reads is there. It does not know
 * where a step runs: that is for whoever runs steps.
 */
import { concatBytes, textOf } from "../base/bytes.ts";
import { MeshError } from "../base/errors.ts";
import type { Disk, Processes } from "../host/host.ts";
import type { NvccDependencies } from "./nvcc-args.ts";
import { dependencyText, markedFiles } from "./nvcc-depfile.ts";
import type { NvccGraph, NvccNode } from "./nvcc-graph.ts";
import { type NvccPlans, type NvccSetting, type PlannedStep, withQuoted } from "./nvcc-plans.ts";
import type { Plan } from "./plan.ts";

export interface StepEnd {
  readonly exitCode: number;
  readonly stdout: Uint8Array;
  readonly stderr: Uint8Array;
}

export interface NvccStep {
  readonly plan: Plan;
  /**
   * True for the command as a whole, made of further steps: its result is looked up and kept, but
   * it is no work of its own, so it must hold no slot and be offered to nobody.
   */
  readonly whole: boolean;
  /** The real tool in place; its outputs are then where they belong. */
  runHere(signal: AbortSignal): Promise<StepEnd>;
}

/** Runs one step anywhere; its outputs are then where they belong. */
export type RunStep = (step: NvccStep, signal: AbortSignal) => Promise<StepEnd>;

export interface NvccWork {
  readonly graph: NvccGraph;
  readonly setting: NvccSetting;
  /** Steps that are planned already. */
  readonly planned: ReadonlyMap<NvccNode, PlannedStep>;
  readonly dependencies: WantedDependencies | undefined;
  /** nvcc's own warnings. */
  readonly notes: string;
  /** Told how the host compile was planned. */
  readonly onHostPlan: (step: PlannedStep) => void;
}

export interface WantedDependencies {
  readonly what: NvccDependencies;
  /** Absolute. */
  readonly path: string;
  /** Preprocessed texts whose files are listed, in order. */
  readonly texts: readonly string[];
}

export interface NvccRunDeps {
  readonly disk: Disk;
  readonly processes: Processes;
  readonly plans: NvccPlans;
}

export interface NvccRunOptions {
  readonly timeoutMs: number;
}

/** What a compiler may print; more is for the real one to print. */
const outputMaxBytes = 16 * 1024 * 1024;

/**
 * Codes: "refused" when a step fails, which then is for the real nvcc to say; whatever planning
 * rejects with.
 */
export async function runNvcc(
  deps: NvccRunDeps,
  options: NvccRunOptions,
  work: NvccWork,
  runStep: RunStep,
  signal: AbortSignal,
): Promise<StepEnd> {
  const { graph } = work;
  const failed = new AbortController();
  const both = AbortSignal.any([signal, failed.signal]);
  const makers = new Map<string, Promise<StepEnd>>();
  const all: Promise<StepEnd>[] = [];

  async function runNode(node: NvccNode, before: readonly Promise<StepEnd>[]): Promise<StepEnd> {
    try {
      await Promise.all(before);
      if (node.tool === "host-compile") await copyShared(deps.disk, graph);
      both.throwIfAborted();
      const step = work.planned.get(node) ?? (await planNode(deps, node, work, both));
      if (node.tool === "host-compile") work.onHostPlan(step);
      const end = await runStep(stepOf(deps, options, node, step, work), both);
      if (end.exitCode !== 0)
        throw new MeshError("refused", `${step.plan.label} ended with ${end.exitCode}`);
      return end;
    } catch (error) {
      failed.abort(error);
      throw error;
    }
  }

  for (const node of graph.nodes) {
    const wanted = node.inputs.flatMap((path) => makers.get(path) ?? []);
    const made = runNode(node, node.tool === "host-compile" ? [...all] : wanted);
    // Awaited below; until then a failure must not count as unnoticed.
    made.catch(() => undefined);
    for (const path of node.outputs) makers.set(path, made);
    all.push(made);
  }
  // Nothing may still run when the folder for intermediate files goes.
  await Promise.allSettled(all);
  signal.throwIfAborted();
  if (failed.signal.aborted) throw failed.signal.reason;
  const ends = await Promise.all(all);
  await writeDependencies(deps.disk, work);
  return {
    exitCode: 0,
    stdout: concatBytes(ends.map(({ stdout }) => stdout)),
    stderr: concatBytes([
      new TextEncoder().encode(work.notes),
      ...ends.map(({ stderr }) => stderr),
    ]),
  };
}

async function planNode(
  { disk, plans }: NvccRunDeps,
  node: NvccNode,
  { setting }: NvccWork,
  signal: AbortSignal,
): Promise<PlannedStep> {
  if (node.tool !== "host-preprocess" && node.tool !== "host-compile")
    return plans.device(node, setting, signal);
  const step = await plans.host(node, setting, signal);
  if (node.tool === "host-preprocess" || node.inputs.length === 0) return step;
  const text = textOf(await disk.read(`${setting.folder}/host.ii`));
  return withQuoted(step, await plans.quoted(text, setting));
}

function stepOf(
  { disk, processes }: NvccRunDeps,
  { timeoutMs }: NvccRunOptions,
  node: NvccNode,
  { plan, argv, env, cwd }: PlannedStep,
  { setting }: NvccWork,
): NvccStep {
  const [program = "", ...args] = argv;
  return {
    plan,
    whole: false,
    async runHere(signal) {
      const run = await processes.run(
        { argv: [program, ...args], env, cwd, timeoutMs, outputMaxBytes },
        signal,
      );
      if (run.timedOut || run.outputOverflow)
        throw new MeshError("limit", `${plan.label} took too long or printed too much`);
      // It ran under this node's mask, not under the user's.
      if (node.tool === "host-compile" && run.exitCode === 0 && plan.at === "anywhere") {
        const mode = 0o666 & ~setting.invocation.umask;
        for (const path of plan.required) await disk.chmod(path, mode);
      }
      return { exitCode: run.exitCode, stdout: run.stdout, stderr: run.stderr };
    },
  };
}

/** What one architecture wrote for the host names itself, and is included under nvcc's name. */
async function copyShared(disk: Disk, { copies }: NvccGraph): Promise<void> {
  for (const [to, from] of copies) {
    const text = Buffer.from(await disk.read(from)).toString("latin1");
    const named = Buffer.from(text.replaceAll(`"${from}"`, `"${to}"`), "latin1");
    await disk.writeAtomic(to, named, { mode: 0o600, sync: false });
  }
}

async function writeDependencies(
  disk: Disk,
  { dependencies, setting, graph }: NvccWork,
): Promise<void> {
  if (dependencies === undefined) return;
  const texts: string[] = [];
  for (const path of dependencies.texts) texts.push(textOf(await disk.read(path)));
  const files = markedFiles(texts);
  if (files === undefined || files.some(({ path }) => path.includes("\ufffd")))
    throw new MeshError("unsupported", "a header's name is not plain");
  const text = dependencyText(dependencies.what, graph.object, files);
  const mode = 0o666 & ~setting.invocation.umask;
  await disk.writeAtomic(dependencies.path, new TextEncoder().encode(text), { mode, sync: false });
}
