/**
 * What every sandbox tier has to offer: a way to start a command behind walls, and a verdict on
 * whether the walls stood.
 *
 * It knows no tier. `bwrap.ts` and `unshare.ts` build walls; `none.ts` is for machines without.
 */
import type { RunResult } from "../../host/host.ts";

export type Tier = "bwrap" | "unshare" | "none";

/** One place in the sandbox that shows something else than the root does. */
export interface Mount {
  /** "tree-read-only" takes what is mounted below along: only the probe needs that. */
  readonly kind: "writable" | "read-only" | "tree-read-only";
  /** Absolute, on this machine. */
  readonly from: string;
  /** Absolute, in the sandbox; exists in what is mounted there before it. */
  readonly to: string;
}

/** Everything a tier needs to know about one run. All folders exist. */
export interface Room {
  /** A folder of this machine that belongs to this run alone: control files go there. */
  readonly controlDir: string;
  /**
   * What the command sees as `/`, read-only. Has folders /proc, /tmp and /dev/shm, and in /dev the
   * files and symlinks of a minimal one, for devices to be mounted over.
   */
  readonly rootDir: string;
  /** Outer before inner. */
  readonly mounts: readonly Mount[];
  /** Whether /tmp is memory; else `mounts` has it. */
  readonly memoryTmp: boolean;
}

/** One command to be run in a room. */
export interface Job {
  readonly argv: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  readonly cwd: string;
}

export interface Walls {
  readonly tier: "bwrap" | "unshare";
  /**
   * Prepares the room and returns the command that, run on this machine, runs the job in it. That
   * command writes to descriptor 3 what `verdict` reads. Code "unsupported" when the tier cannot
   * run such a job.
   */
  enclose(room: Room, job: Job): Promise<readonly string[]>;
  /**
   * Undefined when `result` is the command's own; else the line that says why the command never
   * ran. A sandbox that cannot be built exits with a number too, so the number proves nothing.
   */
  verdict(status: string, result: RunResult): string | undefined;
  /** Repairs what an action may have changed outside its room. */
  tidyUp(): Promise<void>;
}

/**
 * The uid and gid that a command sees as its own, in every tier and on every node. What is behind
 * it is the user who runs this node.
 */
export const innerId: number = 1000;

/** Memory that the files in a private /tmp may take, unless told. */
export const tmpMaxBytes: number = 1024 * 1024 * 1024;

/** The environment of every tool of this machine that we start: nothing of the action's. */
export const toolEnv: Readonly<Record<string, string>> = {
  PATH: "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/run/current-system/sw/bin",
  LC_ALL: "C",
};
