/**
 * Where large inputs lie: what a task would have to move, and who has it already.
 *
 * Small inputs cost a peer nothing worth a decision; a compiler's own binary or a library does. A
 * thief says what it holds as a Bloom filter over digests, whose own bits are random already; a
 * load hint says as 64 bits which large inputs wait in a queue. Both may claim too much: then a
 * transfer was not foreseen, and nothing else.
 * Source: B. H. Bloom, "Space/Time Trade-offs in Hash Coding with Allowable Errors", 1970.
 */
import type { ActionSpec } from "../action/action.ts";
import { type Digest, hashHexOf, sizeBytesOf } from "../base/digest.ts";

/** Below this an input moves in less time than it takes to think about it. */
const heavyMinBytes = 64 * 1024;
/** Of one task; the largest count. */
const heavyMax = 32;
const heldMax = 512;
const bitsPerDigest = 10;
const probes = 4;

/** The large inputs of an action, largest first. */
export function heavyOf(spec: ActionSpec): readonly Digest[] {
  return spec.inputs
    .flatMap((entry) =>
      entry.kind === "file" && sizeBytesOf(entry.digest) >= heavyMinBytes ? [entry.digest] : [],
    )
    .sort((a, b) => sizeBytesOf(b) - sizeBytesOf(a))
    .slice(0, heavyMax);
}

/** A 32-bit piece of the digest. */
function pieceOf(digest: Digest, index: number): number {
  return Number.parseInt(hashHexOf(digest).slice(index * 8, index * 8 + 8), 16);
}

/** Which of 64 bits stands for it in a load hint. */
export function hotBit(digest: Digest): bigint {
  return 1n << BigInt(pieceOf(digest, 0) % 64);
}

export function hotBitsOf(digests: Iterable<Digest>): bigint {
  let bits = 0n;
  for (const digest of digests) bits |= hotBit(digest);
  return bits;
}

/** How many bits two hints share. */
export function sharedBits(a: bigint, b: bigint): number {
  let count = 0;
  for (let both = a & b; both > 0n; both &= both - 1n) count += 1;
  return count;
}

export function writeFilter(digests: readonly Digest[]): Uint8Array {
  if (digests.length === 0) return new Uint8Array();
  const bits = new Uint8Array(Math.ceil((digests.length * bitsPerDigest) / 8));
  for (const digest of digests)
    for (const bit of bitsIn(digest, bits.byteLength))
      bits[bit >> 3] = (bits[bit >> 3] ?? 0) | (1 << (bit & 7));
  return bits;
}

export function isInFilter(filter: Uint8Array, digest: Digest): boolean {
  if (filter.byteLength === 0) return false;
  return bitsIn(digest, filter.byteLength).every(
    (bit) => ((filter[bit >> 3] ?? 0) & (1 << (bit & 7))) !== 0,
  );
}

function bitsIn(digest: Digest, sizeBytes: number): readonly number[] {
  return Array.from({ length: probes }, (_, index) => pieceOf(digest, index) % (sizeBytes * 8));
}

/** The large inputs that this node has used lately. */
export interface Held {
  used(digests: readonly Digest[]): void;
  readonly filter: Uint8Array;
  readonly hotBits: bigint;
}

export function createHeld(): Held {
  const held = new Set<Digest>();
  let filter: Uint8Array | undefined;
  let hotBits = 0n;
  return {
    used(digests) {
      for (const digest of digests) {
        if (!held.delete(digest)) filter = undefined;
        held.add(digest);
      }
      for (const oldest of held) {
        if (held.size <= heldMax) break;
        held.delete(oldest);
      }
      if (filter === undefined) hotBits = hotBitsOf(held);
    },
    get filter() {
      filter ??= writeFilter([...held]);
      return filter;
    },
    get hotBits() {
      return hotBits;
    },
  };
}

/** Bits of large inputs that wait in a queue, counted so that they go when their tasks go. */
export interface HotCount {
  add(digests: readonly Digest[]): void;
  remove(digests: readonly Digest[]): void;
  readonly bits: bigint;
}

export function createHotCount(): HotCount {
  const counts = new Map<bigint, number>();
  let bits = 0n;
  const change = (digests: readonly Digest[], by: number): void => {
    for (const digest of digests) {
      const bit = hotBit(digest);
      const count = (counts.get(bit) ?? 0) + by;
      counts.set(bit, count);
      bits = count > 0 ? bits | bit : bits & ~bit;
    }
  };
  return {
    add: (digests) => change(digests, 1),
    remove: (digests) => change(digests, -1),
    get bits() {
      return bits;
    },
  };
}
