/** What a node answers when it is asked about what it keeps: see "cache" in node/control-api.ts. */
import type { Results } from "../action/results.ts";
import type { BlobStore } from "../blob/store.ts";
import type { Clock } from "../host/host.ts";
import type {
  CacheCall,
  CacheCollected,
  CacheStats,
  CacheVerified,
  Check,
} from "../node/control-api.ts";
import type { Session } from "../node/control-server.ts";

export interface Cache {
  readonly store: Pick<BlobStore, "stats" | "verify" | "collect">;
  readonly results: Pick<Results, "stats" | "verify" | "collect">;
  readonly clock: Pick<Clock, "sleep">;
}

/** A client gives up on a node that is silent for longer than a few of these. */
const tickMs = 1_000;
/** As many as fit into one line of the control socket; with more, the disk is beyond names. */
const namedMax = 3000;

export async function answerCache(
  cache: Cache,
  what: CacheCall,
  session: Pick<Session, "send" | "signal">,
): Promise<object> {
  switch (what) {
    case "stats":
      return { stats: cacheStats(cache) };
    case "verify":
      return { verified: await ticking(cache, session, (signal) => verify(cache, signal)) };
    case "gc":
      return { collected: await ticking(cache, session, (signal) => collect(cache, signal)) };
  }
}

export function cacheStats({ store, results }: Pick<Cache, "store" | "results">): CacheStats {
  const { blobs, bytes, quotaBytes, pinned, quarantined } = store.stats();
  const { records, bytes: recordBytes, hitsHere, hitsMesh, misses, refused } = results.stats();
  return {
    ...{ blobs, bytes, quotaBytes, pinned, quarantined },
    ...{ records, recordBytes, hitsHere, hitsMesh, misses, refused },
  };
}

/** The blobs first: a record whose blob turns out to be corrupt is of no use either. */
async function verify({ store, results }: Cache, signal: AbortSignal): Promise<CacheVerified> {
  const blobs = await store.verify(signal);
  const records = await results.verify(signal);
  return {
    checked: blobs.checked,
    corrupt: blobs.corrupt.slice(0, namedMax),
    recordsChecked: records.checked,
    badRecords: records.bad.slice(0, namedMax),
  };
}

async function collect(cache: Cache, signal: AbortSignal): Promise<CacheCollected> {
  const freedBytes = await cache.store.collect(signal);
  const freedRecordBytes = await cache.results.collect(signal);
  return { freedBytes, freedRecordBytes, stats: cacheStats(cache) };
}

/** Says now and then that it is still at it; whoever goes away ends it. */
async function ticking<T>(
  { clock }: Cache,
  session: Pick<Session, "send" | "signal">,
  run: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const over = new AbortController();
  const tick = async (): Promise<void> => {
    for (;;) {
      await clock.sleep(tickMs, over.signal);
      session.send({ event: "progress", message: "working" });
    }
  };
  tick().catch(() => {});
  try {
    return await run(session.signal);
  } finally {
    over.abort();
  }
}

/** For `mesh status`. */
export function cacheCounters(cache: Pick<Cache, "store" | "results">): Record<string, number> {
  const { blobs, bytes, records, hitsHere, hitsMesh, misses, refused } = cacheStats(cache);
  return {
    storedBlobs: blobs,
    storedBytes: bytes,
    knownResults: records,
    hitsHere,
    hitsMesh,
    misses,
    refusedResults: totalOf(refused),
  };
}

/** For `mesh doctor`. */
export function cacheChecks(cache: Pick<Cache, "store" | "results">): readonly Check[] {
  const { blobs, bytes, quotaBytes, quarantined, records, refused } = cacheStats(cache);
  const damaged = quarantined > 0;
  const used = `${blobs} files, ${gigabytes(bytes)} of ${gigabytes(quotaBytes)} GB`;
  // Signatures do not fail by themselves: somebody's disk or somebody's will is behind it.
  const forged = refused.signature ?? 0;
  return [
    {
      name: "store",
      ok: !damaged,
      level: damaged ? "warn" : "ok",
      message: damaged ? `${used}; ${quarantined} damaged ones are in quarantine` : used,
      ...(damaged && {
        fix: "check the disk and run `mesh cache verify`; the folder quarantine may be emptied",
      }),
    },
    {
      name: "results",
      ok: forged === 0,
      level: forged === 0 ? "ok" : "warn",
      message: `${records} known${totalOf(refused) === 0 ? "" : `, refused ${countsText(refused)}`}`,
      ...(forged > 0 && {
        fix: "a member signs results that are not its own: see its warnings, or leave it out",
      }),
    },
  ];
}

function totalOf(counts: Readonly<Record<string, number>>): number {
  return Object.values(counts).reduce((sum, count) => sum + count, 0);
}

/** "signature 1, blob-missing 4", the most frequent first. */
export function countsText(counts: Readonly<Record<string, number>>): string {
  return Object.entries(counts)
    .sort(([, a], [, b]) => b - a)
    .map(([name, count]) => `${name} ${count}`)
    .join(", ");
}

function gigabytes(bytes: number): string {
  return (bytes / 1e9).toFixed(1);
}
