/**
 * Virtual time: a heap of what is going to happen, and a loop that makes it happen.
 *
 * Between two events every promise that can settle does, so code that waits only for promises
 * and for this timeline runs the same way every time. Code that waits for a real timer, file,
 * socket or thread pool would not, and must not run here.
 */

import { utf8 } from "../base/bytes.ts";
import { digestOf } from "../base/digest.ts";
import { MeshError } from "../base/errors.ts";

/**
 * One life of a simulated host. A restart makes a new one; what is still to happen to the old
 * one never does, so whatever waits for it waits for ever, as in a process that was killed.
 */
export interface Machine {
  readonly name: string;
  isAlive: boolean;
  /** While paused, what is due waits in `held`: as in a stopped process, time goes on without it. */
  isPaused: boolean;
  readonly held: Happening[];
}

/** One event. */
export interface Happening {
  timeMs: number;
  /** Breaks ties: what was asked for first happens first. */
  readonly order: number;
  readonly kind: string;
  /** Undefined for what happens to the world rather than to one host. */
  readonly machine: Machine | undefined;
  /** Undefined once cancelled. */
  fire: (() => void) | undefined;
}

export interface Timeline {
  nowMs(): number;
  /** Makes `fire` happen to `machine` after `delayMs`, unless the returned call comes first. */
  schedule(
    machine: Machine | undefined,
    delayMs: number,
    kind: string,
    fire: () => void,
  ): () => void;
  /** Resolves when that happens. */
  pass(machine: Machine, delayMs: number, kind: string): Promise<void>;
  /** Puts a line into the trace that is no event of its own. */
  record(kind: string, host: string): void;
  /** Goes on with what was held during a pause. */
  release(machine: Machine): void;
  /** Runs to the virtual instant `untilMs`. */
  run(untilMs: number): Promise<void>;
  /** Runs until `isDone()`. @throws MeshError "deadline" when it still is not at `limitMs`. */
  until(isDone: () => boolean, limitMs: number): Promise<void>;
  /** Names everything that has happened so far, in order: equal for equal runs. */
  traceHash(): string;
  readonly eventCount: number;
}

export interface TimelineOptions {
  /** Events in one `run` or `until`; more means that something goes round in circles. */
  readonly eventsMax: number;
}

export function createTimeline({ eventsMax }: TimelineOptions): Timeline {
  const heap = createHeap();
  const trace = createTrace();
  let nowMs = 0;
  let lastOrder = 0;
  let eventCount = 0;

  function schedule(
    machine: Machine | undefined,
    delayMs: number,
    kind: string,
    fire: () => void,
  ): () => void {
    const happening: Happening = {
      timeMs: nowMs + Math.max(0, delayMs),
      order: ++lastOrder,
      kind,
      machine,
      fire,
    };
    heap.push(happening);
    return () => {
      happening.fire = undefined;
    };
  }

  /** Makes one event happen. @returns false when none is due by `untilMs`. */
  function step(untilMs: number): boolean {
    for (;;) {
      const next = heap.peek();
      if (next === undefined || next.timeMs > untilMs) return false;
      heap.pop();
      const { fire, machine } = next;
      if (fire === undefined || machine?.isAlive === false) continue;
      if (machine?.isPaused === true) {
        machine.held.push(next);
        continue;
      }
      nowMs = next.timeMs;
      eventCount++;
      trace.add(nowMs, next.kind, machine?.name ?? "-");
      fire();
      return true;
    }
  }

  async function runWhile(goOn: () => boolean, untilMs: number): Promise<void> {
    const stopAt = eventCount + eventsMax;
    await settle(0);
    while (goOn() && step(untilMs)) {
      if (eventCount >= stopAt)
        throw new MeshError("limit", `${eventsMax} events and no end at ${nowMs} virtual ms`);
      await settle(eventCount);
    }
  }

  return {
    nowMs: () => nowMs,
    schedule,
    pass: (machine, delayMs, kind) =>
      new Promise((resolve) => schedule(machine, delayMs, kind, resolve)),
    record: (kind, host) => trace.add(nowMs, kind, host),
    release(machine) {
      for (const happening of machine.held.splice(0)) {
        happening.timeMs = nowMs;
        heap.push(happening);
      }
    },
    async run(untilMs) {
      await runWhile(() => true, untilMs);
      nowMs = Math.max(nowMs, untilMs);
    },
    async until(isDone, limitMs) {
      await runWhile(() => !isDone(), limitMs);
      if (!isDone())
        throw new MeshError("deadline", `still waiting at ${nowMs} of ${limitMs} virtual ms`);
    },
    traceHash: () => trace.hash(),
    get eventCount() {
      return eventCount;
    },
  };
}

/** Events between two visits to Node's own event loop: each visit costs as much as an event. */
const visitEvery = 256;

/**
 * Lets every promise that can settle do so: Node runs all microtasks before the next tick's
 * callback, and before the next immediate.
 */
function settle(eventCount: number): Promise<void> {
  return new Promise((resolve) => {
    if (eventCount % visitEvery === 0) setImmediate(resolve);
    else process.nextTick(resolve);
  });
}

interface Trace {
  add(timeMs: number, kind: string, host: string): void;
  hash(): string;
}

/** BLAKE3 over the lines so far, in a chain so that no line has to be kept. */
function createTrace(): Trace {
  let hashed = "";
  let lines: string[] = [];
  const fold = (): void => {
    hashed = digestOf(utf8(hashed + lines.join("")));
    lines = [];
  };
  return {
    add(timeMs, kind, host) {
      lines.push(`${timeMs} ${kind} ${host}\n`);
      if (lines.length >= 1000) fold();
    },
    hash: () => digestOf(utf8(hashed + lines.join(""))),
  };
}

interface Heap {
  push(happening: Happening): void;
  peek(): Happening | undefined;
  pop(): void;
}

/** A binary heap, earliest first. */
function createHeap(): Heap {
  const items: Happening[] = [];
  const isBefore = (left: Happening, right: Happening): boolean =>
    left.timeMs === right.timeMs ? left.order < right.order : left.timeMs < right.timeMs;

  /** Finds the place for `item`, starting at the hole `index`, on the way up. */
  function rise(item: Happening, index: number): void {
    let hole = index;
    while (hole > 0) {
      const above = (hole - 1) >> 1;
      const parent = items[above];
      if (parent === undefined || !isBefore(item, parent)) break;
      items[hole] = parent;
      hole = above;
    }
    items[hole] = item;
  }

  /** The same on the way down from the top. */
  function sink(item: Happening): void {
    let hole = 0;
    for (;;) {
      let below = 2 * hole + 1;
      let child = items[below];
      const other = items[below + 1];
      if (child === undefined) break;
      if (other !== undefined && isBefore(other, child)) {
        child = other;
        below++;
      }
      if (!isBefore(child, item)) break;
      items[hole] = child;
      hole = below;
    }
    items[hole] = item;
  }

  return {
    push: (item) => rise(item, items.length),
    peek: () => items[0],
    pop() {
      const last = items.pop();
      if (last !== undefined && items.length > 0) sink(last);
    },
  };
}
