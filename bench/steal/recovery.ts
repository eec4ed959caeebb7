/**
 * From a fault of the thief that runs a task until the task runs at another: the thief is killed,
 * is stopped, or cannot be reached any more.
 *
 * The owner gives no slot of its own, so the task has to move to another thief. Both times are of
 * this process's clock: right before the fault, and when the other thief has said on its standard
 * output that the task runs. A thief that had a fault is replaced by a new node.
 */
import { createWorld, type LiveNode, until, type World } from "../../chaos-tests/live/nodes.ts";
import type { OpenNode } from "../../src/node/open.ts";
import { atMost, type Bench, type BenchOptions, type Result, rowOf } from "../bench.ts";
import { holdSlot, inviteOf, openOwner } from "../owner.ts";
import { createSilentProxy, type SilentProxy } from "./silent-proxy.ts";
import { createSleeps, type Sleep } from "./sleeps.ts";

const thieves = 3;
/** Between two trials the fault comes at another time after the last sign of life. */
const settle = { minMs: 300, stepMs: 190, spanMs: 1000 };
const trialMaxMs = 60_000;

interface Fault {
  readonly what: string;
  readonly trials: number;
  readonly maxMs: number;
  /** Its thieves reach the owner through a proxy each. */
  readonly proxied: boolean;
  strike(thief: Thief): void;
}

const faults: readonly Fault[] = [
  {
    what: "killed",
    trials: 20,
    maxMs: 2000,
    proxied: false,
    strike: ({ live }) => void live.child.kill("SIGKILL"),
  },
  {
    what: "stopped",
    trials: 10,
    maxMs: 7000,
    proxied: false,
    strike: ({ live }) => void live.child.kill("SIGSTOP"),
  },
  {
    what: "cut off",
    trials: 10,
    maxMs: 7000,
    proxied: true,
    strike: ({ proxy }) => proxy?.silence(),
  },
];

interface Thief {
  readonly name: string;
  readonly live: LiveNode;
  readonly proxy: SilentProxy | undefined;
}

export const recovery: Bench = {
  name: "recovery",
  about: "from a thief killed, stopped or cut off to its task running at another thief",
  async run(options) {
    const results: Result[] = [];
    for (const fault of faults) results.push(await measure(fault, options));
    return {
      rows: results.flatMap(({ rows }) => rows),
      checks: results.flatMap(({ checks }) => checks),
      notes: [
        ...results.flatMap(({ notes }) => notes),
        `one owner that runs nothing itself, ${thieves} thieves; a lease lasts 2 s`,
      ],
    };
  },
};

async function measure(fault: Fault, { runs, say, signal }: BenchOptions): Promise<Result> {
  const world = await createWorld();
  const alive = new Set<Thief>();
  let node: OpenNode | undefined;
  try {
    node = await openOwner(world, "owner", 1, signal);
    await holdSlot(node);
    const starts = watchStarts();
    const reasons = new Map<string, number>();
    const requeued: number[] = [];
    let struckMs = 0;
    node.events.listen((event) => {
      if (event.event !== "task-requeued") return;
      requeued.push(performance.now() - struckMs);
      reasons.set(event.reason, (reasons.get(event.reason) ?? 0) + 1);
    });
    const sleeping = await createSleeps(node, undefined, signal);
    const walls: number[] = [];
    const trials = runs ?? fault.trials;
    for (let trial = 0; trial < trials; trial += 1) {
      signal.throwIfAborted();
      await fillUp(world, node, alive, starts, fault);
      const stop = new AbortController();
      const task = sleeping(sleepOf(trial));
      const ended = node.owner.submit(task, AbortSignal.any([stop.signal, signal])).catch(() => {});
      try {
        const first = await starts.next(task.label, undefined, signal);
        const settleMs = settle.minMs + ((settle.stepMs * trial) % settle.spanMs);
        await new Promise((wake) => setTimeout(wake, settleMs));
        const victim = [...alive].find(({ name }) => name === first.name);
        if (victim === undefined) throw new Error(`no thief is called ${first.name}`);
        struckMs = performance.now();
        fault.strike(victim);
        const second = await starts.next(task.label, first.name, signal);
        walls.push(second.atMs - struckMs);
        say(`${fault.what} ${trial + 1} of ${trials}: ${Math.round(walls.at(-1) ?? 0)} ms`);
        await bury(victim, alive);
      } finally {
        stop.abort();
        await ended;
      }
    }
    const what = `${fault.what} to running elsewhere`;
    const row = rowOf(what, "ms", walls);
    const why = [...reasons].map(([reason, count]) => `${count} × ${reason}`).join(", ");
    return {
      rows: [rowOf(`${fault.what} to queued again`, "ms", requeued), row],
      checks: [atMost(`${what}, p99`, row.p99, fault.maxMs, "ms")],
      notes: [
        `${fault.what}: p50 ${Math.round(row.median)} ms, p99 ${Math.round(row.p99)} ms; ${why}`,
      ],
    };
  } finally {
    // One that is stopped would never hear that it should end.
    for (const thief of [...alive]) await bury(thief, alive);
    await node?.stop();
    await world.close();
  }
}

function sleepOf(trial: number): Sleep {
  return { label: `trial ${trial}`, sleepMs: 100_000 };
}

let started = 0;

async function fillUp(
  world: World,
  node: OpenNode,
  alive: Set<Thief>,
  starts: Starts,
  { proxied }: Fault,
): Promise<void> {
  while (alive.size < thieves) {
    const name = `thief-${started++}`;
    const port = Number(/\/tcp\/(\d+)/.exec(node.host.network.listenAddrs()[0] ?? "")?.[1]);
    const proxy = proxied ? await createSilentProxy(port) : undefined;
    const invite = inviteOf(node, (addr) =>
      proxy === undefined ? addr : addr.replace(/\/tcp\/\d+/, `/tcp/${proxy.port}`),
    );
    try {
      const onEvent = (event: Readonly<Record<string, unknown>>) => starts.see(name, event);
      alive.add({ name, live: await world.start({ name, invite, slots: 1, onEvent }), proxy });
    } catch (error) {
      proxy?.close();
      throw error;
    }
  }
  const ids = [...alive].map(({ live }) => live.peerId);
  const known = () => node.directory.peers().map(({ id }) => String(id));
  await until("the thieves, and nobody else", () => {
    const now = known();
    return now.length === ids.length && ids.every((id) => now.includes(id));
  });
}

async function bury(thief: Thief, alive: Set<Thief>): Promise<void> {
  alive.delete(thief);
  thief.live.child.kill("SIGKILL");
  await thief.live.exited;
  thief.proxy?.close();
}

interface Start {
  readonly name: string;
  readonly label: string;
  readonly atMs: number;
}

interface Starts {
  see(name: string, event: Readonly<Record<string, unknown>>): void;
  /** The first start of a task anywhere but at one thief. */
  next(label: string, but: string | undefined, signal: AbortSignal): Promise<Start>;
}

function watchStarts(): Starts {
  const seen: Start[] = [];
  let wake = () => {};
  return {
    see(name, { event, label }) {
      if (event !== "foreign-started") return;
      seen.push({ name, label: String(label), atMs: performance.now() });
      wake();
    },
    async next(label, but, signal) {
      const late = performance.now() + trialMaxMs;
      for (;;) {
        signal.throwIfAborted();
        const found = seen.find((start) => start.label === label && start.name !== but);
        if (found !== undefined) return found;
        // In steps, so that it also sees that nobody waits any more.
        const leftMs = late - performance.now();
        if (leftMs <= 0) throw new Error(`${label} did not run in ${trialMaxMs} ms`);
        await new Promise<void>((resolve) => {
          const timer = setTimeout(resolve, Math.min(leftMs, 1000));
          wake = () => {
            clearTimeout(timer);
            resolve();
          };
        });
      }
    },
  };
}
