/**
 * Every decoder of bytes or JSON by itself, where millions of cases are cheap: what escapes is a
 * MeshError of the codes it promises, and what is taken keeps the decoder's promises.
 */

import { base32 } from "multiformats/bases/base32";
import { unpackRecords } from "../../src/action/ac.ts";
import { decodeAction } from "../../src/action/encode.ts";
import { actionOfRecord, isGenuine, readRecord, recordMaxBytes } from "../../src/action/record.ts";
import { readEntries } from "../../src/action/record-log.ts";
import { concatBytes, textOf, utf8 } from "../../src/base/bytes.ts";
import { digestOf } from "../../src/base/digest.ts";
import { asPeerId } from "../../src/base/ids.ts";
import { unpackIndexes, unpackRange } from "../../src/blob/blk.ts";
import { decodeTree, encodeTree } from "../../src/blob/tree.ts";
import { readFolder, readTree, writeFolder, writeTree } from "../../src/blob/tree-bytes.ts";
import { limitModule, wasmPageBytes } from "../../src/exec/wasm-module.ts";
import { decodeIdentity, encodeIdentity, identityOf } from "../../src/host/network-identity.ts";
import { parseHello, parseKnown } from "../../src/peer/hello-message.ts";
import { decodeInvite, encodeInvite } from "../../src/peer/invite.ts";
import type { SeededRandom } from "../../src/sim/random.ts";
import { readU32, writeU32 } from "../../src/wire/frame.ts";
import { packDigests, unpackDigests } from "../../src/wire/messages.ts";
import { check, controlDecoders, type Decoder, malformed, payloadsOf } from "./control-decoders.ts";
import { mutate, pick } from "./mutate.ts";
import {
  action,
  blkQuestions,
  bytesOfHex,
  goldenTrees,
  keys,
  record,
  recordList,
  signing,
  vectorFile,
} from "./seeds.ts";
import { expected, type Target } from "./target.ts";
import { wasmSeeds } from "./wasm-seeds.ts";

const peer = asPeerId("12D3KooWEyoppNCUx8Yx66oV9fJnriXwCcXwDDUA2kj6vnc6iDEp");

/** The inner digests of a tree put right: its root is named by whoever names the tree. */
function decodeWholeTree(bytes: Uint8Array): void {
  const { root } = readTree(bytes, 1e6);
  const entries = decodeTree(bytes, digestOf(root));
  const again = encodeTree(entries);
  check(again.root === digestOf(root), "a tree decodes to another tree", bytes);
}

function sealInvite(bytes: Uint8Array): Uint8Array {
  const body = bytes.subarray(0, -4);
  return concatBytes([body, bytesOfHex(digestOf(body).slice(0, 8))]);
}

const inviteSeeds = (
  vectorFile("invite") as { readonly invites: readonly { readonly text: string }[] }
).invites.map(({ text }) => base32.baseDecode(text.slice(6)));

/** Four bytes of mark and kind, length, checksum: as record-log.ts writes them. */
function sealLog(bytes: Uint8Array): Uint8Array {
  if (bytes.byteLength < 12) return bytes;
  const out = bytes.slice();
  out.set([0xa5, 0x6d, 0x72]);
  writeU32(out, 4, out.byteLength - 12);
  let hash = Math.imul(0x811c9dc5 ^ (out[3] ?? 0), 0x01000193);
  for (const byte of out.subarray(12)) hash = Math.imul(hash ^ byte, 0x01000193);
  writeU32(out, 8, (hash ^ (out.byteLength - 12)) >>> 0);
  return out;
}

function logEntry(kind: number, payload: Uint8Array): Uint8Array {
  const entry = new Uint8Array(12 + payload.byteLength);
  entry[3] = kind;
  entry.set(payload, 12);
  return sealLog(entry);
}

/** Three lengths, then the parts, so that one mutation may hit any of them. */
function joinAction(parts: readonly Uint8Array[]): Uint8Array {
  const head = new Uint8Array(12);
  for (const [at, part] of parts.entries()) writeU32(head, 4 * at, part.byteLength);
  return concatBytes([head, ...parts]);
}

const flatFolder = writeFolder({
  files: ["a.c", "b.h", "\u{1f600}"].map((name, index) => ({
    name,
    digest: digestOf(utf8(name)),
    executable: index === 1,
  })),
  folders: [],
  symlinks: [
    { name: "c", target: "a.c" },
    { name: "d", target: "/usr/lib" },
  ],
});

const decoders: readonly Decoder[] = [
  ...controlDecoders,
  {
    name: "hello",
    share: 3,
    seeds: payloadsOf("hello", 1),
    codes: ["malformed", "refused"],
    decode(bytes) {
      const { name, labels, addrs, slots, roles } = parseHello(peer, bytes);
      const bounded =
        name.length <= 64 &&
        Object.keys(labels).length <= 32 &&
        addrs.length <= 8 &&
        slots <= 65_536;
      check(bounded && roles.length <= 8, "an unbounded hello", bytes);
    },
  },
  {
    name: "known",
    share: 2,
    seeds: payloadsOf("hello", 2),
    codes: malformed,
    decode(bytes) {
      const members = parseKnown(bytes);
      const bounded = members.length <= 128 && members.every(({ addrs }) => addrs.length <= 8);
      check(bounded, "an unbounded list of members", bytes);
    },
  },
  {
    name: "invite",
    share: 2,
    seeds: [inviteSeeds[0] ?? new Uint8Array(), ...inviteSeeds.slice(1)],
    codes: ["malformed", "refused"],
    seal: sealInvite,
    decode(bytes) {
      const text = `mesh1-${base32.baseEncode(bytes)}`;
      const invite = decodeInvite(text, 0);
      check(invite.addrs.length >= 1 && invite.addrs.length <= 4, "an unbounded invite", bytes);
      check(encodeInvite(invite).length <= 1024, "an invite that cannot be written", bytes);
    },
  },
  {
    name: "invite-text",
    share: 1,
    seeds: [utf8(`mesh1-${base32.baseEncode(inviteSeeds[0] ?? new Uint8Array())}`)],
    codes: ["malformed", "refused"],
    decode: (bytes) => void decodeInvite(textOf(bytes), 0),
  },
  {
    name: "identity",
    share: 0.2,
    seeds: [encodeIdentity(identityOf(new Uint8Array(32).fill(3)))],
    codes: malformed,
    decode: (bytes) => void decodeIdentity(bytes),
  },
  {
    name: "digests",
    share: 1,
    seeds: [packDigests([action.digest, action.tree])],
    codes: malformed,
    decode(bytes) {
      const digests = unpackDigests(bytes, 4096);
      check(Buffer.compare(packDigests(digests), bytes) === 0, "digests change", bytes);
    },
  },
  {
    name: "range",
    share: 1,
    seeds: [blkQuestions[1]?.payload ?? new Uint8Array()],
    codes: malformed,
    decode: (bytes) => void unpackRange(bytes),
  },
  {
    name: "indexes",
    share: 1,
    seeds: [new Uint8Array(16)],
    codes: malformed,
    decode: (bytes) => void unpackIndexes(bytes),
  },
  {
    name: "records",
    share: 1,
    seeds: [recordList],
    codes: malformed,
    decode: (bytes) => void unpackRecords(bytes).map(actionOfRecord),
  },
  {
    name: "record",
    share: 3,
    seeds: [record],
    codes: malformed,
    decode(bytes) {
      const { signer } = readRecord(bytes);
      if (Buffer.compare(bytes, record) === 0 || signer !== signing.self) return;
      check(!isGenuine(keys, bytes, signer), "a forged record is genuine", bytes);
    },
  },
  {
    name: "record-log",
    share: 2,
    seeds: [
      logEntry(0x6f, record),
      logEntry(0x74, record),
      logEntry(0x78, packDigests([action.digest])),
    ],
    codes: [],
    seal: sealLog,
    decode(bytes) {
      let heard = 0;
      const damaged = readEntries(bytes, {
        onRecord(one) {
          heard += one.byteLength + 12;
          check(one.byteLength <= recordMaxBytes, "a record beyond its bound", bytes);
        },
        onDropped: () => {
          heard += 52;
        },
      });
      check(heard + damaged === bytes.byteLength, "bytes are counted twice or not", bytes);
    },
  },
  {
    name: "tree",
    share: 3,
    seeds: [action.treeBytes, ...goldenTrees()],
    codes: malformed,
    decode: decodeWholeTree,
  },
  {
    name: "tree-sealed",
    share: 2,
    seeds: [flatFolder],
    codes: malformed,
    // One directory, changed, as the root: its own digest is right then.
    decode: (bytes) => decodeWholeTree(writeTree(bytes, [])),
  },
  {
    name: "folder",
    share: 2,
    seeds: [readTree(action.treeBytes, 100).root, ...readTree(action.treeBytes, 100).children],
    codes: malformed,
    decode(bytes) {
      const again = writeFolder(readFolder(bytes));
      check(Buffer.compare(again, bytes) === 0, "a directory has two forms", bytes);
    },
  },
  {
    name: "action",
    share: 2,
    seeds: [joinAction([action.actionBytes, action.commandBytes, action.treeBytes])],
    codes: malformed,
    decode(bytes) {
      const at = [readU32(bytes, 0), readU32(bytes, 4), readU32(bytes, 8)].map((size) =>
        Math.min(size, bytes.byteLength),
      );
      const [first = 0, second = 0] = at;
      const parts = bytes.subarray(12);
      const spec = decodeAction(
        parts.subarray(0, first),
        parts.subarray(first, first + second),
        parts.subarray(first + second),
      );
      check(spec.argv.length > 0 && spec.cwd.startsWith("/"), "an action of nothing", bytes);
    },
  },
  {
    name: "action-message",
    share: 1,
    seeds: [action.actionBytes],
    codes: malformed,
    decode(bytes) {
      const { timeoutMs, argv } = decodeAction(bytes, action.commandBytes, action.treeBytes);
      check(Number.isFinite(timeoutMs) && argv.length > 0, "a time without end", bytes);
    },
  },
  {
    name: "command",
    share: 2,
    seeds: [action.commandBytes],
    codes: malformed,
    decode(bytes) {
      // The action names whatever command comes, so that the command itself is read.
      const named = concatBytes([commandField(bytes), withoutCommand()]);
      const spec = decodeAction(named, bytes, action.treeBytes);
      check(
        spec.outputPaths.every((path) => path.startsWith("/") && !path.includes("\0")),
        "an output path that is not absolute",
        bytes,
      );
    },
  },
  {
    name: "wasm-module",
    share: 3,
    seeds: wasmSeeds,
    codes: ["malformed", "refused"],
    decode(bytes) {
      const maxBytes = 16 * wasmPageBytes;
      const limited = limitModule(bytes, maxBytes);
      const again = limitModule(limited.bytes, maxBytes);
      check(Buffer.compare(again.bytes, limited.bytes) === 0, "a limit is not kept", bytes);
      // Whatever it says of it: the engine must survive what is handed to it.
      WebAssembly.validate(new Uint8Array(limited.bytes));
    },
  },
];

/** Field 1 of an Action, a digest message of these bytes. */
function commandField(command: Uint8Array): Uint8Array {
  const digest = digestOf(command);
  const size = varintOf(command.byteLength);
  const inner = concatBytes([
    Uint8Array.of(0x0a, 64),
    utf8(digest.slice(0, 64)),
    command.byteLength === 0 ? new Uint8Array() : concatBytes([Uint8Array.of(0x10), size]),
  ]);
  return concatBytes([Uint8Array.of(0x0a), varintOf(inner.byteLength), inner]);
}

function withoutCommand(): Uint8Array {
  const { actionBytes } = action;
  return actionBytes.subarray(2 + (actionBytes[1] ?? 0));
}

function varintOf(value: number): Uint8Array {
  const out: number[] = [];
  let rest = value;
  for (; rest >= 128; rest = Math.floor(rest / 128)) out.push((rest % 128) | 128);
  return Uint8Array.from([...out, rest]);
}

function malform(random: SeededRandom, { seeds, seal }: Decoder): Uint8Array {
  const bytes = mutate(random, pick(random, seeds), seeds);
  return seal !== undefined && random.chance(0.7) ? seal(bytes) : bytes;
}

function targetOf(decoder: Decoder): Target {
  return {
    name: decoder.name,
    share: decoder.share,
    async open() {
      for (const bytes of decoder.seeds) decoder.decode(bytes);
      return {
        run(random) {
          const bytes = malform(random, decoder);
          try {
            decoder.decode(bytes);
            return { frames: 1, accepted: 1 };
          } catch (error) {
            expected(error, decoder.codes, bytes);
            return { frames: 1, accepted: 0 };
          }
        },
        async close() {},
      };
    },
  };
}

export const decoderTargets: readonly Target[] = decoders.map(targetOf);
