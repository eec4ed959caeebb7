/** The peers of the cache benchmarks, and a timer for commands that take a few milliseconds. */
import { type ChildProcess, execFileSync, spawn, spawnSync } from "node:child_process";
import { accessSync, constants, mkdirSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { delimiter, join } from "node:path";
import { until, type World } from "../../chaos-tests/live/nodes.ts";
import { cpuOfTreeMs, program, timed } from "../command.ts";

/** Time stamps younger than this are trusted by no cache. */
const settleMs = 2500;

/** Waits until files that were just written can be told from files that change again. */
export function settled(): Promise<void> {
  return new Promise((wake) => setTimeout(wake, settleMs));
}

/** Undefined: it is not installed. */
export function findProgram(name: string): string | undefined {
  for (const folder of (process.env.PATH ?? "").split(delimiter)) {
    const path = join(folder, name);
    try {
      accessSync(path, constants.X_OK);
      return path;
    } catch {
      // Elsewhere, or nowhere.
    }
  }
  return undefined;
}

export interface Sample {
  readonly wallMs: number;
  /** Of all processes, servers included. */
  readonly cpuMs: number;
}

/** Times a command, and counts what servers of these process ids did for it. */
export async function sampled(
  argv: readonly string[],
  where: { readonly cwd: string; readonly env?: NodeJS.ProcessEnv },
  servers: readonly (number | undefined)[],
  signal: AbortSignal,
): Promise<Sample> {
  const total = () => servers.reduce<number>((sum, pid) => sum + cpuOfTreeMs(pid ?? 0), 0);
  const before = servers.length === 0 ? 0 : total();
  const { wallMs, cpuMs } = await timed(argv, where, signal);
  return { wallMs, cpuMs: cpuMs + (servers.length === 0 ? 0 : total() - before) };
}

export interface Sccache {
  readonly env: Readonly<Record<string, string>>;
  readonly pid: number | undefined;
  stop(): Promise<void>;
}

/** A server of its own, in the foreground; undefined when it is not installed. */
export async function startSccache(
  folder: string,
  signal: AbortSignal,
): Promise<Sccache | undefined> {
  const path = findProgram("sccache");
  if (path === undefined) return undefined;
  const env = {
    SCCACHE_DIR: join(folder, "sccache"),
    SCCACHE_SERVER_PORT: `${await freePort()}`,
    SCCACHE_IDLE_TIMEOUT: "0",
  };
  mkdirSync(env.SCCACHE_DIR, { recursive: true });
  const child = spawn(path, [], {
    cwd: folder,
    env: { ...process.env, ...env, SCCACHE_START_SERVER: "1", SCCACHE_NO_DAEMON: "1" },
    stdio: "ignore",
  });
  const stop = () => ended(child);
  try {
    await timed([path, "--show-stats"], { cwd: folder, env }, signal);
  } catch (error) {
    await stop();
    throw error;
  }
  return { env, pid: child.pid, stop };
}

async function ended(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const exited = new Promise<void>((done) => child.once("exit", () => done()));
  child.kill("SIGTERM");
  await exited;
}

function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once("error", reject);
    server.listen(0, "127.0.0.1", () => {
      const address = server.address();
      const port = typeof address === "object" && address !== null ? address.port : 0;
      server.close(() => resolve(port));
    });
  });
}

/** A node as a person starts it: telling every event to a script would cost it CPU time. */
export interface QuietNode {
  readonly dataDir: string;
  readonly pid: number | undefined;
  stop(): Promise<void>;
}

/** Resolves when it answers. `invite`: it joins, and waits for `peers` others. */
export async function startQuietNode(
  world: World,
  name: string,
  slots: number,
  joins: { readonly invite: string; readonly peers: number } | undefined,
): Promise<QuietNode> {
  const dataDir = join(world.folder, name);
  const place = ["--data-dir", dataDir, "--listen", "/ip4/127.0.0.1/tcp/0", "--no-mdns"];
  const invite = joins === undefined ? [] : [joins.invite];
  const child = spawn(
    process.execPath,
    [program, "join", ...invite, ...place, "--slots", `${slots}`],
    { stdio: "ignore" },
  );
  const node = { dataDir, pid: child.pid, stop: () => ended(child) };
  try {
    await until("a node answers", async () => {
      const { exitCode, stdout } = await world.mesh(dataDir, ["status", "--json"]);
      if (exitCode !== 0) return false;
      return (JSON.parse(stdout) as { peers: unknown[] }).peers.length === (joins?.peers ?? 0);
    });
  } catch (error) {
    await node.stop();
    throw error;
  }
  return node;
}

/** What a build tool under a node would call as `compiler`, and with which environment. */
export interface Shimmed {
  readonly shim: string;
  readonly env: Readonly<Record<string, string>>;
}

/** Asks a running node by way of a command that it wraps. */
export function shimOf({ dataDir }: QuietNode, compiler: string, cwd: string): Shimmed {
  const script = `printf '%s\\n%s\\n' "$MESH_SOCKET" "$(command -v ${compiler})"`;
  const said = execFileSync(process.execPath, [program, "exec", "--", "sh", "-c", script], {
    cwd,
    env: { ...process.env, MESH_DIR: dataDir },
    encoding: "utf8",
    stdio: ["ignore", "pipe", "ignore"],
  });
  const [socket = "", shim = ""] = said.trim().split("\n");
  if (!shim.startsWith("/")) throw new Error(`no shim for ${compiler}: ${said}`);
  return { shim, env: { MESH_SOCKET: socket } };
}

/** Runs commands one after the other, all of them `rounds` times; prints a line for each run. */
const timerSource = `
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
int main(int argc, char **argv) {
  char **commands[4096];
  int rounds = atoi(argv[1]), count = 0;
  for (int i = 2; i < argc && count < 4096; i++) {
    if (strcmp(argv[i], "--") != 0) continue;
    argv[i] = NULL;
    commands[count++] = argv + i + 1;
  }
  for (int round = 0; round < rounds; round++) {
    for (int i = 0; i < count; i++) {
      struct timespec a, b;
      struct rusage used;
      int status;
      clock_gettime(CLOCK_MONOTONIC, &a);
      pid_t pid = vfork();
      if (pid == 0) { execv(commands[i][0], commands[i]); _exit(99); }
      wait4(pid, &status, 0, &used);
      clock_gettime(CLOCK_MONOTONIC, &b);
      printf("%d %ld %ld %d\\n", i, (b.tv_sec - a.tv_sec) * 1000000L + (b.tv_nsec - a.tv_nsec) / 1000,
        (used.ru_utime.tv_sec + used.ru_stime.tv_sec) * 1000000L + used.ru_utime.tv_usec + used.ru_stime.tv_usec, status);
    }
  }
}`;

export interface Timer {
  /** Wall and CPU time of each command's every run; the CPU time is the client's alone. */
  run(
    commands: readonly (readonly string[])[],
    rounds: number,
    where: { readonly cwd: string; readonly env: Readonly<Record<string, string>> },
  ): readonly (readonly Sample[])[];
}

/** Builds the timer: a shell between the commands would take as long as they do. */
export function buildTimer(folder: string): Timer {
  const source = join(folder, "timer.c");
  const path = join(folder, "timer");
  writeFileSync(source, timerSource);
  const made = spawnSync("cc", ["-D_GNU_SOURCE", "-O2", "-o", path, source]);
  if (made.status !== 0) throw new Error(`this benchmark needs a cc: ${made.stderr}`);
  return {
    run(commands, rounds, { cwd, env }) {
      const samples: Sample[][] = commands.map(() => []);
      const argv = [`${rounds}`, ...commands.flatMap((command) => ["--", ...command])];
      const ran = spawnSync(path, argv, {
        cwd,
        env: { ...process.env, ...env },
        encoding: "utf8",
        maxBuffer: 64 * 1024 * 1024,
      });
      for (const line of ran.stdout.trim().split("\n")) {
        const [at = -1, wallUs = 0, cpuUs = 0, status] = line.split(" ").map(Number);
        if (status !== 0) throw new Error(`${commands[at]?.join(" ")} failed: ${ran.stderr}`);
        samples[at]?.push({ wallMs: wallUs / 1000, cpuMs: cpuUs / 1000 });
      }
      return samples;
    },
  };
}
