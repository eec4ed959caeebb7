/**
 * What goes wrong in one run: drawn from the seed, some kinds often and others never (a swarm), so
 * that rare combinations come up; and the end of it all.
 */
import { messageOf } from "../../src/base/errors.ts";
import { type Trick, trickNames } from "./crook.ts";
import { draw, pick } from "./draws.ts";
import { type FaultKind, faultKinds } from "./fault-kinds.ts";
import type { SimMesh, SimNode } from "./mesh.ts";
import { corruptBlob, type Victim } from "./rot.ts";

export interface Torment {
  /** Does one thing, and says which; undefined when this run has none, or it met nobody. */
  next(): FaultKind | undefined;
  /** Makes good what can be made good, and brings back who is dead. */
  heal(): Promise<void>;
  /** What has struck, and how often. A crook counts each time that it breaks a rule. */
  fired(): ReadonlyMap<FaultKind, number>;
  /** Cuts a living owner off from everybody, but leaves it in good health. Undefined: none lives. */
  strand(): SimNode | undefined;
  /** What should not have happened to hosts that came or went. */
  troubles(): readonly string[];
  /** Since when that host does nothing, dead or stopped; undefined while it runs. */
  stillSinceMs(name: string): number | undefined;
  /**
   * Since when nothing of it can arrive anywhere either. Undefined while it runs, and while some
   * link is slow, on which what it said long ago may still be under way.
   */
  silentSinceMs(name: string): number | undefined;
  /** Since when nothing keeps anybody from hearing anybody; undefined while something does. */
  calmSinceMs(): number | undefined;
}

export interface TormentOptions {
  readonly slownessMax: number;
  readonly hostsMax: number;
  /** Furthest that a wall clock goes from the true time; at 0 it is moved by nothing. */
  readonly clockMaxMs: number;
}

/** Longest that anything takes over a link, apart from what waits before it. */
const slowestMs = 500;
/** From SIGTERM until a node is gone, whatever the weather. */
const leaveMaxMs = 30_000;

/** `owners` are left alone where a fault would make a wrong result right: what they run here. */
export function createTorment(
  mesh: SimMesh,
  owners: ReadonlySet<string>,
  /** Blobs that may lie in stores. */
  blobs: () => readonly Victim[],
  { slownessMax, hostsMax, clockMaxMs }: TormentOptions,
): Torment {
  const { simulation, names } = mesh;
  const { faults } = simulation;
  const random = simulation.random.fork("torment");
  const weights = faultKinds.map(
    (kind) => [kind, random.chance(0.4) ? random.fraction() : 0] as const,
  );
  const fired = new Map<FaultKind, number>();
  /** Until when they stand still. */
  const paused = new Map<string, number>();
  const stillSinceMs = new Map<string, number>();
  let healedMs = 0;
  const spoilt = new Set<string>();
  const slow = new Set<string>();
  const tardy = new Set<string>();
  const clockOffMs = new Map<string, number>();
  const leaving = new Map<string, number>();
  const troubles: string[] = [];
  let calmFromMs = Number.POSITIVE_INFINITY;
  const framed = new Set<string>();

  const anyone = (): string => pick(random, names) ?? "n0";
  const alive = (): string | undefined =>
    pick(
      random,
      mesh.nodes().map(({ name }) => name),
    );
  const thief = (): string | undefined =>
    pick(
      random,
      mesh.nodes().flatMap(({ name }) => (owners.has(name) ? [] : [name])),
    );
  /** Faults are worth most where something is under way: a node that runs others' tasks. */
  const busy = (): string | undefined => {
    const holders = mesh.nodes().filter(({ thief: { held } }) => held() > 0);
    const held = pick(
      random,
      holders.map(({ name }) => name),
    );
    return random.chance(0.7) ? (held ?? alive()) : alive();
  };
  const pair = (): readonly [string, string] => {
    const left = busy() ?? anyone();
    const owner = pick(
      random,
      [...owners].filter((name) => name !== left),
    );
    if (owner !== undefined && random.chance(0.6)) return [left, owner];
    return [
      left,
      pick(
        random,
        names.filter((name) => name !== left),
      ) ?? left,
    ];
  };

  function kill(silent: boolean): boolean {
    // Somebody has to be left, or nothing can go wrong any more.
    const name = mesh.nodes().length > 2 ? busy() : undefined;
    if (name === undefined) return false;
    paused.delete(name);
    stillSinceMs.set(name, simulation.nowMs());
    mesh.kill(name, { silent, losePower: random.chance(0.3) });
    return true;
  }

  function restart(): boolean {
    const dead = names.filter((name) => mesh.find(name) === undefined);
    const name = pick(random, dead.length > 0 && random.chance(0.7) ? dead : names);
    if (name === undefined) return false;
    begin(name);
    return true;
  }

  function begin(name: string): void {
    paused.delete(name);
    stillSinceMs.delete(name);
    // A full disk, perhaps: the host is dead until the next attempt.
    mesh.restart(name).catch(() => {});
  }

  function pause(): boolean {
    const name = busy();
    if (name === undefined || paused.has(name)) return false;
    faults.pause(name);
    paused.set(name, simulation.nowMs() + random.between(100, 9000));
    stillSinceMs.set(name, simulation.nowMs());
    return true;
  }

  /** For good; somebody stays to submit tasks. */
  function goer(): string | undefined {
    const name = names.length > 2 && mesh.nodes().length > 2 ? busy() : undefined;
    const others = [...owners].filter((owner) => owner !== name && names.includes(owner));
    return name === undefined || others.length === 0 || paused.has(name) ? undefined : name;
  }

  function join(): boolean {
    if (names.length >= hostsMax) return false;
    mesh.join().catch((error: unknown) => troubles.push(`a host cannot join: ${error}`));
    return true;
  }

  function leave(): boolean {
    const name = goer();
    if (name === undefined) return false;
    leaving.set(name, simulation.nowMs());
    mesh.leave(name).then(
      () => {
        stillSinceMs.set(name, simulation.nowMs());
        leaving.delete(name);
      },
      (error: unknown) => troubles.push(`${name} cannot leave: ${messageOf(error)}`),
    );
    return true;
  }

  function lose(): boolean {
    const name = goer();
    if (name === undefined) return false;
    stillSinceMs.set(name, simulation.nowMs());
    mesh.lose(name);
    return true;
  }

  function corrupt(trick: Trick): boolean {
    const name = busy() ?? anyone();
    mesh.crooks.set(name, trick);
    if (trick === "frames") framed.add(name);
    return true;
  }

  function link(change: Parameters<typeof faults.setLink>[2]): boolean {
    const [left, right] = pair();
    faults.setLink(left, right, change);
    return true;
  }

  function spoil(act: (name: string) => void): boolean {
    const name = thief();
    if (name === undefined) return false;
    spoilt.add(name);
    act(name);
    return true;
  }

  const acts: Readonly<Record<FaultKind, () => boolean>> = {
    kill: () => kill(false),
    "kill-silent": () => kill(true),
    restart,
    pause,
    partition() {
      // One alone is what makes a zombie: it works on, and is heard again when it is too late.
      const one = random.chance(0.5) ? busy() : undefined;
      faults.partition(names.filter((name) => (one ? name === one : random.chance(0.4))));
      return true;
    },
    "one-way"() {
      faults.blockOneWay(...pair());
      return true;
    },
    reset() {
      faults.resetStreams(...pair(), pick(random, [undefined, "/mesh/blk/1", "/mesh/ctl/1"]));
      return true;
    },
    break() {
      faults.breakConnection(...pair());
      return true;
    },
    "slow-link": () =>
      link({
        delayMs: random.between(1, slowestMs - 100),
        jitterMs: 50,
        bytesPerMs: random.between(5, 500),
      }),
    "lossy-link": () => link({ resetChance: random.between(0.001, 0.02) }),
    "slow-host"() {
      const name = anyone();
      slow.add(name);
      faults.setSlowness(name, random.between(2, slownessMax));
      return true;
    },
    "disk-full": () => spoil((name) => faults.setDiskCapacity(name, random.below(20_000))),
    "bit-flips": () =>
      spoil((name) => faults.setReadFlipChance(name, random.between(0.1, 1), "/data/blobs")),
    "corrupt-blob": () => {
      const stocked = mesh
        .nodes()
        .filter(({ name, store }) => !owners.has(name) && store.stats().blobs > 0);
      const node = pick(random, stocked);
      return node !== undefined && corruptBlob(mesh, node.name, blobs(), random);
    },
    "corrupt-log"() {
      const name = anyone();
      const path = "/data/results/log";
      const { disk } = simulation.host(name);
      if ((disk.statNow(path)?.sizeBytes ?? 0) === 0) return false;
      const flips = 1 + random.below(4);
      for (let flip = 0; flip < flips; flip++) faults.corruptFile(name, path);
      return true;
    },
    liar() {
      const name = anyone();
      mesh.liars.add(name);
      return true;
    },
    "wall-clock"() {
      const name = anyone();
      const offMs = clockMaxMs * random.between(-1, 1);
      faults.stepWallClock(name, offMs - (clockOffMs.get(name) ?? 0));
      clockOffMs.set(name, offMs);
      return true;
    },
    "late-timers"() {
      const name = anyone();
      tardy.add(name);
      faults.setLateTimers(name, 0.3, random.between(5, 300));
      return true;
    },
    "slow-disk"() {
      const name = anyone();
      tardy.add(name);
      faults.setDiskSlowness(name, random.between(5, 200));
      return true;
    },
    join,
    leave,
    lose,
    ...crookActs(corrupt),
  };

  return {
    fired() {
      const all = new Map([...fired].filter(([kind]) => !kind.startsWith("crook-")));
      for (const [trick, times] of mesh.tricked) all.set(`crook-${trick}`, times);
      return all;
    },
    strand() {
      const home = pick(
        random,
        mesh.nodes().filter(({ name }) => owners.has(name)),
      );
      if (home === undefined) return undefined;
      if (paused.has(home.name)) resume(home.name);
      faults.partition([home.name]);
      return home;
    },
    troubles: () => [
      ...troubles,
      ...[...leaving]
        .filter(([, sinceMs]) => simulation.nowMs() - sinceMs > leaveMaxMs)
        .map(([name]) => `${name} takes more than ${leaveMaxMs} ms to leave`),
    ],
    calmSinceMs: () => (calmFromMs <= simulation.nowMs() ? calmFromMs : undefined),
    stillSinceMs: (name) => stillSinceMs.get(name),
    silentSinceMs(name) {
      const sinceMs = stillSinceMs.get(name);
      if (sinceMs === undefined || fired.has("slow-link")) return undefined;
      return Math.max(sinceMs, healedMs);
    },
    next() {
      // What was stopped goes on at some time, or a pause would be as good as a death.
      for (const [name, untilMs] of paused) if (untilMs <= simulation.nowMs()) resume(name);
      if (random.chance(0.15)) reopen();
      const kind = draw(random, weights);
      if (kind === undefined || !acts[kind]()) return undefined;
      fired.set(kind, (fired.get(kind) ?? 0) + 1);
      return kind;
    },
    async heal() {
      const backlogMs = simulation.linksBusyUntilMs();
      for (const name of [...paused.keys()]) resume(name);
      reopen();
      for (const name of spoilt) {
        faults.setDiskCapacity(name, 2 ** 40);
        faults.setReadFlipChance(name, 0);
      }
      mesh.liars.clear();
      // A stream loses nothing: with whoever made it look so, everybody begins anew.
      for (const crook of framed)
        for (const name of names) if (name !== crook) faults.breakConnection(crook, name);
      mesh.crooks.clear();
      for (const name of tardy) {
        faults.setLateTimers(name, 0, 0);
        faults.setDiskSlowness(name, 1);
      }
      for (const name of slow) faults.setSlowness(name, 1);
      for (const [index, left] of names.entries())
        for (const right of names.slice(index + 1))
          faults.setLink(left, right, {
            delayMs: 0.25,
            jitterMs: 0.05,
            bytesPerMs: 125_000,
            resetChance: 0,
          });
      for (const name of names) if (mesh.find(name) === undefined) begin(name);
      const everybody = (): boolean => mesh.nodes().length === names.length;
      await simulation.until(everybody, simulation.nowMs() + 60_000);
      // A link that was slow has not yet delivered what was sent then.
      calmFromMs = Math.max(simulation.nowMs(), backlogMs + slowestMs);
    },
  };

  /** What the network has held back arrives now. */
  function reopen(): void {
    healedMs = simulation.nowMs();
    faults.heal();
  }

  function resume(name: string): void {
    paused.delete(name);
    stillSinceMs.delete(name);
    faults.resume(name);
  }
}

function crookActs(
  corrupt: (trick: Trick) => boolean,
): Readonly<Record<`crook-${Trick}`, () => boolean>> {
  return Object.fromEntries(
    trickNames.map((trick) => [`crook-${trick}`, () => corrupt(trick)]),
  ) as Readonly<Record<`crook-${Trick}`, () => boolean>>;
}
