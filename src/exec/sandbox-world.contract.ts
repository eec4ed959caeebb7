/**
 * For tests: one node's store and sandbox in a temporary folder, and actions made of this
 * machine's own programs.
 */
import { execFileSync } from "node:child_process";
import * as fs from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";
import type { ActionOutcome, ActionSpec, Progress } from "../action/action.ts";
import { textOf } from "../base/bytes.ts";
import type { Digest } from "../base/digest.ts";
import type { MeshEvent } from "../base/events.ts";
import { type BlobStore, createBlobStore } from "../blob/store.ts";
import type { TreeEntry } from "../blob/tree.ts";
import { createClock } from "../host/clock.ts";
import { createDisk } from "../host/disk.ts";
import type { Disk, Processes } from "../host/host.ts";
import { createProcesses } from "../host/processes.ts";
import {
  createNativeExecutor,
  type NativeExecutor,
  type NativeOptions,
  nativeDefaults,
} from "./native.ts";
import { probeSandbox, type Sandbox } from "./sandbox/probe.ts";
import type { Tier } from "./sandbox/walls.ts";

export interface World {
  readonly dir: string;
  readonly tmpDir: string;
  readonly disk: Disk;
  readonly processes: Processes;
  readonly store: BlobStore;
  readonly sandbox: Sandbox;
  readonly native: NativeExecutor;
  readonly events: readonly MeshEvent[];
  /** Runs an action and returns what it gave, with the texts it printed. */
  run(spec: ActionSpec, hooks?: Hooks): Promise<Ran>;
  read(digest: Digest): Promise<string>;
  close(): Promise<void>;
}

export interface Hooks {
  readonly onProgress?: (progress: Progress) => void;
  readonly signal?: AbortSignal;
}

export interface Ran extends ActionOutcome {
  readonly out: string;
  readonly err: string;
}

export type GetWorld = () => World;
/** Makes an action that runs a shell script, with the programs such scripts use. */
export type Scripted = (script: string, more?: Partial<ActionSpec>) => ActionSpec;

export const never: AbortSignal = new AbortController().signal;

export async function createWorld(
  tier: Tier,
  options: Partial<NativeOptions> = {},
): Promise<World> {
  const dir = fs.mkdtempSync(join(tmpdir(), "mesh-exec-"));
  const tmpDir = join(dir, "tmp");
  const disk = createDisk();
  const processes = createProcesses();
  const store = await createBlobStore(
    { disk, clock: createClock() },
    { directory: dir, quotaBytes: 4 * 2 ** 30, sync: "never" },
    never,
  );
  const sandbox = await probeSandbox({ processes, disk }, { wanted: tier, tmpDir }, never);
  const events: MeshEvent[] = [];
  const native = createNativeExecutor(
    { processes, disk, store, sandbox, emit: (event) => void events.push(event) },
    { ...nativeDefaults, tmpDir, ...options },
  );
  const read = async (digest: Digest): Promise<string> => textOf(await store.read(digest));
  return {
    ...{ dir, tmpDir, disk, processes, store, sandbox, native, events, read },
    async run(spec, { onProgress = () => {}, signal = never } = {}) {
      const outcome = await native.execute(spec, onProgress, signal);
      return { ...outcome, out: await read(outcome.stdout), err: await read(outcome.stderr) };
    },
    async close() {
      await native.close();
      await processes.close();
      fs.rmSync(dir, { recursive: true, force: true });
    },
  };
}

/** The tier, or why tests of it cannot run here. */
export async function whyNoTier(tier: Tier): Promise<string | undefined> {
  const dir = fs.mkdtempSync(join(tmpdir(), "mesh-exec-probe-"));
  const processes = createProcesses();
  try {
    const deps = { processes, disk: createDisk() };
    const { tier: got, why } = await probeSandbox(deps, { wanted: tier, tmpDir: dir }, never);
    return got === tier ? undefined : why;
  } finally {
    await processes.close();
    fs.rmSync(dir, { recursive: true, force: true });
  }
}

/** Absolute path of a program of this machine. */
export function which(name: string): string | undefined {
  for (const folder of ["/usr/bin", "/bin", "/usr/local/bin", "/usr/sbin"])
    if (fs.existsSync(join(folder, name))) return join(folder, name);
  return undefined;
}

/** Puts files of this machine, with the symlinks on the way to them, into an input tree. */
export async function inputsOf(
  store: BlobStore,
  paths: readonly string[],
): Promise<readonly TreeEntry[]> {
  const entries = new Map<string, TreeEntry>();
  for (const path of paths) await addPath(store, resolve(path), entries);
  return [...entries.values()];
}

/** Programs together with the libraries they are linked to. */
export async function programsOf(
  store: BlobStore,
  names: readonly string[],
): Promise<readonly TreeEntry[]> {
  const paths = names.map((name) => (name.startsWith("/") ? name : (which(name) ?? name)));
  return inputsOf(store, [...paths, ...paths.flatMap(librariesOf)]);
}

function librariesOf(program: string): readonly string[] {
  try {
    return execFileSync("ldd", [program], { encoding: "utf8" }).match(/\/[^ \n:]+/g) ?? [];
  } catch {
    return []; // linked to nothing
  }
}

async function addPath(
  store: BlobStore,
  path: string,
  entries: Map<string, TreeEntry>,
): Promise<void> {
  const names = path.slice(1).split("/");
  for (let i = 1; i <= names.length; i++) {
    const at = `/${names.slice(0, i).join("/")}`;
    const stat = fs.lstatSync(at);
    if (stat.isSymbolicLink()) {
      const target = fs.readlinkSync(at);
      entries.set(at, { kind: "symlink", path: at, target });
      const there = resolve(fs.realpathSync(dirname(at)), target, ...names.slice(i));
      return addPath(store, there, entries);
    }
    if (stat.isFile() && !entries.has(at)) {
      const executable = (stat.mode & 0o111) !== 0;
      entries.set(at, { kind: "file", path: at, digest: await store.putFile(at), executable });
    }
  }
}

export async function fileOf(
  store: BlobStore,
  path: string,
  text: string | Uint8Array,
): Promise<TreeEntry> {
  const bytes = typeof text === "string" ? new TextEncoder().encode(text) : text;
  return { kind: "file", path, digest: await store.put(bytes), executable: false };
}

/** Processes of this machine whose command line contains `mark`. */
export function processesWith(mark: string): readonly string[] {
  return fs.readdirSync("/proc").filter((pid) => {
    if (!/^[0-9]+$/.test(pid)) return false;
    try {
      return fs.readFileSync(`/proc/${pid}/cmdline`, "latin1").includes(mark);
    } catch {
      return false;
    }
  });
}
