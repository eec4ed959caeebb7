/** Builds with the mesh for the live tests: what they say, and what they leave. */
import { execFileSync } from "node:child_process";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { expect } from "vitest";
import type { CommandResult, LiveNode, World } from "./nodes.ts";

/** Loaded machines take their time; no verdict depends on it. */
export const testMaxMs = 300_000;

/** Whether a tool is here; says so when it is not. */
export function has(tool: string): boolean {
  try {
    execFileSync("sh", ["-c", `command -v ${tool}`], { stdio: "ignore" });
    return true;
  } catch {
    console.warn(`skipped: ${tool} is not installed`);
    return false;
  }
}

export interface Summary {
  readonly tasks: number;
  readonly local: number;
  readonly stolen: number;
  readonly cachedLocal: number;
  readonly cachedMesh: number;
  readonly fallback: readonly { readonly reason: string; readonly count: number }[];
  readonly compared?: number;
  readonly differing?: number;
}

export interface MeshBuilt extends CommandResult {
  readonly summary: Summary;
}

let summaries = 0;

/** `mesh ARGS`, a build or an exec that has to end well, and what its summary file says. */
export async function meshBuild(
  world: World,
  node: LiveNode | string,
  args: readonly string[],
  options: { readonly cwd?: string; readonly env?: Readonly<Record<string, string>> } = {},
): Promise<MeshBuilt> {
  const path = join(world.folder, `summary-${++summaries}.json`);
  const [command = "", ...rest] = args;
  const result = await world.mesh(node, [command, "--summary", path, ...rest], options);
  if (result.exitCode !== 0) {
    throw new Error(
      `mesh ${args.join(" ")}: exit ${result.exitCode}\n${result.stdout}\n${result.stderr}`,
    );
  }
  return { ...result, summary: JSON.parse(await readFile(path, "utf8")) as Summary };
}

export function expectSame(mesh: Map<string, Buffer>, plain: Map<string, Buffer>): void {
  expect([...mesh.keys()].sort()).toEqual([...plain.keys()].sort());
  const different = [...plain].filter(([path, bytes]) => !mesh.get(path)?.equals(bytes));
  expect(different.map(([path]) => path)).toEqual([]);
}

/** Tasks whose results were known. */
export function hits({ cachedLocal, cachedMesh }: Summary): number {
  return cachedLocal + cachedMesh;
}

const drawTriesMax = 20;

/**
 * Builds anew until everything is known. A home that is slow to answer counts as one that does not
 * know, so one build may miss some results; what it does then is not remembered.
 */
export async function drawAll(
  build: (...flags: string[]) => Promise<MeshBuilt>,
  tasks: number,
): Promise<{ readonly fromMesh: number; readonly built: MeshBuilt }> {
  let fromMesh = 0;
  for (let tries = 0; ; tries += 1) {
    const built = await build("--no-cache-write");
    fromMesh += built.summary.cachedMesh;
    if (hits(built.summary) >= tasks) return { fromMesh, built };
    if (tries === drawTriesMax) {
      throw new Error(`never all known: ${JSON.stringify(built.summary)}\n${built.stderr}`);
    }
    await new Promise((wake) => setTimeout(wake, 500));
  }
}
