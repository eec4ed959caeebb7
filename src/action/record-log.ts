/**
 * Records on the disk: one file to which they are appended, in batches behind the tasks' backs.
 *
 * Each entry has a mark, a length and a checksum, so that a write cut short by a crash, or a
 * flipped bit, costs the entries it hit and no other. A disk that fails costs the memory of results
 * after a restart and nothing else. It does not know what a record says.
 */
import { join } from "node:path";
import { concatBytes } from "../base/bytes.ts";
import type { Digest } from "../base/digest.ts";
import { isMeshError, messageOf } from "../base/errors.ts";
import type { Emit } from "../base/events.ts";
import { temporaryPrefix } from "../host/disk.ts";
import type { Clock, Disk } from "../host/host.ts";
import { readU32, writeU32 } from "../wire/frame.ts";
import { packDigests, packedDigestBytes, unpackDigests } from "../wire/messages.ts";
import { recordMaxBytes } from "./record.ts";

export interface RecordLog {
  /** Appends a record, in a while. */
  add(record: Uint8Array, told: boolean): void;
  /** Notes that what was known of the action is of no use. */
  drop(action: Digest): void;
  /** Writes the file anew with what is live and nothing else; gives the bytes that it saves. */
  compact(): Promise<number>;
  /** Everything added so far is on the disk, as far as that is possible. Never rejects. */
  flush(): Promise<void>;
  /** Bytes of the file. */
  sizeBytes(): number;
}

export interface RecordLogDeps {
  readonly disk: Pick<
    Disk,
    "read" | "readRange" | "stat" | "list" | "append" | "writeAtomic" | "makeDirectory" | "remove"
  >;
  readonly clock: Clock;
  readonly emit: Emit;
  /** What a new file has to hold, the least recently used first. */
  readonly live: () => Iterable<{ readonly record: Uint8Array; readonly told: boolean }>;
  readonly liveBytes: () => number;
}

/** What start finds, in the order it was written. */
export interface LogListener {
  readonly onRecord: (record: Uint8Array, told: boolean) => void;
  readonly onDropped: (action: Digest) => void;
}

/** What is added within this time is written together. */
const pauseMs = 200;
/** Waits to be written at most; more is not written at all, and forgotten at a restart. */
const pendingMaxBytes = 8 * 1024 * 1024;
/** The file is written anew once it holds this much besides twice what is live. */
const wasteMaxBytes = 4 * 1024 * 1024;
/** Of a file that is longer only this much of its end is read. */
const readMaxBytes = 128 * 1024 * 1024;

const headerBytes = 12;
/** Then the kind; so that after damage the next entry can be found. */
const mark: Uint8Array = Uint8Array.from([0xa5, 0x6d, 0x72]);
const kinds = { own: 0x6f, told: 0x74, dropped: 0x78 } as const;

/**
 * Opens the log in `directory`. Never fails for what is on the disk or what the disk does: a log
 * that cannot be read is an empty one, and said to be so.
 */
export async function openRecordLog(
  deps: RecordLogDeps,
  directory: string,
  listener: LogListener,
  signal: AbortSignal,
): Promise<RecordLog> {
  const { disk, clock } = deps;
  const path = join(directory, "log");
  const say = (message: string): void => deps.emit({ event: "log", level: "warn", message });
  let fileBytes = await readLog(disk, directory, path, listener, say);
  let pending: Uint8Array[] = [];
  let pendingBytes = 0;
  let hasFolder = fileBytes > 0;
  let isDue = false;
  let hasSaid = false;
  let last: Promise<unknown> = Promise.resolve();

  /** One thing at a time; what goes wrong is said once and never thrown. */
  function inTurn<T>(run: () => Promise<T>, otherwise: T): Promise<T> {
    const next = last.then(run).catch((error: unknown) => {
      if (!isMeshError(error)) throw error;
      if (!hasSaid) say(`known results are not written to the disk: ${messageOf(error)}`);
      hasSaid = true;
      return otherwise;
    });
    last = next;
    return next;
  }

  async function append(): Promise<void> {
    if (pending.length === 0) return;
    const bytes = concatBytes(pending);
    pending = [];
    pendingBytes = 0;
    if (!hasFolder) await disk.makeDirectory(directory);
    hasFolder = true;
    // Also what a failed write left behind counts.
    fileBytes += bytes.byteLength;
    await disk.append(path, bytes);
    hasSaid = false;
    if (fileBytes > 2 * deps.liveBytes() + wasteMaxBytes) await rewrite();
  }

  async function rewrite(): Promise<number> {
    const entries = [...deps.live()].map(({ record, told }) =>
      entryOf(told ? "told" : "own", record),
    );
    pending = [];
    pendingBytes = 0;
    const bytes = concatBytes(entries);
    await disk.makeDirectory(directory);
    // Synced, unlike what is appended: what was safe already must not be lost by tidying up.
    await disk.writeAtomic(path, bytes, { mode: 0o600, sync: true });
    const savedBytes = Math.max(0, fileBytes - bytes.byteLength);
    fileBytes = bytes.byteLength;
    return savedBytes;
  }

  function put(entry: Uint8Array): void {
    if (pendingBytes + entry.byteLength > pendingMaxBytes) return;
    pending.push(entry);
    pendingBytes += entry.byteLength;
    if (isDue) return;
    isDue = true;
    void writeSoon();
  }

  async function writeSoon(): Promise<void> {
    // An abort only ends the wait.
    await clock.sleep(pauseMs, signal).catch(() => {});
    isDue = false;
    await inTurn(append, undefined);
  }

  return {
    add: (record, told) => put(entryOf(told ? "told" : "own", record)),
    drop: (action) => put(entryOf("dropped", packDigests([action]))),
    compact: () => inTurn(rewrite, 0),
    flush: () => inTurn(append, undefined),
    sizeBytes: () => fileBytes,
  };
}

/** @returns the length of the file. */
async function readLog(
  disk: RecordLogDeps["disk"],
  directory: string,
  path: string,
  listener: LogListener,
  say: (message: string) => void,
): Promise<number> {
  try {
    for (const { name } of (await disk.list(directory)) ?? []) {
      if (name.startsWith(temporaryPrefix)) await disk.remove(join(directory, name));
    }
    const stat = await disk.stat(path);
    if (stat === undefined) return 0;
    const { sizeBytes } = stat;
    const from = Math.max(0, sizeBytes - readMaxBytes);
    const bytes = from > 0 ? await disk.readRange(path, from, readMaxBytes) : await disk.read(path);
    const damagedBytes = readEntries(bytes, listener);
    if (damagedBytes > 0) {
      say(`${damagedBytes} bytes of ${path} were cut short or damaged; the results there are lost`);
    }
    return sizeBytes;
  } catch (error) {
    if (!isMeshError(error)) throw error;
    say(`no result of earlier builds is known: ${messageOf(error)}`);
    return 0;
  }
}

/** Hands over every whole entry. @returns the bytes that belong to none. */
export function readEntries(bytes: Uint8Array, listener: LogListener): number {
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let damagedBytes = 0;
  let at = 0;
  while (at < bytes.byteLength) {
    const end = endOfEntry(bytes, at);
    if (
      end !== undefined &&
      hear(bytes[at + mark.byteLength], bytes.subarray(at + headerBytes, end), listener)
    ) {
      at = end;
      continue;
    }
    const next = buffer.indexOf(mark, at + 1);
    const skipTo = next < 0 ? bytes.byteLength : next;
    damagedBytes += skipTo - at;
    at = skipTo;
  }
  return damagedBytes;
}

/** Undefined when no whole entry begins there. */
function endOfEntry(bytes: Uint8Array, at: number): number | undefined {
  if (mark.some((byte, index) => bytes[at + index] !== byte)) return undefined;
  const payloadBytes = readU32(bytes, at + 4);
  const end = at + headerBytes + payloadBytes;
  if (payloadBytes > recordMaxBytes || end > bytes.byteLength) return undefined;
  const kind = bytes[at + mark.byteLength] ?? 0;
  const payload = bytes.subarray(at + headerBytes, end);
  return readU32(bytes, at + 8) === checksumOf(kind, payload) ? end : undefined;
}

/** False: no entry of ours looks like this. */
function hear(kind: number | undefined, payload: Uint8Array, listener: LogListener): boolean {
  if (kind === kinds.own || kind === kinds.told) {
    listener.onRecord(payload, kind === kinds.told);
    return true;
  }
  if (kind !== kinds.dropped || payload.byteLength !== packedDigestBytes) return false;
  try {
    for (const action of unpackDigests(payload, 1)) listener.onDropped(action);
    return true;
  } catch (error) {
    if (isMeshError(error, "malformed")) return false;
    throw error;
  }
}

function entryOf(kind: keyof typeof kinds, payload: Uint8Array): Uint8Array {
  const entry = new Uint8Array(headerBytes + payload.byteLength);
  entry.set(mark);
  entry[mark.byteLength] = kinds[kind];
  writeU32(entry, 4, payload.byteLength);
  writeU32(entry, 8, checksumOf(kinds[kind], payload));
  entry.set(payload, headerBytes);
  return entry;
}

/** FNV-1a: only chance is to be found out here; against intent there are the signatures. */
function checksumOf(kind: number, payload: Uint8Array): number {
  let hash = Math.imul(0x811c9dc5 ^ kind, 0x01000193);
  for (let at = 0; at < payload.byteLength; at += 1) {
    hash = Math.imul(hash ^ (payload[at] ?? 0), 0x01000193);
  }
  return (hash ^ payload.byteLength) >>> 0;
}
