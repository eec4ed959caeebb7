/**
 * A folder with a shim, a server for it and stand-in compilers, for the tests of the shim.
 */
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import {
  chmodSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll } from "vitest";
import { createClock } from "../host/clock.ts";
import { createDisk } from "../host/disk.ts";
import { createShimServer, type ShimServer, type ShimServerDeps } from "./shim-server.ts";

export interface Ended {
  readonly code: number | null;
  readonly signal: string | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface Running {
  readonly child: ChildProcess;
  readonly ended: Promise<Ended>;
}

export interface World {
  readonly folder: string;
  readonly socketPath: string;
  /** The launcher. */
  readonly shim: string;
  /** Folder of symlinks named like compilers. */
  readonly masquerade: string;
  /** Folder of the stand-in compilers; last in the PATH. */
  readonly real: string;
  /** What the server complained of. */
  readonly troubles: string[];
  /** Environment in which the shim finds the server and `real`. */
  readonly env: Readonly<Record<string, string>>;
  /** Makes a stand-in compiler out of a shell script. */
  compiler(name: string, script: string): string;
  serve(onInvocation: ShimServerDeps["onInvocation"]): Promise<ShimServer>;
  start(argv: readonly [string, ...string[]], options?: StartOptions): Running;
  run(argv: readonly [string, ...string[]], options?: StartOptions): Promise<Ended>;
  close(): Promise<void>;
}

export interface StartOptions {
  readonly env?: Readonly<Record<string, string>>;
  readonly cwd?: string;
}

export const hasCc: boolean = spawnSync("cc", ["--version"]).status === 0;
if (!hasCc) console.warn("tests of the C shim are skipped: there is no cc");

const here = (name: string): string => fileURLToPath(new URL(name, import.meta.url));
let built: string | undefined;
afterAll(() => {
  if (built !== undefined) rmSync(dirname(built), { recursive: true, force: true });
});

/** Builds once for all tests of a file, with every warning an error. */
function builtShim(): string {
  if (built !== undefined) return built;
  const folder = mkdtempSync(join(tmpdir(), "mesh-shim-build-"));
  const program = join(folder, "mesh-shim");
  const flags = ["-std=c99", "-O2", "-Wall", "-Wextra", "-Wpedantic", "-Werror"];
  const made = spawnSync("cc", [...flags, "-o", program, here("./shim.c")], { encoding: "utf8" });
  if (made.status !== 0) throw new Error(made.stderr);
  built = program;
  return program;
}

function install(kind: "c" | "node", folder: string): string {
  const shim = join(folder, "mesh-shim");
  if (kind === "c") {
    copyFileSync(builtShim(), shim);
  } else {
    const code = here("./shim-node.ts");
    writeFileSync(shim, `#!/bin/sh\nexec '${process.execPath}' '${code}' "$0" "$@"\n`);
  }
  chmodSync(shim, 0o755);
  return shim;
}

export function createWorld(kind: "c" | "node"): World {
  const folder = mkdtempSync(join(tmpdir(), "mesh-shim-"));
  const socketPath = join(folder, "sock");
  const masquerade = join(folder, "bin");
  const real = join(folder, "real");
  mkdirSync(masquerade);
  mkdirSync(real);
  const shim = install(kind, folder);
  for (const name of ["gcc", "c++"]) symlinkSync("../mesh-shim", join(masquerade, name));
  writeFileSync(join(masquerade, ".mesh-shim"), "");
  const troubles: string[] = [];
  const running = new Set<ChildProcess>();
  const servers: ShimServer[] = [];
  const env = {
    PATH: `${masquerade}:${real}:/usr/bin:/bin`,
    MESH_SOCKET: socketPath,
    MESH_BUILD: "b1",
  };

  function start(
    [program, ...args]: readonly [string, ...string[]],
    { env: own = env, cwd = folder }: StartOptions = {},
  ): Running {
    const child = spawn(program, args, { env: own, cwd, stdio: ["ignore", "pipe", "pipe"] });
    running.add(child);
    const ended = new Promise<Ended>((resolve, reject) => {
      const stdout: Buffer[] = [];
      const stderr: Buffer[] = [];
      child.stdout.on("data", (bytes: Buffer) => stdout.push(bytes));
      child.stderr.on("data", (bytes: Buffer) => stderr.push(bytes));
      child.on("error", reject);
      child.on("exit", () => running.delete(child));
      child.on("close", (code, signal) => {
        const text = (all: Buffer[]): string => Buffer.concat(all).toString();
        resolve({ code, signal, stdout: text(stdout), stderr: text(stderr) });
      });
    });
    return { child, ended };
  }

  return {
    folder,
    socketPath,
    shim,
    masquerade,
    real,
    troubles,
    env,
    compiler(name, script) {
      const path = join(real, name);
      writeFileSync(path, `#!/bin/sh\n${script}\n`);
      chmodSync(path, 0o755);
      return path;
    },
    async serve(onInvocation) {
      const deps = {
        disk: createDisk(),
        clock: createClock(),
        onInvocation,
        onTrouble: (reason: string) => void troubles.push(reason),
      };
      const signal = new AbortController().signal;
      const server = await createShimServer(deps, { socketPath }, signal);
      servers.push(server);
      return server;
    },
    start,
    run: (argv, options) => start(argv, options).ended,
    async close() {
      for (const child of running) child.kill("SIGKILL");
      for (const server of servers) await server.close();
      if (existsSync(folder)) rmSync(folder, { recursive: true, force: true });
    },
  };
}
