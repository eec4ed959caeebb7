/**
 * Which peers get tasks at the moment: one that fails waits, twice as long each time in a row.
 *
 * A peer whose disk is full fails faster than any other peer works, and would be the first to ask
 * for more: without this, one broken machine takes the work of all.
 */
import { createRecentMap } from "../base/bounded.ts";
import type { PeerId } from "../base/ids.ts";
import type { Clock } from "../host/host.ts";

export interface Standing {
  isWelcome(peer: PeerId): boolean;
  failed(peer: PeerId): void;
  /** It gave a task back for want of room: no failure, unless it always does. */
  refused(peer: PeerId): void;
  /** It did one right: what was before is forgotten. */
  delivered(peer: PeerId): void;
}

const waitMinMs = 500;
/**
 * Short enough that a peer that is well again is not missed, long enough that a broken one costs
 * little; and over when a thief that doubles its pauses asks for the sixth time, not the seventh.
 */
const waitMaxMs = 1500;
const rememberedMax = 512;

/** So many in a row, with nothing done between them, are no bad luck any more. */
const refusalsMax = 8;

export function createStanding(clock: Pick<Clock, "nowMs">): Standing {
  const faults = createRecentMap<PeerId, { readonly count: number; readonly untilMs: number }>(
    rememberedMax,
  );
  const refusals = createRecentMap<PeerId, number>(rememberedMax);

  function failed(peer: PeerId): void {
    const count = (faults.get(peer)?.count ?? 0) + 1;
    const waitMs = Math.min(waitMaxMs, waitMinMs * 2 ** (count - 1));
    faults.set(peer, { count, untilMs: clock.nowMs() + waitMs });
  }

  return {
    isWelcome: (peer) => (faults.get(peer)?.untilMs ?? 0) <= clock.nowMs(),
    failed,
    refused(peer) {
      const count = (refusals.get(peer) ?? 0) + 1;
      refusals.set(peer, count);
      if (count > refusalsMax) failed(peer);
    },
    delivered(peer) {
      faults.delete(peer);
      refusals.delete(peer);
    },
  };
}
