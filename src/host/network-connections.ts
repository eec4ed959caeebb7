/**
 * The connections of a libp2p node by peer, and which peers it must leave alone for a while.
 *
 * Turns libp2p's connection events into "this peer came" and "this peer went".
 */
import type { Connection } from "@libp2p/interface";
import { createRecentMap } from "../base/bounded.ts";
import { asPeerId, type PeerId } from "../base/ids.ts";
import type { PeerChange } from "./host.ts";

const restingPeersMax = 1_024;

/** Connections by peer. Two nodes that dial each other at once have two; either will do. */
export interface ConnectionTable {
  add(connection: Connection): void;
  remove(connection: Connection): void;
  has(peer: PeerId): boolean;
  isEmpty(): boolean;
  peers(): readonly PeerId[];
  /** The oldest connection that is open. */
  best(peer: PeerId): Connection | undefined;
  onChange(listener: (change: PeerChange) => void): void;
}

export function createConnectionTable(): ConnectionTable {
  const byPeer = new Map<PeerId, Connection[]>();
  const listeners: ((change: PeerChange) => void)[] = [];
  const tell = (change: PeerChange): void => {
    for (const listener of listeners) listener(change);
  };
  return {
    add(connection) {
      if (connection.status !== "open") return;
      const peer = asPeerId(connection.remotePeer.toString());
      const known = byPeer.get(peer) ?? [];
      if (known.some(({ id }) => id === connection.id)) return;
      byPeer.set(peer, [...known, connection]);
      if (known.length === 0) tell({ peer, at: "connected" });
    },
    remove(connection) {
      const peer = asPeerId(connection.remotePeer.toString());
      const known = byPeer.get(peer);
      if (known === undefined) return;
      const left = known.filter(({ id }) => id !== connection.id);
      if (left.length > 0) {
        byPeer.set(peer, left);
        return;
      }
      byPeer.delete(peer);
      tell({ peer, at: "disconnected" });
    },
    has: (peer) => byPeer.has(peer),
    isEmpty: () => byPeer.size === 0,
    peers: () => [...byPeer.keys()],
    best: (peer) => byPeer.get(peer)?.find(({ status }) => status === "open"),
    onChange(listener) {
      listeners.push(listener);
    },
  };
}

/**
 * Peers that only `connect` may dial for now. Without it the DHT's "keep alive" tags would have
 * libp2p dial whoever was just hung up on.
 */
export interface Rest {
  begin(peer: string, untilMs: number): void;
  end(peer: string): void;
  lasts(peer: string): boolean;
}

export function createRest(): Rest {
  const untilMs = createRecentMap<string, number>(restingPeersMax);
  return {
    begin: (peer, at) => untilMs.set(peer, Math.max(at, untilMs.get(peer) ?? 0)),
    end: (peer) => void untilMs.delete(peer),
    lasts: (peer) => performance.now() < (untilMs.get(peer) ?? 0),
  };
}
