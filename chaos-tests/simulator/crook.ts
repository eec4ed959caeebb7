/**
 * Peers that break the rules of stealing: a real node whose control frames are altered, dropped,
 * doubled or made up on their way out. What a crook says otherwise is true.
 *
 * One thing no crook does: put wrong bytes under their proper digest and sign for them. Members
 * trust each other that far (chaos-tests/README.md), so nobody could tell.
 */
import { create } from "@bufbuild/protobuf";
import { utf8 } from "../../src/base/bytes.ts";
import { digestOf } from "../../src/base/digest.ts";
import type { Clock, Network, Stream } from "../../src/host/host.ts";
import { sendMaxBytes } from "../../src/host/host.ts";
import {
  controlFrame,
  controlFrameMaxBytes,
  encodeLoad,
  splitLoad,
} from "../../src/peer/control-frames.ts";
import type { SeededRandom } from "../../src/sim/random.ts";
import { createFrameDecoder, encodeFrame, type Frame, frameOf } from "../../src/wire/frame.ts";
import {
  BeatSchema,
  StealGrantSchema,
  type TaskDone,
  TaskDoneSchema,
  TaskFailedSchema,
} from "../../src/wire/gen/mesh/v1/mesh_pb.ts";
import { decodeMessage, digestToProto, encodeMessage } from "../../src/wire/messages.ts";
import { createOverhearing } from "./overhear.ts";

export const trickNames = [
  "false-digest", // bytes that are not what their digest says
  "no-blob", // the digest of a blob that nobody has
  "silent", // never answers
  "hostage", // never answers, and says for ever that it is at it
  "twice", // answers twice, and once more later
  "replay", // answers with what it said about another task, or in an earlier attempt
  "claims", // answers for tasks that it does not hold
  "fails", // says at once that it failed at whatever it gets
  "frames", // drops, doubles and reorders what it says
] as const;

export type Trick = (typeof trickNames)[number];

export interface Tricks {
  /** The network of a host that plays whatever trick `trickOf` says, undefined for none. */
  around(network: Network, clock: Clock, trickOf: () => Trick | undefined): Network;
  /** How often each was played. */
  readonly done: ReadonlyMap<Trick, number>;
}

const controlProtocol = "/mesh/ctl/1";
const beatMs = 400;
const never = new AbortController().signal;
/** True answers that a crook has given, to be given again. */
const pastMax = 32;

export function createTricks(random: SeededRandom): Tricks {
  const done = new Map<Trick, number>();
  const note = (trick: Trick): void => void done.set(trick, (done.get(trick) ?? 0) + 1);

  function crooked(stream: Stream, clock: Clock, trickOf: () => Trick | undefined): Stream {
    const past: TaskDone[] = [];
    const hostages: { readonly task: string; readonly attempt: number; readonly running: true }[] =
      [];
    let delayed: Frame[] = [];
    let isBeating = false;

    function send(frames: readonly Frame[]): boolean {
      let more = true;
      for (const frame of frames) {
        const bytes = encodeFrame(frame);
        for (let cut = 0; cut < bytes.byteLength; cut += sendMaxBytes)
          more = stream.send(bytes.subarray(cut, cut + sendMaxBytes));
      }
      return more;
    }

    /** Out of turn: the stream may be over by then. */
    function blurt(frames: readonly Frame[]): void {
      try {
        send(frames);
      } catch {
        // Nobody is lied to.
      }
    }

    /** Never rejects. */
    async function beatForHostages(): Promise<void> {
      isBeating = true;
      while (hostages.length > 0 && trickOf() === "hostage") {
        blurt([messageFrame(controlFrame.beat, BeatSchema, { held: hostages })]);
        await clock.sleep(beatMs, never);
      }
      hostages.length = 0;
      isBeating = false;
    }

    function answerWith(trick: Trick, frame: Frame): readonly Frame[] {
      const answer = decodeMessage(TaskDoneSchema, frame.payload);
      const isFirst = past.length === 0;
      past.push(answer);
      if (past.length > pastMax) past.shift();
      switch (trick) {
        case "false-digest":
        case "no-blob": {
          if (answer.result?.outputFiles.length === 0) return [frame];
          note(trick);
          return [doneFrame(trick === "no-blob" ? withoutBlob(answer) : withFalseBytes(answer))];
        }
        case "silent":
          note(trick);
          return [];
        case "hostage": {
          note(trick);
          hostages.push({ task: answer.task, attempt: answer.attempt, running: true });
          if (!isBeating) void beatForHostages();
          return [];
        }
        case "twice":
          note(trick);
          delayed.push(frame);
          return [frame, frame];
        case "replay": {
          const old = past[random.below(past.length)];
          if (isFirst || old === undefined || couldPass(old, answer)) return [frame];
          note(trick);
          const { task, attempt } = answer;
          return [doneFrame(old), doneFrame({ ...old, task, attempt }), frame];
        }
        default:
          return [frame];
      }
    }

    /** What leaves instead of this frame. */
    function outgoing(trick: Trick, frame: Frame): readonly Frame[] {
      if (trick === "frames") return disordered(frame);
      if (frame.type === controlFrame.done) return answerWith(trick, frame);
      if (frame.type !== controlFrame.beat) return [frame];
      const late = delayed;
      delayed = [];
      return trick === "claims" ? [frame, ...claims()] : [...late, frame];
    }

    function disordered(frame: Frame): readonly Frame[] {
      const late = delayed;
      delayed = [];
      const lot = random.fraction();
      if (lot > 0.3) return [frame, ...late];
      note("frames");
      if (lot > 0.2) return [frame, frame, ...late];
      if (lot > 0.1) delayed = [frame];
      return late;
    }

    /** Answers for tasks of the same owner that it does not hold, or holds no more. */
    function claims(): readonly Frame[] {
      const old = past[random.below(past.length)];
      if (old === undefined || couldPass(old, undefined)) return [];
      note("claims");
      const [prefix, number] = old.task.split("-");
      const task = `${prefix}-${Math.max(1, Number(number) + random.below(9) - 4)}`;
      return [doneFrame({ ...old, task, attempt: 1 + random.below(3) })];
    }

    function failAll(frame: Frame): void {
      const { grants } = decodeMessage(StealGrantSchema, frame.payload);
      if (grants.length > 0) note("fails");
      blurt(
        grants.map(({ task, attempt }) =>
          messageFrame(controlFrame.failed, TaskFailedSchema, {
            task,
            attempt,
            code: ["io", "limit", "no-space"][random.below(3)] ?? "io",
            message: "it is too hard",
          }),
        ),
      );
    }

    const options = { frameMaxBytes: controlFrameMaxBytes };
    const out = createFrameDecoder(options);
    const incoming = createOverhearing(options);
    return {
      ...stream,
      send(bytes) {
        // Never begins in the middle of a frame.
        const trick = out.pendingBytes() === 0 ? trickOf() : undefined;
        if (trick === undefined && delayed.length === 0) {
          out.push(bytes, () => {});
          return stream.send(bytes);
        }
        const frames: Frame[] = [];
        out.push(bytes, (whole) => {
          for (const frame of apart(whole))
            if (trick === undefined) frames.push(frame, ...delayed.splice(0));
            else frames.push(...outgoing(trick, frame));
        });
        return send(frames);
      },
      receive(onBytes) {
        stream.receive((bytes) => {
          incoming.hear(bytes, (whole) => {
            const frame = apart(whole).at(-1) ?? whole;
            if (trickOf() === "fails" && frame.type === controlFrame.stealGrant) failAll(frame);
            if (trickOf() === "claims" && frame.type === controlFrame.closed && random.chance(0.5))
              blurt(claims());
          });
          onBytes(bytes);
        });
      },
    };
  }

  return {
    done,
    around: (network, clock, trickOf) => ({
      ...network,
      async open(peer, protocol, signal) {
        const stream = await network.open(peer, protocol, signal);
        return protocol === controlProtocol ? crooked(stream, clock, trickOf) : stream;
      },
      serve(protocol, onStream) {
        if (protocol !== controlProtocol) return network.serve(protocol, onStream);
        network.serve(protocol, (peer, stream) => onStream(peer, crooked(stream, clock, trickOf)));
      },
    }),
  };

  function withoutBlob(answer: TaskDone): TaskDone {
    const digest = digestToProto(digestOf(random.bytes(20)));
    return withOutputs(answer, (output) => ({ ...output, digest, contents: new Uint8Array() }));
  }

  function withFalseBytes(answer: TaskDone): TaskDone {
    return withOutputs(answer, (output) => {
      const contents = output.contents.byteLength > 0 ? output.contents.slice() : utf8("false");
      const at = random.below(contents.byteLength);
      contents[at] = (contents[at] ?? 0) ^ 1;
      return { ...output, contents };
    });
  }
}

/** A load that rides inside another message, and that message. */
function apart(frame: Frame): readonly Frame[] {
  const { load, rest } = splitLoad(frame);
  return load === undefined ? [rest] : [encodeLoad(load), rest];
}

type OutputFile = NonNullable<TaskDone["result"]>["outputFiles"][number];

function withOutputs(answer: TaskDone, change: (output: OutputFile) => OutputFile): TaskDone {
  const { result } = answer;
  if (result === undefined) return answer;
  return { ...answer, result: { ...result, outputFiles: result.outputFiles.map(change) } };
}

/** Whether it would be proper, though wrong: what nobody can tell is no trick worth playing. */
function couldPass({ result }: TaskDone, truth: TaskDone | undefined): boolean {
  const paths = (result?.outputFiles ?? []).map(({ path }) => path);
  // Every WebAssembly call writes there.
  if (paths.includes("/output")) return true;
  const wanted = truth?.result?.outputFiles.map(({ path }) => path) ?? [];
  return paths.length === 0 || paths.every((path) => wanted.includes(path));
}

function doneFrame(answer: TaskDone): Frame {
  return messageFrame(controlFrame.done, TaskDoneSchema, answer);
}

function messageFrame<S extends Parameters<typeof create>[0]>(
  type: number,
  schema: S,
  value: Parameters<typeof create<S>>[1],
): Frame {
  return frameOf(type, { payload: encodeMessage(schema, create(schema, value)) });
}
