/**
 * Keeps a thief's leases alive: each owner hears from it at least every `beatMs` while it holds
 * something of that owner's. Whatever else is said to an owner counts as well, unless a task has
 * begun since: only a beat says that.
 */
import { create } from "@bufbuild/protobuf";
import type { PeerId } from "../base/ids.ts";
import type { Clock } from "../host/host.ts";
import type { Control } from "../peer/control.ts";
import { BeatSchema } from "../wire/gen/mesh/v1/mesh_pb.ts";
import type { LeaseName } from "./holding.ts";

export interface Beats {
  /** Something was said to that owner. */
  said(owner: PeerId): void;
  /** Beats until nothing is open any more. Does nothing while it does already. */
  start(): void;
}

export interface BeatsDeps {
  readonly clock: Clock;
  readonly control: Pick<Control, "send">;
  /** Leases that have to be renewed, by owner. */
  readonly open: () => ReadonlyMap<PeerId, readonly LeaseName[]>;
  /** Called before each round. */
  readonly before: () => void;
}

export function createBeats(deps: BeatsDeps, beatMs: number, signal: AbortSignal): Beats {
  const { clock, control } = deps;
  const saidMs = new Map<PeerId, number>();
  /** Running tasks that a beat has named as such: the owner knows it of no others. */
  const named = new Map<PeerId, ReadonlySet<string>>();
  let beating = false;

  /** Never rejects. */
  async function beat(): Promise<void> {
    beating = true;
    let waitMs = beatMs;
    for (;;) {
      await clock.sleep(waitMs, signal).catch(() => {});
      if (signal.aborted) break;
      deps.before();
      const open = deps.open();
      if (open.size === 0) break;
      const nowMs = clock.nowMs();
      let nextMs = nowMs + beatMs;
      for (const [owner, held] of open) {
        const dueMs = (saidMs.get(owner) ?? Number.NEGATIVE_INFINITY) + beatMs;
        const running = held.flatMap((one) => (one.running ? [`${one.task} ${one.attempt}`] : []));
        const isNews = running.some((one) => named.get(owner)?.has(one) !== true);
        if (dueMs > nowMs && !isNews) {
          nextMs = Math.min(nextMs, dueMs);
          continue;
        }
        named.set(owner, new Set(running));
        control.send(owner, { type: "beat", value: create(BeatSchema, { held: [...held] }) });
        saidMs.set(owner, nowMs);
      }
      waitMs = Math.max(1, nextMs - nowMs);
    }
    beating = false;
    saidMs.clear();
    named.clear();
  }

  return {
    said(owner) {
      if (beating) saidMs.set(owner, clock.nowMs());
    },
    start() {
      if (!beating) void beat();
    },
  };
}
