/**
 * The records that this node knows, in memory, by action.
 *
 * A record is read once and its signature checked once, when it is first of use; one that is not
 * what it should be goes, and is counted by why. It knows nothing about blobs, disks or peers.
 */
import { createRecentMap } from "../base/bounded.ts";
import type { Digest } from "../base/digest.ts";
import { isMeshError } from "../base/errors.ts";
import { isGenuine, type Recorded, type RecordKeys, readRecord } from "./record.ts";

export interface Known {
  has(action: Digest): boolean;
  /**
   * What the action's record says, once it is known to be genuine; this counts as a use. A record
   * that is not is dropped. With `again`, also one whose signature was checked before.
   */
  trusted(action: Digest, again?: "again"): Recorded | undefined;
  /** The bytes of a record that `trusted` has just given. */
  bytesOf(action: Digest): Uint8Array | undefined;
  /** Whether it was only told: then its blobs need not be here. */
  isTold(action: Digest): boolean;
  /** Takes the place of what was known of the action. */
  add(action: Digest, entry: NewEntry): void;
  remove(action: Digest): void;
  actions(): readonly Digest[];
  /** Least recently used first. */
  records(): Iterable<{ readonly record: Uint8Array; readonly told: boolean }>;
  readonly size: number;
  readonly bytes: number;
}

export interface NewEntry {
  readonly record: Uint8Array;
  /** A peer told of it, and this node has not had its blobs. */
  readonly told: boolean;
  /** Set when its signature was checked, or made, just now. */
  readonly recorded?: Recorded;
}

export interface KnownOptions {
  readonly recordsMax: number;
  readonly bytesMax: number;
}

interface Entry {
  readonly record: Uint8Array;
  readonly told: boolean;
  verified: boolean;
}

/** Records kept as objects as well, which is three times their bytes; others are read again. */
const readMax = 16_384;

/** At its bounds the least recently used records go. `onRefused` hears why one was dropped. */
export function createKnown(
  keys: RecordKeys,
  { recordsMax, bytesMax }: KnownOptions,
  onRefused: (action: Digest, why: string) => void,
): Known {
  /** In order of use: a Map keeps the order of insertion. */
  const entries = new Map<Digest, Entry>();
  const read = createRecentMap<Digest, Recorded>(readMax);
  let bytes = 0;

  function remove(action: Digest): void {
    bytes -= entries.get(action)?.record.byteLength ?? 0;
    entries.delete(action);
    read.delete(action);
  }

  function refused(action: Digest, why: string): undefined {
    remove(action);
    onRefused(action, why);
  }

  function trusted(action: Digest, again?: "again"): Recorded | undefined {
    const entry = entries.get(action);
    if (entry === undefined) return undefined;
    if (again === undefined) {
      entries.delete(action);
      entries.set(action, entry);
    } else {
      entry.verified = false;
      read.delete(action);
    }
    try {
      const recorded = read.get(action) ?? readRecord(entry.record);
      if (recorded.action !== action) return refused(action, "other-action");
      if (!entry.verified && !isGenuine(keys, entry.record, recorded.signer)) {
        return refused(action, "signature");
      }
      entry.verified = true;
      read.set(action, recorded);
      return recorded;
    } catch (error) {
      if (!isMeshError(error, "malformed")) throw error;
      return refused(action, "malformed");
    }
  }

  return {
    has: (action) => entries.has(action),
    trusted,
    bytesOf: (action) => entries.get(action)?.record,
    isTold: (action) => entries.get(action)?.told === true,
    add(action, { record, told, recorded }) {
      remove(action);
      entries.set(action, { record, told, verified: recorded !== undefined });
      bytes += record.byteLength;
      if (recorded !== undefined) read.set(action, recorded);
      for (const oldest of entries.keys()) {
        if (entries.size <= recordsMax && bytes <= bytesMax) break;
        remove(oldest);
      }
    },
    remove,
    actions: () => [...entries.keys()],
    records: () => entries.values(),
    get size() {
      return entries.size;
    },
    get bytes() {
      return bytes;
    },
  };
}
