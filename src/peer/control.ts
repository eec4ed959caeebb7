/**
 * `/mesh/ctl/1`: one persistent stream per pair of peers, for every small message (protocols/ctl.md).
 *
 * Load hints ride in front of other messages by themselves; callers never send one by hand, except
 * to wake idle peers.
 */
import type { PeerId } from "../base/ids.ts";
import type {
  Beat,
  Cancel,
  StealGrant,
  StealRequest,
  TaskClosed,
  TaskDone,
  TaskFailed,
  TaskProgress,
} from "../wire/gen/mesh/v1/mesh_pb.ts";

export type ControlMessage =
  | { readonly type: "beat"; readonly value: Beat }
  | { readonly type: "progress"; readonly value: TaskProgress }
  | { readonly type: "done"; readonly value: TaskDone }
  | { readonly type: "failed"; readonly value: TaskFailed }
  | { readonly type: "closed"; readonly value: TaskClosed }
  | { readonly type: "cancel"; readonly value: Cancel };

/** What this node says of itself in load hints. */
export interface OwnLoad {
  readonly queued: number;
  readonly stealable: number;
  readonly slots: number;
  readonly busy: number;
}

export interface Control {
  /** Queues a message. Does nothing when the peer is gone: its `onLeft` tells. */
  send(peer: PeerId, message: ControlMessage): void;
  /** One round trip. Codes: "peer-gone", "deadline" (2 s). */
  steal(peer: PeerId, request: StealRequest, signal: AbortSignal): Promise<StealGrant>;
  /** Sends the current load to every peer, if it changed: wakes idle thieves. */
  broadcastLoad(): void;
  /** Set once, before the first peer joins. */
  attach(handlers: ControlHandlers): void;
  /** Messages sent since start, by type: for status and the benchmarks. */
  sent(): Readonly<Record<string, number>>;
}

export interface ControlHandlers {
  readonly load: () => OwnLoad;
  readonly onSteal: (peer: PeerId, request: StealRequest) => StealGrant;
  readonly onMessage: (peer: PeerId, message: ControlMessage) => void;
  /** A fresh load hint arrived; it is in the directory already. */
  readonly onLoad: (peer: PeerId) => void;
}
