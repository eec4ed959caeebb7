/** Commands of the run itself, each in a process group of its own that can be ended as a whole. */
import { spawn } from "node:child_process";
import type { CommandResult } from "../nodes.ts";

export interface CommandOptions {
  readonly cwd: string;
  readonly env?: Readonly<Record<string, string>>;
  readonly timeoutMs: number;
}

export interface Ran extends CommandResult {
  readonly timedOut: boolean;
  readonly wallMs: number;
  /** Its process group, in which nothing may be left. */
  readonly group: number | undefined;
}

const keptChars = 64 * 1024;

/** Ends with the command, its time limit or the signal; the last two kill its whole group. */
export function runCommand(
  [file, ...args]: readonly [string, ...string[]],
  { cwd, env = {}, timeoutMs }: CommandOptions,
  signal: AbortSignal,
): Promise<Ran> {
  const startedMs = performance.now();
  const child = spawn(file, args, {
    cwd,
    env: { ...process.env, NO_COLOR: "1", ...env },
    stdio: ["ignore", "pipe", "pipe"],
    detached: true,
  });
  let stdout = "";
  let stderr = "";
  let timedOut = false;
  child.stdout.on("data", (chunk: Buffer) => {
    stdout = (stdout + chunk.toString()).slice(-keptChars);
  });
  child.stderr.on("data", (chunk: Buffer) => {
    stderr = (stderr + chunk.toString()).slice(-keptChars);
  });
  const kill = (): void => killGroup(child.pid);
  const late = setTimeout(() => {
    timedOut = true;
    kill();
  }, timeoutMs);
  signal.addEventListener("abort", kill, { once: true });
  if (signal.aborted) kill();
  return new Promise((resolve) => {
    const end = (code: number | null): void => {
      clearTimeout(late);
      signal.removeEventListener("abort", kill);
      const wallMs = performance.now() - startedMs;
      resolve({ exitCode: code ?? 255, stdout, stderr, timedOut, wallMs, group: child.pid });
    };
    child.once("error", (error) => {
      stderr += error.message;
      end(255);
    });
    child.once("close", end);
  });
}

function killGroup(leader: number | undefined): void {
  if (leader === undefined) return;
  try {
    process.kill(-leader, "SIGKILL");
  } catch {
    // It has ended by itself.
  }
}
