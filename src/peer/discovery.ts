/**
 * Looks for members in the DHT: at the start, while alone, and otherwise every few minutes.
 *
 * Knows nothing about connections; what it finds is handed on.
 */
import { isMeshError } from "../base/errors.ts";
import type { Clock, Network } from "../host/host.ts";
import { createAlarm } from "./alarm.ts";

export interface Discovery {
  /** The first member came, or the last one went. */
  ring(): void;
  run(signal: AbortSignal): Promise<void>;
}

export interface DiscoveryDeps {
  readonly network: Network;
  readonly clock: Clock;
  readonly topic: Uint8Array;
  readonly alone: () => boolean;
  readonly onFound: (addrs: readonly string[]) => void;
  /** Called each time around, at least every few minutes. */
  readonly onRound: () => void;
}

const aloneMinMs = 30_000;
const calmMs = 5 * 60_000;
const announceEveryMs = 30 * 60_000;
const lookUpMs = 10_000;
const foundMax = 64;

export function createDiscovery(deps: DiscoveryDeps): Discovery {
  const { network, clock, topic } = deps;
  const alarm = createAlarm(clock);
  let announcedAtMs = Number.NEGATIVE_INFINITY;
  let soughtAtMs = Number.NEGATIVE_INFINITY;
  let pauseMs = aloneMinMs;

  /** The DHT is a convenience: when it fails, the next round tries again. */
  async function attempt(
    signal: AbortSignal,
    run: (signal: AbortSignal) => Promise<void>,
  ): Promise<boolean> {
    try {
      await clock.withDeadline(signal, lookUpMs, run);
      return true;
    } catch (error) {
      signal.throwIfAborted();
      if (!isMeshError(error)) throw error;
      return false;
    }
  }

  async function announce(signal: AbortSignal): Promise<void> {
    const done = await attempt(signal, (inTime) => network.announce(topic, inTime));
    if (done) announcedAtMs = clock.nowMs();
  }

  async function seek(signal: AbortSignal): Promise<void> {
    soughtAtMs = clock.nowMs();
    let found = 0;
    await attempt(signal, async (inTime) => {
      for await (const addrs of network.find(topic, inTime)) {
        deps.onFound(addrs);
        found += 1;
        if (found >= foundMax) return;
      }
    });
  }

  return {
    ring: alarm.ring,
    async run(signal) {
      for (;;) {
        deps.onRound();
        // Announcing to nobody leaves no trace, so it waits for the first member.
        const due = clock.nowMs() - announcedAtMs >= announceEveryMs;
        if (!deps.alone() && due) await announce(signal);
        pauseMs = deps.alone() ? Math.min(pauseMs, calmMs) : calmMs;
        if (clock.nowMs() - soughtAtMs >= (deps.alone() ? aloneMinMs : calmMs)) await seek(signal);
        await alarm.wait(pauseMs, signal);
        pauseMs = deps.alone() ? pauseMs * 2 : aloneMinMs;
      }
    },
  };
}
