/** Runs one step of a native build as if we were not there: its stdin, its streams, its exit code. */
import { type ChildProcess, spawn } from "node:child_process";
import { constants } from "node:os";
import { MeshError } from "../base/errors.ts";
import type { Display } from "./display.ts";
import { markName, processTree, type Tree } from "./process-tree.ts";
import type { Step } from "./step.ts";

export interface RunningStep {
  /** The tool's exit code, or 128 + n when signal n ended it. Rejects when it cannot be started. */
  readonly exited: Promise<number>;
  readonly tree: Tree;
}

/** What a tool left behind may hold its pipes open; its exit is what counts. */
const drainMs = 300;

export function startStep(step: Step, display: Display, mark: string): RunningStep {
  const { pipes } = display;
  display.step(step.tool);
  const [command, ...args] = step.argv;
  const child = spawn(command, args, {
    cwd: step.cwd,
    env: { ...step.env, [markName]: mark },
    stdio: ["inherit", pipes.stdout ? "pipe" : "inherit", pipes.stderr ? "pipe" : "inherit"],
  });
  child.stdout?.on("data", (bytes: Uint8Array) => display.tool("stdout", bytes));
  child.stderr?.on("data", (bytes: Uint8Array) => display.tool("stderr", bytes));
  return { exited: exitOf(child, command), tree: processTree(child.pid, mark) };
}

function exitOf(child: ChildProcess, command: string): Promise<number> {
  return new Promise((resolve, reject) => {
    child.once("error", (error: NodeJS.ErrnoException) => reject(cannotStart(command, error)));
    child.once("exit", (code, signal) => {
      const exitCode = code ?? 128 + (signal === null ? 0 : constants.signals[signal]);
      const give = () => {
        clearTimeout(timer);
        child.stdout?.destroy();
        child.stderr?.destroy();
        resolve(exitCode);
      };
      const timer = setTimeout(give, drainMs);
      child.once("close", give);
    });
  });
}

function cannotStart(command: string, error: NodeJS.ErrnoException): MeshError {
  const why =
    error.code === "ENOENT"
      ? `${command}: command not found: install it, or check PATH`
      : `cannot start ${command}: ${error.message}`;
  return new MeshError("io", why, { cause: error });
}
