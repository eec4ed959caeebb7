/**
 * One wanted blob: who waits for it, who may have it, and who turned out not to.
 *
 * Plain state and the choice of the next peer to ask; `fetching.ts` acts on it.
 */
import { type Digest, sizeBytesOf } from "../base/digest.ts";
import { isMeshError, MeshError } from "../base/errors.ts";
import type { PeerId } from "../base/ids.ts";
import type { Assembly, Segment } from "./assembly.ts";
import { wholeMaxBytes } from "./blk.ts";
import type { Ask, Link } from "./link.ts";

/** What one link is asked for at a time: a whole small blob, or a segment of a large one. */
export interface Unit {
  readonly job: Job;
  /** Undefined for a whole blob. */
  readonly segment: Segment | undefined;
  /** Who is asked: one link, or two when the first fell silent. */
  readonly asks: Map<Link<Unit>, Ask<Unit>>;
  hedged: boolean;
}

export interface Job {
  readonly digest: Digest;
  readonly sizeBytes: number;
  readonly isLarge: boolean;
  /** In the order in which they were named; the first of equals is asked first. */
  readonly candidates: Set<PeerId>;
  /** At `failuresMax` a peer is not asked for this blob any more. */
  readonly failures: Map<PeerId, number>;
  /** Everything that is being asked for, to be taken back if nobody waits any more. */
  readonly units: Set<Unit>;
  readonly done: PromiseWithResolvers<void>;
  waiters: number;
  over: boolean;
  failure: MeshError | undefined;
  assembly: Assembly | undefined;
  /** After a blob of several providers was wrong: only one at a time, so that one can be blamed. */
  solo: boolean;
}

/** A peer whose stream broke may be asked once more. */
export const failuresMax = 2;

export function createJob(digest: Digest): Job {
  const sizeBytes = sizeBytesOf(digest);
  const done = Promise.withResolvers<void>();
  // Waiters look at it themselves; one that left must not make its failure an unhandled one.
  done.promise.catch(() => {});
  return {
    digest,
    sizeBytes,
    isLarge: sizeBytes > wholeMaxBytes,
    candidates: new Set(),
    failures: new Map(),
    units: new Set(),
    done,
    waiters: 0,
    over: false,
    failure: undefined,
    assembly: undefined,
    solo: false,
  };
}

export function newUnit(job: Job, segment: Segment | undefined): Unit {
  const unit: Unit = { job, segment, asks: new Map(), hedged: false };
  job.units.add(unit);
  return unit;
}

/** What is left of a unit, as a question. */
export function askFor(unit: Unit): Ask<Unit> {
  const { job, segment } = unit;
  const { digest } = job;
  if (segment === undefined) {
    return { digest, offset: 0, lengthBytes: job.sizeBytes, whole: true, unit };
  }
  const offset = segment.start + segment.gotBytes;
  const lengthBytes = segment.lengthBytes - segment.gotBytes;
  return { digest, offset, lengthBytes, whole: false, unit };
}

export function countFailure(job: Job, peer: PeerId, count: number): void {
  job.failures.set(peer, (job.failures.get(peer) ?? 0) + count);
}

export function hasFailed(job: Job, peer: PeerId): boolean {
  return (job.failures.get(peer) ?? 0) >= failuresMax;
}

/** The peer that would be through with `lengthBytes` more first; the first named among equals. */
export function soonest<L extends Pick<Link<Unit>, "backlogBytes" | "meter">>(
  peers: readonly PeerId[],
  lengthBytes: number,
  linkOf: (peer: PeerId) => L | undefined,
  bytesPerMsOfStranger: number,
): PeerId | undefined {
  let best: PeerId | undefined;
  let bestMs = Number.POSITIVE_INFINITY;
  for (const peer of peers) {
    const link = linkOf(peer);
    const bytesPerMs = link?.meter.bytesPerMs() ?? bytesPerMsOfStranger;
    const ms = ((link?.backlogBytes() ?? 0) + lengthBytes) / bytesPerMs;
    if (ms < bestMs) {
      best = peer;
      bestMs = ms;
    }
  }
  return best;
}

/** A peer never asked is always worth a try; others until two windows of work wait there. */
export function hasAppetite(link: Link<Unit> | undefined, segment: Segment): boolean {
  if (link === undefined || link.backlogBytes() === 0) return true;
  return link.backlogBytes() + segment.lengthBytes <= link.appetiteBytes();
}

/** Waits for all; when one cannot be had, says so for all that are known to be missing by then. */
export async function allOf(jobs: readonly Job[], signal: AbortSignal): Promise<void> {
  const aborted = Promise.withResolvers<never>();
  const abort = (): void => aborted.reject(signal.reason);
  signal.addEventListener("abort", abort, { once: true });
  try {
    await Promise.race([Promise.all(jobs.map(({ done }) => done.promise)), aborted.promise]);
  } catch (error) {
    if (!isMeshError(error, "blob-missing") || signal.aborted) throw error;
    const missing = jobs.filter(({ failure }) => failure?.code === "blob-missing");
    const named = missing.slice(0, 3).map(({ digest }) => digest);
    const more = missing.length > named.length ? ` and ${missing.length - named.length} more` : "";
    const message = `no reachable peer has ${named.join(", ")}${more}`;
    throw new MeshError("blob-missing", message, { cause: error });
  } finally {
    signal.removeEventListener("abort", abort);
  }
}
