/**
 * What one compiler invocation pays for the shim: wall and CPU time of the round trip to a node
 * that answers at once, next to the least that any program costs and to a shim written in Node.
 *
 * All cases are interleaved in one run, so that whatever else the machine does hits all of them.
 * Prints JSON. Usage: node bench/micro/shim.ts [ROUNDS]
 */
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { buildShim } from "../../src/compile/shim-build.ts";
import { createDisk } from "../../src/host/disk.ts";
import { createProcesses } from "../../src/host/processes.ts";
import { createRandom } from "../../src/host/random.ts";

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

const rounds = Number(process.argv[2] ?? 30);
const callsPerRound = 10;
const folder = mkdtempSync(join(tmpdir(), "mesh-bench-shim-"));
const processes = createProcesses();
try {
  const path = process.env.PATH ?? "/usr/bin:/bin";
  const options = { folder, path, nodePath: process.execPath };
  const deps = { disk: createDisk(), processes, random: createRandom() };
  const shim = await buildShim(deps, options, new AbortController().signal);
  const bare = await buildShim(deps, { ...options, path: "/none" }, new AbortController().signal);
  writeFileSync(join(folder, "timer.c"), timerSource);
  const timer = join(folder, "timer");
  const made = spawnSync("cc", ["-O2", "-o", timer, join(folder, "timer.c")]);
  if (made.status !== 0 || shim.kind !== "c") throw new Error("this benchmark needs a cc");
  console.log(JSON.stringify(await measure(timer, shim.program, bare.program), undefined, 2));
} finally {
  await processes.close();
  rmSync(folder, { recursive: true, force: true });
}

async function measure(timer: string, shim: string, nodeShim: string): Promise<unknown> {
  const answering = join(folder, "answer.sock");
  const running = join(folder, "run.sock");
  const servers = await startServers(answering, running);
  try {
    const args = ["/bin/true", "-O2", "-Wall", "-Iinclude", "-c", "src/file.cc", "-o", "file.o"];
    const cases: Record<string, { argv: string[]; env: Record<string, string>; calls: number }> = {
      "/bin/true": { argv: ["/bin/true"], env: {}, calls: callsPerRound },
      "shim, no mesh": { argv: [shim, ...args], env: {}, calls: callsPerRound },
      "shim, answered by the node": {
        argv: [shim, ...args],
        env: { MESH_SOCKET: answering },
        calls: callsPerRound,
      },
      "shim, told to run /bin/true": {
        argv: [shim, ...args],
        env: { MESH_SOCKET: running },
        calls: callsPerRound,
      },
      "node -e 0": { argv: [process.execPath, "-e", "0"], env: {}, calls: 1 },
      "Node shim, answered by the node": {
        argv: [nodeShim, ...args],
        env: { MESH_SOCKET: answering },
        calls: 1,
      },
    };
    const samples = new Map<string, { wallUs: number; cpuUs: number }[]>();
    for (let round = 0; round < rounds; round += 1) {
      for (const [name, { argv, env, calls }] of Object.entries(cases)) {
        const all = { ...process.env, ...env };
        const ran = spawnSync(timer, [`${calls}`, ...argv], { env: all, encoding: "utf8" });
        for (const line of ran.stdout.trim().split("\n")) {
          const [wallUs = 0, cpuUs = 0, status] = line.split(" ").map(Number);
          if (status !== 0) throw new Error(`${name} failed: ${ran.stderr}`);
          const list = samples.get(name) ?? [];
          list.push({ wallUs, cpuUs });
          samples.set(name, list);
        }
      }
    }
    return Object.fromEntries(
      [...samples].map(([name, list]) => [
        name,
        {
          wallMs: median(list.map(({ wallUs }) => wallUs)) / 1000,
          cpuMs: median(list.map(({ cpuUs }) => cpuUs)) / 1000,
          calls: list.length,
        },
      ]),
    );
  } finally {
    servers.stop();
  }
}

/** In a process of its own: this one is blocked while it measures. */
async function startServers(answering: string, running: string): Promise<{ stop(): void }> {
  const { spawn } = await import("node:child_process");
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
    await serve(${JSON.stringify(running)}, async (_, link) => void (await link.run([], never)));
    console.log("listening");`;
  const child = spawn(process.execPath, ["--input-type=module", "-e", code], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  await new Promise((resolve) => child.stdout.once("data", resolve));
  return { stop: () => void child.kill("SIGKILL") };
}

function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)] ?? 0;
}
