/**
 * What peers say in `/mesh/hello/1`, as bytes and as checked values (protocols/hello.md).
 *
 * Knows nothing about streams or about when it is said.
 */
import { create } from "@bufbuild/protobuf";
import { MeshError } from "../base/errors.ts";
import { asPeerId, type PeerId } from "../base/ids.ts";
import { HelloSchema, KnownSchema } from "../wire/gen/mesh/v1/mesh_pb.ts";
import { decodeMessage, encodeMessage } from "../wire/messages.ts";
import { addrsMaxPerPeer, addrsNaming, isAddr, isPeerId } from "./address.ts";
import { isLabel, labelsMax, type Offer } from "./capability.ts";
import { nodeNameMaxChars } from "./mesh-file.ts";
import { plainName } from "./name.ts";

/** What a node says of itself. */
export interface Description extends Offer {
  readonly name: string;
  readonly roles: readonly string[];
}

/** A peer's hello, checked. */
export interface Greeting extends Description {
  readonly addrs: readonly string[];
  /** The sender's number for this connection. */
  readonly session: bigint;
}

export interface KnownMember {
  readonly peer: PeerId;
  readonly addrs: readonly string[];
}

const helloVersion = 1;
/** Members told of in one message. */
const knownMax = 128;
const slotsMax = 65_536;
const rolesMax = 8;
const shortTextMaxChars = 64;

export function encodeHello(
  own: Description,
  addrs: readonly string[],
  session: bigint,
): Uint8Array {
  const labels = Object.entries(own.labels)
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .slice(0, labelsMax)
    .map(([key, value]) => ({ key, value }));
  const hello = create(HelloSchema, {
    version: helloVersion,
    name: plainName(own.name, nodeNameMaxChars),
    labels,
    slots: own.slots,
    sandbox: own.sandbox,
    platform: own.platform,
    addrs: addrs.filter(isAddr).slice(0, addrsMaxPerPeer),
    roles: own.roles.slice(0, rolesMax),
    session,
  });
  return encodeMessage(HelloSchema, hello);
}

/**
 * Codes: "refused" when the peer speaks another version, "malformed" when a field is out of its
 * bounds. Text meant for people is made harmless instead.
 */
export function parseHello(peer: PeerId, bytes: Uint8Array): Greeting {
  const hello = decodeMessage(HelloSchema, bytes);
  if (hello.version !== helloVersion) {
    throw new MeshError(
      "refused",
      `it speaks version ${hello.version} of the mesh protocol and this node version ` +
        `${helloVersion}: install the same mesh-node on both`,
    );
  }
  if (hello.slots > slotsMax) throw outOfBounds(`${hello.slots} slots`);
  if (hello.labels.length > labelsMax) throw outOfBounds(`${hello.labels.length} labels`);
  if (hello.roles.length > rolesMax) throw outOfBounds(`${hello.roles.length} roles`);
  const labels = hello.labels.map(({ key, value }): readonly [string, string] => {
    if (!isLabel(key, value)) throw outOfBounds(`the label ${JSON.stringify(key.slice(0, 64))}`);
    return [key, value];
  });
  return {
    name: plainName(hello.name, nodeNameMaxChars) || peer.slice(-8),
    labels: Object.fromEntries(labels),
    slots: hello.slots,
    sandbox: sandboxOf(hello.sandbox),
    platform: shortText(hello.platform),
    addrs: addrsNaming(peer, hello.addrs),
    roles: hello.roles.map(shortText),
    session: hello.session,
  };
}

/** An unknown sandbox is none that this node could judge, so the peer counts as taking no work. */
function sandboxOf(text: string): Greeting["sandbox"] {
  return text === "bwrap" || text === "unshare" || text === "none" ? text : "";
}

function shortText(text: string): string {
  if (text.length > shortTextMaxChars || plainName(text, shortTextMaxChars) !== text) {
    throw outOfBounds(`the text ${JSON.stringify(text.slice(0, shortTextMaxChars))}`);
  }
  return text;
}

function outOfBounds(what: string): MeshError {
  return new MeshError("malformed", `its hello is out of bounds: ${what}`);
}

export function encodeKnown(members: readonly KnownMember[]): Uint8Array {
  const peers = members.slice(0, knownMax).map(({ peer, addrs }) => ({
    peer,
    addrs: addrs.slice(0, addrsMaxPerPeer),
  }));
  return encodeMessage(KnownSchema, create(KnownSchema, { peers }));
}

/** Leaves out addresses that name nobody or somebody else. @throws MeshError "malformed" */
export function parseKnown(bytes: Uint8Array): readonly KnownMember[] {
  const { peers } = decodeMessage(KnownSchema, bytes);
  if (peers.length > knownMax) {
    throw new MeshError("malformed", `it names ${peers.length} members, the limit is ${knownMax}`);
  }
  return peers.map(({ peer, addrs }) => {
    if (!isPeerId(peer)) throw new MeshError("malformed", "it names a member by no peer id");
    const id = asPeerId(peer);
    return { peer: id, addrs: addrsNaming(id, addrs) };
  });
}
