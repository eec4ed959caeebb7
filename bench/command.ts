/** Commands and processes, with the time and the CPU they take. Linux only: it reads /proc. */
import { spawn } from "node:child_process";
import { readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";

/** The command line that `npm run build` made: run with `process.execPath`. */
export const program: string = resolve(import.meta.dirname, "../dist/cli/main.js");

export interface Timed {
  readonly wallMs: number;
  /** User and system time of the command and all that it waited for. */
  readonly cpuMs: number;
  readonly stdout: string;
  readonly stderr: string;
}

let count = 0;

/** Runs to the end. Rejects when it fails, or when `signal` aborts: then all of it is ended. */
export async function timed(
  argv: readonly string[],
  options: { readonly cwd: string; readonly env?: NodeJS.ProcessEnv },
  signal: AbortSignal,
): Promise<Timed> {
  signal.throwIfAborted();
  count += 1;
  const times = join(tmpdir(), `mesh-bench-times-${process.pid}-${count}`);
  // The shell's own `times` counts what it waited for, which Node does not tell of a child.
  const script = `"$@"; code=$?; times > "$TIMES"; exit $code`;
  const startMs = performance.now();
  const child = spawn("sh", ["-c", script, "sh", ...argv], {
    cwd: options.cwd,
    env: { ...process.env, NO_COLOR: "1", ...options.env, TIMES: times },
    stdio: ["ignore", "pipe", "pipe"],
    detached: true,
  });
  const stdout: Buffer[] = [];
  const stderr: Buffer[] = [];
  child.stdout.on("data", (bytes: Buffer) => stdout.push(bytes));
  child.stderr.on("data", (bytes: Buffer) => stderr.push(bytes));
  const onAbort = () => endGroup(child.pid);
  signal.addEventListener("abort", onAbort);
  try {
    const exitCode = await new Promise<number | null>((resolve, reject) => {
      child.once("error", reject);
      child.once("close", resolve);
    });
    const wallMs = performance.now() - startMs;
    signal.throwIfAborted();
    const said = {
      stdout: Buffer.concat(stdout).toString(),
      stderr: Buffer.concat(stderr).toString(),
    };
    if (exitCode !== 0) {
      throw new Error(`${argv.join(" ")}: exit ${exitCode}\n${said.stdout}${said.stderr}`);
    }
    return { wallMs, cpuMs: childrenMs(readFileSync(times, "utf8")), ...said };
  } finally {
    signal.removeEventListener("abort", onAbort);
    rmSync(times, { force: true });
  }
}

/** Ends a process group that was started with `detached`. */
export function endGroup(pid: number | undefined): void {
  if (pid === undefined) return;
  try {
    process.kill(-pid, "SIGKILL");
  } catch {
    // Gone already.
  }
}

/** The second line of `times`: user and system time of the shell's children, "0m1.230s 0m0.170s". */
function childrenMs(text: string): number {
  const parts = [...(text.split("\n")[1] ?? "").matchAll(/(\d+)m([\d.]+)s/g)];
  return parts.reduce(
    (sum, [, minutes, seconds]) => sum + (Number(minutes) * 60 + Number(seconds)) * 1000,
    0,
  );
}

/** What the kernel counts CPU time in. */
const tickMs = 10;

/**
 * User and system time so far of a process, of those that it started and of those of them that have
 * ended.
 */
export function cpuOfTreeMs(pid: number): number {
  const rows = readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .flatMap((name) => readStat(name) ?? []);
  const within = new Set([pid]);
  for (let before = 0; before < within.size; ) {
    before = within.size;
    for (const row of rows) if (within.has(row.parent)) within.add(row.pid);
  }
  return rows.reduce((sum, row) => sum + (within.has(row.pid) ? row.ticks * tickMs : 0), 0);
}

interface Stat {
  readonly pid: number;
  readonly parent: number;
  readonly ticks: number;
}

function readStat(name: string): Stat | undefined {
  try {
    const text = readFileSync(`/proc/${name}/stat`, "utf8");
    // The name in brackets may contain anything; what follows it is numbers (proc(5)).
    const fields = text.slice(text.lastIndexOf(")") + 2).split(" ");
    const ticks = fields.slice(11, 15).reduce((sum, field) => sum + Number(field), 0);
    return { pid: Number(name), parent: Number(fields[1]), ticks };
  } catch {
    return undefined;
  }
}

/** CPU time of one process by what its threads are for. */
export interface ThreadTimes {
  readonly mainMs: number;
  /** Threads of the JavaScript engine: they collect garbage and compile what runs often. */
  readonly engineMs: number;
  /** All others: those that read and write files. */
  readonly poolMs: number;
}

/** Of a Node process, to the nanosecond where `cpuOfTreeMs` knows steps of 10 ms. Without children. */
export function cpuOfThreadsMs(pid: number): ThreadTimes {
  let mainMs = 0;
  let engineMs = 0;
  let poolMs = 0;
  for (const thread of readdirSync(`/proc/${pid}/task`)) {
    const place = `/proc/${pid}/task/${thread}`;
    const ms = Number(readFileSync(`${place}/schedstat`, "utf8").split(" ")[0]) / 1e6;
    if (thread === `${pid}`) mainMs += ms;
    else if (readFileSync(`${place}/comm`, "utf8").startsWith("V8")) engineMs += ms;
    else poolMs += ms;
  }
  return { mainMs, engineMs, poolMs };
}
