/**
 * How much of this node's time each owner has had lately: what fairness between owners is made of.
 *
 * Old service counts less and less, so that an owner that comes back after an hour is as new.
 */
import { createRecentMap } from "../base/bounded.ts";
import type { PeerId } from "../base/ids.ts";
import type { Clock } from "../host/host.ts";

export interface Served {
  add(owner: PeerId, runMs: number): void;
  /** In ms, as if all of it had been just now. */
  ms(owner: PeerId): number;
}

const halfLifeMs = 10_000;
const ownersMax = 512;

export function createServed(clock: Pick<Clock, "nowMs">): Served {
  const owners = createRecentMap<PeerId, { readonly ms: number; readonly atMs: number }>(ownersMax);
  function ms(owner: PeerId): number {
    const known = owners.get(owner);
    if (known === undefined) return 0;
    return known.ms * 2 ** ((known.atMs - clock.nowMs()) / halfLifeMs);
  }
  return {
    add: (owner, runMs) => owners.set(owner, { ms: ms(owner) + runMs, atMs: clock.nowMs() }),
    ms,
  };
}
