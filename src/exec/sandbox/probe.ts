/**
 * Finds out which sandbox this machine can build, by building it.
 *
 * Whether user namespaces work depends on the kernel, the distribution's policy and the container
 * around us; no setting tells, so each tier runs `true` in exactly the walls it will use later.
 */

import { textOf } from "../../base/bytes.ts";
import { messageOf } from "../../base/errors.ts";
import type { Disk, Processes, RunResult } from "../../host/host.ts";
import { createBwrap, deviceMode, deviceNames, firstLine } from "./bwrap.ts";
import { createLimits } from "./limits.ts";
import { removeRoom, roomPrefix } from "./room.ts";
import { makeFixed } from "./root.ts";
import { createUnshare } from "./unshare.ts";
import { type Mount, type Room, type Tier, toolEnv, type Walls } from "./walls.ts";

export interface ProbeDeps {
  readonly processes: Processes;
  readonly disk: Disk;
}

export interface Sandbox {
  /** "" when this machine has none: it can run no foreign command. */
  readonly tier: Tier | "";
  /** One line for people: why not a better tier, or why none. "" when all is well. */
  readonly why: string;
  /** Undefined for the tiers "none" and "". */
  readonly walls: Walls | undefined;
}

export interface ProbeOptions {
  /** A tier asked for by name, or undefined for the best there is; "none" only by name. */
  readonly wanted: Tier | undefined;
  /** The node's folder for temporary files; made if missing. */
  readonly tmpDir: string;
}

const probeMaxMs = 10_000;

/**
 * Tries the tiers, best first. Call it after `cleanLeftovers`: device nodes that bubblewrap needs
 * on a node that runs as root stay in `tmpDir` for as long as the node runs.
 */
export async function probeSandbox(
  deps: ProbeDeps,
  { wanted, tmpDir }: ProbeOptions,
  signal: AbortSignal,
): Promise<Sandbox> {
  if (wanted === "none")
    return {
      tier: "none",
      why: "no sandbox, as asked for: commands see all files",
      walls: undefined,
    };
  await deps.disk.makeDirectory(tmpDir);
  const whyNot: string[] = [];
  for (const tier of ["bwrap", "unshare"] as const) {
    if (wanted !== undefined && wanted !== tier) continue;
    const tried = await tryTier(deps, tier, tmpDir, signal);
    if (typeof tried !== "string") return { tier, why: whyNot.join("; "), walls: tried };
    whyNot.push(`${tier}: ${tried}`);
  }
  return { tier: "", why: whyNot.join("; "), walls: undefined };
}

async function tryTier(
  deps: ProbeDeps,
  tier: Walls["tier"],
  tmpDir: string,
  signal: AbortSignal,
): Promise<Walls | string> {
  const program = findProgram(deps.disk, tier);
  if (program === undefined) return "not installed";
  try {
    const walls =
      tier === "bwrap"
        ? await configureBwrap(deps, program, tmpDir, signal)
        : createUnshare(deps, { program });
    const failure = await runTrue(deps, walls, `${tmpDir}/${roomPrefix}probe-${tier}`, signal);
    return failure === undefined ? walls : explain(failure);
  } catch (error) {
    signal.throwIfAborted();
    return messageOf(error);
  }
}

/** Absolute path of a program of this machine. */
export function findProgram(disk: Disk, name: string): string | undefined {
  for (const folder of (toolEnv.PATH ?? "").split(":")) {
    const found = disk.statFollowNow(`${folder}/${name}`);
    if (found?.kind === "file" && (found.mode & 0o111) !== 0) return `${folder}/${name}`;
  }
  return undefined;
}

async function configureBwrap(
  deps: ProbeDeps,
  program: string,
  tmpDir: string,
  signal: AbortSignal,
): Promise<Walls> {
  const help = textOf((await runTool(deps, [program, "--help"], signal)).stdout);
  return createBwrap(deps, {
    program,
    can: {
      limitTmp: /^\s*--size\b/m.test(help),
      refuseUserNamespaces: /^\s*--disable-userns\b/m.test(help),
    },
    devicesDir: await makeDevices(deps, `${tmpDir}/${roomPrefix}devices`, signal),
  });
}

const deviceMinors: Readonly<Record<string, number>> = {
  null: 3,
  zero: 5,
  full: 7,
  random: 8,
  urandom: 9,
};

/** Only root can make these, and only a node that runs as root needs them. */
async function makeDevices(
  deps: ProbeDeps,
  dir: string,
  signal: AbortSignal,
): Promise<string | undefined> {
  await deps.disk.remove(dir);
  await deps.disk.makeDirectory(dir);
  const make = deviceNames
    .map((name) => `mknod -m ${deviceMode.toString(8)} "$1/${name}" c 1 ${deviceMinors[name]}`)
    .join(" && ");
  // Opening one tells whether the file system allows devices at all.
  const script = `umask 0; ${make} && : > "$1/null"`;
  const result = await runTool(deps, ["sh", "-c", script, "sh", dir], signal);
  if (result.exitCode === 0) return dir;
  await deps.disk.remove(dir);
  return undefined;
}

async function runTrue(
  deps: ProbeDeps,
  walls: Walls,
  roomDir: string,
  signal: AbortSignal,
): Promise<string | undefined> {
  const { disk } = deps;
  const command = findProgram(disk, "true");
  if (command === undefined) return "no program `true` to try it with";
  await disk.remove(roomDir);
  try {
    const room = await makeHostRoom(disk, roomDir);
    const argv = await walls.enclose(room, { argv: [command], env: { A: "b" }, cwd: "/" });
    const statusPath = `${roomDir}/status`;
    const limits = createLimits(deps, {
      memoryMaxBytes: 2 ** 36,
      processesMax: 1,
      fileMaxBytes: 2 ** 30,
      groupName: "probe",
    });
    const result = await runTool(deps, limits.wrap(argv, statusPath, undefined), signal);
    const status = textOf(await disk.read(statusPath).catch(() => new Uint8Array()));
    const failure = walls.verdict(status, result);
    if (failure !== undefined) return failure;
    return result.exitCode === 0 ? undefined : `\`true\` ended with ${result.exitCode} in it`;
  } finally {
    await removeRoom(deps, roomDir, signal);
  }
}

/** A root that shows the folders in which this machine has its programs and libraries. */
async function makeHostRoom(disk: Disk, roomDir: string): Promise<Room> {
  const rootDir = `${roomDir}/root`;
  const mounts: Mount[] = [];
  await makeFixed(disk, rootDir);
  for (const { name, kind } of (await disk.list("/")) ?? []) {
    if (!/^(usr|bin|sbin|lib[0-9a-z]*|nix|gnu)$/.test(name)) continue;
    if (kind === "symlink")
      await disk.symlink(await disk.readLink(`/${name}`), `${rootDir}/${name}`);
    if (kind !== "directory") continue;
    await disk.makeDirectory(`${rootDir}/${name}`);
    mounts.push({ kind: "tree-read-only", from: `/${name}`, to: `/${name}` });
  }
  return { controlDir: roomDir, rootDir, mounts, memoryTmp: true };
}

function runTool(
  { processes }: ProbeDeps,
  argv: readonly string[],
  signal: AbortSignal,
): Promise<RunResult> {
  const [program = "true", ...args] = argv;
  return processes.run(
    {
      argv: [program, ...args],
      env: toolEnv,
      cwd: "/",
      timeoutMs: probeMaxMs,
      outputMaxBytes: 256 * 1024,
    },
    signal,
  );
}

/** What the tools say when the system refuses is short and cryptic; this is what it means. */
function explain(failure: string): string {
  if (/namespace|Operation not permitted|unshare failed|uid map|setting up uid/i.test(failure))
    return `user namespaces are refused here (${failure})`;
  return failure;
}

/** For tests: what `explain` would make of a tool's message. @internal */
export function explainFailure(stderr: Uint8Array): string {
  return explain(firstLine(stderr));
}
