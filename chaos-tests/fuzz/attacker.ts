/**
 * One member of the mesh that talks nonsense: it connects, says a good hello, and then misuses one
 * of the protocols. It counts what it said and notes where it was not sent away although it should
 * have been.
 */
import { create } from "@bufbuild/protobuf";
import { ac, acFrameMaxBytes, acProtocol, fromHome, toHome } from "../../src/action/ac.ts";
import { digestOf, emptyDigest } from "../../src/base/digest.ts";
import { isMeshError } from "../../src/base/errors.ts";
import type { PeerId } from "../../src/base/ids.ts";
import {
  blk,
  frameMaxBytes as blkFrameMaxBytes,
  blkProtocol,
  fromProvider,
  packIndexes,
  toProvider,
} from "../../src/blob/blk.ts";
import type { Host, Stream } from "../../src/host/host.ts";
import {
  controlFrame,
  controlFrameMaxBytes,
  controlTypes,
  decodeGrant,
  splitLoad,
} from "../../src/peer/control-frames.ts";
import { encodeHello, encodeKnown } from "../../src/peer/hello-message.ts";
import type { SeededRandom } from "../../src/sim/random.ts";
import { encodeFrame, type Frame, frameOf } from "../../src/wire/frame.ts";
import {
  BeatSchema,
  CancelSchema,
  LoadSchema,
  StealRequestSchema,
  TaskClosedSchema,
  TaskDoneSchema,
  TaskFailedSchema,
  TaskProgressSchema,
} from "../../src/wire/gen/mesh/v1/mesh_pb.ts";
import { digestToProto, encodeMessage, packDigests } from "../../src/wire/messages.ts";
import { burst } from "./channel.ts";
import { type FrameRules, type Nonsense, nonsense } from "./frames.ts";
import { grantMessage } from "./grants.ts";
import { type Line, lineOver } from "./line.ts";
import { pick } from "./mutate.ts";
import { blkAnswers, blkQuestions, goldenFrames, record, recordList } from "./seeds.ts";

/** What an attacker misuses. */
export const acts = ["hello", "control", "thief", "owner", "asker", "provider", "home"] as const;
export type Act = (typeof acts)[number];

export interface Report {
  readonly peer: PeerId;
  readonly act: Act;
  frames: number;
  /** It was admitted before it began. */
  met: boolean;
  /** The protocol in which a proper question came to nothing. */
  unanswered: string | undefined;
  /** A frame was sent after which the stream must end, and on which one. */
  fatal: { readonly line: Line; readonly why: string } | undefined;
}

export interface Victim {
  readonly self: PeerId;
  readonly addr: string;
  admitted(peer: PeerId): boolean;
}

const helloProtocol = "/mesh/hello/1";
const controlProtocol = "/mesh/ctl/1";
const forever = new AbortController().signal;
const sayMs = 1500;
const roundTripMs = 1;
const answerMs = 50;
type Ask = readonly [protocol: string, question: Frame, rules: FrameRules];
const helloRules: FrameRules = {
  seeds: goldenFrames("hello"),
  frameMaxBytes: 256 * 1024,
  known: new Set([1, 2, 3]),
};
const controlRules = {
  seeds: goldenFrames("ctl"),
  frameMaxBytes: controlFrameMaxBytes,
  known: controlTypes,
};
const askRules = { seeds: blkQuestions, frameMaxBytes: blkFrameMaxBytes, known: toProvider };
const acQuestions: readonly [Frame, ...Frame[]] = [
  frameOf(ac.lookup, { requestId: 1, payload: packDigests([digestOf(record), emptyDigest]) }),
  frameOf(ac.store, { payload: recordList }),
];
const acRules = { seeds: acQuestions, frameMaxBytes: acFrameMaxBytes, known: toHome };
const unknown = packDigests([digestOf(new Uint8Array(33))]);
/** Where to ask, a question that has an answer, and what else to say there. */
const asks: readonly [Ask, ...Ask[]] = [
  [blkProtocol, frameOf(blk.want, { requestId: 99, payload: unknown }), askRules],
  [acProtocol, frameOf(ac.lookup, { requestId: 99, payload: unknown }), acRules],
];

/** Begins at once; resolves when it has said what it had to say. Never rejects. */
export async function attack(
  host: Host,
  victim: Victim,
  act: Act,
  random: SeededRandom,
): Promise<Report> {
  const { network, clock } = host;
  const report: Report = {
    peer: network.self,
    act,
    frames: 0,
    met: false,
    unanswered: undefined,
    fatal: undefined,
  };
  const control = Promise.withResolvers<Line>();
  /** Where a frame claimed another length than it had: what follows there is read as its rest. */
  const lost = new Set<Line>();
  // The same in every hello of this connection: another would mean that it has begun anew.
  const session = BigInt(random.below(2 ** 30));

  /**
   * Says frames, some of them in one breath, until one of them should have ended the stream or the
   * other side has ended it: what nobody reads is not counted. Never rejects.
   */
  async function tell(line: Line, frames: readonly Nonsense[]): Promise<void> {
    for (const { bytes, fatal, astray } of frames) {
      if (line.end() !== undefined || !line.send(bytes)) return;
      if (fatal !== undefined && !lost.has(line))
        report.fatal ??= { line, why: `${act}: ${fatal}` };
      if (astray) lost.add(line);
      if (random.chance(0.2)) continue;
      report.frames += 1;
      await clock.sleep(roundTripMs, forever);
    }
  }

  function answer(line: Line, rules: FrameRules, question: Frame): void {
    const { requestId } = question;
    const [first, ...rest] = rules.seeds.map((seed) => ({ ...seed, requestId }));
    if (first === undefined || line.end() !== undefined) return;
    void tell(line, [nonsense(random, { ...rules, seeds: [first, ...rest] })]);
  }

  const onControl = (whole: Frame, line: Line): void => {
    // The victim's load rides inside whatever it says.
    const { rest: frame } = splitLoad(whole);
    if (frame.type === controlFrame.stealRequest && act === "owner") {
      const payload = grantMessage(random);
      const grant = frameOf(controlFrame.stealGrant, { requestId: frame.requestId, payload });
      void tell(line, [
        { bytes: encodeFrame(grant), fatal: undefined, astray: false, frame: grant },
      ]);
    } else if (frame.type === controlFrame.stealGrant && act === "thief") {
      const templates = answersTo(frame);
      if (templates !== undefined)
        void tell(line, burst(random, { ...controlRules, seeds: templates }, 12));
    } else if (act === "owner" && frame.type !== controlFrame.load) {
      void tell(line, burst(random, { ...controlRules, seeds: wordsOfOwner }, 3));
    }
  };

  const serve = (protocol: string, onStream: (stream: Stream) => void): void =>
    network.serve(protocol, (peer, stream) => {
      if (peer === victim.self) onStream(stream);
      else stream.reset("not now");
    });
  const greet = (stream: Stream): void => {
    const line = lineOver(stream, () => {});
    const own = { name: "x", slots: 1, sandbox: "bwrap", platform: "linux/x86_64" } as const;
    const said = { ...own, labels: {}, roles: ["member"] };
    line.say(frameOf(1, { payload: encodeHello(said, network.listenAddrs(), session) }));
    line.say(frameOf(2, { payload: encodeKnown([]) }));
  };
  serve(helloProtocol, act === "hello" ? (stream) => void insult(stream) : greet);
  serve(controlProtocol, (stream) => control.resolve(lineOver(stream, onControl)));
  serve(blkProtocol, (stream) => {
    lineOver(stream, (frame, line) => {
      if (frame.type === blk.want || frame.type === blk.range) {
        if (act === "provider") answer(line, provideRules, frame);
        else line.say(frameOf(blk.miss, { requestId: frame.requestId, payload: packIndexes([0]) }));
      }
    });
  });
  serve(acProtocol, (stream) => {
    lineOver(stream, (frame, line) => {
      if (frame.type !== ac.lookup) return;
      if (act === "home") answer(line, homeRules, frame);
      else line.say(frameOf(ac.end, { requestId: frame.requestId }));
    });
  });
  function insult(stream: Stream): Promise<void> {
    return tell(
      lineOver(stream, () => {}),
      burst(random, helloRules, 12),
    );
  }

  async function misuse(): Promise<void> {
    await network.connect(victim.addr, forever);
    const opened = await network.open(victim.self, helloProtocol, forever);
    if (act === "hello") return insult(opened);
    greet(opened);
    for (let waitedMs = 0; waitedMs < sayMs && !victim.admitted(network.self); waitedMs += 5)
      await clock.sleep(5, forever);
    report.met = victim.admitted(network.self);
    if (!report.met) return;
    if (network.self < victim.self)
      control.resolve(
        lineOver(await network.open(victim.self, controlProtocol, forever), onControl),
      );
    const line = await control.promise;
    line.say(loadOf(act === "owner" ? 5 : 0));
    if (act === "control") await tell(line, burst(random, controlRules, 60));
    if (act === "thief")
      for (let asks = 0; asks < 3; asks += 1) {
        line.say(stealRequest);
        await clock.sleep(20, forever);
      }
    if (act === "asker") {
      const [protocol, question, rules] = pick(random, asks);
      const stream = await network.open(victim.self, protocol, forever);
      let answers = 0;
      const asker = lineOver(stream, () => {
        answers += 1;
      });
      // Its earlier lives must not count against it: what they held is given back.
      asker.say(question);
      await clock.sleep(answerMs, forever);
      if (answers === 0) report.unanswered = protocol;
      await tell(asker, burst(random, rules, 60));
    }
  }

  try {
    await misuse();
  } catch (error) {
    // The victim may have hung up at any moment; that is what it should do.
    if (!isMeshError(error)) throw error;
  }
  await clock.sleep(sayMs, forever);
  return report;
}

const provideRules = { seeds: blkAnswers, frameMaxBytes: blkFrameMaxBytes, known: fromProvider };
const homeRules: FrameRules = {
  seeds: [
    frameOf(ac.found, { flags: 2, payload: record }),
    frameOf(ac.found, { aux: 1, payload: record }),
    frameOf(ac.end),
  ],
  frameMaxBytes: acFrameMaxBytes,
  known: fromHome,
};

function loadOf(stealable: number): Frame {
  const load = create(LoadSchema, {
    queued: stealable,
    stealable,
    slots: 1,
    busy: 1,
    sequence: 1n,
  });
  return frameOf(controlFrame.load, { payload: encodeMessage(LoadSchema, load) });
}

const stealRequest = frameOf(controlFrame.stealRequest, {
  requestId: 7,
  payload: encodeMessage(
    StealRequestSchema,
    create(StealRequestSchema, { room: 4, idle: 4, platforms: ["linux/x86_64"] }),
  ),
});

/** What an owner may say to its thief about a task that it never gave, or gave. */
const wordsOfOwner: readonly [Frame, ...Frame[]] = [
  frameOf(controlFrame.closed, {
    payload: encodeMessage(
      TaskClosedSchema,
      create(TaskClosedSchema, { task: "t-1", attempt: 1, accepted: true }),
    ),
  }),
  frameOf(controlFrame.cancel, {
    payload: encodeMessage(CancelSchema, create(CancelSchema, { task: "t-1", attempt: 1 })),
  }),
];

/** True to form and about tasks that were given; undefined when none were. */
function answersTo(frame: Frame): readonly [Frame, ...Frame[]] | undefined {
  const [grant] = decodeGrant(frame).grants;
  if (grant === undefined) return undefined;
  const { task, attempt } = grant;
  // Of bytes that nobody has: what an attacker that knows the right bytes sends is an answer.
  const digest = digestToProto(digestOf(new Uint8Array(99)));
  const outputs = [{ path: "/work/x.o", digest, contents: new Uint8Array(4) }];
  const stdoutDigest = digestToProto(emptyDigest);
  const result = { outputFiles: outputs, exitCode: 0, stdoutDigest, stderrDigest: stdoutDigest };
  const payloads: readonly (readonly [number, Uint8Array])[] = [
    [
      controlFrame.beat,
      encodeMessage(BeatSchema, create(BeatSchema, { held: [{ task, attempt, running: true }] })),
    ],
    [
      controlFrame.progress,
      encodeMessage(
        TaskProgressSchema,
        create(TaskProgressSchema, { task, attempt, stderr: new Uint8Array(3), outputs }),
      ),
    ],
    [
      controlFrame.done,
      encodeMessage(TaskDoneSchema, create(TaskDoneSchema, { task, attempt, result, record })),
    ],
    [
      controlFrame.failed,
      encodeMessage(
        TaskFailedSchema,
        create(TaskFailedSchema, { task, attempt, code: "io", message: "no" }),
      ),
    ],
  ];
  const [first, ...rest] = payloads.map(([type, payload]) => frameOf(type, { payload }));
  return first && [first, ...rest];
}
