/**
 * A mesh of real nodes on simulated hosts: everything of `src/` from `wire` to `node` as it ships,
 * the executor and its sandbox included, and only time, chance, disk, network and processes
 * simulated.
 *
 * It knows how a host's life begins and ends. What the nodes work on is `workload.ts`.
 */
import type { Execute } from "../../src/action/action.ts";
import { meshTagOf } from "../../src/action/record.ts";
import { openRecords, recordsDefaults } from "../../src/action/records.ts";
import { utf8 } from "../../src/base/bytes.ts";
import { digestOf } from "../../src/base/digest.ts";
import { createEvents, type Emit, type MeshEvent } from "../../src/base/events.ts";
import { type BlobStore, createBlobStore } from "../../src/blob/store.ts";
import { ingestTwins, systemPrefixes } from "../../src/blob/twin.ts";
import { createExecutor } from "../../src/exec/executor.ts";
import { createNativeExecutor, nativeDefaults } from "../../src/exec/native.ts";
import { probeSandbox } from "../../src/exec/sandbox/probe.ts";
import { cleanLeftovers } from "../../src/exec/sandbox/root.ts";
import { createWasmExecutor } from "../../src/exec/wasm.ts";
import type { Host, Network } from "../../src/host/host.ts";
import type { WasmPool } from "../../src/host/wasm-pool.ts";
import { createNode, type MeshNode, type NodeOptions, nodeDefaults } from "../../src/node/node.ts";
import { createMembership } from "../../src/peer/membership.ts";
import { createSimSigning } from "../../src/sim/signing.ts";
import {
  createSimulation,
  type Simulation,
  type SimulationOptions,
} from "../../src/sim/simulation.ts";
import { peerIdOf } from "../../src/sim/station.ts";
import type { Durations } from "../../src/work/durations.ts";
import { createUrgency } from "../../src/work/urgency.ts";
import { createTricks, type Trick } from "./crook.ts";
import { createLies } from "./liar.ts";
import { createCommands, installed } from "./programs.ts";

/** One life of one host, with a node on it. */
export interface SimNode extends MeshNode {
  readonly name: string;
  /** Counts the lives of its host from 1. */
  readonly life: number;
  /** Removes what its executor keeps for the next run; it runs nothing afterwards. */
  closeRooms(): Promise<void>;
  /** What SIGTERM does: ends the node politely, and then everything that it has started. */
  end(): Promise<void>;
}

export interface MeshOptions {
  readonly nodes: number;
  /** Slots of the host with this index. Default 2. */
  readonly slots?: (index: number) => number;
  /**
   * What the host with this index says of its walls; all have some. With "" it takes no native
   * tasks from others. Default "bwrap".
   */
  readonly sandbox?: (index: number) => "bwrap" | "none" | "";
  /** Stands around the executor of a host: for peers that are not what they should be. */
  readonly around?: (execute: Execute, name: string) => Execute;
  readonly simulation?: Partial<SimulationOptions>;
  /** Bytes a node's store may hold. */
  readonly quotaBytes?: number;
  /** What the node on this host does other than by default. */
  readonly node?: (index: number) => Partial<NodeOptions>;
  /** What the node on this host knows about durations when it starts. */
  readonly durations?: (index: number) => Durations | undefined;
  /**
   * Whether executors keep what they have built of an action's inputs for the next one, as they do
   * in earnest. Default false: then nothing is pinned at rest.
   */
  readonly keepsRoots?: boolean;
}

export interface SimMesh {
  readonly simulation: Simulation;
  /** Names of all hosts that belong to it, dead ones too. Grows and shrinks. */
  readonly names: readonly string[];
  /** Nodes that live and have started, in the order of `names`. */
  nodes(): readonly SimNode[];
  /** @throws RangeError when that host has no living node. */
  node(name: string): SimNode;
  find(name: string): SimNode | undefined;
  /** Hosts that answer whoever looks for a result with lies. */
  readonly liars: Set<string>;
  /** Hosts that break the rules of stealing, and how. */
  readonly crooks: Map<string, Trick>;
  /** What crooks have done so far, by trick. */
  readonly tricked: ReadonlyMap<Trick, number>;
  onEvent(listener: (node: SimNode, event: MeshEvent) => void): void;
  /**
   * Hears of every tool that starts on a host and which files it is going to read there; undefined
   * for one that it cannot see.
   */
  onCommand(listener: (name: string, places: readonly (string | undefined)[]) => void): void;
  /** Runs until every living node is connected to every other. */
  assembled(limitMs: number): Promise<void>;
  isWhole(): boolean;
  kill(name: string, how?: { readonly silent?: boolean; readonly losePower?: boolean }): void;
  /** Begins a new life; resolves when its node has started. */
  restart(name: string): Promise<SimNode>;
  /** A host that was never there before; resolves when its node has started. */
  join(): Promise<SimNode>;
  /** Ends its node politely and takes the host away for good. Resolves when it is gone. */
  leave(name: string): Promise<void>;
  /** Takes a host away for good, as it stands. */
  lose(name: string): void;
}

const meshKey = Uint8Array.from(
  Buffer.from(digestOf(utf8("a simulated mesh")).slice(0, 64), "hex"),
);
const dataDir = "/data";
const tmpDir = `${dataDir}/tmp`;
const gigabyte = 2 ** 30;
const platform = "linux/x86_64";
const never = new AbortController().signal;

/** Adds the hosts and starts their nodes, the first of which invited the others. */
export async function createMesh(seed: number | string, options: MeshOptions): Promise<SimMesh> {
  const hearers: Parameters<SimMesh["onCommand"]>[0][] = [];
  const commands = createCommands((name, places) => {
    for (const hear of hearers) hear(name, places);
  });
  const simulation = createSimulation(seed, { commands, ...options.simulation });
  const names = Array.from({ length: options.nodes }, (_, index) => `n${index}`);
  const listeners: ((node: SimNode, event: MeshEvent) => void)[] = [];
  const living = new Map<string, SimNode>();
  /** Whoever is killed may still get to the end of its turn: what it says then is not heard. */
  const dead = new WeakSet<SimNode>();
  const lives = new Map<string, number>();
  const liars = new Set<string>();
  const crooks = new Map<string, Trick>();
  const lies = createLies(simulation.random.fork("lies"));
  const tricks = createTricks(simulation.random.fork("tricks"));

  function networkOf(name: string, { network, clock }: Host): Network {
    return tricks.around(
      lies.around(network, () => liars.has(name)),
      clock,
      () => crooks.get(name),
    );
  }

  async function start(name: string, host: Host): Promise<SimNode> {
    const life = (lives.get(name) ?? 0) + 1;
    lives.set(name, life);
    const pool = simulation.wasmPool(name);
    await install(host);
    const inviter = names[0] === name ? name : (names[0] ?? name);
    const parts = await startParts(host, pool, name, inviter, options);
    const started: { node?: SimNode } = {};
    parts.events.listen((event) => {
      simulation.record(`event.${event.event}`, name);
      if (started.node === undefined || dead.has(started.node)) return;
      for (const hear of listeners) hear(started.node, event);
    });
    const { slots = () => 2, sandbox = () => "bwrap" } = options;
    const index = Number(name.slice(1));
    const made = createNode(
      {
        ...parts,
        host: { ...host, network: networkOf(name, host) },
        learned: learnedOf(options.durations?.(index)),
      },
      {
        ...nodeDefaults,
        ...options.node?.(index),
        bootstrap: [],
        own: { ...describe(name, slots(index)), sandbox: sandbox(index) },
      },
    );
    const end = async (): Promise<void> => {
      await made.stop();
      await parts.close();
      await host.processes.close();
    };
    const node: SimNode = { ...made, name, life, closeRooms: parts.close, end };
    started.node = node;
    // Killed while it started: then this life is over already, and so is what waits for it.
    if (simulation.host(name) === host && names.includes(name)) living.set(name, node);
    return node;
  }

  const isWhole = (): boolean =>
    [...living.values()].every(({ directory }) => directory.peers().length === living.size - 1);

  function bury(name: string): void {
    const node = living.get(name);
    if (node !== undefined) dead.add(node);
    living.delete(name);
  }

  function kill(name: string, how?: Parameters<SimMesh["kill"]>[1]): void {
    bury(name);
    simulation.faults.kill(name, how);
  }

  function lose(name: string): void {
    names.splice(names.indexOf(name), 1);
    kill(name);
  }

  const hosts = names.map((name) => [name, simulation.addHost(name)] as const);
  const starting = Promise.all(hosts.map(([name, host]) => start(name, host)));
  await simulation.finish(starting, simulation.nowMs() + 60_000);
  let hostCount = names.length;

  return {
    simulation,
    names,
    liars,
    crooks,
    tricked: tricks.done,
    nodes: () => names.flatMap((name) => living.get(name) ?? []),
    node(name) {
      const node = living.get(name);
      if (node === undefined) throw new RangeError(`${name} is dead or still starting`);
      return node;
    },
    find: (name) => living.get(name),
    onEvent: (listener) => void listeners.push(listener),
    onCommand: (listener) => void hearers.push(listener),
    isWhole,
    assembled: (limitMs) => simulation.until(isWhole, simulation.nowMs() + limitMs),
    kill,
    restart(name) {
      bury(name);
      return start(name, simulation.faults.restart(name));
    },
    join() {
      const name = `n${hostCount++}`;
      names.push(name);
      return start(name, simulation.addHost(name));
    },
    async leave(name) {
      const node = living.get(name);
      if (node === undefined) throw new RangeError(`${name} is dead or still starting`);
      living.delete(name);
      names.splice(names.indexOf(name), 1);
      await node.end();
      simulation.faults.kill(name);
    },
    lose,
  };
}

async function install({ disk }: Host): Promise<void> {
  await disk.makeDirectory("/usr/bin");
  await disk.makeDirectory(dataDir);
  for (const [path, bytes] of installed)
    if (disk.statNow(path) === undefined)
      await disk.writeAtomic(path, bytes, { mode: 0o755, sync: true });
}

async function startParts(
  host: Host,
  pool: WasmPool,
  name: string,
  inviter: string,
  { around = (execute) => execute, quotaBytes = gigabyte, keepsRoots = false }: MeshOptions,
) {
  const { clock, disk, random } = host;
  const events = createEvents();
  const peer = peerIdOf(inviter);
  const invite = {
    meshKey,
    inviter: peer,
    addrs: [`sim/${inviter}/p2p/${peer}`],
    expiresAtSeconds: 2 ** 32 - 1,
  };
  const membership = await createMembership(
    { disk, clock, random, emit: events.emit },
    { dataDir, invite, name, nameDefault: name },
  );
  await cleanLeftovers(host, tmpDir, never);
  const store = await createBlobStore(
    { disk, clock },
    { directory: dataDir, quotaBytes, sync: "never" },
    never,
  );
  const keys = { signing: createSimSigning(host.network.self), tag: meshTagOf(meshKey) };
  const records = await openRecords(
    { keys, disk, clock, emit: events.emit },
    { ...recordsDefaults, directory: `${dataDir}/results` },
    never,
  );
  const executors = await createExecutors(
    host,
    pool,
    keepsRoots ? store : { ...store, stats: () => ({ ...store.stats(), quotaBytes: 0 }) },
    events.emit,
  );
  return {
    events,
    membership,
    store,
    records,
    execute: around(executors.execute, name),
    close: executors.close,
    ingestTwins: (
      inputs: Parameters<typeof ingestTwins>[1],
      signal: AbortSignal,
    ): ReturnType<typeof ingestTwins> =>
      ingestTwins({ store, disk }, inputs, { prefixes: systemPrefixes }, signal),
  };
}

/** As `src/node/open.ts` makes them. */
async function createExecutors(
  { disk, processes }: Host,
  pool: WasmPool,
  store: BlobStore,
  emit: Emit,
): Promise<{ readonly execute: Execute; close(): Promise<void> }> {
  const sandbox = await probeSandbox({ processes, disk }, { wanted: undefined, tmpDir }, never);
  if (sandbox.tier !== "bwrap") throw new Error(`a simulated host has no walls: ${sandbox.why}`);
  const native = createNativeExecutor(
    { processes, disk, store, emit, sandbox },
    { ...nativeDefaults, tmpDir },
  );
  const wasm = createWasmExecutor(
    { store, pool },
    { memoryMaxBytes: gigabyte, timeoutMaxMs: 3_600_000, outputMaxBytes: gigabyte },
  );
  return {
    execute: createExecutor({ native: native.execute, wasm }, { platform }),
    async close() {
      await native.close();
      await pool.close();
    },
  };
}

function learnedOf(durations: Durations | undefined) {
  return durations && { durations, urgency: createUrgency(durations) };
}

function describe(name: string, slots: number) {
  return {
    name,
    slots,
    sandbox: "bwrap",
    platform,
    labels: {},
    roles: ["member"],
  } as const;
}
