/**
 * Puts one large blob together from segments that several providers send at once.
 *
 * Segments are written in order, because the hash runs along; what is ahead of the order waits in
 * memory, bounded by `aheadMaxBytes`. A segment that its provider does not finish goes on where it
 * stopped, from another one. Knows nothing about streams.
 */
import { type Digest, sizeBytesOf } from "../base/digest.ts";
import { isMeshError } from "../base/errors.ts";
import type { PeerId } from "../base/ids.ts";
import { frameMaxBytes } from "./blk.ts";
import type { BlobStore, BlobWriter } from "./store.ts";

/** What one provider is asked for at a time: about 1 MiB, in full frames. */
export const segmentBytes: number = 4 * frameMaxBytes;
/** How far behind the first missing byte segments are asked for. */
export const aheadMaxBytes: number = 16 * 1024 * 1024;

export interface Segment {
  readonly start: number;
  readonly lengthBytes: number;
  /** Bytes that have arrived, from its start. */
  gotBytes: number;
  writtenBytes: number;
  readonly pieces: { readonly bytes: Uint8Array; readonly done: () => void }[];
}

export interface AssemblyEvents {
  /** The blob is in the store. */
  readonly onWhole: () => void;
  /** Everything arrived, and it was not the blob. */
  readonly onCorrupt: (contributors: ReadonlySet<PeerId>) => void;
  /** The store failed. */
  readonly onFailed: (error: unknown) => void;
  /** There may be room for more segments. */
  readonly onProgress: () => void;
}

export interface Assembly {
  /** A segment that nobody works on; undefined when no more may be started now. */
  next(): Segment | undefined;
  /** Its provider stopped; `next` will offer what is left of it. */
  giveBack(segment: Segment): void;
  /** Takes a piece. `done` is called once its bytes are written, or wait within the bound. */
  take(segment: Segment, offset: number, bytes: Uint8Array, peer: PeerId, done: () => void): void;
  isComplete(segment: Segment): boolean;
  discard(): void;
}

export function createAssembly(
  { store }: { readonly store: BlobStore },
  digest: Digest,
  events: AssemblyEvents,
): Assembly {
  const sizeBytes = sizeBytesOf(digest);
  const contributors = new Set<PeerId>();
  /** Started and not written completely, in order. */
  const started: Segment[] = [];
  const givenBack: Segment[] = [];
  let writer: BlobWriter | undefined;
  let writtenBytes = 0;
  let nextStart = 0;
  let writing = false;
  let over = false;

  async function writeOn(): Promise<void> {
    writing = true;
    try {
      writer ??= await store.receive(digest);
      for (let piece = nextPiece(); piece !== undefined; piece = nextPiece()) {
        try {
          await writer.write(piece.bytes);
        } finally {
          piece.done();
        }
        writtenBytes += piece.bytes.byteLength;
        if (writtenBytes % segmentBytes === 0) events.onProgress();
      }
      if (over) await writer.discard();
      else if (writtenBytes === sizeBytes) {
        over = true;
        await writer.commit();
        events.onWhole();
      }
    } catch (error) {
      over = true;
      await writer?.discard();
      if (isMeshError(error, "blob-corrupt")) events.onCorrupt(contributors);
      else events.onFailed(error);
    }
    writing = false;
    if (over) letGo();
    else events.onProgress();
  }

  /** What will never be written needs no memory any more: its credit is the link's again. */
  function letGo(): void {
    for (const { pieces } of started) for (const { done } of pieces.splice(0)) done();
  }

  /** The next piece in order, if it is here. */
  function nextPiece(): Segment["pieces"][number] | undefined {
    if (over) return undefined;
    let [head] = started;
    if (head !== undefined && head.writtenBytes === head.lengthBytes) {
      started.shift();
      [head] = started;
    }
    const piece = head?.pieces.shift();
    if (head !== undefined && piece !== undefined) head.writtenBytes += piece.bytes.byteLength;
    return piece;
  }

  return {
    next() {
      const back = givenBack.shift();
      if (back !== undefined) return back;
      if (over || nextStart >= Math.min(sizeBytes, writtenBytes + aheadMaxBytes)) return undefined;
      const segment: Segment = {
        start: nextStart,
        lengthBytes: Math.min(segmentBytes, sizeBytes - nextStart),
        gotBytes: 0,
        writtenBytes: 0,
        pieces: [],
      };
      nextStart += segment.lengthBytes;
      started.push(segment);
      return segment;
    },
    giveBack(segment) {
      // The first one missing first: everything behind it waits for it.
      givenBack.push(segment);
      givenBack.sort((a, b) => a.start - b.start);
    },
    take(segment, offset, bytes, peer, done) {
      // Two providers may send the same part; what is known already is skipped.
      const fresh = bytes.subarray(Math.max(0, segment.start + segment.gotBytes - offset));
      if (over || fresh.byteLength === 0) {
        done();
        return;
      }
      contributors.add(peer);
      segment.gotBytes += fresh.byteLength;
      const isHead = started[0] === segment;
      segment.pieces.push({ bytes: fresh, done: isHead ? done : () => {} });
      // Ahead of the order the bound on segments limits memory. Were the credit kept until these
      // bytes are written, a link could run out of it and never deliver the segment they wait for.
      if (!isHead) done();
      if (!writing) void writeOn();
    },
    isComplete: (segment) => segment.gotBytes === segment.lengthBytes,
    discard() {
      if (over) return;
      over = true;
      if (writing) return;
      letGo();
      void writer?.discard();
    },
  };
}
