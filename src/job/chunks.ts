/**
 * Lists of byte strings as one byte string, as a job's module reads and writes them: each is a
 * little-endian u32 length and that many bytes, one after the other (protocols/job.md).
 */
import { MeshError } from "../base/errors.ts";

/** What a chunk takes in a list. */
export function listedBytes(chunk: Uint8Array): number {
  return 4 + chunk.byteLength;
}

export function writeChunks(chunks: readonly Uint8Array[]): Uint8Array {
  const sizeBytes = chunks.reduce((sum, chunk) => sum + listedBytes(chunk), 0);
  const list = new Uint8Array(sizeBytes);
  const view = new DataView(list.buffer);
  let at = 0;
  for (const chunk of chunks) {
    view.setUint32(at, chunk.byteLength, true);
    list.set(chunk, at + 4);
    at += listedBytes(chunk);
  }
  return list;
}

/** Code "malformed" when the lengths do not add up, "limit" above `chunksMax`. */
export function readChunks(list: Uint8Array, chunksMax: number): readonly Uint8Array[] {
  const view = new DataView(list.buffer, list.byteOffset, list.byteLength);
  const chunks: Uint8Array[] = [];
  let at = 0;
  while (at < list.byteLength) {
    if (chunks.length === chunksMax) {
      throw new MeshError("limit", `split gave more than ${chunksMax} chunks`);
    }
    const sizeBytes =
      at + 4 <= list.byteLength ? view.getUint32(at, true) : Number.POSITIVE_INFINITY;
    if (at + 4 + sizeBytes > list.byteLength) {
      throw new MeshError(
        "malformed",
        `split's list of chunks ends in the middle of one, at ${at}`,
      );
    }
    chunks.push(list.subarray(at + 4, at + 4 + sizeBytes));
    at += 4 + sizeBytes;
  }
  return chunks;
}
