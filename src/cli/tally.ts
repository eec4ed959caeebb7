/**
 * Counts what a build's events say: where its tasks run now, and where they ended.
 *
 * One `see` for every event; displays only read. It knows no clock and prints nothing.
 */
import type { BuildSummary, ControlEvent } from "../node/control-api.ts";

export interface Tally {
  readonly build: string;
  /** Waiting for a slot, here or elsewhere. */
  readonly waiting: number;
  readonly runningHere: number;
  readonly runningThere: number;
  readonly here: number;
  readonly there: number;
  readonly cachedHere: number;
  readonly cachedMesh: number;
  /** Done, in whatever way; cancelled tasks are not among them. */
  readonly done: number;
  readonly byPeer: ReadonlyMap<string, number>;
  /** Known results by the peer that signed them. */
  readonly cachedByPeer: ReadonlyMap<string, number>;
  /** Tasks that were done a second time here, and those that came out differently. */
  readonly compared: number;
  readonly differing: number;
  readonly fallback: ReadonlyMap<string, number>;
  readonly kinds: ReadonlyMap<string, number>;
  readonly peers: ReadonlySet<string>;
  /** What this machine's node is called. */
  readonly ownName: string;
  nameOf(peer: string): string;
}

export interface TallyKeeper {
  see(event: ControlEvent): void;
  /** Peers that were there before the build began. */
  know(peers: readonly { readonly peerId: string; readonly name: string }[]): void;
  knowSelf(self: { readonly peerId: string; readonly name: string }): void;
  readonly tally: Tally;
}

/** Different reasons that are kept apart; later ones count as "other reasons". */
const reasonsMax = 40;

/**
 * Nobody gave these tasks up: there was nowhere else to go, a slot here was free at once, or it is
 * work that no mesh would take.
 */
export const ordinaryReasons: ReadonlySet<string> = new Set([
  "no-peers",
  "no-steal",
  "slot-free",
  "link",
  "links",
  "no-c-flag",
  "preprocess-only",
  "query",
  "rustc-query",
  "verbose",
]);

export function createTally(): TallyKeeper {
  const open = new Map<string, "waiting" | "here" | "there">();
  const byPeer = new Map<string, number>();
  const cachedByPeer = new Map<string, number>();
  const fallback = new Map<string, number>();
  const kinds = new Map<string, number>();
  const names = new Map<string, string>();
  const peers = new Set<string>();
  const ended = { here: 0, there: 0, "cached-here": 0, "cached-mesh": 0 };
  let build = "";
  let ownName = "this machine";
  let compared = 0;
  let differing = 0;
  const running = (where: string) => [...open.values()].filter((one) => one === where).length;
  const tally: Tally = {
    get build() {
      return build;
    },
    get waiting() {
      return running("waiting");
    },
    get runningHere() {
      return running("here");
    },
    get runningThere() {
      return running("there");
    },
    get here() {
      return ended.here;
    },
    get there() {
      return ended.there;
    },
    get cachedHere() {
      return ended["cached-here"];
    },
    get cachedMesh() {
      return ended["cached-mesh"];
    },
    get done() {
      return ended.here + ended.there + ended["cached-here"] + ended["cached-mesh"];
    },
    byPeer,
    cachedByPeer,
    get compared() {
      return compared;
    },
    get differing() {
      return differing;
    },
    fallback,
    kinds,
    peers,
    get ownName() {
      return ownName;
    },
    nameOf: (peer) => names.get(peer) ?? peer,
  };
  const see = (event: ControlEvent) => {
    if (event.event === "build-started") build = event.build;
    if ("build" in event && event.build !== build) return;
    switch (event.event) {
      case "peer-joined":
        peers.add(event.peer);
        names.set(event.peer, event.name);
        break;
      case "peer-left":
        peers.delete(event.peer);
        break;
      case "task-queued":
        open.set(event.task, "waiting");
        add(kinds, event.kind);
        break;
      case "task-started":
        open.set(event.task, event.peer === undefined ? "here" : "there");
        break;
      case "task-requeued":
        open.set(event.task, "waiting");
        break;
      case "task-cancelled":
        open.delete(event.task);
        break;
      case "task-fallback": {
        if (ordinaryReasons.has(event.reason)) break;
        const room = fallback.has(event.reason) || fallback.size < reasonsMax;
        add(fallback, room ? event.reason : "other reasons");
        break;
      }
      case "task-done":
        open.delete(event.task);
        ended[event.source] += 1;
        if (event.source === "there" && event.peer !== undefined) add(byPeer, event.peer);
        if (event.source === "cached-mesh" && event.peer !== undefined) {
          add(cachedByPeer, event.peer);
        }
        break;
      case "task-compared":
        compared += 1;
        if (!event.equal) differing += 1;
        break;
    }
  };
  const know: TallyKeeper["know"] = (found) => {
    for (const { peerId, name } of found) {
      peers.add(peerId);
      names.set(peerId, name);
    }
  };
  const knowSelf: TallyKeeper["knowSelf"] = ({ peerId, name }) => {
    ownName = name;
    names.set(peerId, name);
  };
  return { see, know, knowSelf, tally };
}

/** What the events add up to, for when the node that counts for us has gone. */
export function summaryOf(tally: Tally, wallMs: number): BuildSummary {
  return {
    tasks: tally.done,
    local: tally.here,
    stolen: tally.there,
    cachedLocal: tally.cachedHere,
    cachedMesh: tally.cachedMesh,
    fallback: [...tally.fallback].map(([reason, count]) => ({ reason, count })),
    wallMs: Math.round(wallMs),
    clientCpuMs: 0,
    byPeer: Object.fromEntries(tally.byPeer),
    compared: tally.compared,
    differing: tally.differing,
  };
}

function add(counts: Map<string, number>, key: string): void {
  counts.set(key, (counts.get(key) ?? 0) + 1);
}
