/**
 * The requester: keeps the wanted blobs, decides whom to ask for what, and checks what comes.
 *
 * Every blob is wanted once, however many fetches wait for it. A small one is asked for whole; a
 * large one in segments, from as many peers as have it. Knows nothing about frames (`link.ts`) or
 * about how a large blob is put together (`assembly.ts`).
 */
import { type Digest, digestOf } from "../base/digest.ts";
import { isMeshError, MeshError } from "../base/errors.ts";
import type { Emit } from "../base/events.ts";
import type { PeerId } from "../base/ids.ts";
import type { Clock, Network } from "../host/host.ts";
import { createAssembly } from "./assembly.ts";
import { creditMaxBytes } from "./blk.ts";
import {
  allOf,
  askFor,
  countFailure,
  createJob,
  failuresMax,
  hasAppetite,
  hasFailed,
  type Job,
  newUnit,
  soonest,
  type Unit,
} from "./job.ts";
import { type Ask, createLink, type Link } from "./link.ts";
import { createStanding } from "./standing.ts";
import type { BlobStore } from "./store.ts";
import { createWatch, type WatchOptions } from "./watch.ts";

export interface FetchingDeps {
  readonly network: Network;
  readonly store: BlobStore;
  readonly clock: Clock;
  readonly peers: () => readonly PeerId[];
  readonly emit?: Emit;
}

export interface FetchingOptions extends WatchOptions {
  readonly openDeadlineMs: number;
  /** For how long a peer that sent wrong bytes twice is not asked for blobs. */
  readonly ignoreMs: number;
}

export interface Fetching {
  /** Resolves when all are in the store. */
  fetch(
    digests: readonly Digest[],
    providers: readonly PeerId[],
    signal: AbortSignal,
  ): Promise<void>;
  counts(): {
    readonly receivedBlobs: number;
    readonly receivedBytes: number;
    readonly corruptBlobs: number;
  };
}

/** Blobs wanted at a time by all fetches together; one more is refused with "limit". */
const jobsMax = 200_000;
/** Large blobs in progress at a time, each of which may hold 16 MiB; more wait. */
const largeMax = 4;
/** All links together may have this much on its way to this node. */
const windowsMaxBytes = 128 * 1024 * 1024;
const windowMinBytes = 256 * 1024;
/** A peer never asked is tried before one known to be slower than this, 50 MB/s. */
const strangerBytesPerMs = 50_000;

export function createFetching(
  deps: FetchingDeps,
  options: FetchingOptions,
  signal: AbortSignal,
): Fetching {
  const { store, clock, network, emit } = deps;
  const standing = createStanding(deps, options);
  const jobs = new Map<Digest, Job>();
  const links = new Map<PeerId, Link<Unit>>();
  const active = new Set<Job>();
  let waitingLarge: Job[] = [];
  let watching = false;
  const counts = { receivedBlobs: 0, receivedBytes: 0, corruptBlobs: 0 };

  const linkOptions = {
    openDeadlineMs: options.openDeadlineMs,
    windowMaxBytes: () =>
      Math.max(windowMinBytes, Math.min(creditMaxBytes, windowsMaxBytes / links.size)),
  };

  function linkTo(peer: PeerId): Link<Unit> {
    const known = links.get(peer);
    if (known !== undefined) return known;
    const link = createLink({ network, clock, events }, peer, linkOptions, signal);
    links.set(peer, link);
    return link;
  }

  /** Peers that may still be asked for this unit: the named ones, then whoever is connected. */
  function eligible({ job, asks }: Unit): readonly PeerId[] {
    const mayAsk = (peer: PeerId): boolean => {
      const link = links.get(peer);
      if (link !== undefined && asks.has(link)) return false;
      return peer !== network.self && !hasFailed(job, peer) && !standing.isIgnored(peer);
    };
    const named = [...job.candidates].filter(mayAsk);
    const found = named.length > 0 ? named : deps.peers().filter(mayAsk);
    return job.solo ? found.slice(0, 1) : found;
  }

  /** Asks the best peer left. False when there is none. */
  function place(unit: Unit, peers: readonly PeerId[] = eligible(unit)): boolean {
    const ask = askFor(unit);
    const peer = soonest(peers, ask.lengthBytes, (id) => links.get(id), strangerBytesPerMs);
    if (peer === undefined) return false;
    const link = linkTo(peer);
    unit.asks.set(link, ask);
    link.ask(ask);
    return true;
  }

  /** After an ask came to nothing: somebody else, or nobody is left. */
  function placeAgain(unit: Unit): void {
    const { job, segment } = unit;
    if (job.over || unit.asks.size > 0) return;
    unit.hedged = false;
    if (segment !== undefined) {
      job.units.delete(unit);
      job.assembly?.giveBack(segment);
      fill(job);
    } else if (!place(unit)) {
      fail(job, new MeshError("blob-missing", `no reachable peer has blob ${job.digest}`));
    }
  }

  /** Starts as many segments as the blob and its providers take. */
  function fill(job: Job): void {
    for (;;) {
      const segment = job.over ? undefined : job.assembly?.next();
      if (segment === undefined) return;
      const unit = newUnit(job, segment);
      const peers = eligible(unit);
      // One segment is always asked for: its end is what starts the next ones.
      const ready =
        job.units.size === 1
          ? peers
          : peers.filter((peer) => hasAppetite(links.get(peer), segment));
      if (place(unit, ready)) continue;
      job.units.delete(unit);
      job.assembly?.giveBack(segment);
      if (peers.length === 0 && job.units.size === 0) {
        fail(job, new MeshError("blob-missing", `no reachable peer has blob ${job.digest}`));
      }
      return;
    }
  }

  function begin(job: Job): void {
    if (!job.isLarge) {
      placeAgain(newUnit(job, undefined));
    } else if (active.size >= largeMax) {
      waitingLarge.push(job);
    } else {
      active.add(job);
      assemble(job);
    }
  }

  function assemble(job: Job): void {
    job.assembly = createAssembly({ store }, job.digest, {
      onWhole: () => succeed(job),
      onFailed: (error) => fail(job, error),
      onProgress: () => fill(job),
      onCorrupt(contributors) {
        if (job.over) return;
        const [only] = contributors;
        if (contributors.size === 1 && only !== undefined) blame(only, job);
        else counts.corruptBlobs += 1;
        job.solo = true;
        takeBack(job);
        assemble(job);
      },
    });
    fill(job);
  }

  function blame(peer: PeerId, job: Job): void {
    counts.corruptBlobs += 1;
    countFailure(job, peer, failuresMax);
    const message = `peer ${peer} sent wrong bytes for blob ${job.digest}`;
    const isIgnored = standing.blame(peer);
    const minutes = Math.round(options.ignoreMs / 60_000);
    const more = isIgnored ? `, again; it is not asked for blobs for ${minutes} minutes` : "";
    emit?.({ event: "log", level: "warn", message: message + more });
    if (isIgnored) links.get(peer)?.reset("it sent wrong bytes twice");
  }

  function takeBack(job: Job): void {
    for (const unit of job.units) {
      for (const [link, ask] of unit.asks) link.drop(ask);
      unit.asks.clear();
    }
    job.units.clear();
  }

  function end(job: Job): void {
    job.over = true;
    takeBack(job);
    job.assembly?.discard();
    jobs.delete(job.digest);
    waitingLarge = waitingLarge.filter((other) => other !== job);
    if (!active.delete(job)) return;
    const next = waitingLarge.shift();
    if (next !== undefined) begin(next);
  }

  function succeed(job: Job): void {
    if (job.over) return;
    counts.receivedBlobs += 1;
    counts.receivedBytes += job.sizeBytes;
    end(job);
    job.done.resolve();
  }

  function fail(job: Job, error: unknown): void {
    if (job.over) return;
    const why: unknown = signal.aborted ? signal.reason : error;
    if (isMeshError(why)) job.failure = why;
    end(job);
    job.done.reject(why);
  }

  const events = {
    onBlob(link: Link<Unit>, { unit }: Ask<Unit>, bytes: Uint8Array, done: () => void): void {
      const { job } = unit;
      unit.asks.delete(link);
      if (job.over) {
        done();
        return;
      }
      if (digestOf(bytes) !== job.digest) {
        done();
        blame(link.peer, job);
        placeAgain(unit);
        return;
      }
      takeBack(job);
      store
        .put(bytes)
        .then(
          () => succeed(job),
          (error: unknown) => fail(job, error),
        )
        .finally(done);
    },
    onPiece(
      link: Link<Unit>,
      { unit }: Ask<Unit>,
      offset: number,
      bytes: Uint8Array,
      done: () => void,
    ): void {
      const { job, segment } = unit;
      if (job.over || segment === undefined || job.assembly === undefined) {
        done();
        return;
      }
      job.assembly.take(segment, offset, bytes, link.peer, done);
      if (!job.assembly.isComplete(segment)) return;
      for (const [other, ask] of unit.asks) if (other !== link) other.drop(ask);
      unit.asks.clear();
      job.units.delete(unit);
      for (const large of active) fill(large);
    },
    onMiss(link: Link<Unit>, { unit }: Ask<Unit>): void {
      countFailure(unit.job, link.peer, failuresMax);
      unit.asks.delete(link);
      placeAgain(unit);
    },
    onEnd(link: Link<Unit>, asks: readonly Ask<Unit>[], opened: boolean): void {
      if (links.get(link.peer) === link) links.delete(link.peer);
      for (const job of new Set(asks.map(({ unit }) => unit.job))) {
        countFailure(job, link.peer, opened ? 1 : failuresMax);
      }
      for (const { unit } of asks) unit.asks.delete(link);
      for (const { unit } of asks) placeAgain(unit);
    },
  };

  const watch = createWatch(
    {
      clock,
      links: () => links.values(),
      onSilent(link) {
        for (const { unit } of link.asks()) {
          if (unit.hedged || unit.job.solo) continue;
          unit.hedged = true;
          place(unit);
        }
      },
      onDead(link) {
        for (const { unit } of link.asks()) countFailure(unit.job, link.peer, failuresMax);
      },
    },
    options,
  );

  async function watchWhileWanted(): Promise<void> {
    if (watching) return;
    watching = true;
    try {
      while (jobs.size > 0) await watch(signal);
    } catch (error) {
      if (!signal.aborted) throw error;
    } finally {
      watching = false;
    }
  }

  const goDown = (): void => {
    for (const job of [...jobs.values()]) fail(job, signal.reason);
    for (const link of [...links.values()]) link.reset("this node is going down");
  };
  signal.addEventListener("abort", goDown, { once: true });

  function join(digest: Digest, providers: readonly PeerId[]): Job {
    const known = jobs.get(digest);
    const job = known ?? createJob(digest);
    for (const peer of providers) job.candidates.add(peer);
    job.waiters += 1;
    if (known !== undefined) return job;
    jobs.set(digest, job);
    begin(job);
    return job;
  }

  function leave(job: Job): void {
    job.waiters -= 1;
    if (job.waiters === 0 && !job.over) end(job);
  }

  return {
    counts: () => counts,
    async fetch(digests, providers, until) {
      if (jobs.size + digests.length > jobsMax) {
        throw new MeshError("limit", `more than ${jobsMax} blobs are wanted at once`);
      }
      const joined = digests.map((digest) => join(digest, providers));
      void watchWhileWanted();
      try {
        await allOf(joined, until);
      } finally {
        for (const job of joined) leave(job);
      }
    },
  };
}
