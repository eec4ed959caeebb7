/**
 * Commands: runs them through the spawner process and reports how they ended.
 *
 * It knows nothing about sandboxes or what a command is for. Whatever happens to this process,
 * the spawner ends what is running; whatever happens to the spawner, this ends what is running
 * and the next run starts a new one. Only if both are killed in the same instant can a command
 * without a sandbox outlive them.
 */
import { type ChildProcess, fork } from "node:child_process";
import { fileURLToPath } from "node:url";
import { concatBytes } from "../base/bytes.ts";
import { MeshError } from "../base/errors.ts";
import type { Processes, RunResult, RunSpec } from "./host.ts";
import type { Order, Report } from "./spawner.ts";
import { readVitals } from "./vitals.ts";

export interface ProcessesOptions {
  /** Commands at once; one more is refused with code "limit". */
  readonly runMax: number;
  /**
   * Starts the spawner at once rather than for the first command. Right for a node, whose first
   * command would otherwise wait 50 ms; wrong for a program that may run none.
   */
  readonly startNow: boolean;
}

/** One command as this side sees it. */
interface Run {
  readonly hear: (report: Report) => void;
  readonly lose: (error: MeshError) => void;
}

interface Spawner {
  readonly child: ChildProcess;
  readonly runs: Map<number, Run>;
  readonly exited: Promise<void>;
}

/** How long the spawner may take to end by itself at `close`. */
const closeMaxMs = 2000;

export function createProcesses(
  options: ProcessesOptions = { runMax: 1024, startNow: false },
): Processes {
  let spawner: Spawner | undefined;
  let closed = false;
  let lastId = 0;

  function ensureSpawner(): Spawner {
    if (spawner !== undefined) return spawner;
    const started = startSpawner((how) => {
      if (spawner === started) spawner = undefined;
      return closed
        ? stopping()
        : new MeshError("io", `EPIPE: the process that starts commands is gone (${how})`);
    });
    spawner = started;
    return started;
  }

  if (options.startNow) ensureSpawner();

  return {
    async run(spec, signal) {
      signal.throwIfAborted();
      if (closed) throw stopping();
      const { child, runs } = ensureSpawner();
      if (runs.size >= options.runMax)
        throw new MeshError("limit", `${runs.size} commands are running: wait for one to end`);
      const id = ++lastId;
      try {
        return await new Promise<RunResult>((resolve, reject) => {
          runs.set(id, follow(spec, signal, { id, child, resolve, reject }));
          setAwake(child, true);
        });
      } finally {
        runs.delete(id);
        if (runs.size === 0) setAwake(child, false);
      }
    },

    vitals: readVitals,

    async close() {
      closed = true;
      if (spawner === undefined) return;
      const { child, exited } = spawner;
      setAwake(child, true);
      if (child.connected) child.disconnect();
      const impatient = setTimeout(() => child.kill("SIGKILL"), closeMaxMs);
      await exited;
      clearTimeout(impatient);
    },
  };
}

function stopping(): MeshError {
  return new MeshError("cancelled", "this node is stopping: no command runs any more");
}

/** While nothing runs, the spawner must not keep the program alive. */
function setAwake(child: ChildProcess, awake: boolean): void {
  if (awake) {
    child.ref();
    child.channel?.ref();
  } else {
    child.unref();
    child.channel?.unref();
  }
}

/** `onGone` says what the commands that were running are told. */
function startSpawner(onGone: (how: string) => MeshError): Spawner {
  const runs = new Map<number, Run>();
  // Compiled or not, the spawner lies beside this file and has the same ending.
  const path = fileURLToPath(
    new URL(import.meta.url.endsWith(".ts") ? "spawner.ts" : "spawner.js", import.meta.url),
  );
  const { NODE_OPTIONS: _, ...env } = process.env;
  const child = fork(path, [], {
    env,
    // Debuggers, loaders and memory limits of this process are not for the spawner.
    execArgv: [],
    serialization: "advanced",
    // Out of the terminal's process group: Ctrl-C is for the node to handle.
    detached: true,
    // None of ours, so that no pipe of the user's stays open on its account.
    stdio: ["ignore", "ignore", "ignore", "ipc"],
  });
  setAwake(child, false);
  // Only our own spawner is at the other end.
  child.on("message", (message) => {
    const report = message as Report;
    runs.get(report.id)?.hear(report);
  });
  const exited = new Promise<void>((resolve) => {
    const gone = (how: string): void => {
      const error = onGone(how);
      for (const run of runs.values()) run.lose(error);
      resolve();
    };
    child.once("exit", (code, signal) => gone(signal ?? `exit code ${code}`));
    child.once("error", (error) => gone(error.message));
  });
  return { child, runs, exited };
}

interface Settling {
  readonly id: number;
  readonly child: ChildProcess;
  readonly resolve: (result: RunResult) => void;
  readonly reject: (reason: unknown) => void;
}

/** Sends the order and carries what is reported about it to the caller. */
function follow(spec: RunSpec, signal: AbortSignal, settling: Settling): Run {
  const { id, child, resolve, reject } = settling;
  const stderr: Uint8Array[] = [];
  let group: number | undefined;
  // A closed channel is noticed by the exit of the spawner, which settles every run.
  const send = (order: Order): void => void (child.connected && child.send(order, () => {}));
  const onAbort = (): void => send({ order: "kill", id });
  const release = (): void => signal.removeEventListener("abort", onAbort);

  signal.addEventListener("abort", onAbort, { once: true });
  const { argv, env, cwd, timeoutMs, outputMaxBytes, stdin } = spec;
  send({ order: "run", id, argv, env, cwd, timeoutMs, outputMaxBytes, stdin });

  return {
    hear(report) {
      switch (report.report) {
        case "started":
          group = report.group;
          return;
        case "stderr": {
          // Copied: what the channel gives is a window on a larger piece of memory.
          const bytes = new Uint8Array(report.bytes);
          stderr.push(bytes);
          spec.onStderr?.(bytes);
          return;
        }
        case "refused":
          release();
          reject(
            signal.aborted
              ? signal.reason
              : new MeshError("io", `${report.errno}: cannot run ${JSON.stringify(report.what)}`),
          );
          return;
        case "ended": {
          release();
          if (signal.aborted) reject(signal.reason);
          else resolve(toResult(report, concatBytes(stderr)));
        }
      }
    },
    lose(error) {
      release();
      // Nobody is left to do it: the group lives on without the spawner.
      if (group !== undefined) killGroup(group);
      reject(signal.aborted ? signal.reason : error);
    },
  };
}

function toResult(ended: Extract<Report, { report: "ended" }>, stderr: Uint8Array): RunResult {
  const { exitCode, signal, timedOut, outputOverflow, stdout, wallMs, cpuMs } = ended;
  return {
    exitCode,
    signal,
    timedOut,
    outputOverflow,
    stdout: new Uint8Array(stdout),
    stderr,
    wallMs,
    cpuMs,
  };
}

function killGroup(group: number): void {
  try {
    process.kill(-group, "SIGKILL");
  } catch {
    // ESRCH: it ended by itself.
  }
}
