import { readFileSync } from "node:fs";
import * as fc from "fast-check";
import { base32 } from "multiformats/bases/base32";
import { base58btc } from "multiformats/bases/base58";
import { expect, test } from "vitest";
import { digestOf } from "../base/digest.ts";
import { MeshError } from "../base/errors.ts";
import { asPeerId } from "../base/ids.ts";
import { decodeInvite, encodeInvite, type Invite } from "./invite.ts";

const nowWallMs = 1_800_000_000_000;

const invites: fc.Arbitrary<Invite> = fc
  .record({
    meshKey: fc.uint8Array({ minLength: 32, maxLength: 32 }),
    id: fc.uint8Array({ minLength: 34, maxLength: 38 }),
    places: fc.array(
      fc.oneof(
        fc
          .tuple(fc.ipV4(), fc.integer({ min: 1, max: 65535 }))
          .map(([ip, port]) => `/ip4/${ip}/tcp/${port}`),
        fc
          .tuple(fc.constantFrom("build.example", "a-1.lan"), fc.integer({ min: 1, max: 65535 }))
          .map(([name, port]) => `/dns4/${name}/tcp/${port}`),
        fc.integer({ min: 1, max: 65535 }).map((port) => `/ip6/fd00::1/tcp/${port}`),
      ),
      { minLength: 1, maxLength: 4 },
    ),
    expiresAtSeconds: fc.integer({ min: 1_800_000_001, max: 0xffff_ffff }),
  })
  .map(({ meshKey, id, places, expiresAtSeconds }) => {
    const inviter = asPeerId(base58btc.baseEncode(id));
    return {
      meshKey,
      inviter,
      addrs: places.map((place) => `${place}/p2p/${inviter}`),
      expiresAtSeconds,
    };
  });

const codeOf = (run: () => unknown): string => {
  try {
    run();
  } catch (error) {
    if (error instanceof MeshError) return `${error.code}: ${error.message}`;
    throw error;
  }
  return "accepted";
};

test("an invite says after decoding what was put in", () => {
  void fc.assert(
    fc.property(invites, (invite) => {
      const text = encodeInvite(invite);
      expect(text).toMatch(/^mesh1-[a-z2-7]+$/);
      expect(decodeInvite(text, nowWallMs)).toEqual(invite);
    }),
  );
});

test("a chat program's capitals and line breaks do no harm", () => {
  void fc.assert(
    fc.property(invites, (invite) => {
      const text = encodeInvite(invite);
      const mangled = `  ${text.slice(0, 40).toUpperCase()}\n  ${text.slice(40)}\n`;
      expect(decodeInvite(mangled, nowWallMs)).toEqual(invite);
    }),
  );
});

test("one wrong, missing or doubled character is always detected, in one helpful line", () => {
  const alphabet = "abcdefghijklmnopqrstuvwxyz234567";
  void fc.assert(
    fc.property(invites, fc.nat(), fc.constantFrom(...alphabet, ""), (invite, where, other) => {
      const text = encodeInvite(invite);
      const at = 6 + (where % (text.length - 6));
      fc.pre(text[at] !== other);
      const typo = text.slice(0, at) + other + text.slice(at + 1);
      const doubled = text.slice(0, at) + text[at] + text.slice(at);
      for (const bad of [typo, doubled, text.slice(0, at)]) {
        const said = codeOf(() => decodeInvite(bad, nowWallMs));
        expect(said).toMatch(/^malformed: this invite is incomplete or has a typo/);
        expect(said).not.toContain("\n");
      }
    }),
    { numRuns: 500 },
  );
});

test("text of any other kind is refused without a crash", () => {
  void fc.assert(
    fc.property(
      fc.oneof(
        fc.string(),
        fc.string().map((tail) => `mesh1-${tail}`),
      ),
      (text) => {
        expect(codeOf(() => decodeInvite(text, nowWallMs))).toMatch(/^malformed: /);
      },
    ),
  );
  expect(codeOf(() => decodeInvite("https://example.org", nowWallMs))).toContain(
    'begin with "mesh1-"',
  );
  expect(codeOf(() => decodeInvite(`mesh1-${"a".repeat(1e6)}`, nowWallMs))).toMatch(/^malformed/);
});

test("an expired invite is refused, and says when it expired", () => {
  void fc.assert(
    fc.property(invites, (invite) => {
      const text = encodeInvite(invite);
      const endMs = invite.expiresAtSeconds * 1000;
      expect(decodeInvite(text, endMs - 1)).toEqual(invite);
      expect(codeOf(() => decodeInvite(text, endMs))).toBe(
        `refused: this invite expired at ${new Date(endMs).toISOString()}: ask for a new one (mesh invite), or check this machine's clock`,
      );
    }),
  );
});

/** An invite with these bytes for its one address, and its checksum right. */
function inviteTo(place: Uint8Array, inviterBytes: number): string {
  const expiry = [0xff, 0xff, 0xff, 0xff];
  const inviter = [inviterBytes, ...new Uint8Array(inviterBytes).fill(5)];
  const body = [1, ...new Uint8Array(32), ...inviter, 1, place.byteLength, ...place, ...expiry];
  const sum = Buffer.from(digestOf(Uint8Array.from(body)).slice(0, 8), "hex");
  return `mesh1-${base32.baseEncode(Uint8Array.from([...body, ...sum]))}`;
}

/** `/dns4/<name>/tcp/1` */
const dns = (name: string): Uint8Array =>
  Uint8Array.from([54, Buffer.byteLength(name), ...Buffer.from(name), 6, 0, 1]);

// Whoever joins remembers the inviter in mesh.json, which must be readable at the next start.
test("an invite whose addresses would not be read back from the disk is none", () => {
  expect(decodeInvite(inviteTo(dns("a.lan"), 38), nowWallMs).addrs).toHaveLength(1);
  for (const name of ["a/b", "a\u0007b", "a b", "\u00e9.lan"]) {
    expect(codeOf(() => decodeInvite(inviteTo(dns(name), 38), nowWallMs))).toMatch(/^malformed/);
  }
  expect(codeOf(() => decodeInvite(inviteTo(dns("a.lan"), 80), nowWallMs))).toMatch(/^malformed/);
});

test("only four of many addresses travel, and none is an error", () => {
  const inviter = asPeerId("12D3KooWEyoppNCUx8Yx66oV9fJnriXwCcXwDDUA2kj6vnc6iDEp");
  const addrs = [1, 2, 3, 4, 5, 6].map((port) => `/ip4/10.0.0.1/tcp/${port}/p2p/${inviter}`);
  const invite = { meshKey: new Uint8Array(32), inviter, addrs, expiresAtSeconds: 2_000_000_000 };
  expect(decodeInvite(encodeInvite(invite), nowWallMs).addrs).toEqual(addrs.slice(0, 4));
  expect(codeOf(() => encodeInvite({ ...invite, addrs: [] }))).toMatch(/^usage: .*--listen/);
});

test("the golden invite still reads as it was written", () => {
  const golden: {
    readonly invites: readonly {
      readonly text: string;
      readonly meshKey: string;
      readonly inviter: string;
      readonly addrs: readonly string[];
      readonly expiresAtSeconds: number;
    }[];
  } = JSON.parse(readFileSync("protocols/vectors/invite.json", "utf8"));
  for (const { text, meshKey, inviter, addrs, expiresAtSeconds } of golden.invites) {
    const invite: Invite = {
      meshKey: Uint8Array.from(Buffer.from(meshKey, "hex")),
      inviter: asPeerId(inviter),
      addrs,
      expiresAtSeconds,
    };
    expect(encodeInvite(invite)).toBe(text);
    expect(decodeInvite(text, 0)).toEqual(invite);
  }
  expect(golden.invites.length).toBeGreaterThan(0);
});
