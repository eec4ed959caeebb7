/**
 * Makes an action of each step of an nvcc command. Passes of the host compiler are planned like any
 * other compile; the toolkit's own programs read nothing but their intermediate files.
 */
import { MeshError } from "../base/errors.ts";
import type { TreeEntry } from "../blob/tree.ts";
import { type Facts, mergeFacts } from "../exec/facts.ts";
import { createTrail, type FileView, type Look, trailEntries } from "../exec/file-view.ts";
import { addEntry, createInputFiles } from "./inputs.ts";
import { markedFiles } from "./nvcc-depfile.ts";
import type { NvccNode } from "./nvcc-graph.ts";
import type { NvccProgram, NvccToolkit } from "./nvcc-toolkit.ts";
import type { ActionPlan, Invocation, Plan, Planner } from "./plan.ts";

/** A step, and how to run it in place. */
export interface PlannedStep {
  readonly plan: Plan;
  readonly argv: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  readonly cwd: string;
}

/** What all steps of one command have in common. */
export interface NvccSetting {
  readonly source: string;
  /** The folder for intermediate files. */
  readonly folder: string;
  readonly invocation: Invocation;
  /** As nvcc sets it for what it calls. */
  readonly env: Readonly<Record<string, string>>;
  readonly libraryPath: string;
  /** nvcc's names of programs, found. */
  readonly programs: ReadonlyMap<string, string>;
  /** Libraries of device code that come with the toolkit. */
  readonly deviceLibraries: readonly string[];
}

export interface NvccPlans {
  /** A pass of the host compiler. */
  host(node: NvccNode, setting: NvccSetting, signal: AbortSignal): Promise<PlannedStep>;
  /** A pass of the host compiler that runs here for a known reason. */
  local(node: NvccNode, setting: NvccSetting, reason: string): PlannedStep;
  /** A step of the toolkit, whose intermediate files are there. */
  device(node: NvccNode, setting: NvccSetting, signal: AbortSignal): Promise<PlannedStep>;
  /** The program of such a step. */
  program(node: NvccNode, setting: NvccSetting, signal: AbortSignal): Promise<NvccProgram>;
  /** What the host compile quotes in its warnings: the sources named in a preprocessed text. */
  quoted(text: string, setting: NvccSetting): Promise<Quoted>;
}

export interface Quoted {
  readonly entries: readonly TreeEntry[];
  readonly facts: Facts;
}

export interface NvccPlansDeps {
  readonly view: FileView;
  readonly planGcc: Planner;
  readonly toolkit: NvccToolkit;
}

export interface NvccPlansOptions {
  readonly platform: string;
  readonly timeoutMs: number;
}

export function createNvccPlans(deps: NvccPlansDeps, options: NvccPlansOptions): NvccPlans {
  const { view, toolkit } = deps;
  const inputFiles = createInputFiles(view);

  async function host(
    node: NvccNode,
    setting: NvccSetting,
    signal: AbortSignal,
  ): Promise<PlannedStep> {
    const { invocation, env, programs } = setting;
    const compiler = programs.get(node.program) ?? node.program;
    const preprocesses = node.tool === "host-preprocess";
    // A pass that only preprocesses opens no more than the whole compile would.
    const args = preprocesses ? replaced(node.args, "-E", "-c") : node.args;
    const planned = await deps.planGcc({ ...invocation, compiler, args, env }, signal);
    if (planned.at === "here") return local(node, setting, planned.reason);
    const label = labelOf(node, setting);
    const argv = preprocesses ? replaced(planned.spec.argv, "-c", "-E") : planned.spec.argv;
    if (planned.spec.outputPaths.length !== 1)
      throw new MeshError("unsupported", `${label} writes more than its output`);
    const plan: ActionPlan = {
      ...planned,
      kind: "cuda",
      label,
      spec: { ...planned.spec, argv },
      facts: withoutScratch(planned.facts, setting.folder),
    };
    return { plan, argv, env: plan.spec.env, cwd: plan.spec.cwd };
  }

  function local(node: NvccNode, setting: NvccSetting, reason: string): PlannedStep {
    const { invocation, env, programs } = setting;
    const plan: Plan = { at: "here", reason, kind: "cuda", label: labelOf(node, setting) };
    const argv = [programs.get(node.program) ?? node.program, ...node.args];
    return { plan, argv, env, cwd: invocation.cwd };
  }

  function findProgram(
    node: NvccNode,
    { programs, libraryPath, deviceLibraries }: NvccSetting,
    signal: AbortSignal,
  ): Promise<NvccProgram> {
    const path = programs.get(node.program) ?? node.program;
    const libraries = node.tool === "cicc" ? deviceLibraries : [];
    return toolkit.program(path, libraryPath, libraries, signal);
  }

  /** Intermediate files are in a folder that nobody else may write: they are not facts. */
  async function intermediate(paths: readonly string[]): Promise<readonly TreeEntry[]> {
    const look = view.look();
    const trail = createTrail();
    const entries: TreeEntry[] = [];
    for (const path of paths) {
      const found = look.find(look.folder("/"), path, trail);
      const node = found?.kind === "file" ? await look.largeFile(found.path) : undefined;
      if (node === undefined) throw new MeshError("io", `ENOENT: ${path} is not there`);
      entries.push(node.entry);
    }
    return [...entries, ...trailEntries(trail)];
  }

  async function device(
    node: NvccNode,
    setting: NvccSetting,
    signal: AbortSignal,
  ): Promise<PlannedStep> {
    const { libraryPath, folder, invocation } = setting;
    const program = await findProgram(node, setting, signal);
    const inputs = new Map<string, TreeEntry>();
    for (const entry of program.entries) addEntry(inputs, entry);
    for (const entry of await intermediate(node.inputs)) addEntry(inputs, entry);
    const cwd = workingFolder(view.look(), invocation, inputs);
    addEntry(inputs, { kind: "directory", path: folder });
    const argv = [program.path, ...node.args];
    const env = {
      PATH: "/usr/bin:/bin",
      PWD: cwd,
      TMPDIR: "/tmp",
      ...(libraryPath && { LD_LIBRARY_PATH: libraryPath }),
      ...(setting.env.NVVMIR_LIBRARY_DIR && {
        NVVMIR_LIBRARY_DIR: setting.env.NVVMIR_LIBRARY_DIR,
      }),
    };
    const plan: ActionPlan = {
      at: "anywhere",
      kind: "cuda",
      label: labelOf(node, setting),
      spec: {
        argv,
        env,
        cwd,
        outputPaths: node.outputs,
        inputs: [...inputs.values()],
        platform: { platform: options.platform },
        timeoutMs: options.timeoutMs,
      },
      required: node.outputs,
      facts: program.facts,
    };
    return { plan, argv, env, cwd };
  }

  async function quoted(text: string, { invocation }: NvccSetting): Promise<Quoted> {
    const marked = markedFiles([text]);
    if (marked === undefined) throw new MeshError("unsupported", "a header's name has escapes");
    const files = marked.map(({ path }) =>
      path.startsWith("/") ? path : `${invocation.cwd}/${path}`,
    );
    const { entries, facts } = await inputFiles.find({ files });
    return { entries, facts };
  }

  return { host, local, device, program: findProgram, quoted };
}

/** Adds inputs that are there for the diagnostics only. */
export function withQuoted(step: PlannedStep, { entries, facts }: Quoted): PlannedStep {
  if (step.plan.at === "here") return step;
  const { spec } = step.plan;
  const inputs = new Map(spec.inputs.map((entry) => [entry.path, entry]));
  for (const entry of entries) addEntry(inputs, entry);
  const plan: ActionPlan = {
    ...step.plan,
    spec: { ...spec, inputs: [...inputs.values()] },
    facts: mergeFacts(step.plan.facts, facts),
  };
  return { ...step, plan };
}

/** The folder comes and goes with the command, and with it what its parent says. */
export function withoutScratch(facts: Facts, folder: string): Facts {
  const parent = folder.slice(0, folder.lastIndexOf("/"));
  const ours = (path: string): boolean => path === folder || path.startsWith(`${folder}/`);
  const kept = facts.asked.flatMap((asked, i) =>
    ours(asked.path) || asked.path === parent ? [] : [{ asked, version: facts.versions[i] ?? -1 }],
  );
  return {
    files: facts.files.filter(({ path }) => !ours(path)),
    asked: kept.map(({ asked }) => asked),
    versions: kept.map(({ version }) => version),
  };
}

/** The working directory as its caller names it, as long as that is where it is. */
function workingFolder(
  look: Look,
  { cwd, env }: Invocation,
  inputs: Map<string, TreeEntry>,
): string {
  const trail = createTrail();
  const root = look.folder("/");
  const real = look.find(root, cwd, trail);
  if (real?.kind !== "folder") throw new MeshError("io", `ENOENT: no directory ${cwd}`);
  trail.folders.add(real.folder);
  const name = env.PWD ?? "";
  const normal = /^(?:\/(?!\.{0,2}(?:\/|$))[^/]+)+$/.test(name);
  const named = normal ? look.find(root, name, trail) : undefined;
  for (const entry of trailEntries(trail)) addEntry(inputs, entry);
  return named?.kind === "folder" && named.folder === real.folder ? name : real.folder.path;
}

function replaced(args: readonly string[], from: string, to: string): string[] {
  if (args.filter((arg) => arg === from).length !== 1)
    throw new MeshError("unsupported", `the host compiler is given ${from} more than once`);
  return args.map((arg) => (arg === from ? to : arg));
}

function labelOf({ tool, part }: NvccNode, { source }: NvccSetting): string {
  const verb = { "host-preprocess": "preprocess", "host-compile": "compile" } as const;
  const name = tool === "host-preprocess" || tool === "host-compile" ? verb[tool] : tool;
  return `${source} ${part} ${name}`;
}
