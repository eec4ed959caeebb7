/**
 * Any number of hosts in one process, in virtual time, from one seed.
 *
 * Whatever runs on these hosts runs the same way every time the seed is the same, faults and all;
 * `traceHash` says whether it did. It knows nothing about what runs.
 */
import { deadlineOn, type StartTimer, sleepOn } from "../host/clock.ts";
import type { Clock, Host, Vitals } from "../host/host.ts";
import type { WasmPool } from "../host/wasm-pool.ts";
import { createSimDisk, type SimDisk, type SimDiskOptions } from "./disk.ts";
import {
  createSimNetwork,
  type LinkOptions,
  lanLink,
  type SimNetwork,
  type SimNetworkOptions,
} from "./network.ts";
import { createSimProcesses, type SimCommands, type SimProcesses } from "./processes.ts";
import { createSeededRandom, type SeededRandom } from "./random.ts";
import { createTimeline, type Machine, type Timeline } from "./time.ts";
import { createSimWasmPool, type SimWasmOptions } from "./wasm-pool.ts";

export interface SimulationOptions {
  readonly network: SimNetworkOptions;
  readonly disk: SimDiskOptions;
  readonly commands: SimCommands;
  readonly wasm: SimWasmOptions;
  /** Events in one run; more means that something goes round in circles. */
  readonly eventsMax: number;
  /** Wall time at the start, in ms since 1970. */
  readonly startWallMs: number;
}

export interface Simulation {
  /** Chance for the scenario itself, apart from what the hosts draw. */
  readonly random: SeededRandom;
  readonly faults: Faults;
  /** Adds a host and starts its first life. */
  addHost(name: string, options?: { readonly mesh: string }): Host;
  /** The ports of the host's present life. */
  host(name: string): Host;
  /** Where its node may run WebAssembly. */
  wasmPool(name: string): WasmPool;
  /** A host's disk from outside: at once, without faults, and whoever lives on it. */
  disk(name: string): SimDisk;
  /** When the last byte that was sent so far, over whichever link, will have left. */
  linksBusyUntilMs(): number;
  /** Commands that run on a host right now. */
  running(name: string): number;
  nowMs(): number;
  /** Runs to the virtual instant `untilMs`. */
  run(untilMs: number): Promise<void>;
  /** Runs until `isDone()`. @throws MeshError "deadline" when it still is not at `limitMs`. */
  until(isDone: () => boolean, limitMs: number): Promise<void>;
  /** Runs until `promise` settles, and hands on how. @throws MeshError "deadline" as `until`. */
  finish<T>(promise: Promise<T>, limitMs: number): Promise<T>;
  /** Puts a line into the trace, so that two runs that differ in it differ in their hash. */
  record(kind: string, host: string): void;
  /** Names all that has happened so far: equal for equal runs. */
  traceHash(): string;
  eventCount(): number;
}

/** What can be done to the hosts and what is between them. Hosts by name, times virtual. */
export interface Faults {
  /**
   * Ends a host's life at once: nothing it waits for ever comes. Its peers see broken
   * connections, or with `silent`, as when a machine loses power, nothing for a while.
   * With `losePower` files that were not synced may be cut short.
   */
  kill(host: string, how?: { readonly silent?: boolean; readonly losePower?: boolean }): void;
  /** Starts a new life on the same disk, killing the old one if it still lives. */
  restart(host: string): Host;
  /** As SIGSTOP: what is due waits, while time goes on. */
  pause(host: string): void;
  resume(host: string): void;
  /** Lets nothing pass from one host to another; the other way stays open. */
  blockOneWay(from: string, to: string): void;
  /** Lets nothing pass between the hosts of one group and all others. */
  partition(group: readonly string[]): void;
  /** Ends every block and partition; what was on its way arrives. */
  heal(): void;
  /** Changes both directions between two hosts. */
  setLink(left: string, right: string, link: Partial<LinkOptions>): void;
  /** Breaks every stream between two hosts, or those of one protocol; they stay connected. */
  resetStreams(left: string, right: string, protocol?: string): void;
  breakConnection(left: string, right: string): void;
  setDiskCapacity(host: string, capacityBytes: number): void;
  /** How many times longer every operation of a disk takes from now on. */
  setDiskSlowness(host: string, factor: number): void;
  /** How likely each timer of a host is to fire late, evenly by up to `lateMaxMs`. */
  setLateTimers(host: string, chance: number, lateMaxMs: number): void;
  /**
   * How likely each read of a file below `folder` (default: any) is to come back with one bit
   * flipped. What the system copies, and what a command reads, is left alone: nobody could tell.
   */
  setReadFlipChance(host: string, chance: number, folder?: string): void;
  /** Flips one bit of a file; its times tell, unless it is done silently, as by default. */
  corruptFile(host: string, path: string, how?: "visibly" | "silently"): void;
  /** Moves the wall clock; the monotonic one is not touched. */
  stepWallClock(host: string, byMs: number): void;
  /** How many times longer commands take from now on. */
  setSlowness(host: string, factor: number): void;
  /** What its users do besides, and how much memory they leave. */
  setVitals(host: string, vitals: Partial<Vitals>): void;
}

const defaults: SimulationOptions = {
  network: { link: lanLink, dialTimeoutMs: 5000, silenceMaxMs: 15_000, discovery: false },
  disk: { operationMs: 0.05, bytesPerMs: 500_000, capacityBytes: 2 ** 40 },
  commands: () => undefined,
  wasm: { callMs: 1, inputBytesPerMs: 200 },
  eventsMax: 20_000_000,
  startWallMs: Date.UTC(2026, 0, 1),
};

/** Nobody but the nodes uses these machines, until a scenario says otherwise. */
const idle: Vitals = { cores: 64, runnable: 0, memoryFreeBytes: 2 ** 40 };

/** What stays of a host when a life of it ends. */
interface Place {
  readonly name: string;
  readonly mesh: string;
  readonly disk: SimDisk;
  readonly random: SeededRandom;
  machine: Machine;
  host: Host;
  processes: SimProcesses;
  pool: WasmPool;
  lifeCount: number;
  wallStepMs: number;
  slowness: number;
  vitals: Vitals;
  late: { readonly chance: number; readonly maxMs: number };
}

export function createSimulation(
  seed: number | string,
  options: Partial<SimulationOptions> = {},
): Simulation {
  const settings = { ...defaults, ...options };
  const random = createSeededRandom(`${seed}`);
  const timeline = createTimeline({ eventsMax: settings.eventsMax });
  const network = createSimNetwork(timeline, random.fork("network"), settings.network);
  const places = new Map<string, Place>();
  const world: World = { settings, timeline, network, places };

  return {
    random: random.fork("scenario"),
    faults: createFaults(world),
    addHost(name, { mesh } = { mesh: "mesh" }) {
      if (places.has(name)) throw new RangeError(`there is a host ${name} already`);
      const place = createPlace(world, name, mesh, random.fork(`host ${name}`));
      places.set(name, place);
      return place.host;
    },
    host: (name) => placeOf(world, name).host,
    wasmPool: (name) => placeOf(world, name).pool,
    disk: (name) => placeOf(world, name).disk,
    linksBusyUntilMs: network.busyUntilMs,
    running: (name) => placeOf(world, name).processes.running(),
    nowMs: timeline.nowMs,
    run: timeline.run,
    until: timeline.until,
    async finish(promise, limitMs) {
      let isSettled = false;
      const settled = (): void => {
        isSettled = true;
      };
      promise.then(settled, settled);
      await timeline.until(() => isSettled, limitMs);
      return promise;
    },
    record: timeline.record,
    traceHash: timeline.traceHash,
    eventCount: () => timeline.eventCount,
  };
}

interface World {
  readonly settings: SimulationOptions;
  readonly timeline: Timeline;
  readonly network: SimNetwork;
  readonly places: Map<string, Place>;
}

function placeOf({ places }: World, name: string): Place {
  const place = places.get(name);
  if (place === undefined) throw new RangeError(`there is no host ${name}`);
  return place;
}

function createPlace(world: World, name: string, mesh: string, random: SeededRandom): Place {
  const { timeline } = world;
  const faults = { wallStepMs: 0, slowness: 1, vitals: idle, late: { chance: 0, maxMs: 0 } };
  const wallMs = wallClock(world, faults);
  const disk = createSimDisk(
    { timeline, random: random.fork("disk"), wallMs },
    world.settings.disk,
  );
  const stays = Object.assign(faults, { name, mesh, disk, random, lifeCount: 0 });
  return Object.assign(stays, startLife(world, stays));
}

function wallClock(
  { settings, timeline }: World,
  place: { readonly wallStepMs: number },
): () => number {
  return () => settings.startWallMs + timeline.nowMs() + place.wallStepMs;
}

/** What a restart replaces. */
type Life = Pick<Place, "machine" | "host" | "processes" | "pool">;

/** Makes the machine and ports of a host's next life. */
function startLife(world: World, place: Omit<Place, keyof Life>): Life {
  const { timeline, network, settings } = world;
  place.lifeCount++;
  const random = place.random.fork(`life ${place.lifeCount}`);
  const machine: Machine = { name: place.name, isAlive: true, isPaused: false, held: [] };
  const disk = place.disk.mount(machine, "node");
  const slowness = (): number => place.slowness;
  const { commands } = settings;
  const processes = createSimProcesses({
    timeline,
    machine,
    disk: place.disk.mount(machine, "command"),
    commands,
    slowness,
    vitals: () => place.vitals,
  });
  // Every life counts from its own origin, as every boot does: such times do not travel.
  const originMs = random.between(0, 1e6);
  const lateness = random.fork("late");
  const lateMs = (): number =>
    lateness.chance(place.late.chance) ? lateness.between(0, place.late.maxMs) : 0;
  const clock = createSimClock(
    (durationMs, fire) => timeline.schedule(machine, durationMs + lateMs(), "timer", fire),
    () => originMs + timeline.nowMs(),
    wallClock(world, place),
  );
  return {
    machine,
    processes,
    pool: createSimWasmPool({ clock, slowness }, settings.wasm),
    host: {
      clock,
      random: random.fork("port"),
      disk,
      network: network.join(machine, place.mesh),
      processes,
    },
  };
}

function createSimClock(start: StartTimer, nowMs: () => number, wallMs: () => number): Clock {
  return {
    nowMs,
    // Whole, as the system's own.
    wallMs: () => Math.floor(wallMs()),
    sleep: sleepOn(start),
    withDeadline: deadlineOn(start),
  };
}

function createFaults(world: World): Faults {
  const { timeline, network, places } = world;
  const blocked = new Set<readonly [string, string]>();
  const block = (from: string, to: string): void => {
    blocked.add([from, to]);
    network.block(from, to);
  };
  /** Looks the host up and puts the fault into the trace. */
  const hit = (fault: string, name: string): Place => {
    const place = placeOf(world, name);
    timeline.record(`fault.${fault}`, name);
    return place;
  };
  const kill: Faults["kill"] = (name, { silent = false, losePower = false } = {}) => {
    const { machine, disk } = hit("kill", name);
    machine.isAlive = false;
    network.leave(machine, silent);
    if (losePower) disk.losePower();
  };

  return {
    kill,
    restart(name) {
      const place = hit("restart", name);
      if (place.machine.isAlive) kill(name);
      return Object.assign(place, startLife(world, place)).host;
    },
    pause(name) {
      hit("pause", name).machine.isPaused = true;
    },
    resume(name) {
      const { machine } = hit("resume", name);
      machine.isPaused = false;
      timeline.release(machine);
    },
    blockOneWay(from, to) {
      hit("block", from);
      block(from, to);
    },
    partition(group) {
      for (const name of group) hit("partition", name);
      const others = [...places.keys()].filter((name) => !group.includes(name));
      for (const inside of group)
        for (const outside of others) {
          block(inside, outside);
          block(outside, inside);
        }
    },
    heal() {
      timeline.record("fault.heal", "-");
      for (const [from, to] of blocked) network.unblock(from, to);
      blocked.clear();
    },
    setLink(left, right, link) {
      hit("link", left);
      network.setLink(left, right, link);
      network.setLink(right, left, link);
    },
    resetStreams(left, right, protocol) {
      hit("reset", left);
      network.resetStreams(left, right, protocol);
    },
    breakConnection(left, right) {
      hit("break", left);
      network.breakConnection(left, right);
    },
    setDiskCapacity: (name, bytes) => hit("capacity", name).disk.files.setCapacityBytes(bytes),
    setDiskSlowness: (name, factor) => hit("disk-slow", name).disk.setSlowness(factor),
    setLateTimers(name, chance, lateMaxMs) {
      hit("late", name).late = { chance, maxMs: lateMaxMs };
    },
    setReadFlipChance: (name, chance, folder = "/") =>
      hit("flip", name).disk.setFlipChance(chance, folder),
    corruptFile: (name, path, how = "silently") => hit("corrupt", name).disk.corrupt(path, how),
    stepWallClock(name, byMs) {
      hit("clock", name).wallStepMs += byMs;
    },
    setVitals(name, vitals) {
      const place = hit("vitals", name);
      place.vitals = { ...place.vitals, ...vitals };
    },
    setSlowness(name, factor) {
      hit("slow", name).slowness = factor;
    },
  };
}
