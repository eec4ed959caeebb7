/**
 * Real nodes as real processes, for tests: started, used through the command line, and ended by pid.
 */
import { type ChildProcess, execFile, spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { cp, mkdtemp, readdir, readFile, rm, stat, utimes, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { createInterface } from "node:readline";

export const program: string = resolve(import.meta.dirname, "../../dist/cli/main.js");

export interface LiveNode {
  readonly dataDir: string;
  readonly peerId: string;
  readonly addrs: readonly string[];
  readonly invite: string;
  readonly child: ChildProcess;
  /** Every event it has printed so far. */
  readonly events: readonly Readonly<Record<string, unknown>>[];
  /** What it printed to stderr. */
  readonly stderr: () => string;
  readonly exited: Promise<number | null>;
}

export interface NodeFlags {
  readonly slots?: number;
  readonly invite?: string;
  readonly name?: string;
  readonly dataDir?: string;
  /** Default: any port of the loopback. */
  readonly listen?: string;
  /** In a process group of its own, which a Ctrl-C in the terminal does not reach. */
  readonly ownGroup?: boolean;
  readonly extra?: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  /** Gets every event when it comes, in place of `LiveNode.events`: for runs of very many. */
  readonly onEvent?: (event: Readonly<Record<string, unknown>>) => void;
}

export interface CommandResult {
  readonly exitCode: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** A place for nodes and files of one test file; `close` ends and removes all of it. */
export interface World {
  readonly folder: string;
  start(flags?: NodeFlags): Promise<LiveNode>;
  /** Runs `mesh ARGS` for a node's data directory. */
  mesh(
    node: LiveNode | string,
    args: readonly string[],
    options?: { readonly cwd?: string; readonly env?: Readonly<Record<string, string>> },
  ): Promise<CommandResult>;
  /** Runs any command to its end. */
  run(
    argv: readonly string[],
    cwd: string,
    env?: Readonly<Record<string, string>>,
  ): Promise<CommandResult>;
  close(): Promise<void>;
}

const startMaxMs = 30_000;
const commandMaxMs = 300_000;

export async function createWorld(): Promise<World> {
  if (!existsSync(program)) throw new Error(`${program} is missing: npm run build`);
  const folder = await mkdtemp(join(tmpdir(), "mesh-live-"));
  const nodes: LiveNode[] = [];

  function run(
    argv: readonly string[],
    cwd: string,
    env: Readonly<Record<string, string>> = {},
  ): Promise<CommandResult> {
    const [file, ...args] = argv;
    return new Promise((finish) => {
      execFile(
        file ?? "",
        args,
        {
          cwd,
          env: { ...process.env, NO_COLOR: "1", ...env },
          maxBuffer: 64 * 1024 * 1024,
          timeout: commandMaxMs,
          killSignal: "SIGKILL",
        },
        (error, stdout, stderr) => {
          const code = error === null ? 0 : error.code;
          finish({ exitCode: typeof code === "number" ? code : 255, stdout, stderr });
        },
      );
    });
  }

  return {
    folder,
    run,
    async start(flags = {}) {
      const node = await startNode(folder, nodes.length, flags);
      nodes.push(node);
      return node;
    },
    mesh(node, args, { cwd = folder, env = {} } = {}) {
      const dataDir = typeof node === "string" ? node : node.dataDir;
      return run([process.execPath, program, ...args], cwd, { MESH_DIR: dataDir, ...env });
    },
    async close() {
      for (const { child } of nodes) if (child.exitCode === null) child.kill("SIGTERM");
      const late = setTimeout(() => {
        for (const { child } of nodes) child.kill("SIGKILL");
      }, 10_000);
      await Promise.all(nodes.map(({ exited }) => exited));
      clearTimeout(late);
      await rm(folder, { recursive: true, force: true, maxRetries: 3 });
    },
  };
}

async function startNode(folder: string, index: number, flags: NodeFlags): Promise<LiveNode> {
  const name = flags.name ?? `node-${index}`;
  const dataDir = flags.dataDir ?? join(folder, name);
  const args = [
    "join",
    ...(flags.invite === undefined ? [] : [flags.invite]),
    "--data-dir",
    dataDir,
    "--name",
    name,
    "--listen",
    flags.listen ?? "/ip4/127.0.0.1/tcp/0",
    "--no-mdns",
    "--slots",
    String(flags.slots ?? 1),
    // Several nodes share this machine: to each the others look like somebody who needs it.
    "--lend",
    "always",
    "--drain",
    "1s",
    "--json",
    ...(flags.extra ?? []),
  ];
  const child = spawn(process.execPath, [program, ...args], {
    stdio: ["ignore", "pipe", "pipe"],
    env: { ...process.env, ...flags.env },
    detached: flags.ownGroup === true,
  });
  const events: Record<string, unknown>[] = [];
  let stderr = "";
  child.stderr.on("data", (chunk: Buffer) => {
    stderr += chunk.toString();
  });
  const exited = new Promise<number | null>((resolveExit) => child.once("exit", resolveExit));
  const ready = await new Promise<Record<string, unknown>>((resolveReady, reject) => {
    const late = setTimeout(() => {
      child.kill("SIGKILL");
      reject(new Error(`node ${name} was not ready in ${startMaxMs} ms: ${stderr}`));
    }, startMaxMs);
    createInterface(child.stdout).on("line", (line) => {
      const event = JSON.parse(line) as Record<string, unknown>;
      if (flags.onEvent === undefined) events.push(event);
      else flags.onEvent(event);
      if (event.event !== "ready") return;
      clearTimeout(late);
      resolveReady(event);
    });
    // Not at its exit: what it said last may still be on its way.
    child.once("close", (code) => {
      clearTimeout(late);
      reject(new Error(`node ${name} ended with ${code}: ${stderr}`));
    });
  });
  return {
    dataDir,
    peerId: String(ready.peerId),
    addrs: ready.addrs as string[],
    invite: String(ready.invite),
    child,
    events,
    stderr: () => stderr,
    exited,
  };
}

/** Copies an example without what an earlier build left in it. */
export async function copyExample(name: string, to: string): Promise<void> {
  const from = resolve(import.meta.dirname, "../../examples", name);
  const made = new Set([join(from, "build"), join(from, "target")]);
  await cp(from, to, { recursive: true, filter: (path) => !made.has(path) });
}

/** Waits until `holds`, looking every 50 ms: for states that the nodes reach by themselves. */
export async function until(
  what: string,
  holds: () => boolean | Promise<boolean>,
  maxMs = 20_000,
): Promise<void> {
  const endMs = performance.now() + maxMs;
  while (!(await holds())) {
    if (performance.now() > endMs) throw new Error(`not within ${maxMs} ms: ${what}`);
    await new Promise((wake) => setTimeout(wake, 50));
  }
}

/** Starts `count` nodes of one mesh and waits until each knows all the others. */
export async function startMesh(
  world: World,
  count: number,
  flags: NodeFlags = {},
): Promise<LiveNode[]> {
  const first = await world.start(flags);
  const nodes = [first];
  for (let index = 1; index < count; index += 1) {
    nodes.push(await world.start({ ...flags, invite: first.invite }));
  }
  await meet(world, nodes);
  return nodes;
}

/** Waits until each of them knows all the others. */
export async function meet(world: World, nodes: readonly LiveNode[]): Promise<void> {
  await until(
    "a full mesh",
    async () => {
      for (const node of nodes) {
        const { stdout } = await world.mesh(node, ["status", "--json"]);
        const { peers } = JSON.parse(stdout) as { peers: { peerId: string }[] };
        const here = new Set([node.peerId, ...peers.map(({ peerId }) => peerId)]);
        if (!nodes.every(({ peerId }) => here.has(peerId))) return false;
      }
      return true;
    },
    60_000,
  );
}

/** Ends a node and waits until it is gone. */
export async function end(node: LiveNode, signal: NodeJS.Signals = "SIGTERM"): Promise<void> {
  node.child.kill(signal);
  await node.exited;
}

export interface CacheStats {
  readonly blobs: number;
  readonly quarantined: number;
  readonly records: number;
  readonly hitsHere: number;
  readonly hitsMesh: number;
  readonly misses: number;
  readonly refused: Readonly<Record<string, number>>;
}

export async function cacheStats(world: World, node: LiveNode | string): Promise<CacheStats> {
  const { stdout } = await world.mesh(node, ["cache", "stats", "--json"]);
  return JSON.parse(stdout) as CacheStats;
}

/** Every file in a node's store. */
export async function storedFiles({ dataDir }: Pick<LiveNode, "dataDir">): Promise<string[]> {
  const folder = join(dataDir, "blobs");
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  return entries.filter((one) => one.isFile()).map((one) => join(one.parentPath, one.name));
}

/** The file of a node's store that holds these bytes. */
export async function storedAs(
  node: Pick<LiveNode, "dataDir">,
  bytes: Uint8Array,
): Promise<string> {
  for (const path of await storedFiles(node)) {
    if (Buffer.compare(await readFile(path), bytes) === 0) return path;
  }
  throw new Error(`these ${bytes.byteLength} bytes are not in the store of ${node.dataDir}`);
}

/** Turns one bit of a file as a failing disk would: its size and its times stay. */
export async function damage(path: string): Promise<void> {
  const { atime, mtime } = await stat(path);
  const bytes = await readFile(path);
  const at = bytes.byteLength >> 1;
  bytes[at] = (bytes[at] ?? 0) ^ 1;
  // Not a new file: other names of this one would keep the old bytes.
  await writeFile(path, bytes, { flag: "r+" });
  await utimes(path, atime, mtime);
}
