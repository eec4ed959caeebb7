/**
 * Directory and Tree messages as bytes, written and read by hand.
 *
 * The generated codec gives the same bytes (the tests hold both together) but takes several times
 * as long, and every compile encodes hundreds of files. Reading accepts only what writing makes:
 * fields in number order, shortest numbers, nothing unknown. So a directory has one byte form.
 */
import { type Digest, makeDigest, sizeBytesOf } from "../base/digest.ts";
import { MeshError } from "../base/errors.ts";
import { fieldBytes, numberBytes, writeHead, writeNumber, writeText } from "../wire/fields.ts";

/** One directory. Every list is sorted by `compareNames`, and no name stands twice. */
export interface FolderNode {
  readonly files: readonly FileNode[];
  readonly folders: readonly FolderLink[];
  readonly symlinks: readonly SymlinkNode[];
}

export interface FileNode {
  readonly name: string;
  readonly digest: Digest;
  readonly executable: boolean;
}

export interface FolderLink {
  readonly name: string;
  readonly digest: Digest;
}

export interface SymlinkNode {
  readonly name: string;
  readonly target: string;
}

/** `field << 3 | 2` (length-delimited) or `| 0` (number), as protobuf tags them. */
const tag = {
  field1: 0x0a,
  field2: 0x12,
  field3: 0x1a,
  size: 0x10,
  executable: 0x20,
} as const;

const hashTextBytes = 64;

/** A directory's canonical bytes. */
export function writeFolder({ files, folders, symlinks }: FolderNode): Uint8Array {
  const fileBytes = files.map(
    (file) => namedBytes(file.name, digestBytes(file.digest)) + (file.executable ? 2 : 0),
  );
  const folderBytes = folders.map((link) => namedBytes(link.name, digestBytes(link.digest)));
  const symlinkBytes = symlinks.map((link) =>
    namedBytes(link.name, Buffer.byteLength(link.target)),
  );
  let sizeBytes = 0;
  for (const inner of [...fileBytes, ...folderBytes, ...symlinkBytes])
    sizeBytes += fieldBytes(inner);

  const target = Buffer.allocUnsafe(sizeBytes);
  let at = 0;
  for (const [index, file] of files.entries()) {
    at = writeHead(target, at, tag.field1, fileBytes[index] ?? 0);
    at = writeText(target, at, tag.field1, file.name);
    at = writeDigest(target, at, file.digest);
    if (file.executable) {
      target[at] = tag.executable;
      target[at + 1] = 1;
      at += 2;
    }
  }
  for (const [index, link] of folders.entries()) {
    at = writeHead(target, at, tag.field2, folderBytes[index] ?? 0);
    at = writeText(target, at, tag.field1, link.name);
    at = writeDigest(target, at, link.digest);
  }
  for (const [index, link] of symlinks.entries()) {
    at = writeHead(target, at, tag.field3, symlinkBytes[index] ?? 0);
    at = writeText(target, at, tag.field1, link.name);
    at = writeText(target, at, tag.field2, link.target);
  }
  return target;
}

/** A Tree message around directories that are bytes already. */
export function writeTree(root: Uint8Array, children: readonly Uint8Array[]): Uint8Array {
  let sizeBytes = fieldBytes(root.byteLength);
  for (const child of children) sizeBytes += fieldBytes(child.byteLength);
  const target = Buffer.allocUnsafe(sizeBytes);
  let at = writeHead(target, 0, tag.field1, root.byteLength);
  target.set(root, at);
  at += root.byteLength;
  for (const child of children) {
    at = writeHead(target, at, tag.field2, child.byteLength);
    target.set(child, at);
    at += child.byteLength;
  }
  return target;
}

function namedBytes(name: string, innerBytes: number): number {
  return fieldBytes(Buffer.byteLength(name)) + fieldBytes(innerBytes);
}

function digestBytes(digest: Digest): number {
  const sizeBytes = sizeBytesOf(digest);
  return 2 + hashTextBytes + (sizeBytes === 0 ? 0 : 1 + numberBytes(sizeBytes));
}

function writeDigest(target: Buffer, at: number, digest: Digest): number {
  const start = writeHead(target, at, tag.field2, digestBytes(digest));
  const hashAt = writeHead(target, start, tag.field1, hashTextBytes);
  // A digest begins with its hash, so the first 64 characters are all that is wanted.
  target.write(digest, hashAt, hashTextBytes, "latin1");
  const sizeBytes = sizeBytesOf(digest);
  if (sizeBytes === 0) return hashAt + hashTextBytes;
  target[hashAt + hashTextBytes] = tag.size;
  return writeNumber(target, hashAt + hashTextBytes + 1, sizeBytes);
}

/** A part of a message that is being read. */
interface Cursor {
  readonly bytes: Buffer;
  at: number;
  readonly end: number;
}

function malformed(what: string): MeshError {
  return new MeshError("malformed", `a directory tree is malformed: ${what}`);
}

/** Cuts a Tree message into the bytes of its directories. @throws MeshError "malformed" */
export function readTree(
  treeBytes: Uint8Array,
  childrenMax: number,
): { readonly root: Uint8Array; readonly children: readonly Uint8Array[] } {
  const cursor = cursorOver(treeBytes);
  const root = readInner(cursor, tag.field1);
  if (root === undefined) throw malformed("it has no root");
  const children: Uint8Array[] = [];
  while (cursor.at < cursor.end) {
    const child = readInner(cursor, tag.field2);
    if (child === undefined) throw malformed(`unexpected field at byte ${cursor.at}`);
    if (children.length >= childrenMax) throw malformed(`more than ${childrenMax} directories`);
    children.push(rest(child));
  }
  return { root: rest(root), children };
}

/** Reads one directory. Names and order are not judged here. @throws MeshError "malformed" */
export function readFolder(folderBytes: Uint8Array): FolderNode {
  const cursor = cursorOver(folderBytes);
  const files = readAll(cursor, tag.field1, readFile);
  const folders = readAll(cursor, tag.field2, (inner) => ({
    name: readText(inner, tag.field1),
    digest: readDigest(inner),
  }));
  const symlinks = readAll(cursor, tag.field3, (inner) => ({
    name: readText(inner, tag.field1),
    target: readText(inner, tag.field2),
  }));
  if (cursor.at !== cursor.end) throw malformed(`unexpected field ${cursor.bytes[cursor.at]}`);
  return { files, folders, symlinks };
}

function readFile(inner: Cursor): FileNode {
  const name = readText(inner, tag.field1);
  const digest = readDigest(inner);
  if (inner.at === inner.end) return { name, digest, executable: false };
  if (inner.bytes[inner.at] !== tag.executable || inner.bytes[inner.at + 1] !== 1) {
    throw malformed("a file has an unexpected field");
  }
  inner.at += 2;
  return { name, digest, executable: true };
}

function readAll<T>(cursor: Cursor, field: number, read: (inner: Cursor) => T): readonly T[] {
  const all: T[] = [];
  for (;;) {
    const inner = readInner(cursor, field);
    if (inner === undefined) return all;
    all.push(read(inner));
    if (inner.at !== inner.end) throw malformed("a node has an unexpected field");
  }
}

function cursorOver(bytes: Uint8Array): Cursor {
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return { bytes: buffer, at: 0, end: buffer.byteLength };
}

function rest({ bytes, at, end }: Cursor): Uint8Array {
  return bytes.subarray(at, end);
}

/** The inside of the next field if it is `field`; the cursor moves behind it. */
function readInner(cursor: Cursor, field: number): Cursor | undefined {
  if (cursor.at >= cursor.end || cursor.bytes[cursor.at] !== field) return undefined;
  cursor.at += 1;
  const innerBytes = readNumber(cursor);
  const at = cursor.at;
  if (innerBytes > cursor.end - at) throw malformed("it is cut off");
  cursor.at += innerBytes;
  return { bytes: cursor.bytes, at, end: cursor.at };
}

function readNumber(cursor: Cursor): number {
  let value = 0;
  let scale = 1;
  for (let count = 0; count < 8; count += 1) {
    if (cursor.at >= cursor.end) throw malformed("it is cut off");
    const byte = cursor.bytes[cursor.at] ?? 0;
    cursor.at += 1;
    value += (byte & 127) * scale;
    if (byte < 128) {
      if (byte === 0 && count > 0) break;
      if (!Number.isSafeInteger(value)) break;
      return value;
    }
    scale *= 128;
  }
  throw malformed("a number is too large or not in its shortest form");
}

function readText(cursor: Cursor, field: number): string {
  const inner = readInner(cursor, field);
  if (inner === undefined) throw malformed(`field ${field >> 3} is missing`);
  const text = inner.bytes.toString("utf8", inner.at, inner.end);
  if (text.includes("\ufffd") && Buffer.compare(Buffer.from(text), rest(inner)) !== 0) {
    throw malformed("a name is not UTF-8");
  }
  return text;
}

function readDigest(cursor: Cursor): Digest {
  const inner = readInner(cursor, tag.field2);
  const hash = inner && readInner(inner, tag.field1);
  if (inner === undefined || hash === undefined) throw malformed("a digest is missing");
  const hashHex = hash.bytes.toString("latin1", hash.at, hash.end);
  let sizeBytes = 0;
  if (inner.at < inner.end && inner.bytes[inner.at] === tag.size) {
    inner.at += 1;
    sizeBytes = readNumber(inner);
    if (sizeBytes === 0) throw malformed("a size of zero is written out");
  }
  if (inner.at !== inner.end) throw malformed("a digest has an unexpected field");
  try {
    return makeDigest(hashHex, sizeBytes);
  } catch (error) {
    throw new MeshError("malformed", "a directory tree names no digest", { cause: error });
  }
}

/**
 * Order of names: by their UTF-8 bytes. That is the order of code points, which differs from
 * JavaScript's own only where a name holds characters beyond U+FFFF.
 */
export function compareNames(left: string, right: string): number {
  const shared = Math.min(left.length, right.length);
  for (let at = 0; at < shared; at += 1) {
    const a = left.charCodeAt(at);
    const b = right.charCodeAt(at);
    if (a === b) continue;
    // Halves of a pair (d800 to dfff) stand for code points above all single units.
    return (a >= 0xd800 ? shifted(a) : a) - (b >= 0xd800 ? shifted(b) : b);
  }
  return left.length - right.length;
}

function shifted(unit: number): number {
  return unit >= 0xe000 ? unit - 0x800 : unit + 0x2000;
}
