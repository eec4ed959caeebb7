/**
 * Action and Command messages as bytes, written by hand.
 *
 * The generated codec gives the same bytes (the tests hold both together), but every argument and
 * variable passes through several of its objects, and every compile makes one of each.
 */
import { type Digest, hashHexOf, sizeBytesOf } from "../base/digest.ts";
import { fieldBytes, numberBytes, writeHead, writeNumber, writeText } from "../wire/fields.ts";
import type { ActionSpec } from "./action.ts";

type Pair = readonly [name: string, value: string];

/** `field << 3 | 2` (length-delimited) or `| 0` (number), as protobuf tags them. */
const tag = {
  arguments: 0x0a,
  environmentVariables: 0x12,
  commandPlatform: 0x2a,
  workingDirectory: 0x32,
  outputPaths: 0x3a,
  commandDigest: 0x0a,
  inputRootDigest: 0x12,
  timeout: 0x32,
  actionPlatform: 0x52,
  hash: 0x0a,
  sizeBytes: 0x10,
  seconds: 0x08,
  nanos: 0x10,
  name: 0x0a,
  value: 0x12,
  properties: 0x0a,
} as const;

/** The canonical Command: pairs and output paths sorted, the working directory relative to `/`. */
export function writeCommand({ argv, env, cwd, outputPaths, platform }: ActionSpec): Uint8Array {
  const variables = sortedPairs(env);
  const properties = sortedPairs(platform);
  const place = cwd.slice(1);
  // The specification has them relative to the working directory. Ours may lie anywhere in
  // the root, so they stay absolute, which no relative path can be mistaken for.
  const outputs = [...new Set(outputPaths)].sort();
  const platformBytes = pairsBytes(properties);
  const target = Buffer.allocUnsafe(
    textsBytes(argv) +
      pairsBytes(variables) +
      fieldBytes(platformBytes) +
      optionalBytes(place) +
      textsBytes(outputs),
  );
  let at = 0;
  for (const text of argv) at = writeText(target, at, tag.arguments, text);
  at = writePairs(target, at, tag.environmentVariables, variables);
  at = writeHead(target, at, tag.commandPlatform, platformBytes);
  at = writePairs(target, at, tag.properties, properties);
  at = writeOptional(target, at, tag.workingDirectory, place);
  for (const text of outputs) at = writeText(target, at, tag.outputPaths, text);
  return target;
}

/** The canonical Action. */
export function writeAction(
  command: Digest,
  inputRoot: Digest,
  { platform, timeoutMs }: Pick<ActionSpec, "platform" | "timeoutMs">,
): Uint8Array {
  const properties = sortedPairs(platform);
  const platformBytes = pairsBytes(properties);
  const seconds = Math.floor(timeoutMs / 1000);
  const nanos = Math.round((timeoutMs % 1000) * 1e6);
  const timeoutBytes = countBytes(seconds) + countBytes(nanos);
  const target = Buffer.allocUnsafe(
    fieldBytes(digestBytes(command)) +
      fieldBytes(digestBytes(inputRoot)) +
      fieldBytes(timeoutBytes) +
      fieldBytes(platformBytes),
  );
  let at = writeDigest(target, 0, tag.commandDigest, command);
  at = writeDigest(target, at, tag.inputRootDigest, inputRoot);
  at = writeHead(target, at, tag.timeout, timeoutBytes);
  at = writeCount(target, at, tag.seconds, seconds);
  at = writeCount(target, at, tag.nanos, nanos);
  at = writeHead(target, at, tag.actionPlatform, platformBytes);
  writePairs(target, at, tag.properties, properties);
  return target;
}

function sortedPairs(pairs: Readonly<Record<string, string>>): readonly Pair[] {
  return Object.keys(pairs)
    .sort()
    .map((name) => [name, pairs[name] ?? ""]);
}

function textsBytes(texts: readonly string[]): number {
  return texts.reduce((sum, text) => sum + fieldBytes(Buffer.byteLength(text)), 0);
}

/** An empty text is not written, unless it is one of many. */
function optionalBytes(text: string): number {
  return text === "" ? 0 : fieldBytes(Buffer.byteLength(text));
}

function pairBytes([name, value]: Pair): number {
  return optionalBytes(name) + optionalBytes(value);
}

function pairsBytes(pairs: readonly Pair[]): number {
  return pairs.reduce((sum, pair) => sum + fieldBytes(pairBytes(pair)), 0);
}

function countBytes(value: number): number {
  return value === 0 ? 0 : 1 + numberBytes(value);
}

function digestBytes(digest: Digest): number {
  return fieldBytes(hashHexOf(digest).length) + countBytes(sizeBytesOf(digest));
}

function writeOptional(target: Buffer, at: number, field: number, text: string): number {
  return text === "" ? at : writeText(target, at, field, text);
}

function writeCount(target: Buffer, at: number, field: number, value: number): number {
  if (value === 0) return at;
  target[at] = field;
  return writeNumber(target, at + 1, value);
}

function writePairs(target: Buffer, at: number, field: number, pairs: readonly Pair[]): number {
  let next = at;
  for (const pair of pairs) {
    next = writeHead(target, next, field, pairBytes(pair));
    next = writeOptional(target, next, tag.name, pair[0]);
    next = writeOptional(target, next, tag.value, pair[1]);
  }
  return next;
}

function writeDigest(target: Buffer, at: number, field: number, digest: Digest): number {
  let next = writeHead(target, at, field, digestBytes(digest));
  next = writeText(target, next, tag.hash, hashHexOf(digest));
  return writeCount(target, next, tag.sizeBytes, sizeBytesOf(digest));
}
