/**
 * Result records: what running an action gave, as bytes that say who vouches for it
 * (protocols/ac.md).
 *
 * A record is a signature and behind it a ResultRecord message. There is one way to write what it
 * says, and only that is read: whatever is longer, twice there or out of bounds is refused with its
 * reason. Nothing here knows where records are kept or who is asked for them.
 */
import { create } from "@bufbuild/protobuf";
import { utf8 } from "../base/bytes.ts";
import { type Digest, digestOf, hashHexOf } from "../base/digest.ts";
import { MeshError } from "../base/errors.ts";
import { asPeerId, type PeerId } from "../base/ids.ts";
import { type Signing, signatureBytes } from "../host/signing.ts";
import {
  RecordedOutputSchema,
  type ResultRecord,
  ResultRecordSchema,
} from "../wire/gen/mesh/v1/mesh_pb.ts";
import {
  decodeMessage,
  encodeMessage,
  packDigests,
  packedDigestBytes,
  unpackDigests,
} from "../wire/messages.ts";
import type { ActionOutcome, OutputBlob } from "./action.ts";

/** What a record says. The exit code of its outcome is 0. */
export interface Recorded {
  readonly action: Digest;
  readonly outcome: ActionOutcome;
  /** Who ran it. */
  readonly signer: PeerId;
  /** Whole, at most `runMaxMs`. */
  readonly runMs: number;
  readonly madeAtSeconds: number;
}

/** Who signs, and for which mesh. */
export interface RecordKeys {
  readonly signing: Signing;
  readonly tag: Uint8Array;
}

/** Signature included. A result of more is not recorded. */
export const recordMaxBytes: number = 128 * 1024;
export const recordOutputsMax: number = 4096;
const pathMaxBytes = 3072;
const signerMaxChars = 128;
const tagBytes = 32;
export const runMaxMs: number = 2 ** 32 - 1;

const context: Uint8Array = utf8("mesh/1 result record\0");

/** Behind the signature: the key and length of field 1, then the packed digest. */
const actionAt: number = signatureBytes + 2;
export const recordMinBytes: number = actionAt + packedDigestBytes;

/** What a mesh's records are signed with besides their bytes. Says nothing about the key. */
export function meshTagOf(meshKey: Uint8Array): Uint8Array {
  const text = `mesh/1 result records of ${Buffer.from(meshKey).toString("hex")}`;
  return Uint8Array.from(Buffer.from(hashHexOf(digestOf(utf8(text))), "hex"));
}

/** The tag of a node without a mesh: only the node itself takes such a record for right. */
export const loneTag: Uint8Array = new Uint8Array(tagBytes);

/**
 * Signs what this node ran. Codes: "limit" when it is too much for a record, "malformed" when no
 * record may name such outputs.
 */
export function writeRecord({ signing, tag }: RecordKeys, recorded: Recorded): Uint8Array {
  const { outcome } = recorded;
  if (outcome.exitCode !== 0) {
    throw new MeshError("limit", `a run that ended with ${outcome.exitCode} is not recorded`);
  }
  if (outcome.outputs.length > recordOutputsMax) {
    throw new MeshError("limit", `a result of more than ${recordOutputsMax} outputs`);
  }
  checkPaths(outcome.outputs);
  const message = encode(recorded);
  if (signatureBytes + message.byteLength > recordMaxBytes) {
    throw new MeshError("limit", `a result whose record has more than ${recordMaxBytes} bytes`);
  }
  const record = new Uint8Array(signatureBytes + message.byteLength);
  record.set(signing.sign(signedBytes(tag, message)));
  record.set(message, signatureBytes);
  return record;
}

/** Reads what a record says, whoever signed it. Code "malformed". */
export function readRecord(record: Uint8Array): Recorded {
  if (record.byteLength > recordMaxBytes || record.byteLength < recordMinBytes) {
    throw new MeshError("malformed", `a record of ${record.byteLength} bytes`);
  }
  const bytes = record.subarray(signatureBytes);
  const message = decodeMessage(ResultRecordSchema, bytes);
  if (message.outputs.length > recordOutputsMax) {
    throw new MeshError("malformed", `a record of more than ${recordOutputsMax} outputs`);
  }
  if (message.signer === "" || message.signer.length > signerMaxChars) {
    throw new MeshError("malformed", "a record that does not say who signed it");
  }
  const recorded = {
    action: digestIn(message.action),
    outcome: outcomeIn(message),
    signer: asPeerId(message.signer),
    runMs: message.runMs,
    madeAtSeconds: Number(message.madeAtSeconds),
  };
  // Unknown fields, doubled ones and other ways to write the same all come out here.
  if (Buffer.compare(encode(recorded), bytes) !== 0) {
    throw new MeshError("malformed", "a record that says more than it should, or otherwise");
  }
  return recorded;
}

/** Which action a record is about, without reading it. Undefined: it is no record. */
export function actionOfRecord(record: Uint8Array): Digest | undefined {
  if (record.byteLength < recordMinBytes || record.byteLength > recordMaxBytes) return undefined;
  if (record[signatureBytes] !== 10 || record[signatureBytes + 1] !== packedDigestBytes) {
    return undefined;
  }
  try {
    return digestIn(record.subarray(actionAt, actionAt + packedDigestBytes));
  } catch {
    return undefined;
  }
}

/** Whether `signer`, which the record names, did sign it, and for this mesh. */
export function isGenuine(
  { signing, tag }: RecordKeys,
  record: Uint8Array,
  signer: PeerId,
): boolean {
  const message = record.subarray(signatureBytes);
  const signature = record.subarray(0, signatureBytes);
  if (signing.isSigned(signer, signedBytes(tag, message), signature)) return true;
  // What this node found out before it joined a mesh.
  return (
    signer === signing.self && signing.isSigned(signer, signedBytes(loneTag, message), signature)
  );
}

function signedBytes(tag: Uint8Array, message: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(context.byteLength + tagBytes + message.byteLength);
  bytes.set(context);
  bytes.set(tag, context.byteLength);
  bytes.set(message, context.byteLength + tagBytes);
  return bytes;
}

function encode({ action, outcome, signer, runMs, madeAtSeconds }: Recorded): Uint8Array {
  return encodeMessage(
    ResultRecordSchema,
    create(ResultRecordSchema, {
      action: packDigests([action]),
      outputs: outcome.outputs.map(({ path, digest, executable }) =>
        create(RecordedOutputSchema, { path, digest: packDigests([digest]), executable }),
      ),
      stdout: packDigests([outcome.stdout]),
      stderr: packDigests([outcome.stderr]),
      runMs,
      signer,
      madeAtSeconds: BigInt(madeAtSeconds),
    }),
  );
}

function outcomeIn(message: ResultRecord): ActionOutcome {
  checkPaths(message.outputs);
  const outputs = message.outputs.map(
    ({ path, digest, executable }): OutputBlob => ({ path, digest: digestIn(digest), executable }),
  );
  const { stdout, stderr } = message;
  return { exitCode: 0, outputs, stdout: digestIn(stdout), stderr: digestIn(stderr) };
}

function digestIn(packed: Uint8Array): Digest {
  const [digest] = unpackDigests(packed, 1);
  if (digest === undefined) throw new MeshError("malformed", "a record without a digest");
  return digest;
}

function checkPaths(outputs: readonly { readonly path: string }[]): void {
  const paths = new Set<string>();
  for (const { path } of outputs) {
    if (!isNormalPath(path)) {
      throw new MeshError(
        "malformed",
        `a record of the output ${JSON.stringify(path.slice(0, 200))}, no absolute, normal path`,
      );
    }
    if (paths.has(path)) throw new MeshError("malformed", `a record of ${path}, twice`);
    paths.add(path);
  }
}

function isNormalPath(path: string): boolean {
  if (!path.startsWith("/") || path.length > pathMaxBytes || path.includes("\0")) return false;
  // Half a surrogate pair would be written as something else.
  if (Buffer.byteLength(path) > pathMaxBytes || !path.isWellFormed()) return false;
  return path
    .slice(1)
    .split("/")
    .every((part) => part !== "" && part !== "." && part !== "..");
}
