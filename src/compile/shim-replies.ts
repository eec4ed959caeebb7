/**
 * The shim's side of protocols/shim.md, as shim.c speaks it: for the Node shim, and for tests.
 */
import { concatBytes, textOf } from "../base/bytes.ts";
import {
  encodeFrame,
  flagCapture,
  flagCaptured,
  flagStderrTty,
  flagWaits,
  flagWantsColour,
  frameHeaderBytes,
  frameType,
  magic,
  prologueBytes,
  requestMaxBytes,
  type ShimRequest,
  type ShimRun,
  u32,
  version,
  viewOf,
} from "./shim-protocol.ts";

/** What the node answers. */
export type Reply =
  | { readonly type: "run"; readonly extraArgs: readonly string[]; readonly capture: boolean }
  | { readonly type: "write"; readonly fd: 1 | 2; readonly bytes: Uint8Array }
  | {
      readonly type: "exit";
      readonly code: number;
      readonly stdout: Uint8Array;
      readonly stderr: Uint8Array;
    }
  | { readonly type: "stop"; readonly signalNumber: number }
  | { readonly type: "free" }
  | { readonly type: "pong" };

/** A longer reply is trouble. */
const frameMaxBytes = 4 * 1024 * 1024;

export const pingFrame: Uint8Array = encodeFrame(frameType.ping, []);

/** "The compiler has ended": a signal counts as 128 + its number. */
export function encodeDone(run: ShimRun, waits: boolean): Uint8Array {
  const { exitCode, wallMs, cpuMs, output } = run;
  const signalNumber = exitCode > 128 ? exitCode - 128 : 0;
  const flags = (output === undefined ? 0 : flagCaptured) | (waits ? flagWaits : 0);
  const { stdout, stderr } = output ?? { stdout: new Uint8Array(0), stderr: new Uint8Array(0) };
  const head = [exitCode, signalNumber, wallMs, cpuMs, flags, stdout.byteLength].map(u32);
  return encodeFrame(frameType.done, [...head, stdout, stderr]);
}

/** The message that opens a connection. @returns undefined when it would be too long. */
export function encodeRequest(
  request: Omit<ShimRequest, "env" | "inexact"> & { readonly env: readonly string[] },
): Uint8Array | undefined {
  const encoder = new TextEncoder();
  const { build, cwd, compiler, args, env } = request;
  const strings = [build, cwd, compiler, ...args, ...env].flatMap((text) => {
    const bytes = encoder.encode(text);
    return [u32(bytes.byteLength), bytes];
  });
  const flags =
    (request.stderrIsTty ? flagStderrTty : 0) | (request.wantsColour ? flagWantsColour : 0);
  const counts = [request.pid, request.umask, flags, args.length, env.length].map(u32);
  const body = concatBytes([...counts, ...strings]);
  if (prologueBytes + body.byteLength > requestMaxBytes) return undefined;
  return concatBytes([u32(magic), u32(version), u32(body.byteLength), body]);
}

/** Takes whole replies from the front of `bytes`. After `bad`, the node is not to be trusted. */
export function readReplies(bytes: Uint8Array): {
  readonly replies: readonly Reply[];
  readonly rest: Uint8Array;
  readonly bad: boolean;
} {
  const replies: Reply[] = [];
  let rest = bytes;
  while (rest.byteLength >= frameHeaderBytes) {
    const view = viewOf(rest);
    const end = frameHeaderBytes + view.getUint32(1, true);
    if (end > frameHeaderBytes + frameMaxBytes) return { replies, rest, bad: true };
    if (rest.byteLength < end) break;
    const reply = readReply(view.getUint8(0), rest.subarray(frameHeaderBytes, end));
    if (reply === undefined) return { replies, rest, bad: true };
    replies.push(reply);
    rest = rest.subarray(end);
  }
  return { replies, rest, bad: false };
}

function readReply(kind: number, payload: Uint8Array): Reply | undefined {
  const view = viewOf(payload);
  const [first] = payload;
  if (kind === frameType.pong) return { type: "pong" };
  if (kind === frameType.free) return { type: "free" };
  if (kind === frameType.run) return readRun(payload);
  if (first === undefined) return undefined;
  if (kind === frameType.stop) return { type: "stop", signalNumber: first };
  if (kind === frameType.write && (first === 1 || first === 2)) {
    return { type: "write", fd: first, bytes: payload.subarray(1) };
  }
  if (kind !== frameType.exit || payload.byteLength < 5) return undefined;
  const outBytes = view.getUint32(1, true);
  if (outBytes > payload.byteLength - 5) return undefined;
  const stdout = payload.subarray(5, 5 + outBytes);
  return { type: "exit", code: first, stdout, stderr: payload.subarray(5 + outBytes) };
}

function readRun(payload: Uint8Array): Reply | undefined {
  const view = viewOf(payload);
  if (payload.byteLength < 8) return undefined;
  const flags = view.getUint32(0, true);
  if (flags > flagCapture) return undefined;
  const extraArgs: string[] = [];
  let offset = 8;
  for (let left = view.getUint32(4, true); left > 0; left -= 1) {
    if (offset + 4 > payload.byteLength) return undefined;
    const end = offset + 4 + view.getUint32(offset, true);
    if (end > payload.byteLength) return undefined;
    extraArgs.push(textOf(payload.subarray(offset + 4, end)));
    offset = end;
  }
  return { type: "run", extraArgs, capture: flags === flagCapture };
}
