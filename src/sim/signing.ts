/**
 * Keys of simulated peers: real Ed25519, made from the peer's name, so that the same seed signs the
 * same bytes and everybody knows everybody's public key.
 */
import { createRecentMap } from "../base/bounded.ts";
import { utf8 } from "../base/bytes.ts";
import { digestOf, hashHexOf } from "../base/digest.ts";
import type { PeerId } from "../base/ids.ts";
import { type Identity, identityOf } from "../host/network-identity.ts";
import { createSigning, type Signing } from "../host/signing.ts";

const identities = createRecentMap<PeerId, Identity>(1024);

export function createSimSigning(self: PeerId): Signing {
  return createSigning(simIdentity(self), (peer) => simIdentity(peer).publicKey);
}

function simIdentity(peer: PeerId): Identity {
  const known = identities.get(peer);
  if (known !== undefined) return known;
  const seed = Buffer.from(hashHexOf(digestOf(utf8(`key of ${peer}`))), "hex");
  const made = { ...identityOf(new Uint8Array(seed)), peerId: peer };
  identities.set(peer, made);
  return made;
}
