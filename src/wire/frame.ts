/**
 * Frames: a 16-byte header and a payload, on an ordered byte stream (protocols/frame.md).
 *
 * Knows nothing about streams or about what a type means. All numbers are little-endian.
 */
import { MeshError } from "../base/errors.ts";

/** One message of a protocol. */
export interface Frame {
  /** What it is, 0 to 255; each protocol has its own list. */
  readonly type: number;
  /** Bit 0 (`optionalFlag`): a receiver that does not know the type skips the frame. */
  readonly flags: number;
  /** Ties an answer to its question; 0 where nothing is asked. */
  readonly requestId: number;
  /** A number that each type gives its own meaning; 0 where it has none. */
  readonly aux: number;
  /** On arrival it may share memory with other frames: copy what is kept for long. */
  readonly payload: Uint8Array;
}

export const frameHeaderBytes: number = 16;
export const optionalFlag: number = 1;
export const noPayload: Uint8Array = new Uint8Array(0);

/** A frame with the usual zeros filled in. */
export function frameOf(type: number, parts: Partial<Omit<Frame, "type">> = {}): Frame {
  return { type, flags: 0, requestId: 0, aux: 0, payload: noPayload, ...parts };
}

/** Writes header and payload at `offset`. @returns the offset behind them. */
export function writeFrame(target: Uint8Array, offset: number, frame: Frame): number {
  target[offset] = frame.type;
  target[offset + 1] = frame.flags;
  target[offset + 2] = 0;
  target[offset + 3] = 0;
  writeU32(target, offset + 4, frame.requestId);
  writeU32(target, offset + 8, frame.payload.byteLength);
  writeU32(target, offset + 12, frame.aux);
  target.set(frame.payload, offset + frameHeaderBytes);
  return offset + frameHeaderBytes + frame.payload.byteLength;
}

export function encodeFrame(frame: Frame): Uint8Array {
  const bytes = unfilled(frameHeaderBytes + frame.payload.byteLength);
  writeFrame(bytes, 0, frame);
  return bytes;
}

export function writeU32(target: Uint8Array, offset: number, value: number): void {
  target[offset] = value;
  target[offset + 1] = value >>> 8;
  target[offset + 2] = value >>> 16;
  target[offset + 3] = value >>> 24;
}

/** The number at `offset`; bytes behind the end count as zero, so check the length first. */
export function readU32(source: Uint8Array, offset: number): number {
  const low =
    (source[offset] ?? 0) | ((source[offset + 1] ?? 0) << 8) | ((source[offset + 2] ?? 0) << 16);
  return (low | ((source[offset + 3] ?? 0) << 24)) >>> 0;
}

/**
 * Memory that holds whatever it held before: for bytes that are written completely before anybody
 * sees them. Zeroing 256 KiB first costs more than copying them.
 */
export function unfilled(sizeBytes: number): Uint8Array {
  const { buffer, byteOffset } = Buffer.allocUnsafeSlow(sizeBytes);
  // Not the Buffer itself: its `slice` shares memory, and callers expect a copy.
  return new Uint8Array(buffer, byteOffset, sizeBytes);
}

export interface FrameDecoder {
  /**
   * Takes the next piece, whatever its size, and calls `onFrame` for each frame it completes.
   * @throws MeshError "malformed" when a frame is longer than the bound; not usable afterwards.
   */
  push(piece: Uint8Array, onFrame: (frame: Frame) => void): void;
  /** Bytes of an unfinished frame: 0 between frames, at most 16 + `frameMaxBytes`. */
  pendingBytes(): number;
}

/** `frameMaxBytes` bounds the payload, and so what one peer can make this node hold. */
export function createFrameDecoder(options: { readonly frameMaxBytes: number }): FrameDecoder {
  const header = new Uint8Array(frameHeaderBytes);
  let headerHave = 0;
  /** Set only while a payload lies in more than one piece. */
  let payload: Uint8Array | undefined;
  let payloadHave = 0;

  return {
    pendingBytes: () => headerHave + payloadHave,
    push(piece, onFrame) {
      let at = 0;
      while (at < piece.byteLength) {
        if (headerHave < frameHeaderBytes) {
          const take = Math.min(frameHeaderBytes - headerHave, piece.byteLength - at);
          header.set(piece.subarray(at, at + take), headerHave);
          headerHave += take;
          at += take;
          if (headerHave < frameHeaderBytes) return;
        }
        const payloadBytes = payloadBytesOf(header, options.frameMaxBytes);
        if (payload === undefined && piece.byteLength - at >= payloadBytes) {
          headerHave = 0;
          at += payloadBytes;
          onFrame(frameFrom(header, piece.subarray(at - payloadBytes, at)));
          continue;
        }
        payload ??= unfilled(payloadBytes);
        const take = Math.min(payloadBytes - payloadHave, piece.byteLength - at);
        payload.set(piece.subarray(at, at + take), payloadHave);
        payloadHave += take;
        at += take;
        if (payloadHave < payloadBytes) return;
        const whole = payload;
        payload = undefined;
        payloadHave = 0;
        headerHave = 0;
        onFrame(frameFrom(header, whole));
      }
    },
  };
}

function payloadBytesOf(header: Uint8Array, frameMaxBytes: number): number {
  const payloadBytes = readU32(header, 8);
  if (payloadBytes > frameMaxBytes) {
    throw new MeshError(
      "malformed",
      `a frame of type ${header[0]} claims ${payloadBytes} bytes, the limit is ${frameMaxBytes}`,
    );
  }
  return payloadBytes;
}

function frameFrom(header: Uint8Array, payload: Uint8Array): Frame {
  return {
    type: header[0] ?? 0,
    flags: header[1] ?? 0,
    requestId: readU32(header, 4),
    aux: readU32(header, 12),
    payload,
  };
}
