/**
 * The bytes between a shim and its node (protocols/shim.md): one request, then frames both ways.
 *
 * Parses what a shim sends, within bounds, and builds the node's replies. It does not know sockets.
 */
import { concatBytes } from "../base/bytes.ts";

/** What a shim asks. */
export interface ShimRequest {
  readonly pid: number;
  readonly umask: number;
  readonly stderrIsTty: boolean;
  /** The user asked for colours although the compiler may not write to a terminal itself. */
  readonly wantsColour: boolean;
  readonly build: string;
  readonly cwd: string;
  readonly compiler: string;
  readonly args: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  /** Some argument or path is not UTF-8: the strings above are for people only. */
  readonly inexact: boolean;
}

/** What the real compiler printed. */
export interface ShimOutput {
  readonly stdout: Uint8Array;
  readonly stderr: Uint8Array;
}

/** What the real compiler did in the shim's hands. */
export interface ShimRun {
  /** 0 to 255; 128 + n when killed by signal n. */
  readonly exitCode: number;
  readonly wallMs: number;
  /** User + system time of the compiler and everything it started. */
  readonly cpuMs: number;
  /**
   * All that it printed. Undefined when nobody asked for it, when it was more than
   * `captureMaxBytes`, when a signal ended the compiler, and when the shim could not tell it all.
   */
  readonly output: ShimOutput | undefined;
}

export type ShimFrame =
  | { readonly type: "ping" }
  /** `waits`: the shim does not end, and its build does not go on, before it is released. */
  | { readonly type: "done"; readonly run: ShimRun; readonly waits: boolean };

/** A parser never throws: after `bad`, the connection is of no use. */
export type Parsed<T> =
  | { readonly at: "more" }
  | { readonly at: "bad"; readonly reason: string }
  | { readonly at: "value"; readonly value: T };

export const requestMaxBytes: number = 8 * 1024 * 1024;
/** Room for what may arrive together with the end of a request: frames, which are tiny. */
const slackBytes = 1024 * 1024;
/** Largest piece of output in one `write` frame. */
export const writeMaxBytes: number = 256 * 1024;
/** Longest output that a shim tells, both streams together. */
export const captureMaxBytes: number = 1024 * 1024;
const argsMax = 1_000_000;
export const prologueBytes: number = 12;
const countsBytes = 20;
export const frameHeaderBytes: number = 5;
export const magic: number = 0x4853454d; // "MESH", little-endian
export const version: number = 2;
export const flagStderrTty: number = 1;
export const flagWantsColour: number = 2;
/** RUN: the node wants to know the output. */
export const flagCapture: number = 1;
/** DONE: the output follows; the shim waits for FREE. */
export const flagCaptured: number = 1;
export const flagWaits: number = 2;
/** Before the output in DONE. */
const doneHeadBytes: number = 24;
/** The first byte of every frame. */
export const frameType = {
  run: 0x01,
  write: 0x02,
  exit: 0x03,
  stop: 0x04,
  pong: 0x05,
  free: 0x06,
  ping: 0x10,
  done: 0x11,
};

/** Puts pieces together without copying what came before each time. Bounded by its callers. */
interface Pieces {
  readonly sizeBytes: number;
  push(bytes: Uint8Array): void;
  /** All bytes so far as one array; cheap when called again. */
  joined(): Uint8Array;
  drop(count: number): void;
}

function createPieces(): Pieces {
  let pieces: Uint8Array[] = [];
  let sizeBytes = 0;
  const joined = (): Uint8Array => {
    const all = pieces.length === 0 ? new Uint8Array(0) : concatBytes(pieces);
    pieces = all.byteLength === 0 ? [] : [all];
    return all;
  };
  return {
    get sizeBytes() {
      return sizeBytes;
    },
    push(bytes) {
      sizeBytes += bytes.byteLength;
      if (bytes.byteLength > 0) pieces.push(bytes);
    },
    joined,
    drop(count) {
      const rest = joined().subarray(count);
      pieces = rest.byteLength === 0 ? [] : [rest];
      sizeBytes = rest.byteLength;
    },
  };
}

/** Reads one connection: the request first, then frames. Holds at most one request of bytes. */
export interface ShimParser {
  push(bytes: Uint8Array): void;
  /** Call until it says `value`. */
  request(): Parsed<ShimRequest>;
  /** Call after the request, until it says `more`. */
  frame(): Parsed<ShimFrame>;
}

export function createShimParser(): ShimParser {
  const pieces = createPieces();
  let neededBytes = prologueBytes;
  let bad: string | undefined;
  const failed = <T>(reason: string): Parsed<T> => {
    bad = reason;
    pieces.drop(pieces.sizeBytes);
    return { at: "bad", reason };
  };
  return {
    push(bytes) {
      // After the end of a request nothing but small frames may come, so this is the whole bound.
      if (bad !== undefined) return;
      if (pieces.sizeBytes + bytes.byteLength > requestMaxBytes + slackBytes) {
        failed(`more than ${requestMaxBytes} bytes`);
      } else {
        pieces.push(bytes);
      }
    },
    request() {
      if (bad !== undefined) return { at: "bad", reason: bad };
      if (pieces.sizeBytes < neededBytes) return { at: "more" };
      const bytes = pieces.joined();
      const view = viewOf(bytes);
      if (view.getUint32(0, true) !== magic) return failed("not a shim");
      const theirs = view.getUint32(4, true);
      if (theirs !== version) return failed(`protocol version ${theirs}, not ${version}`);
      const bodyBytes = view.getUint32(8, true);
      if (bodyBytes > requestMaxBytes) return failed(`a request of ${bodyBytes} bytes`);
      neededBytes = prologueBytes + bodyBytes;
      if (pieces.sizeBytes < neededBytes) return { at: "more" };
      const value = parseBody(bytes.subarray(prologueBytes, neededBytes));
      if (typeof value === "string") return failed(value);
      pieces.drop(neededBytes);
      return { at: "value", value };
    },
    frame() {
      if (bad !== undefined) return { at: "bad", reason: bad };
      if (pieces.sizeBytes < frameHeaderBytes) return { at: "more" };
      const bytes = pieces.joined();
      const view = viewOf(bytes);
      const kind = view.getUint8(0);
      const sizeBytes = view.getUint32(1, true);
      if (!isPossible(kind, sizeBytes)) return failed(`frame type ${kind} of ${sizeBytes} bytes`);
      const end = frameHeaderBytes + sizeBytes;
      if (pieces.sizeBytes < end) return { at: "more" };
      const value: ShimFrame | string =
        kind === frameType.ping
          ? { type: "ping" }
          : parseDone(new Uint8Array(bytes.subarray(frameHeaderBytes, end)));
      if (typeof value === "string") return failed(value);
      pieces.drop(end);
      return { at: "value", value };
    },
  };
}

function isPossible(kind: number, sizeBytes: number): boolean {
  if (kind === frameType.ping) return sizeBytes === 0;
  if (kind !== frameType.done) return false;
  return sizeBytes >= doneHeadBytes && sizeBytes <= doneHeadBytes + captureMaxBytes;
}

/** @param payload is kept in part. @returns what is wrong with it */
function parseDone(payload: Uint8Array): ShimFrame | string {
  const view = viewOf(payload);
  const exitCode = view.getUint32(0, true);
  if (exitCode > 255) return "an impossible exit code";
  const flags = view.getUint32(16, true);
  const printed = payload.subarray(doneHeadBytes);
  const outBytes = view.getUint32(20, true);
  const captured = (flags & flagCaptured) !== 0;
  if (outBytes > printed.byteLength || (!captured && printed.byteLength > 0)) {
    return "an impossible length of output";
  }
  const output = captured
    ? { stdout: printed.subarray(0, outBytes), stderr: printed.subarray(outBytes) }
    : undefined;
  const run = {
    exitCode,
    wallMs: view.getUint32(8, true),
    cpuMs: view.getUint32(12, true),
    output,
  };
  return { type: "done", run, waits: (flags & flagWaits) !== 0 };
}

const exactText = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
const lenientText = new TextDecoder("utf-8", { ignoreBOM: true });

/** A request, or what is wrong with it. */
function parseBody(body: Uint8Array): ShimRequest | string {
  if (body.byteLength < countsBytes) return "a request without its counts";
  const view = viewOf(body);
  const argCount = view.getUint32(12, true);
  const envCount = view.getUint32(16, true);
  if (argCount > argsMax || envCount > argsMax) return "too many arguments";
  let offset = countsBytes;
  let inexact = false;
  // Undefined once a length points past the end; later reads then fail as well.
  const next = (): { readonly text: string; readonly exact: boolean } | undefined => {
    if (offset + 4 > body.byteLength) return undefined;
    const sizeBytes = view.getUint32(offset, true);
    const start = offset + 4;
    if (sizeBytes > body.byteLength - start) return undefined;
    offset = start + sizeBytes;
    const bytes = body.subarray(start, offset);
    try {
      return { text: exactText.decode(bytes), exact: true };
    } catch {
      return { text: lenientText.decode(bytes), exact: false };
    }
  };
  const texts: string[] = [];
  for (let i = 0; i < 3 + argCount; i += 1) {
    const string = next();
    if (string === undefined) return "a string past the end of the request";
    if (!string.exact || string.text.includes("\0")) inexact = true;
    texts.push(string.text);
  }
  const env = new Map<string, string>();
  for (let i = 0; i < envCount; i += 1) {
    const entry = next();
    if (entry === undefined) return "a string past the end of the request";
    const equals = entry.text.indexOf("=");
    // Entries that no program could look up, or that cannot be passed on as they are, are left out.
    if (equals < 1 || !entry.exact) continue;
    const name = entry.text.slice(0, equals);
    if (!env.has(name)) env.set(name, entry.text.slice(equals + 1));
  }
  if (offset !== body.byteLength) return "bytes after the end of the request";
  const flags = view.getUint32(8, true);
  const [build = "", cwd = "", compiler = "", ...args] = texts;
  return {
    pid: view.getUint32(0, true),
    umask: view.getUint32(4, true) & 0o777,
    stderrIsTty: (flags & flagStderrTty) !== 0,
    wantsColour: (flags & flagWantsColour) !== 0,
    build,
    cwd,
    compiler,
    args,
    env: Object.fromEntries(env),
    inexact,
  };
}

export function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** A frame: type, length, payload. */
export function encodeFrame(kind: number, payload: readonly Uint8Array[]): Uint8Array {
  let sizeBytes = 0;
  for (const part of payload) sizeBytes += part.byteLength;
  const header = new Uint8Array(frameHeaderBytes);
  header[0] = kind;
  viewOf(header).setUint32(1, sizeBytes, true);
  return concatBytes([header, ...payload]);
}

export function u32(value: number): Uint8Array {
  const bytes = new Uint8Array(4);
  viewOf(bytes).setUint32(0, value, true);
  return bytes;
}

/**
 * "Run the compiler": `extraArgs` (at most 64) come before the user's own. With `capture` the shim
 * tells what it printed.
 */
export function encodeRun(extraArgs: readonly string[], capture: boolean): Uint8Array {
  const encoder = new TextEncoder();
  const strings = extraArgs.flatMap((arg) => {
    const bytes = encoder.encode(arg);
    return [u32(bytes.byteLength), bytes];
  });
  const flags = capture ? flagCapture : 0;
  return encodeFrame(frameType.run, [u32(flags), u32(extraArgs.length), ...strings]);
}

/** "Show this now": at most `writeMaxBytes`. */
export function encodeWrite(fd: 1 | 2, bytes: Uint8Array): Uint8Array {
  return encodeFrame(frameType.write, [Uint8Array.of(fd), bytes]);
}

/** "Show this and end": in one frame, so that a build sees all of it or nothing. */
export function encodeExit(code: number, stdout: Uint8Array, stderr: Uint8Array): Uint8Array {
  return encodeFrame(frameType.exit, [Uint8Array.of(code), u32(stdout.byteLength), stdout, stderr]);
}

/** "Send the running compiler this signal." */
export function encodeStop(signalNumber: number): Uint8Array {
  return encodeFrame(frameType.stop, [Uint8Array.of(signalNumber)]);
}

export const pongFrame: Uint8Array = encodeFrame(frameType.pong, []);

/** "End now": to a shim that waits. */
export const freeFrame: Uint8Array = encodeFrame(frameType.free, []);
