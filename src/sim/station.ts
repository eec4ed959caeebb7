/**
 * One machine on the simulated network: its Network port.
 *
 * How long anything takes, and whether it arrives, the wires decide.
 */
import assert from "node:assert/strict";
import { MeshError } from "../base/errors.ts";
import { asPeerId, type PeerId } from "../base/ids.ts";
import type { Network, PeerChange, Stream } from "../host/host.ts";
import type { SeededRandom } from "./random.ts";
import { createStreamPair, type Line, type StreamSide } from "./stream.ts";
import type { Machine, Timeline } from "./time.ts";

/** What every station shares. */
export interface Wires {
  readonly timeline: Timeline;
  readonly random: SeededRandom;
  /** The machines that can be dialled, by name. */
  readonly stations: ReadonlyMap<string, Station>;
  /** The connection of two hosts, by their `pairOf`. */
  readonly live: Map<string, Connection>;
  /** Who announced a topic (hex). Outlives the hosts, as records in a DHT do. */
  readonly announced: Map<string, Set<string>>;
  readonly dialTimeoutMs: number;
  readonly silenceMaxMs: number;
  lineOf(from: Station, to: Station, connection: Connection): Line;
  /** Makes `arrive` happen to `to` once a small message from `from` has got there. */
  travel(from: Station, to: Station, kind: string, arrive: () => void): void;
  breakUp(connection: Connection): void;
  isBlocked(left: string, right: string): boolean;
}

export interface Station {
  readonly machine: Machine;
  readonly mesh: string;
  readonly self: PeerId;
  readonly addr: string;
  readonly connections: Map<PeerId, Connection>;
  readonly handlers: Map<string, Parameters<Network["serve"]>[1]>;
  /** False once it neither dials nor answers. */
  isOpen: boolean;
  /** Takes this side of a connection into use, if it is not yet. */
  bringUp(connection: Connection): void;
  /** Ends this side of a connection, if it has not ended yet. */
  drop(connection: Connection, reason: string): void;
  /** Tells that discovery found these addresses. */
  find(addrs: readonly string[]): void;
}

export interface Connection {
  readonly stations: readonly [Station, Station];
  readonly streams: Set<readonly [StreamSide, StreamSide]>;
  /** Streams that are being opened: how to tell that it failed, by who asked. */
  readonly opening: Set<{ readonly station: Station; readonly fail: (error: MeshError) => void }>;
  isBroken: boolean;
}

/** The name of two hosts together, whichever is first. */
export function pairOf(left: string, right: string): string {
  return left < right ? `${left} ${right}` : `${right} ${left}`;
}

export function peerIdOf(name: string): PeerId {
  return asPeerId(`sim-${name}`);
}

/** `sim/<name>`, with or without the `/p2p/<id>` that a listen address ends in. */
const addrShape = /^sim\/([^/]+)(?:\/p2p\/([^/]+))?$/;

export function createStation(
  wires: Wires,
  machine: Machine,
  mesh: string,
): { readonly station: Station; readonly network: Network } {
  const changeListeners = new Set<(change: PeerChange) => void>();
  const foundListeners = new Set<(addrs: readonly string[]) => void>();
  const self = peerIdOf(machine.name);

  const station: Station = {
    machine,
    mesh,
    self,
    addr: `sim/${machine.name}/p2p/${self}`,
    connections: new Map(),
    handlers: new Map(),
    isOpen: true,
    bringUp(connection) {
      const { self: peer } = otherOf(connection, station);
      if (connection.isBroken || station.connections.get(peer) === connection) return;
      station.connections.set(peer, connection);
      for (const listener of [...changeListeners]) listener({ peer, at: "connected" });
    },
    drop(connection, reason) {
      const index = connection.stations[0] === station ? 0 : 1;
      for (const sides of connection.streams) sides[index].cut(reason);
      for (const opening of connection.opening)
        if (opening.station === station) opening.fail(new MeshError("peer-gone", reason));
      const { self: peer } = otherOf(connection, station);
      if (station.connections.get(peer) !== connection) return;
      station.connections.delete(peer);
      for (const listener of [...changeListeners]) listener({ peer, at: "disconnected" });
    },
    find(addrs) {
      for (const listener of [...foundListeners]) listener(addrs);
    },
  };

  const network: Network = {
    self,
    listenAddrs: () => (station.isOpen ? [station.addr] : []),
    connect: (addr, signal) => dial(wires, station, addr, signal),
    open: (peer, protocol, signal) => openStream(wires, station, peer, protocol, signal),
    serve(protocol, onStream) {
      assert(!station.handlers.has(protocol), `${protocol} is served already`);
      station.handlers.set(protocol, onStream);
    },
    peers: () => [...station.connections.keys()],
    addrOf(peer) {
      const connection = station.connections.get(peer);
      return connection && `sim/${otherOf(connection, station).machine.name}`;
    },
    onChange: (listener) => void changeListeners.add(listener),
    onFound: (listener) => void foundListeners.add(listener),
    async disconnect(peer) {
      const connection = station.connections.get(peer);
      if (connection !== undefined) await hangUp(wires, station, connection);
    },
    async announce(topic, signal) {
      signal.throwIfAborted();
      await wires.timeline.pass(machine, wires.random.between(1, 100), "net.announce");
      signal.throwIfAborted();
      const key = keyOf(topic);
      const names = wires.announced.get(key) ?? new Set();
      wires.announced.set(key, names.add(machine.name));
    },
    find: (topic, signal) => findAnnounced(wires, station, topic, signal),
    async close() {
      station.isOpen = false;
      const connections = [...station.connections.values()];
      await Promise.all(connections.map((connection) => hangUp(wires, station, connection)));
    },
  };
  return { station, network };
}

function otherOf(connection: Connection, station: Station): Station {
  const [first, second] = connection.stations;
  return first === station ? second : first;
}

async function dial(
  wires: Wires,
  own: Station,
  addr: string,
  signal: AbortSignal,
): Promise<PeerId> {
  signal.throwIfAborted();
  const [, name, id] = addrShape.exec(addr) ?? [];
  if (name === undefined || name === own.machine.name || !own.isOpen)
    throw new MeshError("refused", `cannot dial ${JSON.stringify(addr)} from here`);
  const peer = peerIdOf(name);
  if (id !== undefined && id !== peer)
    throw new MeshError("peer-gone", `${addr}: another node answers there now`);
  if (own.connections.has(peer)) return peer;

  return abortable<PeerId>(signal, (resolve, reject) => {
    const stop = wires.timeline.schedule(own.machine, wires.dialTimeoutMs, "net.dial-late", () =>
      reject(new MeshError("deadline", `${addr} does not answer`)),
    );
    const answer = (from: Station, settle: () => void): void =>
      wires.travel(from, own, "net.dial-answer", () => {
        stop();
        settle();
      });
    const other = wires.stations.get(name);
    // A machine that is off has nobody to say so, but its name or its router answers.
    if (other === undefined || !other.machine.isAlive || !other.isOpen) {
      answer(other ?? own, () => reject(new MeshError("peer-gone", `nobody listens at ${addr}`)));
      return;
    }
    wires.travel(own, other, "net.dial", () => {
      if (!other.isOpen)
        answer(other, () => reject(new MeshError("peer-gone", `nobody listens at ${addr}`)));
      else if (other.mesh !== own.mesh)
        answer(other, () => reject(new MeshError("wrong-mesh", `${addr} is of another mesh`)));
      else {
        const connection = establish(wires, own, other);
        other.bringUp(connection);
        answer(other, () => {
          if (connection.isBroken) return reject(new MeshError("peer-gone", "hung up at once"));
          own.bringUp(connection);
          resolve(peer);
        });
      }
    });
  });
}

/** The one connection of two stations, also when both have dialled. */
function establish(wires: Wires, dialler: Station, listener: Station): Connection {
  const pair = pairOf(dialler.machine.name, listener.machine.name);
  const existing = wires.live.get(pair);
  if (existing !== undefined && !existing.isBroken) {
    if (existing.stations.includes(dialler) && existing.stations.includes(listener))
      return existing;
    // It was with an earlier life of the one that dials now.
    listener.drop(existing, "the other side has started anew");
  }
  const connection: Connection = {
    stations: [dialler, listener],
    streams: new Set(),
    opening: new Set(),
    isBroken: false,
  };
  wires.live.set(pair, connection);
  return connection;
}

function openStream(
  wires: Wires,
  own: Station,
  peer: PeerId,
  protocol: string,
  signal: AbortSignal,
): Promise<Stream> {
  return abortable<Stream>(signal, (resolve, reject, isSettled) => {
    const connection = own.connections.get(peer);
    if (connection === undefined) return reject(new MeshError("peer-gone", `not connected`));
    const other = otherOf(connection, own);
    const opening = {
      station: own,
      fail(error: MeshError): void {
        connection.opening.delete(opening);
        reject(error);
      },
    };
    connection.opening.add(opening);
    wires.travel(own, other, "net.open", () => {
      if (connection.isBroken) return;
      other.bringUp(connection);
      const handler = other.handlers.get(protocol);
      if (handler === undefined) {
        const refusal = new MeshError("unsupported", `${peer} does not speak ${protocol}`);
        wires.travel(other, own, "net.refuse", () => opening.fail(refusal));
        return;
      }
      const sides = createStreamPair(
        wires,
        protocol,
        [own.machine, other.machine],
        [wires.lineOf(own, other, connection), wires.lineOf(other, own, connection)],
      );
      const [first] = connection.stations;
      keepUntilEnded(connection, own === first ? sides : [sides[1], sides[0]]);
      wires.travel(other, own, "net.opened", () => {
        connection.opening.delete(opening);
        if (isSettled()) sides[0].stream.reset("nobody waits for it any more");
        else resolve(sides[0].stream);
      });
      handler(own.self, sides[1].stream);
    });
  });
}

function keepUntilEnded(connection: Connection, sides: readonly [StreamSide, StreamSide]): void {
  connection.streams.add(sides);
  void Promise.all(sides.map((side) => side.stream.ended)).then(() =>
    connection.streams.delete(sides),
  );
}

async function hangUp(wires: Wires, own: Station, connection: Connection): Promise<void> {
  const other = otherOf(connection, own);
  connection.isBroken = true;
  const farewell = "the other side disconnected";
  if (wires.isBlocked(own.machine.name, other.machine.name))
    wires.timeline.schedule(other.machine, wires.silenceMaxMs, "net.silence", () =>
      other.drop(connection, "the other side fell silent"),
    );
  else wires.travel(own, other, "net.hung-up", () => other.drop(connection, farewell));
  await wires.timeline.pass(own.machine, 0, "net.hang-up");
  own.drop(connection, "disconnected");
}

async function* findAnnounced(
  wires: Wires,
  own: Station,
  topic: Uint8Array,
  signal: AbortSignal,
): AsyncGenerator<readonly string[]> {
  signal.throwIfAborted();
  const names = [...(wires.announced.get(keyOf(topic)) ?? [])];
  while (names.length > 0) {
    const [name] = names.splice(wires.random.below(names.length), 1);
    await wires.timeline.pass(own.machine, wires.random.between(1, 20), "net.find");
    signal.throwIfAborted();
    if (name === undefined || name === own.machine.name) continue;
    if (!wires.isBlocked(own.machine.name, name)) yield [`sim/${name}/p2p/${peerIdOf(name)}`];
  }
}

function keyOf(topic: Uint8Array): string {
  return Buffer.from(topic).toString("hex");
}

/** A promise that an abort rejects first; `start` may settle it later without effect. */
function abortable<T>(
  signal: AbortSignal,
  start: (
    resolve: (value: T) => void,
    reject: (reason: unknown) => void,
    isSettled: () => boolean,
  ) => void,
): Promise<T> {
  return new Promise((resolve, reject) => {
    if (signal.aborted) return reject(signal.reason);
    let settled = false;
    const settle = (how: () => void): void => {
      if (settled) return;
      settled = true;
      signal.removeEventListener("abort", onAbort);
      how();
    };
    const onAbort = (): void => settle(() => reject(signal.reason));
    signal.addEventListener("abort", onAbort, { once: true });
    start(
      (value) => settle(() => resolve(value)),
      (reason) => settle(() => reject(reason)),
      () => settled,
    );
  });
}
