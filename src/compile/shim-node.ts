/**
 * `mesh-shim` for machines without a C compiler: the same protocol (protocols/shim.md) and the
 * same rule, that whatever goes wrong ends in the real compiler.
 *
 * A program of its own, started by a two-line script as `node shim-node NAME ARGUMENTS...`, so it
 * uses Node directly. It differs from shim.c in that it costs 25 ms a call, cannot become the
 * compiler but only start it, and does not limit how many compile by themselves (`MESH_SLOTS`).
 */
import { type ChildProcess, type StdioOptions, spawn } from "node:child_process";
import {
  constants as access,
  accessSync,
  existsSync,
  realpathSync,
  statSync,
  writeSync,
} from "node:fs";
import { connect, type Socket } from "node:net";
import { constants } from "node:os";
import { basename, isAbsolute, join } from "node:path";
import { isatty } from "node:tty";
import { captureMaxBytes, type ShimOutput } from "./shim-protocol.ts";
import { encodeDone, encodeRequest, pingFrame, type Reply, readReplies } from "./shim-replies.ts";

const silenceMs = 5000;
const freeMaxMs = 10_000;
/** After the compiler's end: how long its pipes must be quiet, and how often they are looked at. */
const quietMs = 50;
const quietLooksMax = 20;
/** What the build has seen already, by file descriptor. */
const shown = { 1: Buffer.alloc(0), 2: Buffer.alloc(0) };

/** Ends the wait for FREE. */
let onFree: (() => void) | undefined;

const [, , calledAs = "mesh-shim", ...given] = process.argv;
const isLauncher = basename(calledAs) === "mesh-shim";
const wanted = isLauncher ? (given[0] ?? "") : basename(calledAs);
const args = isLauncher ? given.slice(1) : given;
const self = realPathOf(calledAs);

if (wanted === "") {
  process.stderr.write("usage: mesh-shim COMPILER ARGUMENTS...\n");
  process.exit(2);
}
if (wanted === "--mesh-shim-version") {
  process.stdout.write("mesh-shim 2 (node)\n");
  process.exit(0);
}
const compiler = findCompiler(wanted);
const socketPath = process.env.MESH_SOCKET ?? "";
if (socketPath === "" || process.env.MESH_INSIDE === "1") runAlone();
else askNode(socketPath);

function realPathOf(path: string): string | undefined {
  try {
    return realpathSync(path);
  } catch {
    return undefined;
  }
}

function isProgram(path: string): boolean {
  try {
    accessSync(path, access.X_OK);
    return statSync(path).isFile();
  } catch {
    return false;
  }
}

function findCompiler(name: string): string {
  if (name.includes("/") && (self === undefined || realPathOf(name) !== self)) return name;
  for (const folder of (process.env.PATH ?? "/bin:/usr/bin").split(":")) {
    const candidate = join(folder === "" ? "." : folder, basename(name));
    if (existsSync(join(folder === "" ? "." : folder, ".mesh-shim"))) continue;
    if (isProgram(candidate) && realPathOf(candidate) !== self) {
      return isAbsolute(candidate) ? candidate : `./${candidate}`;
    }
  }
  process.stderr.write(`mesh-shim: ${name}: command not found\n`);
  process.exit(127);
}

/** Jobserver descriptors: Node closes what it does not know, but make counts on them. */
function jobserverFds(): readonly number[] {
  const flags = `${process.env.MAKEFLAGS ?? ""} ${process.env.CARGO_MAKEFLAGS ?? ""}`;
  const found = [...flags.matchAll(/--jobserver-(?:auth|fds)=(\d+),(\d+)/g)];
  const open = found.flatMap(([, read, write]) => [Number(read), Number(write)]);
  return open.filter((fd) => fd > 2 && fd < 1024 && existsSync(`/dev/fd/${fd}`));
}

/** How a compiler ended. */
interface Ended {
  readonly code: number;
  readonly signal: NodeJS.Signals | null;
  readonly output: ShimOutput | undefined;
}

/** Starts the real compiler. */
function runCompiler(
  extraArgs: readonly string[],
  capture: boolean,
  onEnd: (ended: Ended) => void,
): ChildProcess {
  const streams = ([1, 2] as const).map((fd) =>
    capture || shown[fd].byteLength > 0 ? "pipe" : "inherit",
  );
  const stdio: StdioOptions = ["inherit", ...streams];
  for (const fd of jobserverFds()) {
    while (stdio.length <= fd) stdio.push("ignore");
    stdio[fd] = fd;
  }
  const env = { ...process.env, MESH_INSIDE: "1" };
  let child: ChildProcess | undefined;
  // Before the start: a signal may come as soon as the compiler is there. The terminal sends its
  // own to both of us, and the compiler decides what they mean.
  for (const signal of ["SIGINT", "SIGQUIT"] as const) process.on(signal, () => onFree?.());
  for (const signal of ["SIGTERM", "SIGHUP"] as const) {
    process.on(signal, () => (onFree === undefined ? child?.kill(signal) : onFree()));
  }
  child = spawn(compiler, [...extraArgs, ...args], { stdio, env, argv0: compiler });
  const relays = [relay(child, 1), relay(child, 2)] as const;
  child.on("error", (error: NodeJS.ErrnoException) => {
    const missing = error.code === "ENOENT";
    const text = missing ? "command not found" : error.message;
    process.stderr.write(`mesh-shim: ${compiler}: ${text}\n`);
    process.exit(missing ? 127 : 126);
  });
  onEndOf(child, relays, (code, signal, whole) => {
    const [stdout, stderr] = relays.map((each) => each.captured());
    const told = capture && whole && signal === null;
    const output = told && stdout && stderr ? { stdout, stderr } : undefined;
    const fits = output && output.stdout.byteLength + output.stderr.byteLength <= captureMaxBytes;
    onEnd({ code, signal, output: fits ? output : undefined });
  });
  return child;
}

/** The end of a compiler. A process that it left in the background, with its pipes, is not waited for. */
function onEndOf(
  child: ChildProcess,
  relays: readonly Relay[],
  listener: (code: number, signal: NodeJS.Signals | null, whole: boolean) => void,
): void {
  let looks = 0;
  let timer: NodeJS.Timeout | undefined;
  const finish = (whole: boolean): void => {
    clearInterval(timer);
    child.removeAllListeners("close");
    listener(child.exitCode ?? 128, child.signalCode, whole);
  };
  child.on("close", () => finish(true));
  child.on("exit", () => {
    let before = -1;
    timer = setInterval(() => {
      // After what has arrived by now has been read.
      setImmediate(() => {
        const now = relays.reduce((sum, { readBytes }) => sum + readBytes(), 0);
        looks += 1;
        if (child.listenerCount("close") > 0 && (now === before || looks > quietLooksMax)) {
          finish(false);
        }
        before = now;
      });
    }, quietMs);
  });
}

interface Relay {
  /** Undefined when it was too much, or the build did not take it. */
  captured(): Uint8Array | undefined;
  readBytes(): number;
}

/** Passes on a local run's output, less what the build has seen already, and keeps a copy. */
function relay(child: ChildProcess, fd: 1 | 2): Relay {
  let before = shown[fd];
  let matched = 0;
  let readBytes = 0;
  let kept: Buffer[] | undefined = [];
  child.stdio[fd]?.on("data", (chunk: Buffer) => {
    const same = Math.min(chunk.byteLength, before.byteLength - matched);
    let printed: boolean;
    if (chunk.subarray(0, same).equals(before.subarray(matched, matched + same))) {
      matched += same;
      printed = print(fd, chunk.subarray(same));
    } else {
      printed = print(fd, before.subarray(0, matched)) && print(fd, chunk);
      before = Buffer.alloc(0);
      matched = 0;
    }
    readBytes += chunk.byteLength;
    if (!printed || readBytes > captureMaxBytes) kept = undefined;
    kept?.push(chunk);
  });
  return {
    captured: () => (kept === undefined ? undefined : Buffer.concat(kept)),
    readBytes: () => readBytes,
  };
}

/** False when the stream does not take it. */
function print(fd: 1 | 2, bytes: Uint8Array): boolean {
  let rest = bytes;
  while (rest.byteLength > 0) {
    try {
      rest = rest.subarray(writeSync(fd, rest));
    } catch (error) {
      const code = error instanceof Error && "code" in error ? error.code : undefined;
      if (code !== "EAGAIN") return false;
    }
  }
  return true;
}

function endLike(code: number, signal: NodeJS.Signals | null): void {
  if (signal === null) process.exit(code);
  process.removeAllListeners(signal);
  process.kill(process.pid, signal);
}

function runAlone(): void {
  runCompiler([], false, ({ code, signal }) => endLike(code, signal));
}

function askNode(path: string): void {
  const request = requestBytes();
  if (request === undefined) {
    runAlone();
    return;
  }
  const socket = connect(path);
  let child: ChildProcess | undefined;
  let given: Buffer = Buffer.alloc(0);
  let asked = false;
  const giveUp = (): void => {
    socket.removeAllListeners();
    socket.on("error", () => {});
    socket.destroy();
    if (child === undefined) runAlone();
  };
  socket.on("error", giveUp);
  socket.on("close", giveUp);
  socket.setTimeout(silenceMs);
  socket.on("timeout", () => {
    if (child !== undefined) return;
    if (asked) giveUp();
    else socket.write(pingFrame);
    asked = true;
  });
  socket.on("data", (bytes) => {
    asked = false;
    const { replies, rest, bad } = readReplies(Buffer.concat([given, bytes]));
    given = Buffer.from(rest);
    for (const reply of replies) child = obey(reply, socket, child);
    if (bad) giveUp();
  });
  socket.write(request);
}

function requestBytes(): Uint8Array | undefined {
  try {
    const cwd = process.cwd();
    return encodeRequest({
      pid: process.pid,
      umask: process.umask(),
      stderrIsTty: isatty(2),
      wantsColour: process.env.MESH_COLOR === "1",
      build: process.env.MESH_BUILD ?? "",
      cwd,
      compiler: isAbsolute(compiler) ? compiler : `${cwd}/${compiler}`,
      args,
      env: Object.entries(process.env).map(([name, value]) => `${name}=${value}`),
    });
  } catch {
    return undefined; // the working directory is gone: let the compiler complain
  }
}

function obey(
  reply: Reply,
  socket: Socket,
  running: ChildProcess | undefined,
): ChildProcess | undefined {
  if (reply.type === "exit") {
    print(1, reply.stdout);
    print(2, reply.stderr);
    process.exit(reply.code);
  } else if (reply.type === "write") {
    print(reply.fd, reply.bytes);
    shown[reply.fd] = Buffer.concat([shown[reply.fd], reply.bytes]);
  } else if (reply.type === "stop") {
    running?.kill(reply.signalNumber);
  } else if (reply.type === "run" && running === undefined) {
    const start = process.hrtime.bigint();
    return runCompiler(reply.extraArgs, reply.capture, ({ code, signal, output }) => {
      const wallMs = Number((process.hrtime.bigint() - start) / 1_000_000n);
      const exitCode = signal === null ? code : 128 + constants.signals[signal];
      const waits = output !== undefined && code === 0;
      const done = encodeDone({ exitCode, wallMs, cpuMs: 0, output }, waits);
      const end = (): void => endLike(code, signal);
      for (const event of ["close", "timeout", "error"]) socket.removeAllListeners(event);
      socket.on("error", () => {});
      socket.on("close", end);
      if (waits) {
        onFree = end;
        setTimeout(end, freeMaxMs);
        socket.write(done);
      } else socket.end(done, end);
    });
  } else if (reply.type === "free") {
    onFree?.();
  }
  return running;
}
