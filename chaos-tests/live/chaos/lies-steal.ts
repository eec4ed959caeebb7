/** Lies of a thief: it takes tasks, and what it says of them is wrong, late, twice or nothing. */
import { randomBytes } from "node:crypto";
import { create } from "@bufbuild/protobuf";
import { emptyDigest, makeDigest } from "../../../src/base/digest.ts";
import type { PeerId } from "../../../src/base/ids.ts";
import { blk } from "../../../src/blob/blk.ts";
import type { ControlMessage } from "../../../src/peer/control.ts";
import {
  controlFrame,
  decodeGrant,
  decodeLoad,
  encodeMessageFrame,
  encodeStealRequest,
} from "../../../src/peer/control-frames.ts";
import { type Channel, createChannel } from "../../../src/wire/channel.ts";
import { frameOf } from "../../../src/wire/frame.ts";
import {
  ActionResultSchema,
  CommandSchema,
  OutputFileSchema,
} from "../../../src/wire/gen/build/bazel/remote/execution/v2/remote_execution_pb.ts";
import {
  BeatSchema,
  type Grant,
  StealRequestSchema,
  TaskDoneSchema,
  TaskFailedSchema,
} from "../../../src/wire/gen/mesh/v1/mesh_pb.ts";
import { decodeMessage, digestToProto, packedDigestBytes } from "../../../src/wire/messages.ts";
import type { LiarHooks, Lie } from "./liar-peer.ts";

type Answer = (grant: Grant, send: (message: ControlMessage) => void) => void;

const room = 4;
const native = "linux/x86_64";
const beatMs = 400;
const askMs = 150;
const runMs = 300;
const outputBytes = 5000;
const inlineBytes = 200;

interface Told {
  readonly contents?: Uint8Array;
  readonly paths?: readonly string[];
  readonly exitCode?: number;
  readonly attempt?: number;
}

/** An answer whose outputs have digests of no bytes that anybody has. */
function done(grant: Grant, told: Told = {}): ControlMessage {
  const { task } = grant;
  const { contents = new Uint8Array(), exitCode = 0, attempt = grant.attempt } = told;
  const paths = told.paths ?? outputsOf(grant);
  const sizeBytes = contents.byteLength > 0 ? contents.byteLength : outputBytes;
  const outputFiles = paths.map((path) => {
    const digest = digestToProto(makeDigest(randomBytes(32).toString("hex"), sizeBytes));
    return create(OutputFileSchema, { path, digest, contents });
  });
  const result = create(ActionResultSchema, {
    outputFiles,
    exitCode,
    stdoutDigest: digestToProto(emptyDigest),
    stderrDigest: digestToProto(emptyDigest),
  });
  const record = new Uint8Array(randomBytes(200));
  return { type: "done", value: create(TaskDoneSchema, { task, attempt, result, record }) };
}

function outputsOf({ command }: Grant): readonly string[] {
  return decodeMessage(CommandSchema, command).outputPaths;
}

function failed({ task, attempt }: Grant): ControlMessage {
  const value = create(TaskFailedSchema, { task, attempt, code: "io", message: "a lie" });
  return { type: "failed", value };
}

const answers: Readonly<Record<string, Answer>> = {
  /** Takes tasks and is not heard of again. */
  "steal-silence": () => {},
  "steal-wrong-bytes": (grant, send) =>
    send(done(grant, { contents: new Uint8Array(randomBytes(inlineBytes)) })),
  /** Names outputs that it has not got, or sends something else for; see `serveNoise`. */
  "steal-phantom": (grant, send) => send(done(grant)),
  "steal-unasked-output": (grant, send) => send(done(grant, { paths: ["/etc/passwd"] })),
  "steal-no-outputs": (grant, send) => send(done(grant, { paths: [] })),
  "steal-exit-code": (grant, send) => send(done(grant, { paths: [], exitCode: 1 })),
  "steal-twice": (grant, send) => {
    for (let count = 0; count < 3; count += 1) send(done(grant));
    for (let count = 0; count < 3; count += 1) send(failed(grant));
  },
  "steal-old-attempt": (grant, send) => {
    for (const attempt of [grant.attempt - 1, grant.attempt + 1, 0, 2 ** 31]) {
      send(done(grant, { attempt: Math.max(0, attempt) }));
    }
    send(failed(grant));
    // The lease is over now, and it answers all the same.
    for (let count = 0; count < 3; count += 1) send(done(grant));
  },
};

export const stealLies: Readonly<Record<string, Lie>> = {
  ...Object.fromEntries(
    Object.entries(answers).map(([name, answer]) => [
      name,
      { end: "borne" as const, hooks: { ...thief(answer, false), onBlobs: serveNoise } },
    ]),
  ),
  /** Says for ever that it is at it. */
  "steal-beats-only": { end: "borne", hooks: thief(() => {}, true) },
  /** No result in its answer: no thief that works says that. */
  "steal-no-result": {
    end: "refused",
    hooks: thief(({ task, attempt }, send) => {
      send({ type: "done", value: create(TaskDoneSchema, { task, attempt }) });
    }, false),
  },
};

/** Asks everybody for work all the time, and answers like this. */
function thief(answer: Answer, beatsOnly: boolean): LiarHooks {
  const held = new Map<Channel, Grant[]>();
  return {
    onControl(_peer: PeerId, channel: Channel) {
      held.set(channel, []);
      let asked = 0;
      const ask = setInterval(() => {
        asked += 1;
        const payload = encodeStealRequest(
          create(StealRequestSchema, { room, idle: room, platforms: [native, "wasm"] }),
        );
        channel.send(frameOf(controlFrame.stealRequest, { requestId: asked, payload }));
      }, askMs);
      const beat = setInterval(() => {
        const leases = (held.get(channel) ?? []).map(({ task, attempt }) => ({
          $typeName: "mesh.v1.Held" as const,
          task,
          attempt,
          running: true,
        }));
        const value = create(BeatSchema, { held: leases });
        if (leases.length > 0) channel.send(encodeMessageFrame({ type: "beat", value }));
      }, beatMs);
      void channel.ended.then(() => {
        clearInterval(ask);
        clearInterval(beat);
        held.delete(channel);
      });
    },
    onFrame(_peer, channel, frame) {
      if (frame.type === controlFrame.load) decodeLoad(frame);
      if (frame.type !== controlFrame.stealGrant) return;
      const send = (message: ControlMessage): void =>
        void channel.send(encodeMessageFrame(message));
      for (const grant of decodeGrant(frame).grants) {
        if (beatsOnly) held.get(channel)?.push(grant);
        else setTimeout(() => answer(grant, send), runMs);
      }
    },
  };
}

/** Answers every want with bytes, only not with the right ones. */
function serveNoise(_peer: PeerId, stream: Parameters<NonNullable<LiarHooks["onBlobs"]>>[1]): void {
  const bounds = { frameMaxBytes: 4 * 1024 * 1024, queueMaxBytes: 64 * 1024 * 1024 };
  const channel: Channel = createChannel(stream, bounds, ({ type, requestId, payload }) => {
    if (type !== blk.want) return;
    for (let index = 0; index < payload.byteLength / packedDigestBytes; index += 1) {
      const noise = new Uint8Array(randomBytes(outputBytes));
      channel.send(frameOf(blk.blob, { requestId, aux: index, payload: noise }));
    }
  });
}
