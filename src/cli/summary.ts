/** The closing words of a build, for a person. Pure. */
import type { BuildSummary } from "../node/control-api.ts";
import { ordinaryReasons } from "./tally.ts";

export interface SummaryContext {
  readonly verb: "built" | "done";
  readonly exitCode: number;
  /** The native tool's name, for when it failed. */
  readonly tool: string;
  readonly kinds: ReadonlyMap<string, number>;
  /** Known results by the peer that signed them. */
  readonly cachedByPeer: ReadonlyMap<string, number>;
  readonly nameOf: (peer: string) => string;
  /** Why there may be no task at all. */
  readonly whyNone: string;
  /** Whether there was a node to count. */
  readonly meshed: boolean;
}

/**
 * "built in 12.3 s: 152 compiles, 9 cached (7 here, 2 from node-b), 96 on 2 peers (node-b 51,
 * node-c 45), 47 here; 3 had to run here (time macros ×2, remote exit 2 ×1)". Ordinary work that no
 * mesh would take is not among those.
 */
export function summaryText(summary: BuildSummary, context: SummaryContext): string {
  const how =
    context.exitCode === 0
      ? `${context.verb} in ${duration(summary.wallMs)}`
      : `${context.tool} failed (exit code ${context.exitCode}) after ${duration(summary.wallMs)}`;
  if (!context.meshed) return how;
  if (summary.tasks === 0) {
    return context.exitCode === 0
      ? `${how}; no compiler came through the mesh: ${context.whyNone}`
      : how;
  }
  const parts = [countOf(summary.tasks, noun(context.kinds))];
  const cached = cachedText(summary, context);
  if (cached !== undefined) parts.push(cached);
  const peers = Object.entries(summary.byPeer).filter(([, count]) => count > 0);
  if (summary.stolen > 0) parts.push(`${summary.stolen} on ${peersText(peers, context.nameOf)}`);
  if (summary.local > 0) parts.push(`${summary.local} here`);
  const tail = `${fallbackText(summary.fallback)}${comparedText(summary)}`;
  return `${how}: ${parts.join(", ")}${tail}`;
}

/** "9 cached (7 here, 2 from node-b)", "7 cached here", "2 cached from node-b". */
function cachedText(
  { cachedLocal, cachedMesh }: BuildSummary,
  { cachedByPeer, nameOf }: SummaryContext,
): string | undefined {
  const all = cachedLocal + cachedMesh;
  if (all === 0) return undefined;
  if (cachedMesh === 0) return `${all} cached here`;
  const named = shownPeers([...cachedByPeer], (peer, count) => `${count} from ${nameOf(peer)}`);
  const [only] = [...cachedByPeer.keys()];
  if (cachedLocal === 0 && cachedByPeer.size <= 1) {
    return `${all} cached from ${only === undefined ? "peers" : nameOf(only)}`;
  }
  const from = named.length === 0 ? [`${cachedMesh} from peers`] : named;
  const here = cachedLocal > 0 ? [`${cachedLocal} here`] : [];
  return `${all} cached (${[...here, ...from].join(", ")})`;
}

function comparedText({ compared = 0, differing = 0 }: BuildSummary): string {
  if (compared === 0) return "";
  const what = differing === 0 ? "all came out the same" : `${differing} came out differently`;
  return `; ${compared} done again to compare, ${what}`;
}

/** "12.3 s", "2 min 05 s", "1 h 02 min". */
export function duration(wallMs: number): string {
  const seconds = wallMs / 1000;
  if (seconds < 59.95) return `${seconds.toFixed(1)} s`;
  const whole = Math.round(seconds);
  const two = (value: number) => String(value).padStart(2, "0");
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${two(whole % 60)} s`;
  return `${Math.floor(whole / 3600)} h ${two(Math.floor((whole % 3600) / 60))} min`;
}

function noun(kinds: ReadonlyMap<string, number>): string {
  const compilers = ["c", "c++", "rustc", "cuda"];
  const all = [...kinds.keys()];
  return all.length > 0 && all.every((kind) => compilers.includes(kind)) ? "compile" : "task";
}

function peersText(
  peers: readonly (readonly [string, number])[],
  nameOf: (peer: string) => string,
): string {
  const shown = shownPeers(peers, (peer, count) => `${nameOf(peer)} ${count}`);
  return `${countOf(Math.max(1, peers.length), "peer")} (${shown.join(", ")})`;
}

/** The busiest first, and the many others as a number. */
function shownPeers(
  peers: readonly (readonly [string, number])[],
  text: (peer: string, count: number) => string,
): readonly string[] {
  const names = [...peers].sort(([, a], [, b]) => b - a).map(([peer, count]) => text(peer, count));
  return names.length > 6 ? [...names.slice(0, 5), `${names.length - 5} others`] : names;
}

function fallbackText(fallback: BuildSummary["fallback"]): string {
  const sorted = [...fallback]
    .filter(({ reason, count }) => count > 0 && !ordinaryReasons.has(reason))
    .sort((a, b) => b.count - a.count);
  if (sorted.length === 0) return "";
  const total = sorted.reduce((sum, { count }) => sum + count, 0);
  const reasons = sorted.slice(0, 3).map(({ reason, count }) => {
    return sorted.length === 1 ? reason : `${reason} ×${count}`;
  });
  if (sorted.length > 3) reasons.push("…");
  return `; ${total} had to run here (${reasons.join(", ")})`;
}

export function countOf(count: number, noun: string, nouns: string = `${noun}s`): string {
  return `${count} ${count === 1 ? noun : nouns}`;
}
