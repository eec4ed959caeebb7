/**
 * Who is out there: every connected member of the mesh, what it offers and how busy it is.
 *
 * Finds members (addresses given, remembered, told by other members, seen on the local network or
 * in the DHT), keeps connections to all of them up to a bound, and turns away those that misbehave.
 * Knows nothing about tasks: load and round-trip times are set by control.ts.
 */
import { createRecentMap } from "../base/bounded.ts";
import { utf8 } from "../base/bytes.ts";
import { digestOf } from "../base/digest.ts";
import { MeshError } from "../base/errors.ts";
import type { Emit } from "../base/events.ts";
import type { PeerId } from "../base/ids.ts";
import type { Clock, Network, Random } from "../host/host.ts";
import { connectAny, createDialer } from "./dialer.ts";
import { createDiscovery } from "./discovery.ts";
import { createFlapping } from "./flapping.ts";
import { admittedOnly, createHello } from "./hello.ts";
import type { Description, Greeting, KnownMember } from "./hello-message.ts";
import type { Membership } from "./membership.ts";

export interface Peer {
  readonly id: PeerId;
  readonly name: string;
  readonly slots: number;
  /** Empty when it takes no foreign native task. */
  readonly sandbox: "bwrap" | "unshare" | "none" | "";
  /** "linux/x86_64" and the like. */
  readonly platform: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly addrs: readonly string[];
  /** The newest hint it gave, undefined before the first. */
  readonly load: LoadHint | undefined;
  readonly rttMs: number | undefined;
}

export interface LoadHint {
  readonly queued: number;
  readonly stealable: number;
  readonly slots: number;
  readonly busy: number;
  /** One bit for each large input of the tasks that wait there. */
  readonly hot: bigint;
  /** When it was received, on this node's monotonic clock. */
  readonly atMs: number;
}

export interface Directory {
  /** Members that said hello and are still connected. */
  peers(): readonly Peer[];
  get(id: PeerId): Peer | undefined;
  onJoined(listener: (peer: Peer) => void): void;
  onLeft(listener: (peer: Peer, reason: string) => void): void;
}

/** The directory as its maker sees it: also the parts that keep it going. */
export interface LiveDirectory extends Directory {
  /** The network as every protocol but the hello may use it: streams of strangers wait outside. */
  readonly network: Network;
  admitted(peer: PeerId): boolean;
  /** Starts dialling and discovery; both end with `signal`. */
  start(signal: AbortSignal): void;
  /**
   * Ends what `start` started, admits nobody any more, and notes who was here. Connections stay:
   * stop this first and the control after it, so that who hears the goodbye does not come back.
   */
  stop(): Promise<void>;
  /**
   * Connects now and waits for the hello: for an address the user gave. Codes: "wrong-mesh",
   * "refused", "peer-gone", "deadline".
   */
  reach(addrs: readonly string[], signal: AbortSignal): Promise<Peer>;
  setLoad(peer: PeerId, load: LoadHint): void;
  setRtt(peer: PeerId, rttMs: number): void;
  /**
   * The peer has left, whether or not it knows: its `onLeft` listeners run before this returns.
   * With `fault`, it misbehaved, and may not come back for 30 s.
   */
  drop(peer: PeerId, reason: string, fault?: MeshError): void;
}

export interface DirectoryDeps {
  readonly network: Network;
  readonly clock: Clock;
  readonly random: Random;
  readonly membership: Membership;
  readonly emit: Emit;
  /** What this node says of itself; read anew for each hello. */
  readonly own: () => Description;
}

export interface DirectoryOptions {
  /** Addresses the user gave; dialled until they answer. */
  readonly bootstrap: readonly string[];
  /** Dials no more once this many members are connected. Default 64. */
  readonly peersWantedMax?: number;
  /** Turns away whoever calls beyond this. Default twice the above, so that newcomers find room. */
  readonly peersMax?: number;
}

/** A peer that stays this long is no flapping one. */
const steadyMs = 10_000;

export function createDirectory(deps: DirectoryDeps, options: DirectoryOptions): LiveDirectory {
  const { network, clock, random, membership, emit } = deps;
  const { peersWantedMax = 64 } = options;
  const { peersMax = 2 * peersWantedMax } = options;
  const members = new Map<PeerId, Peer>();
  const joinedAtMs = new Map<PeerId, number>();
  const joinedListeners: ((peer: Peer) => void)[] = [];
  const leftListeners: ((peer: Peer, reason: string) => void)[] = [];
  const stopped = new AbortController();
  const flapping = createFlapping(clock);
  /** Why a peer was turned away last, for whoever waits for it. */
  const refusals = createRecentMap<PeerId, MeshError>(64);

  const dialer = createDialer({
    network,
    clock,
    random,
    wanted: () => members.size < peersWantedMax,
    onFailed(addrs, source, error) {
      if (source !== "user" && error.code !== "wrong-mesh") return;
      const message = `could not reach ${addrs[0]}: ${error.message}`;
      emit({ event: "log", level: source === "user" ? "warn" : "info", message });
    },
  });
  const discovery = createDiscovery({
    network,
    clock,
    topic: topicOf(membership.meshKey),
    alone: () => members.size === 0,
    onFound: (addrs) => dialer.learn(addrs, "found"),
    onRound() {
      // A node that is killed after weeks must not find its notes weeks old.
      for (const { id, addrs } of members.values()) membership.seen(id, addrs);
    },
  });
  const hello = createHello({
    network,
    clock,
    random,
    own: deps.own,
    known: (to) => knownTo(to),
    objection: (peer) => flapping.objection(peer) ?? crowded(),
    onAdmitted: join,
    onKnown(known) {
      for (const { addrs } of known) dialer.learn(addrs, "told");
    },
    onRefused: refused,
    onOver: leave,
  });
  // After the hello's own listener: by now the peer has left, if it ever joined.
  network.onChange(({ peer, at }) => {
    if (at === "disconnected") dialer.lost(peer, false, flapping.barredUntilMs(peer));
  });
  network.onFound((addrs) => dialer.learn(addrs, "found"));

  function knownTo(peer: PeerId): readonly KnownMember[] {
    return [...members.values()]
      .filter(({ id, addrs }) => id !== peer && addrs.length > 0)
      .map(({ id, addrs }) => ({ peer: id, addrs }));
  }

  function crowded(): MeshError | undefined {
    if (members.size < peersMax) return undefined;
    return new MeshError("limit", `${members.size} members are connected here, which is the limit`);
  }

  function join(id: PeerId, greeting: Greeting, rttMs: number | undefined): void {
    const { session: _, roles: __, ...said } = greeting;
    const peer: Peer = { id, ...said, load: undefined, rttMs };
    const wasAlone = members.size === 0;
    members.set(id, peer);
    joinedAtMs.set(id, clock.nowMs());
    membership.seen(id, peer.addrs);
    dialer.learn(peer.addrs, "told");
    dialer.connected(id);
    emit({ event: "peer-joined", peer: id, name: peer.name, slots: peer.slots });
    for (const listener of joinedListeners) listener(peer);
    if (wasAlone) discovery.ring();
  }

  function leave(id: PeerId, reason: string): void {
    const peer = members.get(id);
    if (peer === undefined) return;
    const steady = clock.nowMs() - (joinedAtMs.get(id) ?? 0) >= steadyMs;
    members.delete(id);
    joinedAtMs.delete(id);
    membership.seen(id, peer.addrs);
    flapping.left(id);
    emit({ event: "peer-left", peer: id, name: peer.name, reason });
    for (const listener of leftListeners) listener(peer, reason);
    dialer.lost(id, steady, flapping.barredUntilMs(id));
    if (members.size === 0) discovery.ring();
  }

  function refused(id: PeerId, error: MeshError): void {
    if (error.code === "malformed") flapping.bar(id, error.message);
    refusals.set(id, error);
    emit({ event: "peer-refused", peer: id, code: error.code, reason: error.message });
    dialer.lost(id, false, flapping.barredUntilMs(id));
  }

  function drop(id: PeerId, reason: string, fault?: MeshError): void {
    if (fault !== undefined) {
      flapping.bar(id, fault.message);
      emit({ event: "peer-refused", peer: id, code: fault.code, reason: fault.message });
    }
    hello.drop(id);
    leave(id, reason);
  }

  return {
    network: admittedOnly(network, hello),
    admitted: hello.admitted,
    peers: () => [...members.values()],
    get: (id) => members.get(id),
    onJoined: (listener) => void joinedListeners.push(listener),
    onLeft: (listener) => void leftListeners.push(listener),
    start(signal) {
      const stop = (): void => stopped.abort();
      if (signal.aborted) return stop();
      signal.addEventListener("abort", stop, { once: true });
      for (const { addrs } of membership.peers()) dialer.learn(addrs, "remembered");
      dialer.learn(options.bootstrap, "user");
      for (const loop of [dialer, discovery]) {
        loop.run(stopped.signal).catch((error: unknown) => {
          if (!stopped.signal.aborted) throw error;
        });
      }
    },
    async stop() {
      stopped.abort();
      hello.stop();
      for (const { id, addrs } of members.values()) membership.seen(id, addrs);
      await membership.close();
    },
    async reach(addrs, signal) {
      const id = await connectAny({ network, clock }, addrs, signal);
      dialer.learn(addrs, "user");
      refusals.delete(id);
      await hello.whenAdmitted(id);
      const peer = members.get(id);
      if (peer !== undefined) return peer;
      throw refusals.get(id) ?? new MeshError("peer-gone", `${id} went before it said hello`);
    },
    setLoad(id, load) {
      const peer = members.get(id);
      if (peer !== undefined) members.set(id, { ...peer, load });
    },
    setRtt(id, rttMs) {
      const peer = members.get(id);
      if (peer !== undefined) members.set(id, { ...peer, rttMs });
    },
    drop,
  };
}

/** Says nothing about the key it is made from. */
function topicOf(meshKey: Uint8Array): Uint8Array {
  const text = `mesh/1/topic/${Buffer.from(meshKey).toString("hex")}`;
  return Uint8Array.from(Buffer.from(digestOf(utf8(text)).slice(0, 64), "hex"));
}
