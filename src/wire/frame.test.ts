import fc from "fast-check";
import { expect, test } from "vitest";
import { concatBytes } from "../base/bytes.ts";
import { isMeshError } from "../base/errors.ts";
import { createFrameDecoder, encodeFrame, type Frame, frameHeaderBytes, frameOf } from "./frame.ts";

const frameMaxBytes = 1000;

const anyFrame: fc.Arbitrary<Frame> = fc.record({
  type: fc.nat(255),
  flags: fc.nat(255),
  requestId: fc.nat(0xffffffff),
  aux: fc.nat(0xffffffff),
  payload: fc.uint8Array({ maxLength: frameMaxBytes }),
});

function decode(pieces: readonly Uint8Array[]): { frames: Frame[]; pendingBytes: number } {
  const decoder = createFrameDecoder({ frameMaxBytes });
  const frames: Frame[] = [];
  for (const piece of pieces) decoder.push(piece, (frame) => frames.push(frame));
  return { frames, pendingBytes: decoder.pendingBytes() };
}

function cut(bytes: Uint8Array, sizes: readonly number[]): Uint8Array[] {
  const pieces: Uint8Array[] = [];
  let at = 0;
  for (let turn = 0; at < bytes.byteLength; turn += 1) {
    const size = sizes[turn % sizes.length] ?? 1;
    pieces.push(bytes.subarray(at, at + size));
    at += size;
  }
  return pieces;
}

test("frames come out as they went in, however the bytes are cut", () => {
  fc.assert(
    fc.property(
      fc.array(anyFrame, { maxLength: 20 }),
      fc.array(fc.integer({ min: 1, max: 400 }), { minLength: 1, maxLength: 20 }),
      (frames, sizes) => {
        const bytes = concatBytes([new Uint8Array(0), ...frames.map(encodeFrame)]);
        expect(decode(cut(bytes, sizes))).toEqual({ frames, pendingBytes: 0 });
      },
    ),
  );
});

test("bytes at random give frames or a malformed error, and never more memory than the bound", () => {
  fc.assert(
    fc.property(fc.array(fc.uint8Array({ maxLength: 300 }), { maxLength: 30 }), (pieces) => {
      const decoder = createFrameDecoder({ frameMaxBytes });
      try {
        for (const piece of pieces) {
          decoder.push(piece, (frame) => {
            expect(frame.payload.byteLength).toBeLessThanOrEqual(frameMaxBytes);
          });
          expect(decoder.pendingBytes()).toBeLessThanOrEqual(frameHeaderBytes + frameMaxBytes);
        }
      } catch (error) {
        expect(isMeshError(error, "malformed")).toBe(true);
      }
    }),
    { numRuns: 500 },
  );
});

test("a frame one byte over the bound is refused before its payload arrives", () => {
  const whole = encodeFrame(frameOf(1, { payload: new Uint8Array(frameMaxBytes + 1) }));
  expect(() => decode([whole.subarray(0, frameHeaderBytes - 1)])).not.toThrow();
  expect(() => decode([whole.subarray(0, frameHeaderBytes)])).toThrow(/limit is 1000/);
  const largest = encodeFrame(frameOf(1, { payload: new Uint8Array(frameMaxBytes) }));
  expect(decode([largest]).frames).toHaveLength(1);
});

test("the header has the layout that protocols/frame.md states", () => {
  const bytes = encodeFrame({
    type: 7,
    flags: 1,
    requestId: 0x01020304,
    aux: 0xfffefdfc,
    payload: new Uint8Array([9]),
  });
  expect(Buffer.from(bytes).toString("hex")).toBe("0701000004030201" + "01000000fcfdfeff" + "09");
});
