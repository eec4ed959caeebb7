/**
 * The simulated network: who is connected to whom, how long bytes take, and what goes wrong.
 *
 * A lost packet is sent again by the system, so what programs see of loss is delay and, when it
 * lasts, a broken connection; that is what is simulated here. It knows nothing about what the
 * bytes mean.
 */
import type { Network } from "../host/host.ts";
import type { SeededRandom } from "./random.ts";
import { type Connection, createStation, pairOf, type Station, type Wires } from "./station.ts";
import type { Line } from "./stream.ts";
import type { Machine, Timeline } from "./time.ts";

/** How one direction between two hosts behaves. */
export interface LinkOptions {
  readonly delayMs: number;
  /** Added to the delay of each piece, evenly from 0 to this. */
  readonly jitterMs: number;
  readonly bytesPerMs: number;
  /** How likely each piece is to break the connection, 0 to 1. */
  readonly resetChance: number;
}

/** A wired local network: 1 Gbit/s, 0.5 ms there and back. */
export const lanLink: LinkOptions = {
  delayMs: 0.25,
  jitterMs: 0.05,
  bytesPerMs: 125_000,
  resetChance: 0,
};

export interface SimNetworkOptions {
  readonly link: LinkOptions;
  /** How long a dial waits for a host that does not answer. */
  readonly dialTimeoutMs: number;
  /** What a host's event loop spends on each piece of bytes that arrives; others wait meanwhile. */
  readonly receiveMs?: number;
  /** How long a connection lives while nothing passes in one direction. */
  readonly silenceMaxMs: number;
  /** Whether hosts find each other by themselves, as on a local network. */
  readonly discovery: boolean;
}

/** The network as a whole. */
export interface SimNetwork {
  /** Plugs in a machine; of one with the same name only the last is reachable. */
  join(machine: Machine, mesh: string): Network;
  setLink(from: string, to: string, link: Partial<LinkOptions>): void;
  /** When the last byte that was sent so far, over whichever link, will have left. */
  busyUntilMs(): number;
  /** Holds back whatever goes from one host to another. */
  block(from: string, to: string): void;
  unblock(from: string, to: string): void;
  /** Breaks every stream between two hosts, or those of one protocol; they stay connected. */
  resetStreams(left: string, right: string, protocol?: string): void;
  /** Breaks the connection between two hosts; both notice. */
  breakConnection(left: string, right: string): void;
  /** Takes a killed machine off: at once for its peers, or when they notice its silence. */
  leave(machine: Machine, silently: boolean): void;
}

interface Direction {
  link: LinkOptions;
  /** Since when nothing passes; undefined while the way is open. */
  blockedAtMs: number | undefined;
  /** When the last byte put on the wire will have left. */
  busyUntilMs: number;
  readonly held: (() => void)[];
}

export function createSimNetwork(
  timeline: Timeline,
  random: SeededRandom,
  options: SimNetworkOptions,
): SimNetwork {
  const stations = new Map<string, Station>();
  const live = new Map<string, Connection>();
  const wiring = createWiring(timeline, random, options);
  const { directionOf, breakUp } = wiring;
  const wires: Wires = {
    timeline,
    random,
    stations,
    live,
    announced: new Map(),
    dialTimeoutMs: options.dialTimeoutMs,
    silenceMaxMs: options.silenceMaxMs,
    ...wiring,
  };

  const between = (left: string, right: string): Connection | undefined =>
    live.get(pairOf(left, right));

  return {
    join(machine, mesh) {
      const { station, network } = createStation(wires, machine, mesh);
      if (options.discovery) introduce(wires, station);
      stations.set(machine.name, station);
      return network;
    },
    setLink(from, to, link) {
      const direction = directionOf(from, to);
      direction.link = { ...direction.link, ...link };
    },
    busyUntilMs: wiring.busyUntilMs,
    block(from, to) {
      const direction = directionOf(from, to);
      const blockedAtMs = timeline.nowMs();
      direction.blockedAtMs ??= blockedAtMs;
      const silent = between(from, to);
      if (silent === undefined) return;
      // Neither side hears the other's signs of life, or hears that its own arrive.
      timeline.schedule(undefined, options.silenceMaxMs, "net.silence", () => {
        if (direction.blockedAtMs === blockedAtMs) breakUp(silent);
      });
    },
    unblock(from, to) {
      const direction = directionOf(from, to);
      direction.blockedAtMs = undefined;
      for (const pass of direction.held.splice(0)) pass();
    },
    resetStreams(left, right, protocol) {
      const connection = between(left, right);
      for (const sides of connection?.streams ?? [])
        if (protocol === undefined || sides[0].stream.protocol === protocol)
          for (const index of [0, 1] as const)
            timeline.schedule(connection?.stations[index].machine, 0, "net.reset", () =>
              sides[index].cut("the peer reset the stream"),
            );
    },
    breakConnection(left, right) {
      const connection = between(left, right);
      if (connection !== undefined) breakUp(connection);
    },
    leave(machine, silently) {
      const station = stations.get(machine.name);
      if (station?.machine !== machine) return;
      station.isOpen = false;
      for (const connection of station.connections.values())
        timeline.schedule(undefined, silently ? options.silenceMaxMs : 0, "net.left", () =>
          breakUp(connection),
        );
    },
  };
}

interface Wiring extends Pick<Wires, "lineOf" | "travel" | "breakUp" | "isBlocked"> {
  directionOf(from: string, to: string): Direction;
  busyUntilMs(): number;
}

function createWiring(
  timeline: Timeline,
  random: SeededRandom,
  { link, receiveMs = 0 }: SimNetworkOptions,
): Wiring {
  const directions = new Map<string, Direction>();
  /** Until when each host's event loop is busy with what has arrived. */
  const loopBusyMs = new Map<string, number>();

  /** When a piece that arrives at `arrivesMs` has been received. */
  function received(host: string, arrivesMs: number): number {
    if (receiveMs === 0) return arrivesMs;
    const doneMs = Math.max(arrivesMs, loopBusyMs.get(host) ?? 0) + receiveMs;
    loopBusyMs.set(host, doneMs);
    return doneMs;
  }

  function directionOf(from: string, to: string): Direction {
    const key = `${from} ${to}`;
    let direction = directions.get(key);
    if (direction === undefined) {
      direction = { link, blockedAtMs: undefined, busyUntilMs: 0, held: [] };
      directions.set(key, direction);
    }
    return direction;
  }

  function breakUp(connection: Connection): void {
    if (connection.isBroken) return;
    connection.isBroken = true;
    for (const index of [0, 1] as const) {
      const station = connection.stations[index];
      timeline.schedule(station.machine, 0, "net.broken", () =>
        station.drop(connection, "the connection was lost"),
      );
    }
  }

  function lineOf(from: Station, to: Station, connection: Connection): Line {
    const direction = directionOf(from.machine.name, to.machine.name);
    return {
      arrivalMs(sizeBytes, afterMs) {
        const { delayMs, jitterMs, bytesPerMs, resetChance } = direction.link;
        const nowMs = timeline.nowMs();
        direction.busyUntilMs = Math.max(direction.busyUntilMs, nowMs) + sizeBytes / bytesPerMs;
        if (resetChance > 0 && random.chance(resetChance))
          timeline.schedule(undefined, delayMs, "net.lost", () => breakUp(connection));
        const arrivesMs = direction.busyUntilMs + delayMs + random.between(0, jitterMs);
        return Math.max(received(to.machine.name, arrivesMs), afterMs) - nowMs;
      },
      whenOpen(pass) {
        if (direction.blockedAtMs === undefined) pass();
        // The system sends it again until it arrives.
        else direction.held.push(pass);
      },
    };
  }

  function travel(from: Station, to: Station, kind: string, arrive: () => void): void {
    const direction = directionOf(from.machine.name, to.machine.name);
    const pass = (): void => {
      const { delayMs, jitterMs } = direction.link;
      timeline.schedule(to.machine, delayMs + random.between(0, jitterMs), kind, arrive);
    };
    if (direction.blockedAtMs === undefined) pass();
    else direction.held.push(pass);
  }

  const isBlocked = (left: string, right: string): boolean =>
    directionOf(left, right).blockedAtMs !== undefined ||
    directionOf(right, left).blockedAtMs !== undefined;

  const busyUntilMs = (): number =>
    Math.max(0, ...[...directions.values()].map((direction) => direction.busyUntilMs));

  return { directionOf, busyUntilMs, breakUp, lineOf, travel, isBlocked };
}

/** As on a local network: each hears of the other some time after the newcomer has started. */
function introduce(wires: Wires, newcomer: Station): void {
  for (const other of wires.stations.values())
    for (const [hearer, found] of [
      [newcomer, other],
      [other, newcomer],
    ] as const)
      wires.timeline.schedule(hearer.machine, wires.random.between(1, 50), "net.found", () => {
        if (hearer.machine.name === found.machine.name || hearer.connections.has(found.self))
          return;
        if (!wires.isBlocked(hearer.machine.name, found.machine.name)) hearer.find([found.addr]);
      });
}
