/**
 * Addresses of peers as text: `/ip4/192.0.2.7/tcp/4001/p2p/<peer>`.
 *
 * Looks only at the length, the alphabet and the final `/p2p/` part; whether the rest can be
 * dialled is the network's matter.
 */
import { asPeerId, type PeerId } from "../base/ids.ts";

export const addrMaxChars: number = 256;
/** Addresses kept of one peer. */
export const addrsMaxPerPeer: number = 8;

const addrShape = /^\/?[A-Za-z0-9._:%~-]+(\/[A-Za-z0-9._:%~-]+)*$/;
/** Base58, as peer ids are written; simulated ids fit too. */
const peerShape = /^[A-Za-z0-9-]{1,64}$/;

export function isPeerId(text: string): boolean {
  return peerShape.test(text);
}

export function isAddr(text: string): boolean {
  return text.length <= addrMaxChars && addrShape.test(text);
}

/** The peer an address names at its end. */
export function peerOfAddr(addr: string): PeerId | undefined {
  const text = /\/p2p\/([^/]+)$/.exec(addr)?.[1];
  return text !== undefined && isPeerId(text) ? asPeerId(text) : undefined;
}

/** The address without the peer at its end. */
export function placeOfAddr(addr: string): string {
  return addr.replace(/\/p2p\/[^/]+$/, "");
}

export function addrOfPeer(place: string, peer: PeerId): string {
  return `${placeOfAddr(place)}/p2p/${peer}`;
}

/** The well-formed ones that name `peer`, without doubles, at most `addrsMaxPerPeer`. */
export function addrsNaming(peer: PeerId, addrs: readonly string[]): readonly string[] {
  const own = addrs.filter((addr) => isAddr(addr) && peerOfAddr(addr) === peer);
  return [...new Set(own)].slice(0, addrsMaxPerPeer);
}
