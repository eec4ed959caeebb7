/**
 * Who is out there: every connected member of the mesh, what it offers and how busy it is.
 */
import type { PeerId } from "../base/ids.ts";

export interface Peer {
  readonly id: PeerId;
  readonly name: string;
  readonly slots: number;
  /** Empty when it takes no foreign native task. */
  readonly sandbox: "bwrap" | "unshare" | "none" | "";
  /** "linux/x86_64" and the like. */
  readonly platform: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly addrs: readonly string[];
  /** The newest hint it gave, undefined before the first. */
  readonly load: LoadHint | undefined;
  readonly rttMs: number | undefined;
}

export interface LoadHint {
  readonly queued: number;
  readonly stealable: number;
  readonly slots: number;
  readonly busy: number;
  /** When it was received, on this node's monotonic clock. */
  readonly atMs: number;
}

export interface Directory {
  /** Members that said hello and are still connected. */
  peers(): readonly Peer[];
  get(id: PeerId): Peer | undefined;
  onJoined(listener: (peer: Peer) => void): void;
  onLeft(listener: (peer: Peer, reason: string) => void): void;
}
