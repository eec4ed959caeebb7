/**
 * The nodes of a run, each behind a proxy of its own and with a wall clock of its own, and their
 * lives: who is killed comes back with the same data directory and the same address.
 */
import { mkdir, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { join, resolve } from "node:path";
import type { SeededRandom } from "../../../src/sim/random.ts";
import { type LiveNode, until, type World } from "../nodes.ts";
import { startProxy, type TcpProxy } from "./proxy.ts";

/** `builds`: owns compiles and may be killed; `jobs`: owns jobs, which end with their node. */
export type Role = "builds" | "jobs" | "worker";

/** What faults of one kind have to themselves while they last. */
export type Part = "process" | "network" | "disk" | "clock";

export interface Member {
  readonly name: string;
  readonly role: Role;
  readonly dataDir: string;
  readonly proxy: TcpProxy;
  /** The small disk that its data directory lies on. */
  readonly disk: string | undefined;
  /** Undefined while it is dead. */
  node(): LiveNode | undefined;
  /** Every life so far, the present one last. */
  lives(): readonly LiveNode[];
  /** Starts it again, once it is dead. */
  restart(): Promise<void>;
  /** Lives that were ended by a signal which nobody can wait for. */
  readonly killed: Set<LiveNode>;
  setClock(shiftMs: number): Promise<void>;
  /** Parts of it that a fault is at. */
  readonly struck: Set<Part>;
}

export interface FleetOptions {
  readonly workers: number;
  /** Data directory of the last worker. */
  readonly smallDisk: string | undefined;
}

export interface Fleet {
  readonly members: readonly Member[];
  readonly invite: string;
  close(): Promise<void>;
}

const clockShift = resolve(import.meta.dirname, "clock-shift.ts");
/** Below the ports that systems hand out by themselves, so that a dead node's stays free. */
const portMin = 20_000;
const portMax = 30_000;
const portTries = 100;
/** How often, and after how long, a node is started again whose disk was full. */
const fullTriesMax = 60;
const fullPauseMs = 500;

export async function startFleet(
  world: World,
  random: SeededRandom,
  { workers, smallDisk }: FleetOptions,
): Promise<Fleet> {
  const members: Member[] = [];
  const roles: Role[] = [
    "builds",
    "jobs",
    ...Array.from({ length: workers }, () => "worker" as const),
  ];
  let invite: string | undefined;
  for (const [at, role] of roles.entries()) {
    const disk = at === roles.length - 1 ? smallDisk : undefined;
    const member = await createMember(world, random, `n${at}`, role, disk, () => invite);
    members.push(member);
  }
  const [first, ...others] = members;
  await first?.restart();
  invite = first?.node()?.invite;
  await Promise.all(others.map((member) => member.restart()));
  return {
    members,
    invite: invite ?? "",
    async close() {
      for (const { proxy } of members) await proxy.close();
    },
  };
}

async function createMember(
  world: World,
  random: SeededRandom,
  name: string,
  role: Role,
  disk: string | undefined,
  invite: () => string | undefined,
): Promise<Member> {
  const lives: LiveNode[] = [];
  const port = await freePort();
  const proxy = await startProxy(port, random.fork(`proxy ${name}`));
  const clockFile = join(world.folder, `${name}.clock`);
  const dataDir = join(disk ?? world.folder, name);
  const setClock = (shiftMs: number) => writeFile(clockFile, String(shiftMs));
  await setClock(0);
  await mkdir(dataDir, { recursive: true });
  const node = (): LiveNode | undefined => {
    const last = lives.at(-1);
    const isAlive = last?.child.exitCode === null && last.child.signalCode === null;
    return isAlive ? last : undefined;
  };
  return {
    name,
    role,
    dataDir,
    proxy,
    disk,
    node,
    lives: () => lives,
    killed: new Set(),
    struck: new Set(),
    setClock,
    async restart() {
      if (node() !== undefined) return;
      const isFirst = lives.length === 0;
      const known = invite();
      const start = () =>
        world.start({
          name,
          dataDir,
          listen: `/ip4/127.0.0.1/tcp/${port}`,
          ownGroup: true,
          // Only its first life is told where the mesh is.
          ...(isFirst && known !== undefined ? { invite: known } : {}),
          extra: ["--announce", `/ip4/127.0.0.1/tcp/${proxy.port}`],
          env: { NODE_OPTIONS: `--import=${clockShift}`, MESH_CHAOS_CLOCK: clockFile },
        });
      for (let tries = 1; ; tries += 1) {
        try {
          lives.push(await start());
          return;
        } catch (error) {
          // While its disk is full it says so, and does not start.
          if (!String(error).includes("ENOSPC") || tries > fullTriesMax) throw error;
          await new Promise((wake) => setTimeout(wake, fullPauseMs));
        }
      }
    },
  };
}

export interface Status {
  readonly busy: number;
  readonly queued: number;
  readonly peers: readonly { readonly peerId: string }[];
  readonly counters: Readonly<Record<string, number>>;
}

export async function statusOf(world: World, member: Member): Promise<Status | undefined> {
  const { exitCode, stdout } = await world.mesh(member.dataDir, ["status", "--json"]);
  if (exitCode !== 0) return undefined;
  return JSON.parse(stdout) as Status;
}

/** Waits until each of them sees all the others. */
export async function whole(
  world: World,
  members: readonly Member[],
  maxMs: number,
): Promise<void> {
  const missing = async (): Promise<string | undefined> => {
    const ids = members.map((member) => member.node()?.peerId);
    for (const member of members) {
      const status = await statusOf(world, member);
      const own = member.node()?.peerId;
      const seen = new Set([own, ...(status?.peers ?? []).map(({ peerId }) => peerId)]);
      const at = ids.findIndex((id) => !seen.has(id));
      if (at >= 0) return `${member.name} does not see ${members[at]?.name}`;
    }
    return undefined;
  };
  let last: string | undefined;
  await until(
    "a whole mesh",
    async () => {
      last = await missing();
      return last === undefined;
    },
    maxMs,
  ).catch((error: Error) => {
    throw new Error(`${error.message} (${last})`);
  });
}

async function freePort(): Promise<number> {
  for (let tries = 0; tries < portTries; tries += 1) {
    const port = portMin + Math.floor(Math.random() * (portMax - portMin));
    if (await isFree(port)) return port;
  }
  throw new Error("no free port for a node");
}

function isFree(port: number): Promise<boolean> {
  const server = createServer();
  return new Promise((answer) => {
    server.once("error", () => answer(false));
    server.listen(port, "127.0.0.1", () => server.close(() => answer(true)));
  });
}
