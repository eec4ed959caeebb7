/**
 * What one compiler invocation pays for the shim: wall and CPU time of the round trip to a node
 * that answers at once, next to the least that any program costs and to a shim written in Node.
 */
import { spawn, spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { buildShim } from "../../src/compile/shim-build.ts";
import { createDisk } from "../../src/host/disk.ts";
import { createProcesses } from "../../src/host/processes.ts";
import { createRandom } from "../../src/host/random.ts";
import { atMost, type Bench, medianOf, type Row, rowOf } from "../bench.ts";

/** Repeats a command; prints its wall and CPU time in microseconds and its status, call by call. */
const timerSource = `
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
int main(int argc, char **argv) {
  int times = atoi(argv[1]);
  (void)argc;
  for (int i = 0; i < times; i++) {
    struct timespec a, b;
    struct rusage used;
    int status;
    clock_gettime(CLOCK_MONOTONIC, &a);
    pid_t pid = vfork();
    if (pid == 0) { execv(argv[2], argv + 2); _exit(99); }
    wait4(pid, &status, 0, &used);
    clock_gettime(CLOCK_MONOTONIC, &b);
    printf("%ld %ld %d\\n", (b.tv_sec - a.tv_sec) * 1000000L + (b.tv_nsec - a.tv_nsec) / 1000,
      (used.ru_utime.tv_sec + used.ru_stime.tv_sec) * 1000000L + used.ru_utime.tv_usec + used.ru_stime.tv_usec, status);
  }
}`;

const roundsDefault = 30;
const callsPerRound = 10;
const wallMaxMs = 2;
const cpuMaxMs = 1;
/** What a run in place costs more when the node wants to know its output. */
const captureMaxMs = 0.1;
const program = "/bin/true";

export const shim: Bench = {
  name: "shim",
  about: "one compiler invocation through the shim, against starting /bin/true and against Node",
  async run({ runs, signal }) {
    const cases = await measureShim(runs ?? roundsDefault, signal);
    const [first] = cases;
    const wall: Row[] = [];
    const cpu: Row[] = [];
    for (const { name, wallMs, cpuMs } of cases) {
      wall.push(rowOf(`${name}, wall`, "ms", wallMs, wall[0]));
      cpu.push(rowOf(`${name}, CPU`, "ms", cpuMs, cpu[0]));
    }
    const answered = cases.find(({ name }) => name === answeredCase) ?? first;
    const medianIn = (wanted: string, what: "wallMs" | "cpuMs"): number =>
      medianOf(cases.find(({ name }) => name === wanted)?.[what] ?? []);
    const captureCost = (what: "wallMs" | "cpuMs"): number =>
      medianIn(capturedCase, what) - medianIn(runCase, what);
    return {
      rows: [...wall, ...cpu],
      checks: [
        atMost(
          "wall time of an invocation that the node answers",
          medianOf(answered?.wallMs ?? []),
          wallMaxMs,
          "ms",
        ),
        atMost(
          "CPU time of an invocation that the node answers",
          medianOf(answered?.cpuMs ?? []),
          cpuMaxMs,
          "ms",
        ),
        atMost(
          "wall time that capturing adds to a run in place",
          captureCost("wallMs"),
          captureMaxMs,
          "ms",
        ),
        atMost(
          "CPU time that capturing adds to a run in place",
          captureCost("cpuMs"),
          captureMaxMs,
          "ms",
        ),
      ],
      notes: ["CPU time is the client's: what the node spends on an answer is not in it"],
    };
  },
};

export interface ShimCase {
  readonly name: string;
  readonly wallMs: number[];
  readonly cpuMs: number[];
}

/** The case of a compile that a peer or a cache took over. */
export const answeredCase = "C shim, answered by the node";

const runCase = `C shim, told to run ${program}`;
const capturedCase = `${runCase} and to tell its output`;

/** All cases interleaved; the first one is the least that starting any program costs. */
export async function measureShim(
  rounds: number,
  signal: AbortSignal,
): Promise<readonly ShimCase[]> {
  const folder = mkdtempSync(join(tmpdir(), "mesh-bench-shim-"));
  const processes = createProcesses();
  try {
    const path = process.env.PATH ?? "/usr/bin:/bin";
    const options = { folder, path, nodePath: process.execPath };
    const deps = { disk: createDisk(), processes, random: createRandom() };
    const built = await buildShim(deps, options, signal);
    const bare = await buildShim(deps, { ...options, path: "/none" }, signal);
    writeFileSync(join(folder, "timer.c"), timerSource);
    const timer = join(folder, "timer");
    const made = spawnSync("cc", ["-O2", "-o", timer, join(folder, "timer.c")]);
    if (made.status !== 0 || built.kind !== "c") throw new Error("this benchmark needs a cc");
    const servers = await startServers((name) => join(folder, `${name}.sock`));
    try {
      const calls = callsOf(built.program, bare.program, servers);
      for (let round = 0; round < rounds; round += 1) {
        signal.throwIfAborted();
        for (const call of calls) measure(timer, call);
      }
      return calls;
    } finally {
      servers.stop();
    }
  } finally {
    await processes.close();
    rmSync(folder, { recursive: true, force: true });
  }
}

interface Servers {
  /** Answers every invocation as if a peer had done it. */
  readonly answering: string;
  /** Tells every shim to run the compiler itself. */
  readonly running: string;
  /** As `running`, and wants to know the output. */
  readonly capturing: string;
  stop(): void;
}

interface Call extends ShimCase {
  readonly argv: readonly string[];
  readonly socket: string | undefined;
  readonly times: number;
}

function callsOf(
  cShim: string,
  nodeShim: string,
  { answering, running, capturing }: Servers,
): readonly Call[] {
  const args = [program, "-O2", "-Wall", "-Iinclude", "-c", "src/file.cc", "-o", "file.o"];
  const call = (name: string, times: number, argv: readonly string[], socket?: string): Call => {
    return { name, times, argv, socket, wallMs: [], cpuMs: [] };
  };
  return [
    call(program, callsPerRound, [program]),
    call("C shim, no node", callsPerRound, [cShim, ...args]),
    call(answeredCase, callsPerRound, [cShim, ...args], answering),
    call(runCase, callsPerRound, [cShim, ...args], running),
    call(capturedCase, callsPerRound, [cShim, ...args], capturing),
    call("node -e 0", 1, [process.execPath, "-e", "0"]),
    call("Node shim, answered by the node", 1, [nodeShim, ...args], answering),
  ];
}

function measure(timer: string, { name, argv, socket, times, wallMs, cpuMs }: Call): void {
  const env = { ...process.env, ...(socket === undefined ? {} : { MESH_SOCKET: socket }) };
  const ran = spawnSync(timer, [`${times}`, ...argv], { env, encoding: "utf8" });
  for (const line of ran.stdout.trim().split("\n")) {
    const [wallUs = 0, cpuUs = 0, status] = line.split(" ").map(Number);
    if (status !== 0) throw new Error(`${name} failed: ${ran.stderr}`);
    wallMs.push(wallUs / 1000);
    cpuMs.push(cpuUs / 1000);
  }
}

/** In a process of its own: this one is blocked while it measures. */
async function startServers(socketPath: (name: string) => string): Promise<Servers> {
  const answering = socketPath("answer");
  const running = socketPath("run");
  const capturing = socketPath("capture");
  const modules = new URL("../../src/", import.meta.url).href;
  const code = `
    const { createClock } = await import("${modules}host/clock.ts");
    const { createDisk } = await import("${modules}host/disk.ts");
    const { createShimServer } = await import("${modules}compile/shim-server.ts");
    const never = new AbortController().signal;
    const nothing = new Uint8Array(0);
    const serve = (socketPath, onInvocation) => createShimServer(
      { disk: createDisk(), clock: createClock(), onInvocation, onTrouble: console.error },
      { socketPath }, never);
    await serve(${JSON.stringify(answering)}, (_, link) => link.exit(0, nothing, nothing));
    await serve(${JSON.stringify(running)}, async (_, link) => void (await link.run([], false, never)));
    await serve(${JSON.stringify(capturing)}, async (_, link) => {
      await link.run([], true, never);
      link.release();
    });
    console.log("listening");`;
  const child = spawn(process.execPath, ["--input-type=module", "-e", code], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  await new Promise((resolve) => child.stdout.once("data", resolve));
  return { answering, running, capturing, stop: () => void child.kill("SIGKILL") };
}
