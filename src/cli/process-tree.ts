/**
 * Ends a native build tool and everything it started.
 *
 * Children stay in our own process group, so that a terminal's Ctrl-C, Ctrl-Z and password prompts
 * work as they do without us. So the tree has to be found: by parent, and for those whose parent is
 * gone (a killed make leaves compilers behind) by a mark in their environment, where the system
 * shows it (Linux). A process that left our session is a daemon and is left alone.
 */
import { execFileSync } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";

/** The environment variable that marks every process of one build. */
export const markName: string = "MESH_CLIENT";

interface Entry {
  readonly pid: number;
  readonly parent: number;
  readonly session: number;
  /** Tells a process from a later one with its number. */
  readonly startedAt: string;
}

export interface Tree {
  /** How many processes there are now. */
  count(): number;
  signal(name: NodeJS.Signals): void;
}

/**
 * The process that was just started, all below it, and those marked with `mark`; remembered once
 * seen. `rootPid` undefined: it did not start.
 */
export function processTree(rootPid: number | undefined, mark: string): Tree {
  const seen = new Map<number, string>();
  const root = rootPid === undefined ? undefined : findProcess(rootPid);
  if (root !== undefined) seen.set(root.pid, root.startedAt);
  const living = (): readonly number[] => {
    const all = listProcesses();
    const own = all.find(({ pid }) => pid === process.pid);
    const inTree = new Set<number>();
    for (const { pid, startedAt } of all) if (seen.get(pid) === startedAt) inTree.add(pid);
    for (const { pid, session } of all) {
      if (session === own?.session && isMarked(pid, mark)) inTree.add(pid);
    }
    for (let before = 0; before !== inTree.size; ) {
      before = inTree.size;
      for (const { pid, parent } of all) if (inTree.has(parent)) inTree.add(pid);
    }
    inTree.delete(process.pid);
    const found = all.filter(({ pid }) => inTree.has(pid));
    for (const { pid, startedAt } of found) seen.set(pid, startedAt);
    return found.map(({ pid }) => pid);
  };
  return {
    count: () => living().length,
    signal(name) {
      for (const pid of living()) {
        try {
          process.kill(pid, name);
        } catch {
          // Gone meanwhile, or not ours to end (a setuid program).
        }
      }
    },
  };
}

export interface StopOptions {
  readonly signal: NodeJS.Signals;
  /** A terminal has sent the signal to the whole group already: only those that stay get it again. */
  readonly alreadySent: boolean;
  /** Aborts to kill at once. */
  readonly hurry: AbortSignal;
}

/** How long an interrupted tool may tidy up; with the kill after it, all is over within 1 s. */
const graceMs = 600;
const stepMs = 25;

/** Resolves when nothing of the tree is left, to the number of processes that had to be stopped. */
export async function stopTree(
  tree: Tree,
  { signal, alreadySent, hurry }: StopOptions,
): Promise<number> {
  const count = tree.count();
  if (!alreadySent) tree.signal(signal);
  for (let waitedMs = 0; waitedMs < graceMs && !hurry.aborted; waitedMs += stepMs) {
    if (tree.count() === 0) return count;
    // A tool that asked for SIGINT gets it once; one that missed the terminal's gets it from us.
    if (alreadySent && waitedMs === 8 * stepMs) tree.signal(signal);
    await sleep(stepMs);
  }
  // Several rounds: what is being killed may have just started something.
  for (let round = 0; round < 8 && tree.count() > 0; round += 1) {
    tree.signal("SIGKILL");
    await sleep(10);
  }
  return count;
}

/** One, which costs much less than all of them. */
function findProcess(wanted: number): Entry | undefined {
  const isTold = readProc(process.pid, "stat") !== "";
  return isTold ? readEntry(wanted) : listProcesses().find(({ pid }) => pid === wanted);
}

function listProcesses(): readonly Entry[] {
  try {
    return readdirSync("/proc")
      .filter((name) => /^\d+$/.test(name))
      .flatMap((name) => readEntry(Number(name)) ?? []);
  } catch {
    return listWithPs();
  }
}

/** Undefined when it has gone, or is a zombie that only waits for its parent to look. */
function readEntry(pid: number): Entry | undefined {
  const stat = readProc(pid, "stat");
  // The name in parentheses may hold spaces and parentheses of its own.
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  const [state, parent, , session] = fields;
  if (stat === "" || state === "Z" || state === "X") return undefined;
  return {
    pid,
    parent: Number(parent),
    session: Number(session),
    startedAt: fields[19] ?? "",
  };
}

function readProc(pid: number, name: string): string {
  try {
    return readFileSync(`/proc/${pid}/${name}`, "latin1");
  } catch {
    return "";
  }
}

function isMarked(pid: number, mark: string): boolean {
  return `\0${readProc(pid, "environ")}`.includes(`\0${markName}=${mark}\0`);
}

function listWithPs(): readonly Entry[] {
  const text = execFileSync("ps", ["-axo", "pid=,ppid=,stat=,lstart="], { encoding: "utf8" });
  return text.split("\n").flatMap((line) => {
    const parts = /^\s*(\d+)\s+(\d+)\s+([^Z\s]\S*)\s+(.+)$/.exec(line);
    if (parts === null) return [];
    const [, pid, parent, , startedAt = ""] = parts;
    return [{ pid: Number(pid), parent: Number(parent), session: 0, startedAt }];
  });
}
