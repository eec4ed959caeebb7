/**
 * The messages of `/mesh/ctl/1` as frames (protocols/ctl.md): numbers, bounds, and both directions.
 *
 * Knows nothing about peers or streams. Text in messages is bounded here, so that nobody behind
 * this has to think of it.
 */
import { create, type DescMessage, type MessageShape } from "@bufbuild/protobuf";
import { concatBytes } from "../base/bytes.ts";
import { MeshError } from "../base/errors.ts";
import { type Frame, frameOf, optionalFlag } from "../wire/frame.ts";
import {
  BeatSchema,
  CancelSchema,
  type Grant,
  type Load,
  LoadSchema,
  type StealGrant,
  StealGrantSchema,
  type StealRequest,
  StealRequestSchema,
  TaskClosedSchema,
  TaskDoneSchema,
  TaskFailedSchema,
  TaskProgressSchema,
} from "../wire/gen/mesh/v1/mesh_pb.ts";
import { decodeMessage, encodeMessage } from "../wire/messages.ts";
import type { ControlMessage } from "./control.ts";

export interface ControlFrameTypes {
  readonly load: 1;
  readonly stealRequest: 2;
  readonly stealGrant: 3;
  readonly beat: 4;
  readonly progress: 5;
  readonly done: 6;
  readonly failed: 7;
  readonly closed: 8;
  readonly cancel: 9;
  readonly ping: 10;
  readonly pong: 11;
  readonly lifeline: 12;
}

export const controlFrame: ControlFrameTypes = {
  load: 1,
  stealRequest: 2,
  stealGrant: 3,
  beat: 4,
  progress: 5,
  done: 6,
  failed: 7,
  closed: 8,
  cancel: 9,
  ping: 10,
  pong: 11,
  lifeline: 12,
};

/** Names for counters, by frame type. */
export const controlNames: ReadonlyMap<number, string> = new Map(
  Object.entries(controlFrame).map(([name, type]: [string, number]) => [type, name]),
);
export const controlTypes: ReadonlySet<number> = new Set(controlNames.keys());

/** Grants carry small blobs inline. */
export const controlFrameMaxBytes: number = 1024 * 1024;

/** Tasks in one grant. */
export const grantsMax: number = 256;

const taskMaxChars = 128;
const textMaxChars = 4096;
const heldMax = 4096;
const outputsMax = 4096;
const platformsMax = 64;
const holdsMaxBytes = 640;

export function encodeLoad(load: Omit<Load, "$typeName" | "$unknown">): Frame {
  return frameWith(controlFrame.load, LoadSchema, create(LoadSchema, load));
}

export function decodeLoad(frame: Frame): Load {
  return decodeMessage(LoadSchema, frame.payload);
}

/** The same frame with a load in front of its payload; `aux` says how many bytes of it. */
export function withLoad(frame: Frame, load: Uint8Array): Frame {
  return { ...frame, aux: load.byteLength, payload: concatBytes([load, frame.payload]) };
}

/** Undoes `withLoad`. @throws MeshError "malformed" */
export function splitLoad(frame: Frame): { readonly load: Load | undefined; readonly rest: Frame } {
  const { aux, payload } = frame;
  if (aux === 0) return { load: undefined, rest: frame };
  check(aux <= payload.byteLength, "a load");
  return {
    load: decodeMessage(LoadSchema, payload.subarray(0, aux)),
    rest: { ...frame, aux: 0, payload: payload.subarray(aux) },
  };
}

export function encodeStealRequest(request: StealRequest): Uint8Array {
  return encodeMessage(StealRequestSchema, request);
}

export function decodeStealRequest(frame: Frame): StealRequest {
  const request = decodeMessage(StealRequestSchema, frame.payload);
  check(request.platforms.length <= platformsMax, "a steal request");
  check(
    request.platforms.every((platform) => platform.length <= taskMaxChars),
    "a steal request",
  );
  check(request.holds.byteLength <= holdsMaxBytes, "a steal request");
  return request;
}

/** As many of the grants as one message holds, encoded, and those that it does not. */
export function fitGrant(grant: StealGrant): {
  readonly payload: Uint8Array;
  readonly tooMany: readonly Grant[];
} {
  const grants = grant.grants.slice(0, grantsMax);
  const tooMany = grant.grants.slice(grantsMax);
  let payload = encodeGrant({ ...grant, grants });
  while (payload.byteLength > controlFrameMaxBytes) {
    const last = grants.pop();
    if (last !== undefined) tooMany.push(last);
    payload = encodeGrant({ ...grant, grants });
  }
  return { payload, tooMany };
}

function encodeGrant(grant: StealGrant): Uint8Array {
  const grants = grant.grants.map((one) =>
    one.label.length > textMaxChars ? { ...one, label: one.label.slice(0, textMaxChars) } : one,
  );
  return encodeMessage(StealGrantSchema, { ...grant, grants });
}

export function decodeGrant(frame: Frame): StealGrant {
  const grant = decodeMessage(StealGrantSchema, frame.payload);
  check(grant.grants.length <= grantsMax, "a grant");
  for (const { task, kind, label } of grant.grants) {
    checkTask(task);
    check(kind.length <= taskMaxChars && label.length <= textMaxChars, "a grant");
  }
  return grant;
}

/** A ping is answered at once; a peer too old to know it may skip it. */
export function pingFrame(requestId: number): Frame {
  return frameOf(controlFrame.ping, { requestId, flags: optionalFlag });
}

export function pongFrame(requestId: number): Frame {
  return frameOf(controlFrame.pong, { requestId, flags: optionalFlag });
}

export function encodeMessageFrame(message: ControlMessage): Frame {
  const { type, value } = message;
  switch (type) {
    case "beat":
      return frameWith(controlFrame.beat, BeatSchema, value);
    case "progress":
      return frameWith(controlFrame.progress, TaskProgressSchema, value);
    case "done":
      return frameWith(controlFrame.done, TaskDoneSchema, value);
    case "failed":
      return frameWith(controlFrame.failed, TaskFailedSchema, {
        ...value,
        message: value.message.slice(0, textMaxChars),
      });
    case "closed":
      return frameWith(controlFrame.closed, TaskClosedSchema, value);
    case "cancel":
      return frameWith(controlFrame.cancel, CancelSchema, value);
  }
}

/** Undefined when the frame is none of these. @throws MeshError "malformed" */
export function decodeMessageFrame(frame: Frame): ControlMessage | undefined {
  const message = messageIn(frame);
  if (message === undefined) return undefined;
  if (message.type === "beat") {
    check(message.value.held.length <= heldMax, "a beat");
    for (const { task } of message.value.held) checkTask(task);
    return message;
  }
  checkTask(message.value.task);
  if (message.type === "failed") {
    check(message.value.message.length <= textMaxChars, "a failure");
    check(message.value.code.length <= taskMaxChars, "a failure");
  }
  if (message.type === "progress") check(message.value.outputs.length <= outputsMax, "a progress");
  if (message.type === "done") check(message.value.result !== undefined, "an answer");
  return message;
}

function messageIn(frame: Frame): ControlMessage | undefined {
  const { payload } = frame;
  switch (frame.type) {
    case controlFrame.beat:
      return { type: "beat", value: decodeMessage(BeatSchema, payload) };
    case controlFrame.progress:
      return { type: "progress", value: decodeMessage(TaskProgressSchema, payload) };
    case controlFrame.done:
      return { type: "done", value: decodeMessage(TaskDoneSchema, payload) };
    case controlFrame.failed:
      return { type: "failed", value: decodeMessage(TaskFailedSchema, payload) };
    case controlFrame.closed:
      return { type: "closed", value: decodeMessage(TaskClosedSchema, payload) };
    case controlFrame.cancel:
      return { type: "cancel", value: decodeMessage(CancelSchema, payload) };
    default:
      return undefined;
  }
}

function frameWith<S extends DescMessage>(
  type: number,
  schema: S,
  message: MessageShape<S>,
): Frame {
  return frameOf(type, { payload: encodeMessage(schema, message) });
}

function checkTask(task: string): void {
  check(task.length > 0 && task.length <= taskMaxChars, "a task's name");
}

function check(sound: boolean, what: string): void {
  if (!sound) throw new MeshError("malformed", `it sent ${what} that is out of bounds`);
}
