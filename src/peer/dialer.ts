/**
 * Keeps connections: dials everybody it was told of until they are connected, and again when lost.
 *
 * Backs off from 250 ms to 60 s, doubled each time and jittered; when many are absent the cap
 * grows with their number, so that calling in vain stays below one dial in about 3 s. Knows
 * addresses and failures only: who is a member is decided after the connection.
 */
import { isMeshError, MeshError, messageOf } from "../base/errors.ts";
import type { PeerId } from "../base/ids.ts";
import type { Clock, Network, Random } from "../host/host.ts";
import { addrsMaxPerPeer, isAddr, peerOfAddr } from "./address.ts";
import { createAlarm } from "./alarm.ts";

/** Who told of an address. What the user or this node's own memory says is never given up. */
type Source = "user" | "remembered" | "told" | "found";

export interface Dialer {
  /** Dials these soon, unless it is trying already. They may name several peers. */
  learn(addrs: readonly string[], source: Source): void;
  /** The peer is connected: stops dialling it. */
  connected(peer: PeerId): void;
  /**
   * Dials it again soon, but not before `notBeforeMs`. `steady`: it had been connected for long.
   * May be told more than once of one loss.
   */
  lost(peer: PeerId, steady: boolean, notBeforeMs: number): void;
  run(signal: AbortSignal): Promise<void>;
}

export interface DialerDeps {
  readonly network: Network;
  readonly clock: Clock;
  readonly random: Random;
  /** Whether more connections are wanted. */
  readonly wanted: () => boolean;
  /** The first failure of a candidate since it was last connected. */
  readonly onFailed: (addrs: readonly string[], source: Source, error: MeshError) => void;
}

interface Candidate {
  readonly key: string;
  peer: PeerId | undefined;
  addrs: readonly string[];
  source: Source;
  failures: number;
  dueMs: number;
  lastTryMs: number;
  state: "waiting" | "dialling" | "connected";
  /** It answered, as a member of another mesh. */
  stranger: boolean;
}

const candidatesMax = 512;
const dialsMax = 8;
const backoffMinMs = 250;
const backoffMaxMs = 60_000;
/** With more absent peers than this, the longest back-off grows in proportion. */
const absentAtFullRate = 16;
/** Nobody of another mesh changes its mind soon. */
const otherMeshMs = 10 * 60_000;
const dialDeadlineMs = 5000;
/** The next address of the same peer is tried along with the earlier ones after this. */
const staggerMs = 300;
const triesMax = 12;
/** A peer that discovery sees again is dialled at once, but not more often than this. */
const foundAgainMs = 5000;
const idleMs = 60 * 60_000;

export function createDialer(deps: DialerDeps): Dialer {
  const { network, clock, random } = deps;
  const candidates = new Map<string, Candidate>();
  const alarm = createAlarm(clock);
  let dials = 0;

  function learn(addrs: readonly string[], source: Source): void {
    for (const addr of addrs) {
      const peer = peerOfAddr(addr);
      if (!isAddr(addr) || peer === network.self) continue;
      const key = peer ?? addr;
      const present = candidates.get(key);
      if (present === undefined) add(key, peer, addr, source);
      else refresh(present, addr, source);
    }
    alarm.ring();
  }

  function add(key: string, peer: PeerId | undefined, addr: string, source: Source): void {
    if (candidates.size >= candidatesMax && !makeRoom()) return;
    const state = peer !== undefined && network.peers().includes(peer) ? "connected" : "waiting";
    const dueMs = clock.nowMs();
    const fresh = { failures: 0, dueMs, lastTryMs: Number.NEGATIVE_INFINITY, state } as const;
    candidates.set(key, { key, peer, addrs: [addr], source, stranger: false, ...fresh });
  }

  function refresh(candidate: Candidate, addr: string, source: Source): void {
    if (source === "user" || candidate.source === "found") candidate.source = source;
    // Newest first: of many addresses that were ever right, the last one heard probably is.
    const others = candidate.addrs.filter((known) => known !== addr);
    const isNew = others.length === candidate.addrs.length;
    candidate.addrs = isNew ? [addr, ...others].slice(0, addrsMaxPerPeer) : candidate.addrs;
    if (candidate.stranger && source !== "user") return;
    // Whoever told of it saw it just now, so waiting long makes no sense any more.
    const soonestMs = candidate.lastTryMs + foundAgainMs;
    candidate.dueMs = Math.min(candidate.dueMs, Math.max(clock.nowMs(), soonestMs));
  }

  /** Forgets the least promising candidate. False when all are connected or the user's own. */
  function makeRoom(): boolean {
    let worst: Candidate | undefined;
    for (const candidate of candidates.values()) {
      if (candidate.state !== "waiting" || candidate.source === "user") continue;
      if (worst === undefined || candidate.failures > worst.failures) worst = candidate;
    }
    return worst !== undefined && candidates.delete(worst.key);
  }

  function backoffMs(candidate: Candidate): number {
    let absent = 0;
    for (const { state } of candidates.values()) if (state !== "connected") absent += 1;
    const capMs = backoffMaxMs * Math.max(1, absent / absentAtFullRate);
    const fullMs = Math.min(capMs, backoffMinMs * 2 ** Math.min(candidate.failures, 20));
    // Of two that lost each other, the lower id dials first: two connections at once are waste.
    const patience = candidate.peer !== undefined && network.self > candidate.peer ? 2 : 1;
    return (fullMs / 2 + random.below(Math.ceil(fullMs / 2))) * patience;
  }

  async function dial(candidate: Candidate, signal: AbortSignal): Promise<void> {
    candidate.state = "dialling";
    candidate.lastTryMs = clock.nowMs();
    dials += 1;
    try {
      const peer = await connectAny(deps, candidate.addrs, signal);
      candidate.peer ??= peer;
      candidate.state = "connected";
      candidate.stranger = false;
      if (candidate.key !== peer) adopt(candidate, peer);
    } catch (error) {
      const known = isMeshError(error)
        ? error
        : new MeshError("io", messageOf(error), { cause: error });
      // It may have called us meanwhile.
      if (!signal.aborted && candidate.state === "dialling") failed(candidate, known);
    } finally {
      dials -= 1;
      alarm.ring();
    }
  }

  /** An address without a name turned out to be this peer's: from now on it is one of its. */
  function adopt(candidate: Candidate, peer: PeerId): void {
    const present = candidates.get(peer);
    if (present === undefined) {
      candidates.set(peer, { ...candidate, key: peer, peer });
    } else {
      present.state = "connected";
      if (candidate.source === "user") present.source = "user";
      present.addrs = [...new Set([...candidate.addrs, ...present.addrs])].slice(
        0,
        addrsMaxPerPeer,
      );
    }
    candidates.delete(candidate.key);
  }

  function failed(candidate: Candidate, error: MeshError): void {
    candidate.state = "waiting";
    candidate.failures += 1;
    if (candidate.failures === 1) deps.onFailed(candidate.addrs, candidate.source, error);
    candidate.stranger = isMeshError(error, "wrong-mesh");
    candidate.dueMs = clock.nowMs() + (candidate.stranger ? otherMeshMs : backoffMs(candidate));
    const hearsay = candidate.source === "told" || candidate.source === "found";
    if (hearsay && !candidate.stranger && candidate.failures >= triesMax) {
      candidates.delete(candidate.key);
    }
  }

  /** Starts what is due, in random order. @returns how long until the next is. */
  function startDue(signal: AbortSignal): number {
    const nowMs = clock.nowMs();
    const waiting = [...candidates.values()].filter(({ state }) => state === "waiting");
    const due = waiting.filter(({ dueMs }) => dueMs <= nowMs);
    while (due.length > 0 && deps.wanted()) {
      if (dials >= dialsMax) return idleMs;
      const [next] = due.splice(random.below(due.length), 1);
      if (next !== undefined) void dial(next, signal);
    }
    if (!deps.wanted()) return idleMs;
    const later = waiting.filter(({ state }) => state === "waiting");
    return Math.min(idleMs, ...later.map(({ dueMs }) => Math.max(1, dueMs - nowMs)));
  }

  return {
    learn,
    connected(peer) {
      const candidate = candidates.get(peer);
      if (candidate !== undefined) candidate.state = "connected";
    },
    lost(peer, steady, notBeforeMs) {
      const candidate = candidates.get(peer);
      if (candidate === undefined) return;
      if (candidate.state === "connected") {
        candidate.failures = steady ? 0 : candidate.failures + 1;
        candidate.dueMs = clock.nowMs() + backoffMs(candidate);
        candidate.state = "waiting";
      }
      candidate.dueMs = Math.max(candidate.dueMs, notBeforeMs);
      alarm.ring();
    },
    async run(signal) {
      for (;;) await alarm.wait(startDue(signal), signal);
    },
  };
}

/** Tries the addresses one after the other without waiting long for any; the first to answer wins. */
export async function connectAny(
  { network, clock }: Pick<DialerDeps, "network" | "clock">,
  addrs: readonly string[],
  signal: AbortSignal,
): Promise<PeerId> {
  return clock.withDeadline(signal, dialDeadlineMs, async (inTime) => {
    const losers = new AbortController();
    const abort = (): void => losers.abort(inTime.reason);
    inTime.addEventListener("abort", abort, { once: true });
    try {
      return await firstOf(network, clock, addrs, losers.signal);
    } finally {
      inTime.removeEventListener("abort", abort);
      losers.abort(new MeshError("cancelled", "another address answered first"));
    }
  });
}

async function firstOf(
  network: Network,
  clock: Clock,
  addrs: readonly string[],
  signal: AbortSignal,
): Promise<PeerId> {
  const attempts: Promise<PeerId>[] = [];
  for (const addr of addrs) {
    attempts.push(network.connect(addr, signal));
    const early = await Promise.race([
      Promise.any(attempts).catch(() => undefined),
      clock.sleep(staggerMs, signal).then(() => undefined),
    ]);
    if (early !== undefined) return early;
  }
  const outcomes = await Promise.any(attempts).catch(() => Promise.allSettled(attempts));
  if (typeof outcomes === "string") return outcomes;
  const errors = outcomes.flatMap((outcome) => ("reason" in outcome ? [outcome.reason] : []));
  // "Another mesh" says more than "nobody there", which some stale address always says.
  throw errors.find((error) => isMeshError(error, "wrong-mesh")) ?? errors[0] ?? nowhere();
}

function nowhere(): MeshError {
  return new MeshError("peer-gone", "no address of it is known");
}
