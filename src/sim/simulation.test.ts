import { expect, test } from "vitest";
import { utf8 } from "../base/bytes.ts";
import { isMeshError } from "../base/errors.ts";
import type { Host } from "../host/host.ts";
import { createSimulation, type Simulation } from "./simulation.ts";

const names = ["a", "b", "c", "d", "e"];
const protocol = "/gossip/1";

/** A program with a bit of everything: it dials, talks, writes, runs and backs off. */
async function gossip(host: Host, name: string): Promise<void> {
  const { clock, disk, network, processes, random } = host;
  const signal = new AbortController().signal;
  network.serve(protocol, (_, stream) => {
    stream.receive((bytes) => {
      void disk.append("/heard", bytes).catch(ignoreFailure);
      if (random.below(4) === 0) stream.reset("bored");
    });
  });
  for (let round = 0; ; round++) {
    try {
      const other = names[random.below(names.length)] ?? name;
      if (other === name) continue;
      const peer = await network.connect(`sim/${other}`, signal);
      const stream = await clock.withDeadline(signal, 50, (inner) =>
        network.open(peer, protocol, inner),
      );
      for (let piece = 0; piece < 3; piece++) stream.send(utf8(`${name} ${round} ${piece};`));
      await disk.writeAtomic(`/round-${round % 5}`, random.bytes(100), {
        mode: 0o644,
        sync: false,
      });
      const spec = {
        argv: ["work"] as const,
        env: {},
        cwd: "/",
        timeoutMs: 40,
        outputMaxBytes: 10,
      };
      await processes.run(spec, signal);
      await stream.close();
    } catch (error) {
      ignoreFailure(error);
    } finally {
      await clock.sleep(random.below(20), signal);
    }
  }
}

function ignoreFailure(error: unknown): void {
  if (!isMeshError(error)) throw error;
}

/** Everything that can go wrong, at moments the seed decides. */
async function torment(simulation: Simulation): Promise<void> {
  const { random, faults } = simulation;
  const someone = (): string => names[random.below(names.length)] ?? "a";
  const acts: readonly (() => void)[] = [
    () => start(faults.restart(someone())),
    () => faults.partition([someone(), someone()]),
    () => faults.blockOneWay("a", "b"),
    () => faults.heal(),
    () => faults.pause(someone()),
    () => names.forEach((name) => void faults.resume(name)),
    () => faults.breakConnection(someone(), someone()),
    () => faults.resetStreams(someone(), someone()),
    () => faults.setDiskCapacity(someone(), random.below(2000)),
    () => faults.setReadFlipChance(someone(), 0.5),
    () => faults.setLink(someone(), someone(), { delayMs: random.between(0, 50) }),
    () => faults.setSlowness(someone(), random.between(1, 10)),
    () => faults.setDiskSlowness(someone(), random.between(1, 100)),
    () => faults.setLateTimers(someone(), 0.5, random.between(1, 100)),
  ];
  for (let act = 0; act < 60; act++) {
    await simulation.run(simulation.nowMs() + random.between(1, 100));
    acts[random.below(acts.length)]?.();
  }
  await simulation.run(5000);
}

function start(host: Host): void {
  void gossip(host, host.network.self.slice("sim-".length));
}

async function runOnce(seed: number): Promise<{ trace: string; events: number; heard: string }> {
  const simulation = createSimulation(seed, { commands: () => ({ durationMs: 5 }) });
  for (const name of names) start(simulation.addHost(name));
  await torment(simulation);
  const heard = names.map((name) => {
    const { disk } = simulation.host(name);
    return disk.statNow("/heard") === undefined
      ? ""
      : Buffer.from(disk.readNow("/heard")).toString();
  });
  return {
    trace: simulation.traceHash(),
    events: simulation.eventCount(),
    heard: heard.join("|"),
  };
}

test("one seed gives one trace and one outcome, another seed another", async () => {
  const traces = new Set<string>();
  for (const seed of [1, 2, 3]) {
    const first = await runOnce(seed);
    const second = await runOnce(seed);
    expect(second).toEqual(first);
    expect(first.events).toBeGreaterThan(1000);
    expect(first.heard.length).toBeGreaterThan(100);
    traces.add(first.trace);
  }
  expect(traces.size).toBe(3);
});

test("what a program draws from outside the ports shows as another trace", async () => {
  let outside = 0;
  const run = async (): Promise<string> => {
    const simulation = createSimulation(1);
    const { clock } = simulation.addHost("a");
    const signal = new AbortController().signal;
    const sleeping = (async () => {
      for (let count = 0; count < 10; count++) await clock.sleep(++outside, signal);
    })();
    await simulation.finish(sleeping, 1e6);
    return simulation.traceHash();
  };
  expect(await run()).not.toBe(await run());
});

test("a killed host does nothing any more, and its next life finds its files", async () => {
  const simulation = createSimulation(1);
  const { clock, disk } = simulation.addHost("a");
  let beats = 0;
  void (async () => {
    for (;;) {
      await clock.sleep(10, new AbortController().signal);
      await disk.append("/beats", utf8("."));
      beats++;
    }
  })();
  await simulation.run(1000);
  simulation.faults.kill("a");
  const atDeath = beats;
  await simulation.run(2000);
  expect(beats).toBe(atDeath);
  const second = simulation.faults.restart("a");
  expect(second.disk.readNow("/beats").byteLength).toBe(atDeath);
  expect(simulation.host("a")).toBe(second);
});

test("a paused host goes on where it was, later", async () => {
  const simulation = createSimulation(1);
  const { clock } = simulation.addHost("a");
  const wokeMs: number[] = [];
  void (async () => {
    for (let count = 0; count < 3; count++) {
      await clock.sleep(10, new AbortController().signal);
      wokeMs.push(simulation.nowMs());
    }
  })();
  await simulation.run(15);
  simulation.faults.pause("a");
  await simulation.run(100);
  expect(wokeMs).toEqual([10]);
  simulation.faults.resume("a");
  await simulation.run(200);
  expect(wokeMs).toEqual([10, 100, 110]);
});

test("waiting for what never comes ends at the limit, with code deadline", async () => {
  const simulation = createSimulation(1);
  const waiting = simulation.finish(new Promise(() => {}), 100);
  await expect(waiting).rejects.toMatchObject({ code: "deadline" });
});
