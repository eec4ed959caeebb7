/**
 * An nvcc command as one action, so that a command whose inputs are all known is answered without
 * a single step. It is never run as such: what it names is how its result is found.
 */
import type { ActionSpec } from "../action/action.ts";
import { utf8 } from "../base/bytes.ts";
import { digestOf } from "../base/digest.ts";
import { MeshError } from "../base/errors.ts";
import type { TreeEntry } from "../blob/tree.ts";
import { type Facts, mergeFacts } from "../exec/facts.ts";
import { addEntry } from "./inputs.ts";
import type { NvccGraph } from "./nvcc-graph.ts";
import type { PlannedStep } from "./nvcc-plans.ts";
import type { NvccProgram } from "./nvcc-toolkit.ts";
import type { ActionPlan, Invocation } from "./plan.ts";

export interface WholeParts {
  readonly invocation: Invocation;
  readonly source: string;
  readonly folder: string;
  readonly graph: NvccGraph;
  /** nvcc's own warnings are part of what it prints. */
  readonly notes: string;
  /** The passes that read the user's files. */
  readonly reading: readonly PlannedStep[];
  /** A compile of the headers that only the host compile opens, to this output. */
  readonly headers: PlannedStep;
  readonly programs: readonly NvccProgram[];
  /** Of what nvcc was asked; what it answered is part of the action in any case. */
  readonly facts: Facts | undefined;
  /** Absolute; `undefined` when none is written. */
  readonly dependencyPath: string | undefined;
  readonly objectPath: string;
  readonly timeoutMs: number;
  /** What the host compile was found to read in the end; undefined while it has not been planned. */
  readonly hostInputs: () => readonly TreeEntry[] | undefined;
}

/** Undefined when some pass reads nobody knows what. */
export function wholePlan(parts: WholeParts): ActionPlan | undefined {
  const { invocation, folder, graph, reading, headers } = parts;
  const specs: ActionSpec[] = [];
  const facts: Facts[] = parts.facts ? [parts.facts] : [];
  for (const { plan } of [...reading, headers]) {
    if (plan.at === "here") return undefined;
    specs.push(plan.spec);
    facts.push(plan.facts);
  }
  const [first] = specs;
  if (first === undefined) return undefined;
  const inputs = new Map<string, TreeEntry>();
  const ours = (path: string): boolean => path === folder || path.startsWith(`${folder}/`);
  const add = (entries: readonly TreeEntry[]): void => {
    for (const entry of entries) if (!ours(entry.path)) addEntry(inputs, entry);
  };
  for (const { inputs: entries } of specs) add(entries);
  for (const program of parts.programs) {
    add(program.entries);
    facts.push(program.facts);
  }
  const outputPaths = [parts.objectPath, ...(parts.dependencyPath ? [parts.dependencyPath] : [])];
  return {
    at: "anywhere",
    kind: "cuda",
    label: parts.source,
    spec: {
      argv: [invocation.compiler, ...invocation.args],
      env: { ...first.env, MESH_NVCC_STEPS: digestOf(utf8(stepsText(graph, specs, parts.notes))) },
      cwd: first.cwd,
      outputPaths,
      inputs: [...inputs.values()],
      platform: first.platform,
      timeoutMs: parts.timeoutMs,
    },
    required: outputPaths,
    facts: mergeFacts(...facts),
    whyHere: "split",
    async checkHere() {
      const read = parts.hostInputs();
      if (read === undefined)
        throw new MeshError("refused", `nobody knows what ${parts.source} reads`);
      for (const entry of read) {
        if (entry.kind !== "file" || ours(entry.path) || inputs.has(entry.path)) continue;
        throw new MeshError("refused", `${parts.source} reads ${entry.path}, which is no input`);
      }
    },
  };
}

/** Everything that nvcc decided, whatever made it decide so. */
function stepsText(graph: NvccGraph, specs: readonly ActionSpec[], notes: string): string {
  const steps = graph.nodes.map(({ program, args }) => [program, ...args]);
  // Host options may stand for more than they say: what the machine has, for example.
  return JSON.stringify([notes, steps, specs.map(({ argv }) => argv)]);
}
