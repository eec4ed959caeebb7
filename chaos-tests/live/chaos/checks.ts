/** What has to hold when all is calm again, and what nobody may leave behind. */
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { until, type World } from "../nodes.ts";
import { type Fleet, type Member, type Status, statusOf } from "./fleet.ts";
import { processesOf, type Seen, stillThere } from "./processes.ts";

const restMaxMs = 20_000;
/** Lists that a node keeps for its linkers and compilers: 64 of each kind. */
const listsMax = 200;
const goneMaxMs = 10_000;
/** Counters of `mesh status` that are zero at rest. */
const zeroAtRest = ["tasksHere", "tasksLeased", "tasksCommitting", "foreignHeld"] as const;

/** Slots, leases and foreign tasks that a node still holds though nobody wants anything. */
export async function heldAtRest(world: World, fleet: Fleet): Promise<readonly string[]> {
  const problems: string[] = [];
  for (const member of fleet.members) {
    let held = "it does not answer";
    const rests = async (): Promise<boolean> => {
      held = heldIn(await statusOf(world, member));
      return held === "";
    };
    try {
      await until(`${member.name} at rest`, rests, restMaxMs);
    } catch {
      problems.push(`${member.name} is not at rest: ${held}`);
    }
  }
  return problems;
}

function heldIn(status: Status | undefined): string {
  if (status === undefined) return "it does not answer";
  const { busy, queued, counters } = status;
  const counts = [
    ["busy", busy],
    ["queued", queued],
    ...zeroAtRest.map((name) => [name, counters[name] ?? Number.NaN] as const),
  ] as const;
  return counts
    .filter(([, count]) => count !== 0)
    .map(([name, count]) => `${name} ${count}`)
    .join(", ");
}

/** Tasks that were queued in a life which was not killed, and never ended. */
export function lostTasks(members: readonly Member[]): readonly string[] {
  return members.flatMap(({ name, lives, killed }) =>
    lives().flatMap((life, at) => {
      if (killed.has(life)) return [];
      const open = new Map<unknown, unknown>();
      for (const { event, task, label } of life.events) {
        if (event === "task-queued") open.set(task, label);
        if (event === "task-done" || event === "task-cancelled") open.delete(task);
      }
      return [...open].map(
        ([task, label]) => `${name}, life ${at}: ${task} (${label}) never ended`,
      );
    }),
  );
}

export interface Sightings {
  readonly stolen: number;
  /** Tasks that came back from a thief, by why. */
  readonly requeued: Readonly<Record<string, number>>;
  readonly refused: number;
  /** How often nodes of the mesh turned each other away, by the reason given. */
  readonly quarrels: Readonly<Record<string, number>>;
}

export function sightings(members: readonly Member[]): Sightings {
  const events = members.flatMap(({ lives }) => lives().flatMap((life) => life.events));
  const count = (fits: (event: Readonly<Record<string, unknown>>) => boolean): number =>
    events.filter(fits).length;
  const own = new Set(members.flatMap(({ lives }) => lives().map(({ peerId }) => peerId)));
  const reasons = (name: string, fits: (peer: string) => boolean): Record<string, number> => {
    const counts: Record<string, number> = {};
    for (const { event, peer, reason } of events) {
      if (event !== name || !fits(String(peer))) continue;
      // Without names and numbers, which are others each time.
      const what = String(reason)
        .replaceAll(/[0-9a-f]{64}|\b12D3\w+|\d+/g, "N")
        .replaceAll(/\/\S+/g, "PATH")
        .slice(0, 100);
      counts[what] = (counts[what] ?? 0) + 1;
    }
    return counts;
  };
  return {
    quarrels: reasons("peer-refused", (peer) => own.has(peer)),
    stolen: count(({ event, source }) => event === "task-done" && source === "there"),
    requeued: reasons("task-requeued", () => true),
    refused: count(({ event }) => event === "peer-refused"),
  };
}

/** Lives that ended though nobody ended them. */
export function crashes(
  members: readonly Member[],
  ended: (member: Member) => boolean,
): readonly string[] {
  return members.flatMap((member) => {
    if (member.node() !== undefined || ended(member)) return [];
    const last = member.lives().at(-1);
    return [`${member.name} ended by itself: ${last?.stderr().slice(-1000)}`];
  });
}

/** Whatever a bug prints before it ends a node. */
export function complaints(members: readonly Member[]): readonly string[] {
  return members.flatMap(({ name, lives }) =>
    lives().flatMap((life) => {
      const text = life.stderr().trim();
      return text === "" ? [] : [`${name} said on stderr: ${text.slice(0, 600)}`];
    }),
  );
}

/** After everything was closed: processes, mounts and temporary files of the run. */
export async function leftBehind(
  folder: string,
  orphans: readonly Seen[],
  groups: readonly number[],
): Promise<readonly string[]> {
  const problems: string[] = [];
  let left: readonly Seen[] = [];
  await until(
    "all processes gone",
    async () => {
      left = [...(await processesOf(folder, groups)), ...(await stillThere(orphans))];
      return left.length === 0;
    },
    goneMaxMs,
  ).catch(() => {});
  for (const { pid, command } of left)
    problems.push(`process ${pid} is left: ${command.slice(0, 200)}`);
  const mounts = await readFile("/proc/self/mounts", "utf8").catch(() => "");
  for (const line of mounts.split("\n")) {
    if (line.includes(folder)) problems.push(`a mount is left: ${line}`);
  }
  return problems;
}

/** Folders of sandboxes and half-written files in data directories of nodes that have ended. */
export async function temporaryFiles(members: readonly Member[]): Promise<readonly string[]> {
  const problems: string[] = [];
  for (const { name, dataDir } of members) {
    const tmp = join(dataDir, "tmp");
    const names = (await readdir(tmp).catch(() => [])).filter((path) => path !== "lists");
    // Made when the node starts, and swept then: lists that no compile came back for.
    const lists = await readdir(join(tmp, "lists")).catch(() => []);
    if (lists.length > listsMax) problems.push(`${name} left ${lists.length} lists in its tmp`);
    if (names.length > 0)
      problems.push(`${name} left in its tmp: ${names.slice(0, 10).join(", ")}`);
    const blobs = await readdir(join(dataDir, "blobs"), { recursive: true }).catch(() => []);
    const half = blobs.filter((path) => /(^|\/)\./.test(path));
    if (half.length > 0)
      problems.push(`${name} left in its store: ${half.slice(0, 10).join(", ")}`);
  }
  return problems;
}
