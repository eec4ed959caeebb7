/**
 * Bounds on what one run may use, and the small shell script in front of every sandbox that sets
 * them.
 *
 * Memory and processes are bounded by a control group where this node may make one (version 1 or
 * 2), else by the resource limits that any user may lower. The script also opens descriptor 3,
 * on which a sandbox reports.
 */
import { textOf, utf8 } from "../../base/bytes.ts";
import type { Disk, Processes } from "../../host/host.ts";
import { toolEnv } from "./walls.ts";

export interface LimitOptions {
  /** Of one run with its /tmp; without a control group: of each process. */
  readonly memoryMaxBytes: number;
  /** Of one run. Without a control group: see `userProcessesMax`. */
  readonly processesMax: number;
  /** Of one file that a run writes. */
  readonly fileMaxBytes: number;
  /** Tells this node's control groups from those of others on this machine: letters and digits. */
  readonly groupName: string;
}

export interface Limits {
  /** Wraps a command. `statusPath` is what it sees as descriptor 3. */
  wrap(
    argv: readonly string[],
    statusPath: string,
    group: Group | undefined,
  ): [string, ...string[]];
  /** Takes an idle control group, or makes one; undefined where that is not possible. */
  takeGroup(signal: AbortSignal): Promise<Group | undefined>;
  /** For the next run: groups are used again. */
  giveBack(group: Group): void;
  /** What bounds memory here, for people. */
  kind(): "cgroup v1" | "cgroup v2" | "rlimit" | "not known yet";
  close(): Promise<void>;
}

export interface Group {
  /** Files to write one's process id to. */
  readonly joinPaths: readonly string[];
  readonly folders: readonly string[];
}

/**
 * The kernel counts all processes of a user for this limit, not those of one run: it has to leave
 * room for the user's own, and only stops a run that would take the machine down.
 */
const userProcessesMax = 8192;

/**
 * $1 status file, $2 file blocks of 512 bytes, $3 KiB of address space or "-", $4 processes or
 * "-", $5 number of groups to join, then their files, then the command. `ulimit -p` is the
 * processes in dash and ash, `-u` in bash, where `-p` fails. A limit that is lower already stays.
 */
const script = `
exec 3>"$1" || exit 1
ulimit -c 0
ulimit -f "$2" 2>/dev/null
[ "$3" = - ] || ulimit -v "$3" 2>/dev/null
[ "$4" = - ] || ulimit -p "$4" 2>/dev/null || ulimit -u "$4" 2>/dev/null
n=$5
shift 5
while [ "$n" -gt 0 ]; do
  echo $$ > "$1" || exit 1
  shift
  n=$((n - 1))
done
exec "$@"
`;

export function createLimits(
  { disk, processes }: { readonly disk: Disk; readonly processes: Processes },
  options: LimitOptions,
): Limits {
  const idle: Group[] = [];
  const all: Group[] = [];
  let parents: Promise<Parents | undefined> | undefined;
  let kind: ReturnType<Limits["kind"]> = "not known yet";
  let made = 0;

  /** What an earlier process of this data folder made and did not live to remove. */
  async function removeOld({ folders }: Parents): Promise<void> {
    const old: string[] = [];
    for (const folder of folders)
      for (const { name } of (await disk.list(folder)) ?? [])
        if (name.startsWith(`${groupPrefix}${options.groupName}-`)) old.push(`${folder}/${name}`);
    await removeFolders(processes, old);
  }

  async function make(): Promise<Group | undefined> {
    parents ??= findParents(disk).then(async (found) => {
      if (found !== undefined) await removeOld(found);
      return found;
    });
    const found = await parents;
    if (found === undefined) {
      kind = "rlimit";
      return undefined;
    }
    const group = await makeGroup(
      disk,
      found,
      `${groupPrefix}${options.groupName}-${made++}`,
      options,
    );
    if (group === undefined) {
      // One failure is taken for the rule: no run shall wait for attempts in vain.
      parents = Promise.resolve(undefined);
      kind = "rlimit";
      return undefined;
    }
    kind = found.kind;
    all.push(group);
    return group;
  }

  return {
    wrap(argv, statusPath, group) {
      return [
        ...(["sh", "-c", script, "sh", statusPath] as const),
        String(Math.ceil(options.fileMaxBytes / 512)),
        group === undefined ? String(Math.ceil(options.memoryMaxBytes / 1024)) : "-",
        group === undefined ? String(Math.max(options.processesMax, userProcessesMax)) : "-",
        String(group?.joinPaths.length ?? 0),
        ...(group?.joinPaths ?? []),
        ...argv,
      ];
    },
    takeGroup: async (signal) => {
      signal.throwIfAborted();
      for (let group = idle.pop(); group !== undefined; group = idle.pop())
        // Somebody may have tidied up while it was empty.
        if (group.joinPaths.every((path) => disk.statNow(path) !== undefined)) return group;
      return make();
    },
    giveBack: (group) => void idle.push(group),
    kind: () => kind,
    async close() {
      const folders = all.splice(0).flatMap((group) => group.folders);
      idle.length = 0;
      await removeFolders(processes, folders);
    },
  };
}

interface Parents {
  readonly kind: "cgroup v1" | "cgroup v2";
  readonly folders: readonly string[];
}

const groupPrefix = "mesh-exec-";
const mountPoint = "/sys/fs/cgroup";

/** Where groups can be made: below this process's own (version 1) or beside it (version 2). */
async function findParents(disk: Disk): Promise<Parents | undefined> {
  const own = ownGroups(textOf(await disk.read("/proc/self/cgroup").catch(() => new Uint8Array())));
  const v1 = ["memory", "pids"].map((controller) => {
    const path = own.get(controller);
    return path === undefined
      ? undefined
      : `${mountPoint}/${controller}${path === "/" ? "" : path}`;
  });
  if (v1.every((path) => path !== undefined && disk.statNow(path)?.kind === "directory"))
    return { kind: "cgroup v1", folders: v1.filter((path) => path !== undefined) };
  const path = own.get("");
  if (path === undefined || path === "/") return undefined;
  // A version 2 group with processes in it, as our own, cannot bound groups below it.
  const parent = `${mountPoint}${path.slice(0, path.lastIndexOf("/"))}`;
  const offered = textOf(
    await disk.read(`${parent}/cgroup.subtree_control`).catch(() => new Uint8Array()),
  );
  const controllers = offered.trim().split(/\s+/);
  if (!controllers.includes("memory") || !controllers.includes("pids")) return undefined;
  return { kind: "cgroup v2", folders: [parent] };
}

/** Lines of /proc/self/cgroup: `<n>:<controllers, or nothing in version 2>:<path>`. */
function ownGroups(text: string): ReadonlyMap<string, string> {
  const groups = new Map<string, string>();
  for (const line of text.split("\n")) {
    const [, controllers, ...path] = line.split(":");
    if (controllers === undefined) continue;
    for (const controller of controllers.split(",")) groups.set(controller, path.join(":"));
  }
  return groups;
}

async function makeGroup(
  disk: Disk,
  parents: Parents,
  name: string,
  { memoryMaxBytes, processesMax }: LimitOptions,
): Promise<Group | undefined> {
  const folders = parents.folders.map((folder) => `${folder}/${name}`);
  const [first = "", second = first] = folders;
  const isV1 = parents.kind === "cgroup v1";
  try {
    for (const folder of folders) await disk.makeDirectory(folder);
    const memory = isV1 ? `${first}/memory.limit_in_bytes` : `${first}/memory.max`;
    await disk.append(memory, utf8(String(memoryMaxBytes)));
    await disk.append(`${second}/pids.max`, utf8(String(processesMax)));
    return { folders, joinPaths: folders.map((folder) => `${folder}/cgroup.procs`) };
  } catch {
    // Not ours to make: a resource limit has to do.
    return undefined;
  }
}

/** A group is busy until the last of its processes is quite gone, which can be after its run. */
const removeScript = `
for pause in 0.02 0.1 0.5 2; do
  rmdir -- "$@" 2>/dev/null
  left=
  for folder; do [ -d "$folder" ] && left=1; done
  [ -z "$left" ] && exit
  sleep $pause
done
`;

/** The files of a control group cannot be removed, its folder can: not a job for `disk.remove`. */
async function removeFolders(processes: Processes, folders: readonly string[]): Promise<void> {
  if (folders.length === 0) return;
  await processes
    .run(
      {
        argv: ["sh", "-c", removeScript, "sh", ...folders],
        env: toolEnv,
        cwd: "/",
        timeoutMs: 10_000,
        outputMaxBytes: 64 * 1024,
      },
      new AbortController().signal,
    )
    .catch(() => {});
}
