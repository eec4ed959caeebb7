/**
 * The records of this node: in memory for look-ups, on the disk for the next start, and counted by
 * why when they are refused.
 *
 * It knows nothing about blobs or peers.
 */
import type { Digest } from "../base/digest.ts";
import type { Emit } from "../base/events.ts";
import { createKnown, type Known, type KnownOptions, type NewEntry } from "./known.ts";
import { actionOfRecord, type RecordKeys } from "./record.ts";
import { openRecordLog, type RecordLogDeps } from "./record-log.ts";

export interface Records
  extends Pick<Known, "has" | "trusted" | "bytesOf" | "isTold" | "actions" | "size" | "bytes"> {
  readonly keys: RecordKeys;
  add(action: Digest, entry: NewEntry): void;
  /** Forgets what is known of the action, and counts why. */
  refuse(action: Digest, why: string): void;
  /** Counts something that was refused before it became known. */
  count(why: string): void;
  refusals(): Readonly<Record<string, number>>;
  /** Hears of every refusal. Returns the call that stops listening. */
  onRefused(listener: (action: Digest, why: string) => void): () => void;
  /** Forgets what is of no use any more, without counting it. */
  forget(action: Digest): void;
  /** Writes the file anew; gives the bytes that it saves. */
  compact(): Promise<number>;
  /** Never rejects. */
  flush(): Promise<void>;
}

export interface RecordsDeps extends Pick<RecordLogDeps, "disk" | "clock"> {
  readonly keys: RecordKeys;
  readonly emit: Emit;
}

export interface RecordsOptions extends KnownOptions {
  /** `D/results`; made when there is something to write. */
  readonly directory: string;
}

export const recordsDefaults: KnownOptions = {
  recordsMax: 65_536,
  bytesMax: 32 * 1024 * 1024,
};

/** Reasons that are counted apart; what comes beyond is "other". */
const reasonsMax = 32;

/** Reads what earlier starts have written. Never fails for what is on the disk. */
export async function openRecords(
  { keys, disk, clock, emit }: RecordsDeps,
  { directory, ...bounds }: RecordsOptions,
  signal: AbortSignal,
): Promise<Records> {
  const refusals = new Map<string, number>();
  const listeners = new Set<(action: Digest, why: string) => void>();

  function count(why: string): void {
    const name = refusals.has(why) || refusals.size < reasonsMax ? why : "other";
    refusals.set(name, (refusals.get(name) ?? 0) + 1);
  }

  const known = createKnown(keys, bounds, (action, why) => {
    count(why);
    log.drop(action);
    for (const listener of listeners) listener(action, why);
  });
  const log = await openRecordLog(
    { disk, clock, emit, live: known.records, liveBytes: () => known.bytes },
    directory,
    {
      onRecord(record, told) {
        const action = actionOfRecord(record);
        if (action === undefined) count("malformed");
        else known.add(action, { record, told });
      },
      onDropped: known.remove,
    },
    signal,
  );

  function forget(action: Digest): void {
    if (!known.has(action)) return;
    known.remove(action);
    log.drop(action);
  }

  return {
    keys,
    has: known.has,
    trusted: known.trusted,
    bytesOf: known.bytesOf,
    isTold: known.isTold,
    actions: known.actions,
    get size() {
      return known.size;
    },
    get bytes() {
      return known.bytes;
    },
    add(action, entry) {
      known.add(action, entry);
      log.add(entry.record, entry.told);
    },
    refuse(action, why) {
      forget(action);
      count(why);
    },
    count,
    refusals: () => Object.fromEntries(refusals),
    onRefused(listener) {
      listeners.add(listener);
      return () => void listeners.delete(listener);
    },
    forget,
    compact: log.compact,
    flush: log.flush,
  };
}
