/**
 * A mesh of real nodes on simulated hosts: everything of `src/` from `wire` to `node` as it ships,
 * and only time, chance, disk, network and processes simulated.
 *
 * It knows how a host's life begins and ends. What the nodes work on is `workload.ts`.
 */
import type { Execute } from "../../src/action/action.ts";
import { meshTagOf } from "../../src/action/record.ts";
import { openRecords, recordsDefaults } from "../../src/action/records.ts";
import { utf8 } from "../../src/base/bytes.ts";
import { digestOf } from "../../src/base/digest.ts";
import { createEvents, type MeshEvent } from "../../src/base/events.ts";
import { createBlobStore } from "../../src/blob/store.ts";
import { ingestTwins, systemPrefixes } from "../../src/blob/twin.ts";
import type { Host } from "../../src/host/host.ts";
import { createNode, type MeshNode, type NodeOptions, nodeDefaults } from "../../src/node/node.ts";
import { createMembership } from "../../src/peer/membership.ts";
import type { SimCommands } from "../../src/sim/processes.ts";
import { createSimSigning } from "../../src/sim/signing.ts";
import {
  createSimulation,
  type Simulation,
  type SimulationOptions,
} from "../../src/sim/simulation.ts";
import { peerIdOf } from "../../src/sim/station.ts";
import type { Durations } from "../../src/work/durations.ts";
import { createLies } from "./liar.ts";
import { createToolRun, durationMsOf, toolBytes, toolPath } from "./tool.ts";

/** One life of one host, with a node on it. */
export interface SimNode extends MeshNode {
  readonly name: string;
  /** Counts the lives of its host from 1. */
  readonly life: number;
}

export interface MeshOptions {
  readonly nodes: number;
  /** Slots of the host with this index. Default 2. */
  readonly slots?: (index: number) => number;
  /** How the host with this index runs foreign commands. Default "bwrap". */
  readonly sandbox?: (index: number) => "bwrap" | "none";
  /** Stands around the executor of a host: for peers that are not what they should be. */
  readonly around?: (execute: Execute, name: string) => Execute;
  readonly simulation?: Partial<SimulationOptions>;
  /** Bytes a node's store may hold. */
  readonly quotaBytes?: number;
  /** What the node on this host does other than by default. */
  readonly node?: (index: number) => Partial<NodeOptions>;
  /** What the node on this host knows about durations when it starts. */
  readonly durations?: (index: number) => Durations | undefined;
}

export interface SimMesh {
  readonly simulation: Simulation;
  /** Names of all hosts, dead ones too. */
  readonly names: readonly string[];
  /** Nodes that live and have started, in the order of `names`. */
  nodes(): readonly SimNode[];
  /** @throws RangeError when that host has no living node. */
  node(name: string): SimNode;
  find(name: string): SimNode | undefined;
  /** Hosts that answer whoever looks for a result with lies. */
  readonly liars: Set<string>;
  onEvent(listener: (node: SimNode, event: MeshEvent) => void): void;
  /** Runs until every living node is connected to every other. */
  assembled(limitMs: number): Promise<void>;
  isWhole(): boolean;
  kill(name: string, how?: { readonly silent?: boolean; readonly losePower?: boolean }): void;
  /** Begins a new life; resolves when its node has started. */
  restart(name: string): Promise<SimNode>;
}

const meshKey = Uint8Array.from(
  Buffer.from(digestOf(utf8("a simulated mesh")).slice(0, 64), "hex"),
);
const dataDir = "/data";
const gigabyte = 2 ** 30;

/** Durations come from the command line of the simulated tool. */
const commands: SimCommands = ({ argv }) => ({ durationMs: durationMsOf(argv) });

/** Adds the hosts and starts their nodes, the first of which invited the others. */
export async function createMesh(seed: number | string, options: MeshOptions): Promise<SimMesh> {
  const simulation = createSimulation(seed, { commands, ...options.simulation });
  const names = Array.from({ length: options.nodes }, (_, index) => `n${index}`);
  const listeners: ((node: SimNode, event: MeshEvent) => void)[] = [];
  const living = new Map<string, SimNode>();
  const lives = new Map<string, number>();
  const liars = new Set<string>();
  const lies = createLies(simulation.random.fork("lies"));

  async function start(name: string, host: Host): Promise<SimNode> {
    const life = (lives.get(name) ?? 0) + 1;
    lives.set(name, life);
    await host.disk.makeDirectory(dataDir);
    await host.disk.writeAtomic(toolPath, toolBytes, { mode: 0o755, sync: true });
    const parts = await startParts(host, name, names[0] ?? name, options);
    const started: { node?: SimNode } = {};
    parts.events.listen((event) => {
      simulation.record(`event.${event.event}`, name);
      if (started.node !== undefined) for (const hear of listeners) hear(started.node, event);
    });
    const { slots = () => 2, sandbox = () => "bwrap" } = options;
    const index = names.indexOf(name);
    const node: SimNode = {
      ...createNode(
        {
          host: { ...host, network: lies.around(host.network, () => liars.has(name)) },
          ...parts,
          durations: options.durations?.(index),
        },
        {
          ...nodeDefaults,
          ...options.node?.(index),
          bootstrap: [],
          own: { ...describe(name, slots(index)), sandbox: sandbox(index) },
        },
      ),
      name,
      life,
    };
    started.node = node;
    // Killed while it started: then this life is over already, and so is what waits for it.
    if (simulation.host(name) === host) living.set(name, node);
    return node;
  }

  const isWhole = (): boolean =>
    [...living.values()].every(({ directory }) => directory.peers().length === living.size - 1);

  const hosts = names.map((name) => [name, simulation.addHost(name)] as const);
  for (const { disk } of hosts.map(([, host]) => host)) {
    await simulation.finish(disk.makeDirectory("/usr/bin"), 1e6);
  }
  const starting = Promise.all(hosts.map(([name, host]) => start(name, host)));
  await simulation.finish(starting, simulation.nowMs() + 60_000);

  return {
    simulation,
    names,
    liars,
    nodes: () => names.flatMap((name) => living.get(name) ?? []),
    node(name) {
      const node = living.get(name);
      if (node === undefined) throw new RangeError(`${name} is dead or still starting`);
      return node;
    },
    find: (name) => living.get(name),
    onEvent: (listener) => void listeners.push(listener),
    isWhole,
    assembled: (limitMs) => simulation.until(isWhole, simulation.nowMs() + limitMs),
    kill(name, how) {
      living.delete(name);
      simulation.faults.kill(name, how);
    },
    restart(name) {
      living.delete(name);
      return start(name, simulation.faults.restart(name));
    },
  };
}

async function startParts(
  host: Host,
  name: string,
  inviter: string,
  { around = (execute) => execute, quotaBytes = gigabyte }: MeshOptions,
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
  const store = await createBlobStore(
    { disk, clock },
    { directory: dataDir, quotaBytes, sync: "never" },
    new AbortController().signal,
  );
  const keys = { signing: createSimSigning(host.network.self), tag: meshTagOf(meshKey) };
  const records = await openRecords(
    { keys, disk, clock, emit: events.emit },
    { ...recordsDefaults, directory: `${dataDir}/results` },
    new AbortController().signal,
  );
  return {
    events,
    membership,
    store,
    records,
    execute: around(createToolRun({ store, processes: host.processes }), name),
    ingestTwins: (
      inputs: Parameters<typeof ingestTwins>[1],
      signal: AbortSignal,
    ): ReturnType<typeof ingestTwins> =>
      ingestTwins({ store, disk }, inputs, { prefixes: systemPrefixes }, signal),
  };
}

function describe(name: string, slots: number) {
  return {
    name,
    slots,
    sandbox: "bwrap",
    platform: "linux/x86_64",
    labels: {},
    roles: ["member"],
  } as const;
}
