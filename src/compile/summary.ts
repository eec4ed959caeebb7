/**
 * What became of a build's compiler invocations: a count that grows by one outcome at a time, and
 * the object that `--summary` writes.
 */
import type { Source } from "../base/events.ts";
import type { PeerId } from "../base/ids.ts";
import type { BuildSummary } from "../node/control-api.ts";

export interface TallyEntry {
  readonly source: Source;
  readonly peer: PeerId | undefined;
  /** Why it ran here, when it did. */
  readonly reason: string | undefined;
  /** When it was done twice on purpose: whether both came out the same. */
  readonly compared?: { readonly equal: boolean } | undefined;
}

export interface Tally {
  readonly bySource: Readonly<Record<Source, number>>;
  readonly byReason: ReadonlyMap<string, number>;
  readonly byPeer: ReadonlyMap<PeerId, number>;
  /** Done twice on purpose, and those of them that came out differently. */
  readonly compared: number;
  readonly differing: number;
}

export const emptyTally: Tally = {
  bySource: { here: 0, there: 0, "cached-here": 0, "cached-mesh": 0 },
  byReason: new Map(),
  byPeer: new Map(),
  compared: 0,
  differing: 0,
};

/** Nobody gave these tasks up: there was nowhere else to go, or no reason to. */
const ordinary: ReadonlySet<string> = new Set(["no-peers", "no-steal", "slot-free"]);

/** Reasons told apart; messages of failures may differ endlessly, and the rest is "other". */
const reasonsMax = 64;

export function tally(before: Tally, entry: TallyEntry): Tally {
  const { source, peer, reason, compared } = entry;
  const bySource = { ...before.bySource, [source]: before.bySource[source] + 1 };
  const counted = source === "here" && reason !== undefined && !ordinary.has(reason);
  const known = before.byReason.size < reasonsMax || before.byReason.has(reason ?? "");
  return {
    bySource,
    byReason: counted ? increment(before.byReason, known ? reason : "other") : before.byReason,
    byPeer: source === "there" && peer ? increment(before.byPeer, peer) : before.byPeer,
    compared: before.compared + (compared === undefined ? 0 : 1),
    differing: before.differing + (compared?.equal === false ? 1 : 0),
  };
}

function increment<K>(counts: ReadonlyMap<K, number>, key: K): ReadonlyMap<K, number> {
  return new Map(counts).set(key, (counts.get(key) ?? 0) + 1);
}

/** Reasons in the order of how often they were given. */
export function summaryOf(
  { bySource, byReason, byPeer, compared, differing }: Tally,
  spent: { readonly wallMs: number; readonly clientCpuMs: number },
): BuildSummary {
  const fallback = [...byReason]
    .map(([reason, count]) => ({ reason, count }))
    .sort((a, b) => b.count - a.count || (a.reason < b.reason ? -1 : 1));
  return {
    tasks: bySource.here + bySource.there + bySource["cached-here"] + bySource["cached-mesh"],
    local: bySource.here,
    stolen: bySource.there,
    cachedLocal: bySource["cached-here"],
    cachedMesh: bySource["cached-mesh"],
    fallback,
    wallMs: Math.round(spent.wallMs),
    clientCpuMs: Math.round(spent.clientCpuMs),
    byPeer: Object.fromEntries(byPeer),
    ...(compared > 0 && { compared, differing }),
  };
}
