/**
 * How surplus finds idle peers without anybody asking around.
 *
 * A thief that finds no work registers with ⌈log2 P⌉ peers, its neighbours on a hypercube of all
 * members, and sleeps. An owner with surplus pushes tasks to whoever is registered with it; if
 * something is left it sends its load to as many other peers as there are tasks, and, while there
 * still is, to more of them in waves that grow apart. So a task that appears wakes about one node,
 * not all, an idle mesh says nothing, and none sleeps for long beside work.
 * Source: V. Saraswat et al., "Lifeline-based Global Load Balancing", PPoPP 2011.
 */
import type { PeerId } from "../base/ids.ts";
import type { Clock } from "../host/host.ts";
import { createAlarm } from "../peer/alarm.ts";
import type { StealRequest } from "../wire/gen/mesh/v1/mesh_pb.ts";

/** Whom a node of this mesh registers with. At most ⌈log2 P⌉; the same whenever the mesh is. */
export function neighboursOf(self: PeerId, peers: readonly PeerId[]): readonly PeerId[] {
  const all = [...peers, self].sort();
  const own = all.indexOf(self);
  const found = new Set<PeerId>();
  for (let step = 1; step < all.length; step *= 2) {
    // Where the cube has a corner missing, the next one stands in for it.
    const corner = own ^ step;
    const peer = all[corner < all.length ? corner : (own + step) % all.length];
    if (peer !== undefined && peer !== self) found.add(peer);
  }
  return [...found];
}

export interface Lifelines {
  /** A peer sleeps, and wants to be woken with tasks. One registration serves for one push. */
  register(peer: PeerId, request: StealRequest): void;
  forget(peer: PeerId): void;
  /** There may be something to give. */
  wake(): void;
  /** Registered peers. */
  readonly size: number;
}

export interface LifelinesDeps {
  readonly clock: Clock;
  readonly surplus: () => number;
  /** Gives tasks to a registered peer; false when there is nothing for it. */
  readonly push: (peer: PeerId, request: StealRequest) => boolean;
  /** Tells up to so many further peers, those that look idle and do not know yet. */
  readonly hint: (count: number) => void;
}

const registeredMax = 1024;
/** Rounds are at least this far apart; what happens in one turn is one round. */
const roundMinMs = 2;
/** While surplus stays, others are told after this long, and then ever more rarely. */
const waveMinMs = 100;
const waveMaxMs = 2500;
const factorMax = 1024;

export function createLifelines(deps: LifelinesDeps, signal: AbortSignal): Lifelines {
  const { clock, surplus, push, hint } = deps;
  const registered = new Map<PeerId, StealRequest>();
  const alarm = createAlarm(clock);
  let isRung = false;
  let isRunning = false;

  function feed(factor: number): void {
    for (const [peer, request] of [...registered]) {
      if (surplus() === 0) return;
      if (push(peer, request)) registered.delete(peer);
    }
    const left = surplus();
    if (left > 0) hint(left * factor);
  }

  async function run(): Promise<void> {
    let waveMs = waveMinMs;
    // Those told first may all have other work, and say so to nobody: each wave reaches twice as many.
    let factor = 1;
    try {
      // At once, but together with everything else of this turn.
      await undefined;
      while (surplus() > 0) {
        signal.throwIfAborted();
        isRung = false;
        const fedMs = clock.nowMs();
        feed(factor);
        factor = Math.min(factorMax, 2 * factor);
        await alarm.wait(waveMs, signal);
        waveMs = isRung ? waveMinMs : Math.min(waveMaxMs, 2 * waveMs);
        const pauseMs = fedMs + roundMinMs - clock.nowMs();
        if (pauseMs > 0) await clock.sleep(pauseMs, signal);
      }
    } finally {
      // In the turn in which it gave up: a wake-up in the next one must start another.
      isRunning = false;
    }
  }

  return {
    register(peer, request) {
      if (request.room === 0) return void registered.delete(peer);
      if (registered.size >= registeredMax && !registered.has(peer)) return;
      registered.set(peer, request);
    },
    forget: (peer) => void registered.delete(peer),
    wake() {
      isRung = true;
      if (isRunning) return alarm.ring();
      if (signal.aborted) return;
      isRunning = true;
      run().catch((error: unknown) => {
        if (!signal.aborted) throw error;
      });
    },
    get size() {
      return registered.size;
    },
  };
}
