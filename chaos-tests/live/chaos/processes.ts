/** What /proc says: which processes are below another, and which have to do with a folder. */
import { readdir, readFile, readlink } from "node:fs/promises";

/** A process by number and start time: numbers come round again. */
export interface Seen {
  readonly pid: number;
  readonly startTicks: string;
  readonly parent: number;
  readonly group: number;
  readonly command: string;
}

export async function allProcesses(): Promise<readonly Seen[]> {
  const names = await readdir("/proc");
  const found = await Promise.all(names.filter((name) => /^\d+$/.test(name)).map(look));
  return found.filter((one) => one !== undefined);
}

async function look(pid: string): Promise<Seen | undefined> {
  try {
    const text = await readFile(`/proc/${pid}/stat`, "latin1");
    const command = (await readFile(`/proc/${pid}/cmdline`, "latin1")).replaceAll("\0", " ").trim();
    // The name in brackets may hold anything, brackets too.
    const fields = text.slice(text.lastIndexOf(")") + 2).split(" ");
    const [state, parent, group] = fields;
    if (state === "Z" || state === "X") return undefined;
    return {
      pid: Number(pid),
      startTicks: fields[19] ?? "",
      parent: Number(parent),
      group: Number(group),
      command,
    };
  } catch {
    return undefined;
  }
}

export async function descendantsOf(pid: number | undefined): Promise<readonly Seen[]> {
  if (pid === undefined) return [];
  const all = await allProcesses();
  const found: Seen[] = [];
  for (let parents = new Set([pid]); parents.size > 0; ) {
    const children = all.filter(({ parent }) => parents.has(parent));
    found.push(...children);
    parents = new Set(children.map((child) => child.pid));
  }
  return found;
}

/** Those of them that are still there. */
export async function stillThere(seen: readonly Seen[]): Promise<readonly Seen[]> {
  const now = new Map((await allProcesses()).map((one) => [one.pid, one.startTicks]));
  return seen.filter(({ pid, startTicks }) => now.get(pid) === startTicks);
}

/** Processes that name the folder in their command, environment, root or working directory. */
export async function processesOf(
  folder: string,
  groups: readonly number[],
): Promise<readonly Seen[]> {
  const found: Seen[] = [];
  for (const one of await allProcesses()) {
    if (one.pid === process.pid) continue;
    if (groups.includes(one.group) || (await concerns(one, folder))) found.push(one);
  }
  return found;
}

async function concerns({ pid, command }: Seen, folder: string): Promise<boolean> {
  if (command.includes(folder)) return true;
  const places = await Promise.all(
    ["cwd", "root"].map((name) => readlink(`/proc/${pid}/${name}`).catch(() => "")),
  );
  if (places.some((place) => place.startsWith(folder))) return true;
  const environment = await readFile(`/proc/${pid}/environ`, "latin1").catch(() => "");
  return environment.includes(folder);
}
