/**
 * Which blobs are on disk, how much room they take, which were used last and which are pinned.
 *
 * Memory only: `store.ts` moves the files. Blobs are found by their hash alone, because that is
 * what a file is named; a file of the wrong length is then simply not the blob asked for.
 */
import { type Digest, hashHexOf, sizeBytesOf } from "../base/digest.ts";
import type { Pin } from "./store.ts";

/** What a file looked like when its bytes were last known to be right. */
export interface Seen {
  readonly mtimeNs: bigint;
  readonly inode: bigint;
}

export interface Slot {
  readonly hashHex: string;
  readonly sizeBytes: number;
  /** Undefined until the bytes have been verified by this process. */
  seen: Seen | undefined;
  /** When the file's time of last use was last written, for eviction after a restart. */
  usedWallMs: number;
}

export interface Shelf {
  find(digest: Digest): Slot | undefined;
  /** The newest in use. Takes the place of a slot with the same hash. */
  add(slot: Slot): void;
  /** Marks as used just now. */
  use(slot: Slot): void;
  remove(slot: Slot): void;
  /** All of them, least recently used first. */
  slots(): Iterable<Slot>;
  pin(digests: Iterable<Digest>): Pin;
  /**
   * Sets `sizeBytes` aside and takes the blobs off the shelf that must go for it.
   * Undefined, and nothing done, when even that would not make room.
   */
  reserve(sizeBytes: number): readonly Slot[] | undefined;
  /** Gives back what `reserve` set aside: the blob is on the shelf now, or will not come. */
  release(sizeBytes: number): void;
  /** Takes unpinned blobs off until at most `targetBytes` are left, or only pinned ones are. */
  shrinkTo(targetBytes: number): readonly Slot[];
  readonly blobs: number;
  readonly bytes: number;
  readonly pinned: number;
}

export function createShelf(options: { readonly quotaBytes: number }): Shelf {
  /** In order of use: a Map keeps the order of insertion. */
  const slots = new Map<string, Slot>();
  const pins = new Map<string, number>();
  let bytes = 0;
  let reservedBytes = 0;

  function remove(slot: Slot): void {
    if (slots.get(slot.hashHex) !== slot) return;
    slots.delete(slot.hashHex);
    bytes -= slot.sizeBytes;
  }

  /** Least recently used, unpinned, together at least `wantedBytes` if there are so many. */
  function oldest(wantedBytes: number): { readonly found: Slot[]; readonly foundBytes: number } {
    const found: Slot[] = [];
    let foundBytes = 0;
    if (wantedBytes > 0) {
      for (const slot of slots.values()) {
        if (pins.has(slot.hashHex)) continue;
        found.push(slot);
        foundBytes += slot.sizeBytes;
        if (foundBytes >= wantedBytes) break;
      }
    }
    return { found, foundBytes };
  }

  return {
    find(digest) {
      const slot = slots.get(hashHexOf(digest));
      return slot?.sizeBytes === sizeBytesOf(digest) ? slot : undefined;
    },
    add(slot) {
      const before = slots.get(slot.hashHex);
      if (before !== undefined) remove(before);
      slots.set(slot.hashHex, slot);
      bytes += slot.sizeBytes;
    },
    use(slot) {
      if (slots.get(slot.hashHex) !== slot) return;
      slots.delete(slot.hashHex);
      slots.set(slot.hashHex, slot);
    },
    remove,
    slots: () => slots.values(),
    pin: (digests) => pin(pins, digests),
    reserve(sizeBytes) {
      const overBytes = bytes + reservedBytes + sizeBytes - options.quotaBytes;
      const { found, foundBytes } = oldest(overBytes);
      if (overBytes > foundBytes) return undefined;
      for (const slot of found) remove(slot);
      reservedBytes += sizeBytes;
      return found;
    },
    release(sizeBytes) {
      reservedBytes -= sizeBytes;
    },
    shrinkTo(targetBytes) {
      const { found } = oldest(bytes - targetBytes);
      for (const slot of found) remove(slot);
      return found;
    },
    get blobs() {
      return slots.size;
    },
    get bytes() {
      return bytes;
    },
    get pinned() {
      return pins.size;
    },
  };
}

function pin(pins: Map<string, number>, digests: Iterable<Digest>): Pin {
  const held = new Set<string>();
  for (const digest of digests) held.add(hashHexOf(digest));
  for (const hashHex of held) pins.set(hashHex, (pins.get(hashHex) ?? 0) + 1);
  return {
    release() {
      for (const hashHex of held) {
        const left = (pins.get(hashHex) ?? 1) - 1;
        if (left === 0) pins.delete(hashHex);
        else pins.set(hashHex, left);
      }
      held.clear();
    },
  };
}
