/**
 * The frames of `/mesh/blk/1` and their numbers (protocols/blk.md). Both sides read this file.
 */
import type { Digest } from "../base/digest.ts";
import { MeshError } from "../base/errors.ts";
import { sendMaxBytes } from "../host/host.ts";
import { frameHeaderBytes, readU32, writeU32 } from "../wire/frame.ts";
import { packDigests, packedDigestBytes, unpackDigests } from "../wire/messages.ts";

export const blkProtocol: string = "/mesh/blk/1";

/** Frame types. The first four go to the provider, the others come from it. */
export const blk = {
  want: 1,
  range: 2,
  credit: 3,
  cancel: 4,
  blob: 16,
  piece: 17,
  miss: 18,
} as const;

export const toProvider: ReadonlySet<number> = new Set([
  blk.want,
  blk.range,
  blk.credit,
  blk.cancel,
]);
export const fromProvider: ReadonlySet<number> = new Set([blk.blob, blk.piece, blk.miss]);

/** Largest payload, so that any frame fits into one send. */
export const frameMaxBytes: number = sendMaxBytes - frameHeaderBytes;
/** A blob up to this size travels whole, in one frame; a larger one in ranges. */
export const wholeMaxBytes: number = sendMaxBytes - frameHeaderBytes;
/** Digests in one WANT. */
export const wantMaxDigests: number = 4096;
/** Wants and ranges a provider keeps for one stream; more reset it. */
export const queueMaxItems: number = 16_384;
/** Credit a stream may hold; more is malformed. */
export const creditMaxBytes: number = 16 * 1024 * 1024;
/** Bytes that wait for a slow reader before the stream is reset. */
export const sendQueueMaxBytes: number = 1024 * 1024;

/** A part of one blob. */
export interface Range {
  readonly digest: Digest;
  readonly offset: number;
  readonly lengthBytes: number;
}

const rangeBytes = packedDigestBytes + 16;

export function packRange({ digest, offset, lengthBytes }: Range): Uint8Array {
  const packed = new Uint8Array(rangeBytes);
  packed.set(packDigests([digest]));
  writeU64(packed, packedDigestBytes, offset);
  writeU64(packed, packedDigestBytes + 8, lengthBytes);
  return packed;
}

/** @throws MeshError "malformed" */
export function unpackRange(payload: Uint8Array): Range {
  if (payload.byteLength !== rangeBytes) {
    throw new MeshError("malformed", `a range of ${payload.byteLength} bytes`);
  }
  const [digest] = unpackDigests(payload.subarray(0, packedDigestBytes), 1);
  if (digest === undefined) throw new MeshError("malformed", "a range without a digest");
  return {
    digest,
    offset: readU64(payload, packedDigestBytes),
    lengthBytes: readU64(payload, packedDigestBytes + 8),
  };
}

/** Places in a list of wants. */
export function packIndexes(indexes: readonly number[]): Uint8Array {
  const packed = new Uint8Array(indexes.length * 4);
  for (const [at, index] of indexes.entries()) writeU32(packed, at * 4, index);
  return packed;
}

/** @throws MeshError "malformed" */
export function unpackIndexes(payload: Uint8Array): readonly number[] {
  if (payload.byteLength % 4 !== 0 || payload.byteLength > wantMaxDigests * 4) {
    throw new MeshError("malformed", `${payload.byteLength} bytes are no list of places`);
  }
  return Array.from({ length: payload.byteLength / 4 }, (_, at) => readU32(payload, at * 4));
}

function writeU64(target: Uint8Array, offset: number, value: number): void {
  writeU32(target, offset, value % 2 ** 32);
  writeU32(target, offset + 4, Math.floor(value / 2 ** 32));
}

function readU64(source: Uint8Array, offset: number): number {
  return readU32(source, offset) + readU32(source, offset + 4) * 2 ** 32;
}
