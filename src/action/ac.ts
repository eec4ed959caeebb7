/**
 * The frames of `/mesh/ac/1` and their numbers (protocols/ac.md). Both sides read this file.
 */
import { concatBytes } from "../base/bytes.ts";
import { MeshError } from "../base/errors.ts";
import { sendMaxBytes } from "../host/host.ts";
import { frameHeaderBytes, readU32, writeU32 } from "../wire/frame.ts";
import { recordMaxBytes } from "./record.ts";

export const acProtocol: string = "/mesh/ac/1";

/** Frame types. The first two go to the home, the others come from it. */
export const ac = { lookup: 1, store: 2, found: 16, end: 17 } as const;

export const toHome: ReadonlySet<number> = new Set([ac.lookup, ac.store]);
export const fromHome: ReadonlySet<number> = new Set([ac.found, ac.end]);

/** On FOUND: whoever sends this has all blobs that the record names. */
export const hasBlobsFlag: number = 2;

/** Largest payload, so that any frame fits into one send. */
export const acFrameMaxBytes: number = sendMaxBytes - frameHeaderBytes;
/** Actions in one LOOKUP. */
export const lookupMax: number = 1024;
/** LOOKUPs of one stream that have no END yet; one more is malformed. */
export const lookupsOpenMax: number = 64;
/** Bytes that wait for a slow reader before the stream is reset. */
export const acQueueMaxBytes: number = 1024 * 1024;

const lengthBytes = 4;

/** Packs records into as few payloads as they fit in. */
export function packRecords(records: readonly Uint8Array[]): readonly Uint8Array[] {
  const payloads: Uint8Array[] = [];
  let parts: Uint8Array[] = [];
  let sizeBytes = 0;
  const close = (): void => {
    if (parts.length > 0) payloads.push(concatBytes(parts));
    parts = [];
    sizeBytes = 0;
  };
  for (const record of records) {
    const nextBytes = lengthBytes + record.byteLength;
    if (sizeBytes + nextBytes > acFrameMaxBytes) close();
    const length = new Uint8Array(lengthBytes);
    writeU32(length, 0, record.byteLength);
    parts.push(length, record);
    sizeBytes += nextBytes;
  }
  close();
  return payloads;
}

/** @throws MeshError "malformed" when the payload is no list of records. Shares its memory. */
export function unpackRecords(payload: Uint8Array): readonly Uint8Array[] {
  const records: Uint8Array[] = [];
  for (let at = 0; at < payload.byteLength; ) {
    const sizeBytes = at + lengthBytes <= payload.byteLength ? readU32(payload, at) : 0;
    const end = at + lengthBytes + sizeBytes;
    if (sizeBytes === 0 || sizeBytes > recordMaxBytes || end > payload.byteLength) {
      throw new MeshError("malformed", "a list of records that does not add up");
    }
    records.push(payload.subarray(at + lengthBytes, end));
    at = end;
  }
  return records;
}
