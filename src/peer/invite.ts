/**
 * Invites: everything a machine needs to join a mesh, in one line of text (protocols/invite.md).
 *
 * Whoever has an invite has the mesh key. Expiry only keeps an old line in a chat from working by
 * accident; it takes nothing from somebody who already read it.
 */
import { multiaddr } from "@multiformats/multiaddr";
import { base32 } from "multiformats/bases/base32";
import { base58btc } from "multiformats/bases/base58";
import { concatBytes } from "../base/bytes.ts";
import { digestOf } from "../base/digest.ts";
import { MeshError } from "../base/errors.ts";
import { asPeerId, type PeerId } from "../base/ids.ts";
import { addrOfPeer, isAddr, isPeerId, placeOfAddr } from "./address.ts";

export interface Invite {
  readonly meshKey: Uint8Array;
  readonly inviter: PeerId;
  /** 1 to 4, each ending in `/p2p/<inviter>`. */
  readonly addrs: readonly string[];
  readonly expiresAtSeconds: number;
}

export const meshKeyBytes: number = 32;
const prefix = "mesh1-";
const version = 1;
const addrsMax = 4;
const textMaxChars = 1024;
const checksumBytes = 4;

/** Carries the first four addresses. @throws MeshError "usage" when there is none. */
export function encodeInvite(invite: Invite): string {
  const places = invite.addrs.slice(0, addrsMax).map((addr) => counted(placeBytes(addr)));
  if (places.length === 0) {
    throw new MeshError(
      "usage",
      "this node has no address that others could dial, so an invite to it would not work; " +
        "start it with --listen",
    );
  }
  const expiry = new Uint8Array(4);
  new DataView(expiry.buffer).setUint32(0, invite.expiresAtSeconds);
  const body = concatBytes([
    Uint8Array.of(version),
    invite.meshKey,
    counted(base58btc.baseDecode(invite.inviter)),
    Uint8Array.of(places.length),
    ...places,
    expiry,
  ]);
  return prefix + base32.baseEncode(concatBytes([body, checksumOf(body)]));
}

/**
 * Codes: "malformed" when the text is no invite or has a typo, "refused" when it has expired.
 * White space and capitals are forgiven: chat programs add both.
 */
export function decodeInvite(text: string, nowWallMs: number): Invite {
  const plain = text
    .slice(0, 2 * textMaxChars)
    .replace(/\s+/g, "")
    .toLowerCase();
  if (!plain.startsWith(prefix)) {
    throw new MeshError("malformed", `not an invite: it has to begin with "${prefix}"`);
  }
  if (plain.length > textMaxChars) throw typo();
  const bytes = decodeText(plain.slice(prefix.length));
  const body = bytes.subarray(0, -checksumBytes);
  if (body.byteLength === 0 || !sameBytes(checksumOf(body), bytes.subarray(-checksumBytes))) {
    throw typo();
  }
  if (body[0] !== version) {
    throw new MeshError(
      "malformed",
      `this invite has version ${body[0]}, this mesh-node reads version ${version}: ` +
        "install the same mesh-node as the machine that made it",
    );
  }
  const invite = parseBody(body);
  if (nowWallMs >= invite.expiresAtSeconds * 1000) {
    const when = new Date(invite.expiresAtSeconds * 1000).toISOString();
    throw new MeshError(
      "refused",
      `this invite expired at ${when}: ask for a new one (mesh invite), or check this machine's clock`,
    );
  }
  return invite;
}

function parseBody(body: Uint8Array): Invite {
  let at = 1;
  const take = (count: number): Uint8Array => {
    if (count > body.byteLength - at) throw typo();
    at += count;
    return body.subarray(at - count, at);
  };
  const takeByte = (): number => take(1)[0] ?? 0;
  const meshKey = take(meshKeyBytes).slice();
  const inviter = asPeerId(base58btc.baseEncode(take(takeByte())));
  const count = takeByte();
  if (!isPeerId(inviter) || count < 1 || count > addrsMax) throw typo();
  const addrs = Array.from({ length: count }, () => addrOfPeer(place(take(takeByte())), inviter));
  // What is remembered of it is read again at the next start, and then has to be an address still.
  if (!addrs.every(isAddr)) throw typo();
  const expiry = take(4);
  const expiresAtSeconds = new DataView(expiry.buffer, expiry.byteOffset, 4).getUint32(0);
  if (at !== body.byteLength) throw typo();
  return { meshKey, inviter, addrs, expiresAtSeconds };
}

function placeBytes(addr: string): Uint8Array {
  return multiaddr(placeOfAddr(addr)).bytes;
}

function place(bytes: Uint8Array): string {
  try {
    const text = multiaddr(bytes).toString();
    // A name with a slash in it would be another address once it is text.
    if (Buffer.compare(placeBytes(text), bytes) !== 0) throw typo();
    return text;
  } catch (error) {
    throw typo(error);
  }
}

function decodeText(text: string): Uint8Array {
  try {
    return base32.baseDecode(text);
  } catch (error) {
    throw typo(error);
  }
}

function typo(cause?: unknown): MeshError {
  return new MeshError(
    "malformed",
    "this invite is incomplete or has a typo: copy it again, from mesh1- to its last letter",
    { cause },
  );
}

function counted(bytes: Uint8Array): Uint8Array {
  if (bytes.byteLength > 255) {
    throw new MeshError("usage", "an address is too long for an invite; listen on a shorter one");
  }
  return concatBytes([Uint8Array.of(bytes.byteLength), bytes]);
}

function checksumOf(body: Uint8Array): Uint8Array {
  return Uint8Array.from(Buffer.from(digestOf(body).slice(0, 2 * checksumBytes), "hex"));
}

function sameBytes(a: Uint8Array, b: Uint8Array): boolean {
  return a.byteLength === b.byteLength && a.every((byte, index) => byte === b[index]);
}
