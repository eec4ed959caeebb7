/**
 * One open file: all of its bytes in, all of its bytes out.
 *
 * It knows nothing about names, folders or what a failure means.
 */
import * as fs from "node:fs";
import { promisify } from "node:util";

// Calls with callbacks cost half of what `fs/promises` takes: no FileHandle is made.
const open = promisify(fs.open);
const close = promisify(fs.close);
const fstat = promisify(fs.fstat);

/**
 * How files are opened for reading. Not blocking: a named pipe that a task left where a file is
 * expected would otherwise hold this thread until somebody writes to it.
 */
export const toRead: number = fs.constants.O_RDONLY | fs.constants.O_NONBLOCK;

/** How files are created: never onto one that is there. */
export const createNew: number = fs.constants.O_WRONLY | fs.constants.O_CREAT | fs.constants.O_EXCL;

/** The longest piece that one read or write call is asked for: the kernel stops short of 2 GiB. */
const pieceMaxBytes = 2 ** 30;

export async function withFile<T>(
  path: string,
  flags: number,
  mode: number,
  use: (file: number) => Promise<T>,
): Promise<T> {
  const file = await open(path, flags, mode);
  let result: T;
  try {
    result = await use(file);
  } catch (error) {
    await close(file).catch(() => {});
    throw error;
  }
  // Not swallowed: network file systems report a full disk only here.
  await close(file);
  return result;
}

export async function readWhole(file: number): Promise<Uint8Array> {
  const sizeBytes = regularSize(await fstat(file));
  if (sizeBytes > 0) return readInto(file, allocate(sizeBytes), 0);
  // Empty, or one of the kernel's own files, which do not tell their size.
  const pieces: Uint8Array[] = [];
  for (let offset = 0; ; ) {
    const piece = await readInto(file, allocate(64 * 1024), offset);
    if (piece.byteLength === 0) return new Uint8Array(Buffer.concat(pieces));
    pieces.push(piece);
    offset += piece.byteLength;
  }
}

/** At most `lengthBytes` from `offset`: fewer where the file ends. */
export async function readRange(
  file: number,
  offset: number,
  lengthBytes: number,
): Promise<Uint8Array> {
  const sizeBytes = regularSize(await fstat(file));
  return readInto(file, allocate(Math.max(0, Math.min(lengthBytes, sizeBytes - offset))), offset);
}

/** Reads until `into` is full or the file ends. */
async function readInto(file: number, into: Uint8Array, offset: number): Promise<Uint8Array> {
  let done = 0;
  while (done < into.byteLength) {
    const wanted = Math.min(into.byteLength - done, pieceMaxBytes);
    const count = await readOnce(file, into, done, wanted, offset + done);
    if (count === 0) return into.subarray(0, done);
    done += count;
  }
  return into;
}

function readOnce(
  file: number,
  into: Uint8Array,
  at: number,
  lengthBytes: number,
  offset: number,
): Promise<number> {
  return new Promise((resolve, reject) => {
    fs.read(file, into, at, lengthBytes, offset, (error, count) =>
      error === null ? resolve(count) : reject(error),
    );
  });
}

/** Writes every byte; at `offset`, or where the file says when it is null. */
export async function writeAll(
  file: number,
  bytes: Uint8Array,
  offset: number | null,
): Promise<void> {
  let done = 0;
  while (done < bytes.byteLength) {
    const wanted = Math.min(bytes.byteLength - done, pieceMaxBytes);
    const start = done;
    done += await new Promise<number>((resolve, reject) => {
      const position = offset === null ? null : offset + start;
      fs.write(file, bytes, start, wanted, position, (error, count) =>
        error === null ? resolve(count) : reject(error),
      );
    });
  }
}

export function readWholeNow(path: string): Uint8Array {
  const file = fs.openSync(path, toRead);
  try {
    const sizeBytes = regularSize(fs.fstatSync(file));
    if (sizeBytes === 0) return new Uint8Array(fs.readFileSync(file));
    const into = allocate(sizeBytes);
    let done = 0;
    while (done < sizeBytes) {
      const count = fs.readSync(file, into, done, sizeBytes - done, done);
      if (count === 0) break;
      done += count;
    }
    return done === sizeBytes ? into : into.subarray(0, done);
  } finally {
    fs.closeSync(file);
  }
}

/** Memory of its own and not zeroed first: every byte handed out has been read into. */
function allocate(sizeBytes: number): Uint8Array {
  const buffer = Buffer.allocUnsafeSlow(sizeBytes);
  return new Uint8Array(buffer.buffer, buffer.byteOffset, sizeBytes);
}

/** Devices and pipes are refused: they may never end. */
function regularSize(found: fs.Stats): number {
  if (found.isFile()) return found.size;
  const code = found.isDirectory() ? "EISDIR" : "EINVAL";
  throw Object.assign(new Error("not a regular file"), { code });
}
