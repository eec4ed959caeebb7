/**
 * Simulated commands: a table says what each would do, and how long that takes.
 *
 * A command does its work on the host's simulated disk at the end of its time; one that is
 * killed before does nothing.
 */
import { MeshError } from "../base/errors.ts";
import type { Disk, Processes, RunResult, RunSpec, Vitals } from "../host/host.ts";
import type { Machine, Timeline } from "./time.ts";

/** What running a command would be like. */
export interface SimCommand {
  readonly durationMs: number;
  /** Its work. Defaults to success without output. */
  readonly finish?: (disk: Disk) => Promise<SimOutcome>;
}

export interface SimOutcome {
  readonly exitCode: number;
  readonly stdout?: Uint8Array;
  readonly stderr?: Uint8Array;
}

/** Undefined where there is no such command. */
export type SimCommands = (spec: RunSpec, host: string) => SimCommand | undefined;

export interface SimProcessesDeps {
  readonly timeline: Timeline;
  readonly machine: Machine;
  readonly disk: Disk;
  readonly commands: SimCommands;
  /** How many times longer everything takes here than the table says. */
  readonly slowness: () => number;
  readonly vitals: () => Vitals;
}

export interface SimProcesses extends Processes {
  /** Commands that run right now. */
  running(): number;
}

export function createSimProcesses(deps: SimProcessesDeps): SimProcesses {
  const { timeline, machine, disk, commands, slowness, vitals } = deps;
  const running = new Set<(reason: unknown) => void>();
  let closed = false;
  const stopping = (): MeshError => new MeshError("cancelled", "this node is stopping");

  return {
    running: () => running.size,
    async run(spec, signal) {
      signal.throwIfAborted();
      if (closed) throw stopping();
      const command = commands(spec, machine.name);
      if (command === undefined)
        throw new MeshError("io", `ENOENT: cannot run ${JSON.stringify(spec.argv[0])}`);
      const wallMs = Math.min(command.durationMs * slowness(), spec.timeoutMs);
      const timedOut = wallMs === spec.timeoutMs;
      const { promise: killed, reject: kill } = Promise.withResolvers<never>();
      const onAbort = (): void => kill(signal.reason);
      signal.addEventListener("abort", onAbort, { once: true });
      running.add(kill);
      try {
        await Promise.race([killed, timeline.pass(machine, wallMs, "run")]);
        if (timedOut) return toResult({ exitCode: 137 }, { wallMs, timedOut, overflow: false });
        const finishing = command.finish?.(disk) ?? Promise.resolve({ exitCode: 0 });
        const outcome = await Promise.race([killed, finishing]);
        return deliver(spec, outcome, wallMs);
      } finally {
        running.delete(kill);
        signal.removeEventListener("abort", onAbort);
      }
    },
    vitals,
    async close() {
      closed = true;
      for (const kill of running) kill(stopping());
    },
  };
}

function deliver(spec: RunSpec, outcome: SimOutcome, wallMs: number): RunResult {
  const cut = (bytes?: Uint8Array): Uint8Array | undefined =>
    bytes?.subarray(0, spec.outputMaxBytes);
  const stdout = cut(outcome.stdout);
  const stderr = cut(outcome.stderr);
  const overflow =
    stdout?.byteLength !== outcome.stdout?.byteLength ||
    stderr?.byteLength !== outcome.stderr?.byteLength;
  if (stderr !== undefined && stderr.byteLength > 0) spec.onStderr?.(stderr);
  const kept = { ...(stdout && { stdout }), ...(stderr && { stderr }) };
  const exitCode = overflow ? 137 : outcome.exitCode;
  return toResult({ exitCode, ...kept }, { wallMs, timedOut: false, overflow });
}

function toResult(
  outcome: SimOutcome,
  how: { readonly wallMs: number; readonly timedOut: boolean; readonly overflow: boolean },
): RunResult {
  return {
    exitCode: outcome.exitCode,
    signal: how.timedOut || how.overflow ? "SIGKILL" : undefined,
    timedOut: how.timedOut,
    outputOverflow: how.overflow,
    stdout: outcome.stdout ?? new Uint8Array(0),
    stderr: outcome.stderr ?? new Uint8Array(0),
    wallMs: how.wallMs,
    cpuMs: how.wallMs,
  };
}
