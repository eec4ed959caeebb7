/**
 * Peers that somebody told us of: passes each on once in a while, and the bootstrap addresses
 * again while this node is alone.
 *
 * Dials nobody: `peer/` decides whom to dial.
 */
import type { PeerInfo } from "@libp2p/interface";
import { createRecentMap } from "../base/bounded.ts";
import { withPeer } from "./network-addresses.ts";

/** The same news within this time is not repeated: the DHT repeats itself with every answer. */
const repeatAfterMs = 5_000;
const rememberedPeers = 1_024;
/** While alone: the first retry of the bootstrap addresses, doubling up to the second value. */
const retryMinMs = 2_000;
const retryMaxMs = 60_000;

export interface DiscoveryDeps {
  readonly self: string;
  readonly isConnected: (peer: string) => boolean;
  readonly isAlone: () => boolean;
}

export interface Discovery {
  found(peer: PeerInfo): void;
  onFound(listener: (addrs: readonly string[]) => void): void;
  /** The first peer came or the last one went. Alone, the bootstrap addresses are worth a try. */
  companyChanged(): void;
  close(): void;
}

export function createDiscovery(deps: DiscoveryDeps, bootstrap: readonly string[]): Discovery {
  const told = createRecentMap<string, number>(rememberedPeers);
  const listeners: ((addrs: readonly string[]) => void)[] = [];
  let timer: NodeJS.Timeout | undefined;
  let waitMs = retryMinMs;
  let closed = false;

  const tell = (addrs: readonly string[]): void => {
    for (const listener of listeners) listener(addrs);
  };

  function tellBootstrap(): void {
    for (const addr of bootstrap) tell([addr]);
    if (closed) return;
    timer = setTimeout(tellBootstrap, waitMs);
    timer.unref();
    waitMs = Math.min(waitMs * 2, retryMaxMs);
  }

  function companyChanged(): void {
    clearTimeout(timer);
    if (closed || bootstrap.length === 0 || !deps.isAlone()) return;
    waitMs = retryMinMs;
    timer = setTimeout(tellBootstrap, 0);
  }

  return {
    found({ id, multiaddrs }) {
      const peer = id.toString();
      if (closed || multiaddrs.length === 0 || peer === deps.self || deps.isConnected(peer)) return;
      const addrs = multiaddrs.map((addr) => withPeer(addr.toString(), peer));
      const news = addrs.join(" ");
      const nowMs = performance.now();
      if (nowMs - (told.get(news) ?? Number.NEGATIVE_INFINITY) < repeatAfterMs) return;
      told.set(news, nowMs);
      tell(addrs);
    },
    onFound(listener) {
      listeners.push(listener);
      if (listeners.length === 1) companyChanged();
    },
    companyChanged,
    close() {
      closed = true;
      clearTimeout(timer);
    },
  };
}
