import fc from "fast-check";
import { expect, test } from "vitest";
import {
  createHasher,
  digestOf,
  emptyDigest,
  loadNative,
  loadWasm,
  parseDigest,
  sizeBytesOf,
} from "./digest.ts";

const bytes = fc.uint8Array({ maxLength: 5000 });
const native = loadNative();

test.skipIf(native === undefined)("the native and the WebAssembly hash agree", () => {
  const wasm = loadWasm();
  const property = fc.property(bytes, bytes, (a, b) => {
    expect(native?.hashHex(a)).toBe(wasm.hashHex(a));
    const [one, other] = [native?.create(), wasm.create()];
    for (const part of [a, b]) {
      one?.update(part);
      other.update(part);
    }
    expect(one?.hex()).toBe(other.hex());
  });
  fc.assert(property);
});

test("bytes in pieces have the digest of the whole", () => {
  const property = fc.property(fc.array(bytes), (parts) => {
    const hasher = createHasher();
    for (const part of parts) hasher.update(part);
    expect(hasher.digest()).toBe(digestOf(Buffer.concat(parts)));
  });
  fc.assert(property);
});

test("the digest is the published one, with the size behind it", () => {
  // From the test vectors of the BLAKE3 reference implementation, for the empty input and 0x00.
  expect(digestOf(new Uint8Array(0))).toBe(emptyDigest);
  expect(digestOf(new Uint8Array(1))).toBe(
    "2d3adedff11b61f14c886e35afa036736dcd87a74d27b5c1510225d0f592e213-1",
  );
  expect(sizeBytesOf(digestOf(new Uint8Array(1234)))).toBe(1234);
});

test.each(["", "abc", `${"0".repeat(64)}`, `${"0".repeat(64)}-01`, `${"G".repeat(64)}-1`])(
  "%j is no digest",
  (text) => {
    expect(() => parseDigest(text)).toThrow(RangeError);
  },
);
