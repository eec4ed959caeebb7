/**
 * Notices providers that have fallen silent while something is wanted from them.
 *
 * Three steps: company (a second peer is asked as well), demotion (asked last from now on), and
 * the end of the stream. Says nothing about who is asked instead.
 */
import type { Clock } from "../host/host.ts";
import type { Link } from "./link.ts";

export interface WatchOptions {
  /** A peer silent for this long, or eight round trips if those are longer, gets company. */
  readonly hedgeMinMs: number;
  /** A peer silent for this long is asked last. */
  readonly demoteMs: number;
  /** A peer silent for this long loses its stream. */
  readonly resetMs: number;
}

export interface WatchDeps<U> {
  readonly clock: Clock;
  readonly links: () => Iterable<Link<U>>;
  /** Time for company. Called again with every look while the silence lasts. */
  readonly onSilent: (link: Link<U>) => void;
  /** Called before the stream is reset. */
  readonly onDead: (link: Link<U>) => void;
}

/** How often to look. */
const lookMs = 50;
/** A look that comes this late means that this node stood still, not its peers. */
const pauseMs = 1_000;
const hedgeRoundTrips = 8;

/** Gives the call that waits a moment and looks once. It rejects when `signal` aborts. */
export function createWatch<U>(
  { clock, links, onSilent, onDead }: WatchDeps<U>,
  options: WatchOptions,
): (signal: AbortSignal) => Promise<void> {
  function look(link: Link<U>): void {
    if (link.backlogBytes() === 0) return;
    if (link.isHeldUp()) link.meter.forgive();
    const silentMs = link.meter.silentMs();
    if (silentMs >= options.resetMs) {
      onDead(link);
      link.reset(`silent for ${Math.round(silentMs)} ms`);
      return;
    }
    if (silentMs >= options.demoteMs) link.meter.demote();
    const patienceMs = Math.max(options.hedgeMinMs, hedgeRoundTrips * link.meter.rttMs());
    if (silentMs >= patienceMs) onSilent(link);
  }

  return async (signal) => {
    const beforeMs = clock.nowMs();
    await clock.sleep(lookMs, signal);
    const stoodStill = clock.nowMs() - beforeMs > pauseMs;
    for (const link of [...links()]) {
      if (stoodStill) link.meter.forgive();
      else look(link);
    }
  };
}
