/**
 * The small process that starts every command.
 *
 * Starting a command copies the page tables of the process that does it: 10 ms during which a
 * node of 300 MB would do nothing else, 1 ms here. It is forked by `processes.ts`, told what to
 * run over the channel between them, and when that channel closes, however the node ended, it
 * kills what it has started and ends too. It imports nothing that it would have to load.
 *
 * A command that leaves its process group (setsid) escapes it; a sandbox with its own process
 * ids holds such a one.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { constants } from "node:os";

/** What the node asks for. */
export type Order =
  | {
      readonly order: "run";
      readonly id: number;
      readonly argv: readonly [string, ...string[]];
      readonly env: Readonly<Record<string, string>>;
      readonly cwd: string;
      readonly timeoutMs: number;
      readonly outputMaxBytes: number;
      readonly stdin: Uint8Array | undefined;
    }
  | { readonly order: "kill"; readonly id: number };

/** What it hears back: one `started`, any number of `stderr`, one `ended`; or one `refused`. */
export type Report =
  | { readonly report: "started"; readonly id: number; readonly group: number }
  | { readonly report: "stderr"; readonly id: number; readonly bytes: Uint8Array }
  | {
      readonly report: "ended";
      readonly id: number;
      readonly exitCode: number;
      readonly signal: string | undefined;
      readonly timedOut: boolean;
      readonly outputOverflow: boolean;
      readonly stdout: Uint8Array;
      readonly wallMs: number;
      readonly cpuMs: number | undefined;
    }
  | {
      readonly report: "refused";
      readonly id: number;
      readonly errno: string;
      readonly what: string;
    };

type RunOrder = Extract<Order, { order: "run" }>;

/** How long a killed group may take to vanish, before it is reported as ended all the same. */
const vanishMaxMs = 5000;
/** How long the output of a command that has ended may stay open, when its group is empty. */
const drainMaxMs = 500;
/** The longest delay that `setTimeout` takes. */
const timerMaxMs = 2 ** 31 - 1;

/** Commands that are running, by the id of their order: how to kill each. */
const running = new Map<number, () => void>();

process.on("message", (message) => {
  const order = message as Order;
  if (order.order === "run") start(order);
  else running.get(order.id)?.();
});

process.on("disconnect", () => {
  for (const kill of running.values()) kill();
  process.exit(0);
});

// A stop is for the node to carry out: it still needs this process while it does.
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(signal, () => {});

function tell(report: Report): void {
  // When the channel is closed, `disconnect` follows and nobody needs the report.
  if (process.connected) process.send?.(report, undefined, undefined, () => {});
}

function start(order: RunOrder): void {
  const [file, ...args] = order.argv;
  const refuse = (error: unknown): void => {
    const errno = error instanceof Error && "code" in error ? String(error.code) : "EINVAL";
    // The system blames the command also when it is the folder that is missing.
    const what = errno === "ENOENT" && !existsSync(order.cwd) ? order.cwd : file;
    tell({ report: "refused", id: order.id, errno, what });
  };
  let child: ChildProcess;
  try {
    child = spawn(file, args, {
      cwd: order.cwd,
      env: order.env,
      // A session and process group of its own, so that one signal reaches all of it.
      detached: true,
      stdio: [order.stdin === undefined ? "ignore" : "pipe", "pipe", "pipe"],
    });
  } catch (error) {
    refuse(error);
    return;
  }
  if (child.pid === undefined) child.once("error", refuse);
  else void watch(order, child, child.pid);
}

async function watch(order: RunOrder, child: ChildProcess, group: number): Promise<void> {
  const { id, outputMaxBytes } = order;
  const startMs = performance.now();
  let timedOut = false;
  let outputOverflow = false;

  const patience = createPatience();
  const kill = (): void => {
    signalGroup(group);
    patience.endsIn(vanishMaxMs);
  };
  const expire = (): void => {
    timedOut = true;
    kill();
  };
  const overflow = (): void => {
    outputOverflow = true;
    kill();
  };
  running.set(id, kill);
  tell({ report: "started", id, group });

  const timer = setTimeout(expire, Math.min(order.timeoutMs, timerMaxMs));
  const stdout: Uint8Array[] = [];
  keep(child.stdout, outputMaxBytes, (bytes) => stdout.push(bytes), overflow);
  keep(child.stderr, outputMaxBytes, (bytes) => tell({ report: "stderr", id, bytes }), overflow);
  // A command need not read its input: what it leaves unread is no failure.
  child.stdin?.on("error", () => {});
  child.stdin?.end(order.stdin);

  const closed = new Promise((resolve) => child.once("close", resolve));
  const exit = await Promise.race([exitOf(child), patience.ended]);
  const wallMs = performance.now() - startMs;
  clearTimeout(timer);
  // What the command left behind in its group ends with it. What has left the group may hold the
  // output open for as long as it likes, so that is not waited for in earnest.
  patience.endsIn(signalGroup(group) ? vanishMaxMs : drainMaxMs);
  await Promise.race([closed, patience.ended]);
  await untilGone(group, patience);
  patience.close();
  running.delete(id);
  child.stdout?.destroy();
  child.stderr?.destroy();
  tell({
    report: "ended",
    id,
    ...(exit ?? { exitCode: 137, signal: "SIGKILL", cpuMs: undefined }),
    timedOut,
    outputOverflow,
    stdout: Buffer.concat(stdout),
    wallMs,
  });
}

interface Exit {
  readonly exitCode: number;
  readonly signal: string | undefined;
  readonly cpuMs: number | undefined;
}

function exitOf(child: ChildProcess): Promise<Exit> {
  return new Promise((resolve) => {
    child.once("exit", (code, signal) => {
      const exitCode = code ?? 128 + (signal === null ? 0 : constants.signals[signal]);
      attributeCpu((cpuMs) => resolve({ exitCode, signal: signal ?? undefined, cpuMs }));
    });
  });
}

/** A limit on how long to wait for what was killed; the first limit set is the one that holds. */
interface Patience {
  /** Resolves to undefined when the limit is reached. */
  readonly ended: Promise<undefined>;
  isOver(): boolean;
  endsIn(durationMs: number): void;
  close(): void;
}

function createPatience(): Patience {
  const { promise, resolve } = Promise.withResolvers<undefined>();
  let timer: NodeJS.Timeout | undefined;
  let over = false;
  return {
    ended: promise,
    isOver: () => over,
    endsIn(durationMs) {
      timer ??= setTimeout(() => {
        over = true;
        resolve(undefined);
      }, durationMs);
    },
    close: () => clearTimeout(timer),
  };
}

/** Passes on at most `maxBytes`, and says so when there are more. */
function keep(
  stream: ChildProcess["stdout"],
  maxBytes: number,
  pass: (bytes: Uint8Array) => void,
  overflow: () => void,
): void {
  let roomBytes = maxBytes;
  stream?.on("error", () => {});
  stream?.on("data", (bytes: Buffer) => {
    const kept = bytes.subarray(0, roomBytes);
    const isOver = bytes.byteLength > roomBytes;
    roomBytes -= kept.byteLength;
    if (kept.byteLength > 0) pass(kept);
    if (isOver) overflow();
  });
}

/** @returns false when the group has no processes. */
function signalGroup(group: number, signal: NodeJS.Signals | 0 = "SIGKILL"): boolean {
  try {
    process.kill(-group, signal);
    return true;
  } catch (error) {
    return error instanceof Error && "code" in error && error.code === "EPERM";
  }
}

/** Waits until killed processes are gone; they take a moment, mostly to give back memory. */
async function untilGone(group: number, patience: Patience): Promise<void> {
  for (let pauseMs = 1; !patience.isOver() && isAlive(group); pauseMs = Math.min(pauseMs * 2, 50))
    await new Promise((resolve) => setTimeout(resolve, pauseMs));
}

/** The dead that nobody has waited for still count for `kill`, so ask /proc about each. */
function isAlive(group: number): boolean {
  if (!signalGroup(group, 0)) return false;
  if (process.platform !== "linux") return true;
  return readdirSync("/proc").some((name) => {
    if (!/^[0-9]+$/.test(name)) return false;
    const [state, , pgrp] = statFields(name);
    return Number(pgrp) === group && state !== "Z" && state !== "X";
  });
}

/** The fields of /proc/<pid>/stat from the third (state) on; the second may hold anything. */
function statFields(pid: string): readonly string[] {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, "latin1");
    return text.slice(text.lastIndexOf(")") + 2).split(" ");
  } catch {
    return [];
  }
}

/** User and system time of all children waited for so far, in the kernel's ticks of 10 ms. */
function childrenCpuMs(): number | undefined {
  if (process.platform !== "linux") return undefined;
  const fields = statFields("self");
  return (Number(fields[13]) + Number(fields[14])) * 10;
}

let chargedCpuMs = childrenCpuMs();
let exits: ((cpuMs: number | undefined) => void)[] = [];

/**
 * Node does not pass on what `wait4` says about one child, but the kernel adds it to our own
 * count: the growth since the last exit belongs to this one. Of exits that were noticed together
 * only the sum is known, so none of them gets a number.
 */
function attributeCpu(charge: (cpuMs: number | undefined) => void): void {
  exits.push(charge);
  if (exits.length > 1) return;
  setImmediate(() => {
    const nowMs = childrenCpuMs();
    const usedMs =
      nowMs === undefined || chargedCpuMs === undefined ? undefined : nowMs - chargedCpuMs;
    for (const give of exits) give(exits.length === 1 ? usedMs : undefined);
    exits = [];
    chargedCpuMs = nowMs;
  });
}
