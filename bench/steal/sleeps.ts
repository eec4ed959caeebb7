/**
 * Work that holds a slot and needs no CPU: /bin/sleep, run by thieves in their sandboxes and by the
 * node itself as it is. No result of it is remembered, so that the same sleep may be asked for
 * again.
 *
 * A node can be made slow: a command that finds itself less favoured by the machine's scheduler
 * than the benchmark is (its niceness, which a sandbox leaves alone) sleeps that many times longer.
 */
import { readdirSync, readFileSync } from "node:fs";
import { getPriority, setPriority } from "node:os";
import type { ActionSpec } from "../../src/action/action.ts";
import { encodeAction } from "../../src/action/encode.ts";
import { createToolchains } from "../../src/exec/toolchain.ts";
import type { OpenNode } from "../../src/node/open.ts";
import type { Task } from "../../src/work/task.ts";

export interface Sleep {
  readonly label: string;
  readonly sleepMs: number;
}

/** $1 niceness of a fast node, $2 seconds there, $3 seconds at a slow one. */
const script = `[ "$(/usr/bin/nice)" -gt "$1" ] && exec /bin/sleep "$3"; exec /bin/sleep "$2"`;

/** @param slowTimes how much longer it takes at a node that was made slow; undefined: nowhere */
export async function createSleeps(
  { store, platform, host: { disk, processes, clock } }: OpenNode,
  slowTimes: number | undefined,
  signal: AbortSignal,
): Promise<(sleep: Sleep) => Task> {
  const programs = slowTimes === undefined ? [] : ["/bin/sh", "/usr/bin/nice"];
  const toolchains = createToolchains({ disk, processes, store, clock });
  const inputs = await toolchains.elfClosure(["/bin/sleep", ...programs], signal);
  const seconds = (ms: number) => (ms / 1000).toFixed(3);
  return ({ label, sleepMs }) => {
    const here: [string, string] = ["/bin/sleep", seconds(sleepMs)];
    const base = String(getPriority());
    const slow = seconds(sleepMs * (slowTimes ?? 1));
    const argv: [string, ...string[]] =
      slowTimes === undefined
        ? here
        : ["/bin/sh", "-c", script, "sh", base, seconds(sleepMs), slow];
    const spec: ActionSpec = {
      argv,
      env: {},
      cwd: "/",
      outputPaths: [],
      inputs,
      platform: { platform },
      timeoutMs: 600_000,
    };
    return {
      build: "bench",
      kind: "other",
      label,
      action: encodeAction(spec),
      whyHere: undefined,
      fresh: true,
      forget: true,
      async runHere(inner) {
        const { timeoutMs } = spec;
        const run = { argv: here, env: {}, cwd: "/", timeoutMs, outputMaxBytes: 1000 };
        return (await processes.run(run, inner)).exitCode;
      },
      commit: async () => {},
    };
  };
}

/** Makes what a node starts from now on slow: the process and those that start commands for it. */
export function makeSlow(pid: number): void {
  for (const child of childrenOf(pid)) makeSlow(child);
  setPriority(pid, getPriority() + 1);
}

function childrenOf(pid: number): readonly number[] {
  return readdirSync(`/proc/${pid}/task`).flatMap((thread) =>
    readFileSync(`/proc/${pid}/task/${thread}/children`, "utf8")
      .split(" ")
      .filter((text) => text !== "")
      .map(Number),
  );
}

export interface Makespan {
  readonly wallMs: number;
  readonly stolen: number;
}

/** Submits all at once and waits for the last; rejects when one of them fails. */
export async function makespan(
  { owner }: Pick<OpenNode, "owner">,
  tasks: readonly Task[],
  signal: AbortSignal,
): Promise<Makespan> {
  const startMs = performance.now();
  const outcomes = await Promise.all(tasks.map((task) => owner.submit(task, signal)));
  const wallMs = performance.now() - startMs;
  const failed = outcomes.find(({ exitCode }) => exitCode !== 0);
  if (failed !== undefined) throw new Error(`a task ended with exit code ${failed.exitCode}`);
  return { wallMs, stolen: outcomes.filter(({ source }) => source === "there").length };
}
