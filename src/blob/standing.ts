/** Which peers sent bytes that were not what they were asked for. */
import { createRecentMap } from "../base/bounded.ts";
import type { PeerId } from "../base/ids.ts";
import type { Clock } from "../host/host.ts";

export interface Standing {
  /** Counts an offence. True when it is one too many: the peer is ignored from now on. */
  blame(peer: PeerId): boolean;
  isIgnored(peer: PeerId): boolean;
}

/** Once may be a bad memory module; twice is no provider to build with. */
const offencesMax = 2;
const peersRemembered = 1024;

export function createStanding(
  { clock }: { readonly clock: Clock },
  { ignoreMs }: { readonly ignoreMs: number },
): Standing {
  const peers = createRecentMap<PeerId, { offences: number; ignoredUntilMs: number }>(
    peersRemembered,
  );
  return {
    blame(peer) {
      const record = peers.get(peer) ?? { offences: 0, ignoredUntilMs: 0 };
      record.offences += 1;
      const isOver = record.offences >= offencesMax;
      if (isOver) {
        record.offences = 0;
        record.ignoredUntilMs = clock.nowMs() + ignoreMs;
      }
      peers.set(peer, record);
      return isOver;
    },
    isIgnored: (peer) => (peers.get(peer)?.ignoredUntilMs ?? 0) > clock.nowMs(),
  };
}
