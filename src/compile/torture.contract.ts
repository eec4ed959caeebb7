/**
 * For tests: real compilers behind a real shim and a real door, with the planners of this machine,
 * in a folder whose name holds a space. Whatever is compiled through the mesh is compiled once more
 * by the real compiler alone, at the same paths, and everything that either leaves is compared.
 */
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import * as fs from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join, relative } from "node:path";
import { expect } from "vitest";
import { digestOf } from "../base/digest.ts";
import type { Source } from "../base/events.ts";
import { createToolchains } from "../exec/toolchain.ts";
import { createProcesses } from "../host/processes.ts";
import { createArPlanner } from "./ar.ts";
import type { DecideDeps } from "./decide.ts";
import {
  createDoorWorld,
  type DoorWorld,
  type DoorWorldOptions,
  type PlannerParts,
} from "./door-world.contract.ts";
import { createGccPlanner } from "./gcc.ts";
import { createGccOrLink } from "./gcc-or-link.ts";
import { createLinkPlanner } from "./link.ts";
import type { ActionPlan, Planner } from "./plan.ts";
import type { ShimLink } from "./shim-server.ts";
import { hasCc } from "./shim-world.contract.ts";

export const platform = "linux/x86_64";

/** Whether a program is in the PATH. Says so once where it is not. */
export function has(program: string): boolean {
  const isHere = spawnSync("which", [program]).status === 0;
  if (!isHere) console.warn(`cases of the torture suite are skipped: there is no ${program}`);
  return isHere;
}

/** Without these nothing is tortured. */
export const canTorture: boolean = hasCc && has("gcc");

/** Everything that a command left, and what it said. */
export interface Left {
  readonly code: number | null;
  readonly signal: string | null;
  readonly stdout: string;
  readonly stderr: string;
  /** What is in the folder now and was not before, or was other than now. Files with their bytes. */
  readonly files: Readonly<Record<string, string>>;
}

export interface Compiled extends Left {
  /** Undefined: the door never heard of it. */
  readonly source: Source | undefined;
  readonly whyHere: string | undefined;
  readonly fallback: string | undefined;
  /** Why the result was not kept; undefined: it was, or was known already. */
  readonly kept: string | undefined;
}

export interface Asked {
  /** Below the folder. */
  readonly cwd?: string;
  readonly env?: Readonly<Record<string, string>>;
  /** The build it belongs to; nobody has opened "b1". */
  readonly build?: string;
  /** What `$CC` is in the line. */
  readonly cc?: string;
  /** False: the shim asks nobody. */
  readonly heard?: boolean;
  /** Stands for `$CC` in the run without the mesh, where the mesh adds something. */
  readonly plainCc?: string;
}

/** A shell line in which `$CC` is the compiler, or a whole command line. */
export type Line = string | readonly string[];

export interface Torture {
  readonly on: DoorWorld;
  /** Canonical. Empty at first. */
  readonly folder: string;
  at(name: string): string;
  write(name: string, text: string | Uint8Array): void;
  /** Until what was written before is as good as old. */
  settle(): Promise<void>;
  /** Through the mesh. */
  compile(line: Line, asked?: Asked): Promise<Compiled>;
  /** By the real compiler alone. */
  plain(line: Line, asked?: Asked): Promise<Left>;
  /** Through the mesh and by the compiler alone, which must leave and say the same. */
  same(line: Line, asked?: Asked): Promise<Compiled>;
  /** The same, and it had to be compiled, with success, and is known from now on. */
  miss(line: Line, asked?: Asked): Promise<Compiled>;
  /** The same, and it was known. */
  hit(line: Line, asked?: Asked): Promise<Compiled>;
  /** The same, and it was compiled here and not kept, for this reason. */
  stays(reason: string, line: Line, asked?: Asked): Promise<Compiled>;
  /** Another folder, another test. */
  startAnew(): void;
  /** Called between the plan and the run in place, and between that run's end and what follows. */
  beforeRun: (() => void) | undefined;
  afterRun: (() => void) | undefined;
  /** Changes what the planners say. */
  amend: ((plan: ActionPlan) => ActionPlan) | undefined;
  close(): Promise<void>;
}

/** A file is trusted by its time stamps once it is this old. */
const settleMs = 40;
/** Until a task that has ended is written down. */
const recordMaxMs = 20_000;

const plainEnv: Readonly<Record<string, string>> = {
  PATH: "/usr/bin:/bin",
  LANG: "C.UTF-8",
};

export interface TortureOptions extends DoorWorldOptions {
  /** Where another one has worked; whoever made it removes it. */
  readonly folder?: string;
}

export async function createTorture({
  folder: given,
  ...options
}: TortureOptions = {}): Promise<Torture> {
  const all = fs.realpathSync(fs.mkdtempSync(join(tmpdir(), "mesh torture-")));
  let foldersMade = 0;
  let folder = given ?? nextFolder();
  const processes = createProcesses();
  let heard = 0;
  const on = await createDoorWorld(
    (parts) => {
      const plannerFor = createPlanners(parts, processes);
      return (family, args) => {
        const planner = plannerFor(family, args);
        return planner && amended(planner, (plan) => made.amend?.(plan) ?? plan);
      };
    },
    {
      settleMs,
      between: (serve) => (invocation, link, signal) => {
        heard += 1;
        return serve(invocation, watched(link), signal);
      },
      ...options,
    },
  );
  const running = new Set<ChildProcess>();

  function nextFolder(): string {
    const next = join(all, `${++foldersMade}`);
    fs.mkdirSync(next);
    return next;
  }

  const watched = (link: ShimLink): ShimLink => ({
    ...link,
    async run(extraArgs, capture, signal) {
      made.beforeRun?.();
      const ran = await link.run(extraArgs, capture, signal);
      made.afterRun?.();
      return ran;
    },
  });

  async function start(
    line: Line,
    cc: string,
    { cwd = "", env = {} }: Asked,
    own: Readonly<Record<string, string>> = {},
  ): Promise<Left> {
    const before = snapshot(folder);
    const script = typeof line === "string" ? line : `exec $CC "$@"`;
    const args = typeof line === "string" ? [] : line;
    const child = spawn("/bin/sh", ["-c", script, "sh", ...args], {
      cwd: join(folder, cwd),
      env: { ...plainEnv, ...env, ...own, CC: cc },
      stdio: ["ignore", "pipe", "pipe"],
    });
    running.add(child);
    const ended = await endOf(child);
    running.delete(child);
    return { ...ended, files: changed(before, snapshot(folder)) };
  }

  async function compile(line: Line, asked: Asked = {}): Promise<Compiled> {
    const { cc = "gcc", build = "b1", heard: isHeard = true } = asked;
    const before = { heard, records: on.records.length };
    const own = { MESH_SOCKET: on.world.socketPath, MESH_BUILD: build };
    const left = await start(line, `${on.world.shim} ${cc}`, asked, own);
    expect(heard - before.heard).toBe(isHeard ? 1 : 0);
    if (isHeard) await until(() => on.records.length > before.records);
    const record = isHeard ? on.records.at(-1) : undefined;
    const { source, whyHere, kept, fallback } = record ?? {};
    return { ...left, source, whyHere, kept, fallback };
  }

  async function same(line: Line, asked: Asked = {}): Promise<Compiled> {
    const before = snapshot(folder);
    const meshed = await compile(line, asked);
    restore(folder, before, snapshot(folder));
    const { cc = "gcc" } = asked;
    const plain = await start(line, asked.plainCc ?? cc, asked);
    expect(partsOf(meshed)).toEqual(partsOf(plain));
    return meshed;
  }

  async function miss(line: Line, asked?: Asked): Promise<Compiled> {
    const made = await same(line, asked);
    expect(made).toMatchObject({ code: 0, source: "here", kept: undefined });
    return made;
  }

  const made: Torture = {
    ...{ on, compile, same, miss },
    get folder() {
      return folder;
    },
    at: (name) => join(folder, name),
    write(name, text) {
      fs.mkdirSync(dirname(join(folder, name)), { recursive: true });
      fs.writeFileSync(join(folder, name), text);
    },
    settle: () => new Promise((resolve) => setTimeout(resolve, settleMs + 20)),
    plain: (line, asked = {}) => start(line, asked.plainCc ?? asked.cc ?? "gcc", asked),
    async hit(line, asked) {
      const found = await same(line, asked);
      expect(found).toMatchObject({ code: 0, source: "cached-here" });
      return found;
    },
    async stays(reason, line, asked) {
      const ran = await same(line, asked);
      expect(ran.source).toBe("here");
      expect(ran.kept === "not-an-action" ? ran.whyHere : ran.kept).toBe(reason);
      return ran;
    },
    startAnew() {
      fs.rmSync(folder, { recursive: true, force: true });
      folder = nextFolder();
      Object.assign(made, { beforeRun: undefined, afterRun: undefined, amend: undefined });
    },
    beforeRun: undefined,
    afterRun: undefined,
    amend: undefined,
    async close() {
      for (const child of running) child.kill("SIGKILL");
      await on.close();
      await processes.close();
      fs.rmSync(all, { recursive: true, force: true });
    },
  };
  return made;
}

/** As the command line of a node makes them, without Rust and CUDA. */
function createPlanners(
  { disk, clock, store, view, scratch }: PlannerParts,
  processes: ReturnType<typeof createProcesses>,
): DecideDeps["plannerFor"] {
  const toolchains = createToolchains({ disk, processes, store, clock, view });
  const options = { platform, timeoutMs: 60_000, scratch };
  const gcc = createGccPlanner({ disk, processes, store, toolchains, clock, view }, options);
  const links = { disk, processes, view };
  const link = createLinkPlanner(links, options);
  const ar = createArPlanner(links, options);
  const gccOrLink = createGccOrLink(gcc, link);
  return (family, args) => {
    if (family === "gcc") return gccOrLink(args);
    return family === "ar" ? ar : undefined;
  };
}

function amended(planner: Planner, amend: (plan: ActionPlan) => ActionPlan): Planner {
  return async (invocation, signal) => {
    const plan = await planner(invocation, signal);
    return plan.at === "here" ? plan : amend(plan);
  };
}

/** What of an end has to be the same with and without the mesh. */
function partsOf({ code, signal, stdout, stderr, files }: Left): Left {
  return { code, signal, stdout, stderr, files };
}

/** Text is told one byte per character: nothing is lost that is no UTF-8. */
function endOf(child: ChildProcess): Promise<Omit<Left, "files">> {
  return new Promise((resolve, reject) => {
    const said: Record<"stdout" | "stderr", Buffer[]> = { stdout: [], stderr: [] };
    child.stdout?.on("data", (bytes: Buffer) => said.stdout.push(bytes));
    child.stderr?.on("data", (bytes: Buffer) => said.stderr.push(bytes));
    child.on("error", reject);
    child.on("close", (code, signal) => {
      const text = (bytes: readonly Buffer[]): string => Buffer.concat(bytes).toString("latin1");
      resolve({ code, signal, stdout: text(said.stdout), stderr: text(said.stderr) });
    });
  });
}

interface Thing {
  readonly mode: number;
  /** Of a file. */
  readonly bytes: Buffer | undefined;
  /** What it is and, of a file, its size and a digest: objects differ in too many bytes to show. */
  readonly text: string;
}

type Snapshot = ReadonlyMap<string, Thing>;

/** Everything below a folder, by names of one byte per character. */
function snapshot(folder: string): Snapshot {
  const things = new Map<string, Thing>();
  const visit = (path: Buffer): void => {
    for (const name of fs.readdirSync(path, { encoding: "buffer" })) {
      const below = Buffer.concat([path, Buffer.from("/"), name]);
      const stat = fs.lstatSync(below);
      const bytes = stat.isFile() ? fs.readFileSync(below) : undefined;
      const kind = stat.isDirectory() ? "folder" : stat.isFIFO() ? "queue" : "other";
      const link = stat.isSymbolicLink() ? `-> ${fs.readlinkSync(below)}` : kind;
      const mode = stat.mode & 0o7777;
      const text = `${mode.toString(8)} ${bytes === undefined ? link : textOf(bytes)}`;
      things.set(relative(folder, below.toString("latin1")), { mode, bytes, text });
      if (stat.isDirectory()) visit(below);
    }
  };
  visit(Buffer.from(folder));
  return things;
}

/** Short texts as they are: dependency files say what is wrong with them. */
function textOf(bytes: Buffer): string {
  const text = bytes.toString("latin1");
  const isText = text.length < 20_000 && /^[\n -\xff]*$/.test(text);
  return isText ? text : `${bytes.byteLength} bytes, ${digestOf(bytes)}`;
}

function changed(before: Snapshot, after: Snapshot): Record<string, string> {
  const files: Record<string, string> = {};
  for (const [name, { text }] of after) if (before.get(name)?.text !== text) files[name] = text;
  for (const name of before.keys()) if (!after.has(name)) files[name] = "gone";
  return files;
}

/** What a command wrote over is brought back, and what it made is removed. */
function restore(folder: string, before: Snapshot, after: Snapshot): void {
  const path = (name: string): Buffer => Buffer.from(join(folder, name), "latin1");
  for (const name of [...after.keys()].toReversed())
    if (!before.has(name)) fs.rmSync(path(name), { recursive: true, force: true });
  for (const [name, { bytes, mode, text }] of before) {
    if (bytes === undefined || after.get(name)?.text === text) continue;
    fs.writeFileSync(path(name), bytes);
    fs.chmodSync(path(name), mode);
  }
}

async function until(holds: () => boolean): Promise<void> {
  for (let waitedMs = 0; !holds(); waitedMs += 2) {
    if (waitedMs > recordMaxMs) throw new Error("the task has not ended");
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
}
