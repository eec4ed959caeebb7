/**
 * Who this node is, and what the mesh key becomes: key files, signatures, derived bytes.
 *
 * Knows nothing of sockets or libp2p, so that a command which only reads the key file starts fast.
 */
import assert from "node:assert/strict";
import {
  createPrivateKey,
  createPublicKey,
  hkdfSync,
  type KeyObject,
  randomBytes,
  sign,
  verify,
} from "node:crypto";
import { base58btc } from "multiformats/bases/base58";
import { textOf, utf8 } from "../base/bytes.ts";
import { MeshError } from "../base/errors.ts";
import { asPeerId, type PeerId } from "../base/ids.ts";

/** A node's Ed25519 key pair. The seed is secret; it stays in `identity.key`, mode 0600. */
export interface Identity {
  readonly seed: Uint8Array;
  readonly publicKey: Uint8Array;
  readonly peerId: PeerId;
}

export const seedBytes: number = 32;
export const meshKeyBytes: number = 32;

const keyFileTitle = "mesh-node identity 1";

/** DER in front of a raw Ed25519 key: RFC 8410, sections 4 and 7. */
const pkcs8Prefix: Uint8Array = Buffer.from("302e020100300506032b657004220420", "hex");
const spkiPrefix: Uint8Array = Buffer.from("302a300506032b6570032100", "hex");

/** In front of the raw key: identity multihash of a protobuf {type: Ed25519, 32 bytes}. */
const peerIdPrefix: Uint8Array = Buffer.from("002408011220", "hex");

export function generateIdentity(): Identity {
  return identityOf(new Uint8Array(randomBytes(seedBytes)));
}

/** The identity that belongs to a 32-byte seed. */
export function identityOf(seed: Uint8Array): Identity {
  assert.equal(seed.byteLength, seedBytes, "an Ed25519 seed has 32 bytes");
  const publicDer = createPublicKey(privateKeyOf(seed)).export({ format: "der", type: "spki" });
  const publicKey = new Uint8Array(publicDer.subarray(spkiPrefix.byteLength));
  const peerId = asPeerId(base58btc.baseEncode(Buffer.concat([peerIdPrefix, publicKey])));
  return { seed, publicKey, peerId };
}

/** The contents of a key file. Store it with mode 0600. */
export function encodeIdentity(identity: Identity): Uint8Array {
  return utf8(`${keyFileTitle}\n${Buffer.from(identity.seed).toString("base64url")}\n`);
}

/** Reads a key file. Code "malformed". */
export function decodeIdentity(file: Uint8Array): Identity {
  const [title, seedText, ...rest] = textOf(file.subarray(0, 256)).trimEnd().split("\n");
  const seed = Buffer.from(seedText ?? "", "base64url");
  if (title !== keyFileTitle || rest.length > 0 || seed.byteLength !== seedBytes) {
    throw new MeshError(
      "malformed",
      `the key file is not a "${keyFileTitle}" file; move it away to get a new identity`,
    );
  }
  return identityOf(new Uint8Array(seed));
}

/** The Ed25519 key inside a peer id. Code "malformed" when it is of another kind. */
export function publicKeyOf(peer: PeerId): Uint8Array {
  const bytes = decodeBase58(peer);
  const prefix = bytes?.subarray(0, peerIdPrefix.byteLength);
  if (bytes?.byteLength !== peerIdPrefix.byteLength + 32 || !sameBytes(prefix, peerIdPrefix)) {
    throw new MeshError("malformed", `"${peer.slice(0, 80)}" is not the id of an Ed25519 peer`);
  }
  return bytes.slice(peerIdPrefix.byteLength);
}

/** An Ed25519 signature, 64 bytes. */
export function signWith(identity: Identity, message: Uint8Array): Uint8Array {
  return new Uint8Array(sign(null, message, privateKeyOf(identity.seed)));
}

/** Whether `publicKey` signed `message`. False for keys and signatures of a wrong size, too. */
export function isSignedBy(
  publicKey: Uint8Array,
  message: Uint8Array,
  signature: Uint8Array,
): boolean {
  if (publicKey.byteLength !== 32 || signature.byteLength !== 64) return false;
  const der = Buffer.concat([spkiPrefix, publicKey]);
  const key = createPublicKey({ key: der, format: "der", type: "spki" });
  return verify(null, message, key, signature);
}

/**
 * What both ends mix into the Noise handshake. Other mesh, other bytes, no connection; no cost
 * for the bytes that follow (protocols/network.md).
 */
export function noisePrologue(meshKey: Uint8Array): Uint8Array {
  return derive(meshKey, "mesh/1 noise prologue", 32);
}

/**
 * Under which name this mesh's nodes find each other on a LAN. Tells meshes apart, and tells a
 * listener nothing about the key.
 */
export function mdnsTag(meshKey: Uint8Array): string {
  const mark = Buffer.from(derive(meshKey, "mesh/1 mdns tag", 4)).toString("hex");
  return `_meshnode-${mark}._udp.local`;
}

function derive(meshKey: Uint8Array, use: string, lengthBytes: number): Uint8Array {
  assert.equal(meshKey.byteLength, meshKeyBytes, "a mesh key has 32 bytes");
  return new Uint8Array(hkdfSync("sha256", meshKey, new Uint8Array(0), use, lengthBytes));
}

function privateKeyOf(seed: Uint8Array): KeyObject {
  const der = Buffer.concat([pkcs8Prefix, seed]);
  return createPrivateKey({ key: der, format: "der", type: "pkcs8" });
}

function decodeBase58(text: string): Uint8Array | undefined {
  // Decoding takes quadratic time, and a peer id has at most 60 characters.
  if (text.length > 80) return undefined;
  try {
    return base58btc.baseDecode(text);
  } catch {
    return undefined;
  }
}

function sameBytes(a: Uint8Array | undefined, b: Uint8Array): boolean {
  return a !== undefined && Buffer.compare(a, b) === 0;
}
