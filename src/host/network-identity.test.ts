import { generateKeyPairFromSeed } from "@libp2p/crypto/keys";
import { peerIdFromPrivateKey } from "@libp2p/peer-id";
import { expect, test } from "vitest";
import { utf8 } from "../base/bytes.ts";
import { asPeerId } from "../base/ids.ts";
import {
  decodeIdentity,
  encodeIdentity,
  generateIdentity,
  identityOf,
  isSignedBy,
  mdnsTag,
  noisePrologue,
  publicKeyOf,
  signWith,
} from "./network-identity.ts";

const seed = new Uint8Array(32).fill(3);

test("an identity has the peer id that libp2p gives its key", async () => {
  const key = await generateKeyPairFromSeed("Ed25519", seed);
  expect(identityOf(seed).peerId).toBe(peerIdFromPrivateKey(key).toString());
  expect(identityOf(seed).publicKey).toEqual(key.publicKey.raw);
});

test("two new identities differ", () => {
  expect(generateIdentity().peerId).not.toBe(generateIdentity().peerId);
});

test("a key file gives the identity back", () => {
  const identity = generateIdentity();
  expect(decodeIdentity(encodeIdentity(identity))).toEqual(identity);
});

test.each([
  ["nothing", ""],
  ["another title", `other identity 1\n${Buffer.from(seed).toString("base64url")}\n`],
  ["a short seed", "mesh-node identity 1\nAAAA\n"],
  ["a third line", `mesh-node identity 1\n${Buffer.from(seed).toString("base64url")}\nmore\n`],
])("a key file with %s is malformed", (_what, text) => {
  expect(() => decodeIdentity(utf8(text))).toThrow(expect.objectContaining({ code: "malformed" }));
});

test("a peer id yields the public key inside it", () => {
  const { peerId, publicKey } = generateIdentity();
  expect(publicKeyOf(peerId)).toEqual(publicKey);
});

test.each(["", "0", "QmNnooDu7bfjPFoTZYxMNLWUQJyrVwtbZg5gBMjTezGAJN", "1".repeat(100_000)])(
  "a text that is no Ed25519 peer id is malformed",
  (text) => {
    expect(() => publicKeyOf(asPeerId(text))).toThrow(
      expect.objectContaining({ code: "malformed" }),
    );
  },
);

test("a signature holds for its key and message only", () => {
  const [identity, other] = [generateIdentity(), generateIdentity()];
  const signature = signWith(identity, utf8("yes"));
  expect(isSignedBy(identity.publicKey, utf8("yes"), signature)).toBe(true);
  expect(isSignedBy(identity.publicKey, utf8("no"), signature)).toBe(false);
  expect(isSignedBy(other.publicKey, utf8("yes"), signature)).toBe(false);
  expect(isSignedBy(identity.publicKey, utf8("yes"), signature.subarray(1))).toBe(false);
});

test("what a mesh key becomes never changes", () => {
  // These bytes are part of the protocol (protocols/network.md).
  expect(Buffer.from(noisePrologue(seed)).toString("hex")).toMatchInlineSnapshot(
    `"0adc6729c5eb2b76db53d8e6da7ce35659f5db5556b5c1ee4bb0bcd468fc1fe3"`,
  );
  expect(mdnsTag(seed)).toMatchInlineSnapshot(`"_meshnode-7f9b0325._udp.local"`);
});
