/**
 * Right messages of every protocol, to start from: the golden vectors, and what the product's own
 * writers make where there are none.
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { packRecords } from "../../src/action/ac.ts";
import type { ActionSpec, EncodedAction } from "../../src/action/action.ts";
import { encodeAction } from "../../src/action/encode.ts";
import { type Recorded, type RecordKeys, writeRecord } from "../../src/action/record.ts";
import { utf8 } from "../../src/base/bytes.ts";
import { digestOf, emptyDigest } from "../../src/base/digest.ts";
import { blk, packIndexes, packRange } from "../../src/blob/blk.ts";
import { identityOf } from "../../src/host/network-identity.ts";
import { createSigning, type Signing } from "../../src/host/signing.ts";
import { createFrameDecoder, type Frame, frameOf } from "../../src/wire/frame.ts";
import { packDigests } from "../../src/wire/messages.ts";

const vectors = join(import.meta.dirname, "../../protocols/vectors");

export function vectorFile(name: string): unknown {
  return JSON.parse(readFileSync(join(vectors, `${name}.json`), "utf8"));
}

export function bytesOfHex(hex: string): Uint8Array {
  return Uint8Array.from(Buffer.from(hex, "hex"));
}

/** The golden frames of a protocol. */
export function goldenFrames(name: "hello" | "ctl" | "ac"): readonly [Frame, ...Frame[]] {
  const { frames } = vectorFile(name) as { readonly frames: readonly { readonly frame: string }[] };
  const decoded: Frame[] = [];
  for (const { frame } of frames) {
    const decoder = createFrameDecoder({ frameMaxBytes: 2 ** 20 });
    decoder.push(bytesOfHex(frame), (one) => void decoded.push(one));
  }
  const [first, ...rest] = decoded;
  if (first === undefined) throw new Error(`no golden frames in ${name}.json`);
  return [first, ...rest];
}

export function goldenTrees(): readonly Uint8Array[] {
  const trees = vectorFile("tree") as readonly { readonly treeHex: string }[];
  return trees.map(({ treeHex }) => bytesOfHex(treeHex));
}

const inputs = Array.from({ length: 6 }, (_, index) => utf8(`int f${index}(void);\n`));

/** An action with a bit of everything. */
export const spec: ActionSpec = {
  argv: ["/usr/bin/cc", "-c", "/w/a.c", "-o", "/w/a.o"],
  env: { LANG: "C", PATH: "/usr/bin" },
  cwd: "/w",
  outputPaths: ["/w/a.d", "/w/a.o"],
  inputs: [
    ...inputs.map((bytes, index) => ({
      kind: "file" as const,
      path: `/w/${"d/".repeat(index % 3)}f${index}.h`,
      digest: digestOf(bytes),
      executable: index % 2 === 0,
    })),
    { kind: "symlink", path: "/w/link", target: "d/f1.h" },
    { kind: "directory", path: "/w/empty" },
  ],
  platform: { platform: "linux/x86_64" },
  timeoutMs: 60_500,
};
export const action: EncodedAction = encodeAction(spec);

export const signing: Signing = createSigning(identityOf(new Uint8Array(32).fill(1)));
export const keys: RecordKeys = { signing, tag: new Uint8Array(32).fill(7) };
export const recorded: Recorded = {
  action: action.digest,
  outcome: {
    exitCode: 0,
    outputs: spec.outputPaths.map((path) => ({
      path,
      digest: digestOf(utf8(path)),
      executable: false,
    })),
    stdout: emptyDigest,
    stderr: digestOf(utf8("a warning")),
  },
  signer: signing.self,
  runMs: 1234,
  madeAtSeconds: 1_800_000_000,
};
export const record: Uint8Array = writeRecord(keys, recorded);

const someDigests = packDigests([...inputs.map((bytes) => digestOf(bytes)), action.tree]);

/** What a requester may send on a blob stream. */
export const blkQuestions: readonly [Frame, ...Frame[]] = [
  frameOf(blk.want, { requestId: 1, payload: someDigests }),
  frameOf(blk.range, {
    requestId: 2,
    payload: packRange({ digest: action.tree, offset: 0, lengthBytes: 8 }),
  }),
  frameOf(blk.credit, { aux: 65_536 }),
  frameOf(blk.cancel, { requestId: 1, payload: packIndexes([0, 2]) }),
];

/** What a provider may answer. */
export const blkAnswers: readonly [Frame, ...Frame[]] = [
  frameOf(blk.blob, { requestId: 1, payload: inputs[0] ?? new Uint8Array() }),
  frameOf(blk.piece, { requestId: 2, payload: action.treeBytes }),
  frameOf(blk.miss, { requestId: 1, payload: packIndexes([0]) }),
];

export const recordList: Uint8Array = packRecords([record, record])[0] ?? new Uint8Array();
