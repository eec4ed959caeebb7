/**
 * Several nodes in one process, for tests: a clock that stands still until it is told to go on,
 * and a network that keeps the promises of the `Network` port and can lose nodes and cables.
 * Everything above the network is the real thing.
 */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { MeshError } from "../base/errors.ts";
import { createEvents, type MeshEvent } from "../base/events.ts";
import { asPeerId, type PeerId } from "../base/ids.ts";
import { deadlineOn, sleepOn } from "../host/clock.ts";
import { createDisk } from "../host/disk.ts";
import type { Clock, Network, PeerChange, Random, Stream, StreamEnd } from "../host/host.ts";
import { createRandom } from "../host/random.ts";
import { createStreamPair, type PairEnd } from "../wire/stream-pair.contract.ts";
import { createControl, type LiveControl } from "./control.ts";
import { createDirectory, type DirectoryOptions, type LiveDirectory } from "./directory.ts";
import { createMembership, type Membership } from "./membership.ts";

export interface TestClock extends Clock {
  /** Lets time pass; everything that becomes due runs in order. */
  advance(durationMs: number): Promise<void>;
  /** Time has passed while nobody ran, as after a suspended laptop: all that is due fires late. */
  skip(durationMs: number): void;
}

/** Lets everything happen that needs no time. */
export async function settle(turns: number = 50): Promise<void> {
  for (let turn = 0; turn < turns; turn += 1) await new Promise((resolve) => setImmediate(resolve));
}

export function createTestClock(): TestClock {
  const timers = new Set<{ readonly dueMs: number; readonly fire: () => void }>();
  let nowMs = 1000;
  const start = (durationMs: number, fire: () => void): (() => void) => {
    const timer = { dueMs: nowMs + durationMs, fire };
    timers.add(timer);
    return () => void timers.delete(timer);
  };
  return {
    nowMs: () => nowMs,
    wallMs: () => 1_800_000_000_000 + nowMs,
    sleep: sleepOn(start),
    withDeadline: deadlineOn(start),
    async advance(durationMs) {
      const untilMs = nowMs + durationMs;
      for (;;) {
        await settle();
        const [next] = [...timers].sort((a, b) => a.dueMs - b.dueMs);
        if (next === undefined || next.dueMs > untilMs) break;
        timers.delete(next);
        nowMs = Math.max(nowMs, next.dueMs);
        next.fire();
      }
      nowMs = untilMs;
      await settle();
    },
    skip(durationMs) {
      nowMs += durationMs;
      for (const timer of [...timers].sort((a, b) => a.dueMs - b.dueMs)) {
        if (timer.dueMs > nowMs) continue;
        timers.delete(timer);
        timer.fire();
      }
    },
  };
}

interface Cable {
  readonly ends: readonly [TestNetwork, TestNetwork];
  readonly streams: Set<PairEnd>;
  held: boolean;
}

export interface TestNetwork extends Network {
  readonly meshKey: string;
  readonly addr: string;
  /** Every `connect` so far. */
  dials(): readonly { readonly addr: string; readonly atMs: number }[];
  found(addrs: readonly string[]): void;
  changed(change: PeerChange): void;
  accept(peer: PeerId, protocol: string, stream: Stream): boolean;
  /** No longer reachable, and every connection lost. */
  kill(): void;
}

/** A held cable carries no end either: whoever resets is alone with it, whoever closes waits. */
function through(cable: Cable, end: PairEnd): Stream {
  const alone = Promise.withResolvers<StreamEnd>();
  return {
    ...end,
    ended: Promise.race([end.ended, alone.promise]),
    async close() {
      if (cable.held) await end.ended;
      else await end.close();
    },
    reset(reason) {
      if (cable.held) alone.resolve({ how: "reset", reason });
      else end.reset(reason);
    },
  };
}

export interface TestWire {
  /** Ids sort as their numbers do. */
  node(number: number, meshKey?: string): TestNetwork;
  /** Nothing arrives any more between the two, and nobody is told: a cut cable, a stopped process. */
  blackHole(a: PeerId, b: PeerId): void;
  cut(a: PeerId, b: PeerId): void;
}

export function createTestWire(clock: Clock, hasDht: boolean = false): TestWire {
  const nodes = new Map<string, TestNetwork>();
  const cables = new Set<Cable>();
  const topics = new Map<string, Set<TestNetwork>>();

  const between = (a: PeerId, b: PeerId): Cable | undefined =>
    [...cables].find(
      ({ ends }) => ends.some((x) => x.self === a) && ends.some((x) => x.self === b),
    );

  function cut(cable: Cable): void {
    if (!cables.delete(cable)) return;
    for (const stream of cable.streams) stream.reset("the connection was lost");
    const [left, right] = cable.ends;
    left.changed({ peer: right.self, at: "disconnected" });
    right.changed({ peer: left.self, at: "disconnected" });
  }

  function node(number: number, meshKey = "one"): TestNetwork {
    const self = asPeerId(`peer${String(number).padStart(3, "0")}`);
    const addr = `/ip4/10.0.0.${number}/tcp/1/p2p/${self}`;
    const served = new Map<string, (peer: PeerId, stream: Stream) => void>();
    const changeListeners: ((change: PeerChange) => void)[] = [];
    const foundListeners: ((addrs: readonly string[]) => void)[] = [];
    const dials: { readonly addr: string; readonly atMs: number }[] = [];
    let alive = true;
    const cableTo = (peer: PeerId): Cable | undefined => between(self, peer);
    const network: TestNetwork = {
      self,
      addr,
      meshKey,
      listenAddrs: () => [addr],
      async connect(to, signal) {
        dials.push({ addr: to, atMs: clock.nowMs() });
        await settle(3);
        signal.throwIfAborted();
        const other = nodes.get(to.replace(/\/p2p\/.*/, ""));
        if (other === undefined || !alive) throw new MeshError("peer-gone", `nobody at ${to}`);
        if (other.meshKey !== meshKey) throw new MeshError("wrong-mesh", `${to} is another mesh`);
        if (cableTo(other.self) === undefined) {
          cables.add({ ends: [network, other], streams: new Set(), held: false });
          network.changed({ peer: other.self, at: "connected" });
          setImmediate(() => other.changed({ peer: self, at: "connected" }));
        }
        return other.self;
      },
      async open(peer, protocol, signal) {
        await settle(3);
        signal.throwIfAborted();
        const cable = cableTo(peer);
        if (cable === undefined) throw new MeshError("peer-gone", `${peer} is not connected`);
        if (cable.held) {
          return new Promise((_, reject) => {
            signal.addEventListener("abort", () => reject(signal.reason), { once: true });
          });
        }
        const [mine, theirs] = createStreamPair(protocol);
        cable.streams.add(mine).add(theirs);
        const other = cable.ends.find((end) => end !== network);
        if (other?.accept(self, protocol, through(cable, theirs)) !== true) {
          throw new MeshError("unsupported", `${peer} does not speak ${protocol}`);
        }
        return through(cable, mine);
      },
      serve: (protocol, onStream) => void served.set(protocol, onStream),
      peers: () =>
        [...cables].flatMap(({ ends: [a, b] }) =>
          a === network ? [b.self] : b === network ? [a.self] : [],
        ),
      addrOf: (peer) => (cableTo(peer) === undefined ? undefined : "/ip4/10.0.0.9/tcp/1"),
      onChange: (listener) => void changeListeners.push(listener),
      onFound: (listener) => void foundListeners.push(listener),
      async disconnect(peer) {
        const cable = cableTo(peer);
        if (cable !== undefined) cut(cable);
      },
      async announce(topic) {
        // As in a real one: what nobody is asked to keep is nowhere.
        if (!hasDht || network.peers().length === 0) return;
        const key = topic.join();
        topics.set(key, (topics.get(key) ?? new Set()).add(network));
      },
      async *find(topic) {
        for (const other of topics.get(topic.join()) ?? [])
          if (other !== network) yield [other.addr];
      },
      async close() {
        network.kill();
      },
      dials: () => dials,
      found: (addrs) => {
        for (const listener of foundListeners) listener(addrs);
      },
      changed: (change) => {
        for (const listener of changeListeners) listener(change);
      },
      accept(peer, protocol, stream) {
        const onStream = served.get(protocol);
        onStream?.(peer, stream);
        return onStream !== undefined;
      },
      kill() {
        alive = false;
        if (nodes.get(addr.replace(/\/p2p\/.*/, "")) === network) {
          nodes.delete(addr.replace(/\/p2p\/.*/, ""));
        }
        for (const cable of [...cables]) if (cable.ends.includes(network)) cut(cable);
      },
    };
    nodes.set(addr.replace(/\/p2p\/.*/, ""), network);
    return network;
  }

  return {
    node,
    blackHole(a, b) {
      const cable = between(a, b);
      if (cable === undefined) throw new Error(`${a} and ${b} are not connected`);
      cable.held = true;
      for (const stream of cable.streams) stream.hold(true);
    },
    cut(a, b) {
      const cable = between(a, b);
      if (cable !== undefined) cut(cable);
    },
  };
}

export interface TestNode {
  readonly network: TestNetwork;
  readonly directory: LiveDirectory;
  readonly control: LiveControl;
  readonly membership: Membership;
  readonly events: MeshEvent[];
  readonly dataDir: string;
  names(): readonly string[];
  stop(): Promise<void>;
}

export interface TestNodeOptions extends Partial<DirectoryOptions> {
  readonly dataDir?: string;
  readonly slots?: number;
  readonly random?: Random;
}

/** A node as far as this row goes, started. */
export async function startTestNode(
  network: TestNetwork,
  clock: Clock,
  options: TestNodeOptions = {},
): Promise<TestNode> {
  const { dataDir = await mkdtemp(join(tmpdir(), "mesh-peer-")), slots = 2 } = options;
  const { bootstrap = [], random = createRandom(), ...bounds } = options;
  const log: MeshEvent[] = [];
  const events = createEvents();
  events.listen((event) => void log.push(event));
  const { emit } = events;
  const name = `node-${network.self.slice(-3)}`;
  const membership = await createMembership(
    { disk: createDisk(), clock, random, emit },
    { dataDir, invite: undefined, name, nameDefault: "node" },
  );
  const stopped = new AbortController();
  const own = {
    name,
    slots,
    sandbox: "bwrap",
    platform: "linux/x86_64",
    labels: { rack: "7" },
    roles: ["member"],
  } as const;
  // Every test mesh has one topic: the key in the file does not matter on this network.
  const directory = createDirectory(
    {
      network,
      clock,
      random,
      membership: { ...membership, meshKey: new Uint8Array(32) },
      emit,
      own: () => own,
    },
    { ...bounds, bootstrap },
  );
  const control = createControl({ directory, clock, emit });
  directory.start(stopped.signal);
  control.start(stopped.signal);
  return {
    network,
    directory,
    control,
    membership,
    events: log,
    dataDir,
    names: () =>
      directory
        .peers()
        .map((peer) => peer.name)
        .toSorted(),
    async stop() {
      stopped.abort();
      await directory.stop();
      await control.stop();
      network.kill();
      if (options.dataDir === undefined) await rm(dataDir, { recursive: true });
    },
  };
}
