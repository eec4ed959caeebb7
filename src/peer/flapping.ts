/**
 * Who may not come in for a while: peers that come and go too often, and those that misbehaved.
 */
import { createRecentMap } from "../base/bounded.ts";
import { MeshError } from "../base/errors.ts";
import type { PeerId } from "../base/ids.ts";
import type { Clock } from "../host/host.ts";

export interface Flapping {
  /** Notes that a member left. More than three times within a minute bars it. */
  left(peer: PeerId): void;
  bar(peer: PeerId, reason: string): void;
  /** Why it may not come in now. */
  objection(peer: PeerId): MeshError | undefined;
  /** 0 when it may come in. */
  barredUntilMs(peer: PeerId): number;
}

const windowMs = 60_000;
const leavesMax = 3;
const barMs = 30_000;
const rememberedMax = 512;

export function createFlapping(clock: Clock): Flapping {
  const leaves = createRecentMap<PeerId, readonly number[]>(rememberedMax);
  const bars = createRecentMap<PeerId, { readonly untilMs: number; readonly reason: string }>(
    rememberedMax,
  );

  function bar(peer: PeerId, reason: string): void {
    bars.set(peer, { untilMs: clock.nowMs() + barMs, reason });
  }

  return {
    left(peer) {
      const nowMs = clock.nowMs();
      const recent = (leaves.get(peer) ?? []).filter((atMs) => nowMs - atMs < windowMs);
      if (recent.length >= leavesMax) {
        leaves.delete(peer);
        bar(peer, `it came and went more than ${leavesMax} times within a minute`);
      } else {
        leaves.set(peer, [...recent, nowMs]);
      }
    },
    bar,
    objection(peer) {
      const barred = bars.get(peer);
      const leftMs = (barred?.untilMs ?? 0) - clock.nowMs();
      if (barred === undefined || leftMs <= 0) return undefined;
      const seconds = Math.ceil(leftMs / 1000);
      return new MeshError("refused", `kept out for ${seconds} s more: ${barred.reason}`);
    },
    barredUntilMs: (peer) => bars.get(peer)?.untilMs ?? 0,
  };
}
