/**
 * Names bytes by their BLAKE3-256 hash and size.
 *
 * A digest is one string, `<64 hex>-<size>`, so that it can be a map key, a
 * JSON value and a line in a log without conversion. It knows nothing about
 * where the bytes are.
 */
import { createRequire } from "node:module";

/** BLAKE3-256 and length of some bytes: 64 lower-case hex characters, `-`, decimal size in bytes. */
export type Digest = string & { readonly __digest: unique symbol };

/** An incremental BLAKE3-256 over bytes that arrive in pieces. Not usable after `digest()`. */
export interface Hasher {
  update(bytes: Uint8Array): void;
  digest(): Digest;
}

const shape = /^[0-9a-f]{64}-(0|[1-9][0-9]{0,14})$/;

/** Reads a digest that came from outside. @throws RangeError when it is not one. */
export function parseDigest(text: string): Digest {
  if (!shape.test(text))
    throw new RangeError(`not a digest: ${JSON.stringify(text.slice(0, 100))}`);
  return text as Digest;
}

/** Puts a digest together from its two halves. @throws RangeError when they do not make one. */
export function makeDigest(hashHex: string, sizeBytes: number): Digest {
  return parseDigest(`${hashHex}-${sizeBytes}`);
}

/** The 64 hex characters. */
export function hashHexOf(digest: Digest): string {
  return digest.slice(0, 64);
}

export function sizeBytesOf(digest: Digest): number {
  return Number(digest.slice(65));
}

export function digestOf(bytes: Uint8Array): Digest {
  return `${implementation.hashHex(bytes)}-${bytes.byteLength}` as Digest;
}

export function createHasher(): Hasher {
  const hash = implementation.create();
  let sizeBytes = 0;
  return {
    update(bytes) {
      sizeBytes += bytes.byteLength;
      hash.update(bytes);
    },
    digest: () => `${hash.hex()}-${sizeBytes}` as Digest,
  };
}

/** The digest of no bytes at all: always known, never stored or fetched. */
export const emptyDigest: Digest =
  "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262-0" as Digest;

/** One BLAKE3 implementation: the native one where it loads, else WebAssembly. @internal */
export interface Blake3 {
  readonly name: "native" | "wasm";
  hashHex(bytes: Uint8Array): string;
  create(): { update(bytes: Uint8Array): void; hex(): string };
}

const require = createRequire(import.meta.url);

/** `@napi-rs/blake-hash`, about 7 GB/s; undefined where it has no build for this machine. @internal */
export function loadNative(): Blake3 | undefined {
  try {
    const native = require("@napi-rs/blake-hash") as typeof import("@napi-rs/blake-hash");
    return {
      name: "native",
      // Not a hasher for one use: an object with a finalizer costs more than hashing a small blob.
      hashHex: (bytes) => native.blake3(asBuffer(bytes)).toString("hex"),
      create() {
        const hasher = new native.Blake3Hasher();
        return {
          update: (bytes) => void hasher.update(asBuffer(bytes)),
          hex: () => hasher.digest("hex"),
        };
      },
    };
  } catch {
    return undefined;
  }
}

/** The `blake3` package's WebAssembly, about 1 GB/s, on any machine. @internal */
export function loadWasm(): Blake3 {
  const wasm = require("blake3") as typeof import("blake3");
  return {
    name: "wasm",
    hashHex: (bytes) => wasm.hash(asBuffer(bytes)).toString("hex"),
    create() {
      const hasher = wasm.createHash();
      return {
        update: (bytes) => void hasher.update(asBuffer(bytes)),
        hex: () => hasher.digest("hex"),
      };
    },
  };
}

function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

const implementation: Blake3 = loadNative() ?? loadWasm();

/** Which implementation serves `digestOf` here: shown by `mesh doctor`. */
export const blake3Name: "native" | "wasm" = implementation.name;
