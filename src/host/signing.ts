/**
 * Signatures of nodes: this one's own, and whether those of others are right.
 *
 * A key is made ready once and kept, which costs more than a signature (50 µs against 25). It does
 * not know what is signed.
 */
import { createPrivateKey, createPublicKey, type KeyObject, sign, verify } from "node:crypto";
import { createRecentMap } from "../base/bounded.ts";
import { isMeshError } from "../base/errors.ts";
import type { PeerId } from "../base/ids.ts";
import { type Identity, publicKeyOf } from "./network-identity.ts";

export interface Signing {
  readonly self: PeerId;
  /** 64 bytes; the same for the same message. */
  sign(message: Uint8Array): Uint8Array;
  /** Whether `peer` signed `message`. False for an id that holds no key and a wrong size, too. */
  isSigned(peer: PeerId, message: Uint8Array, signature: Uint8Array): boolean;
}

export const signatureBytes: number = 64;

/** Keys of this many peers are kept ready; that of the least recently used is made again. */
const keysMax = 512;

/** `keyOf` finds the key of a peer; code "malformed" when its id holds none. */
export function createSigning(
  { seed, publicKey, peerId }: Identity,
  keyOf: (peer: PeerId) => Uint8Array = publicKeyOf,
): Signing {
  const own = createPrivateKey({
    format: "jwk",
    key: { ...jwkOf(publicKey), d: Buffer.from(seed).toString("base64url") },
  });
  const keys = createRecentMap<PeerId, KeyObject>(keysMax);

  function keyObjectOf(peer: PeerId): KeyObject | undefined {
    const known = keys.get(peer);
    if (known !== undefined) return known;
    try {
      const key = createPublicKey({ format: "jwk", key: jwkOf(keyOf(peer)) });
      keys.set(peer, key);
      return key;
    } catch (error) {
      if (isMeshError(error, "malformed")) return undefined;
      throw error;
    }
  }

  return {
    self: peerId,
    sign: (message) => new Uint8Array(sign(null, message, own)),
    isSigned(peer, message, signature) {
      if (signature.byteLength !== signatureBytes) return false;
      const key = keyObjectOf(peer);
      return key !== undefined && verify(null, message, key, signature);
    },
  };
}

function jwkOf(publicKey: Uint8Array) {
  return { kty: "OKP", crv: "Ed25519", x: Buffer.from(publicKey).toString("base64url") };
}
