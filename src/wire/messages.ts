/**
 * Messages and digests as bytes: the generated codec with our error codes, and both wire forms of
 * a digest.
 */
import type { DescMessage, MessageShape } from "@bufbuild/protobuf";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { type Digest, hashHexOf, makeDigest, sizeBytesOf } from "../base/digest.ts";
import { MeshError, messageOf } from "../base/errors.ts";
import { readU32, writeU32 } from "./frame.ts";
import {
  DigestSchema,
  type Digest as ProtoDigest,
} from "./gen/build/bazel/remote/execution/v2/remote_execution_pb.ts";

export function encodeMessage<S extends DescMessage>(
  schema: S,
  message: MessageShape<S>,
): Uint8Array {
  return toBinary(schema, message);
}

/** @throws MeshError "malformed" when the bytes are no such message. */
export function decodeMessage<S extends DescMessage>(
  schema: S,
  bytes: Uint8Array,
): MessageShape<S> {
  try {
    return fromBinary(schema, bytes);
  } catch (error) {
    throw new MeshError("malformed", `not a ${schema.typeName}: ${messageOf(error)}`, {
      cause: error,
    });
  }
}

export function digestToProto(digest: Digest): ProtoDigest {
  return create(DigestSchema, {
    hash: hashHexOf(digest),
    sizeBytes: BigInt(sizeBytesOf(digest)),
  });
}

/** @throws MeshError "malformed" when the field is absent or names nothing. */
export function digestFromProto(message: ProtoDigest | undefined): Digest {
  if (message === undefined) throw new MeshError("malformed", "a digest is missing");
  return digestFromParts(message.hash, Number(message.sizeBytes));
}

/** @throws MeshError "malformed" when these are no halves of a digest. */
export function digestFromParts(hashHex: string, sizeBytes: number): Digest {
  try {
    return makeDigest(hashHex, sizeBytes);
  } catch (error) {
    throw new MeshError("malformed", messageOf(error), { cause: error });
  }
}

/** A digest in lists on the wire: 32 bytes of hash, then the size as a little-endian u64. */
export const packedDigestBytes: number = 40;

export function packDigests(digests: readonly Digest[]): Uint8Array {
  const packed = Buffer.alloc(digests.length * packedDigestBytes);
  let at = 0;
  for (const digest of digests) {
    packed.write(hashHexOf(digest), at, "hex");
    const sizeBytes = sizeBytesOf(digest);
    writeU32(packed, at + 32, sizeBytes);
    writeU32(packed, at + 36, Math.floor(sizeBytes / 2 ** 32));
    at += packedDigestBytes;
  }
  return packed;
}

/** @throws MeshError "malformed" when it is no whole number of digests, or more than `maxDigests`. */
export function unpackDigests(packed: Uint8Array, maxDigests: number): readonly Digest[] {
  if (packed.byteLength % packedDigestBytes !== 0) {
    throw new MeshError("malformed", `${packed.byteLength} bytes are no list of digests`);
  }
  const count = packed.byteLength / packedDigestBytes;
  if (count > maxDigests) {
    throw new MeshError("malformed", `${count} digests in one list, the limit is ${maxDigests}`);
  }
  const buffer = Buffer.from(packed.buffer, packed.byteOffset, packed.byteLength);
  return Array.from({ length: count }, (_, index) => {
    const at = index * packedDigestBytes;
    const sizeBytes = readU32(packed, at + 32) + readU32(packed, at + 36) * 2 ** 32;
    return digestFromParts(buffer.toString("hex", at, at + 32), sizeBytes);
  });
}
