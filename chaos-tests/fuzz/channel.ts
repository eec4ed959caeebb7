/**
 * The channel under every protocol, on an in-process stream: however the bytes are cut into
 * pieces, the frames are the same, nonsense resets the stream and is the last that is heard, and
 * nothing waits behind it.
 */
import { concatBytes } from "../../src/base/bytes.ts";
import { MeshError } from "../../src/base/errors.ts";
import type { SeededRandom } from "../../src/sim/random.ts";
import { createChannel } from "../../src/wire/channel.ts";
import { createFrameDecoder, type Frame, frameHeaderBytes } from "../../src/wire/frame.ts";
import { createStreamPair } from "../../src/wire/stream-pair.contract.ts";
import { type FrameRules, type Nonsense, nonsense } from "./frames.ts";
import { goldenFrames } from "./seeds.ts";
import { finding, type Tally, type Target } from "./target.ts";

const frameMaxBytes = 4096;
const rules: FrameRules = {
  seeds: goldenFrames("ctl"),
  frameMaxBytes,
  known: new Set(goldenFrames("ctl").map(({ type }) => type)),
};

/** Frames up to the first that ends the stream, or behind which nothing can be foretold. */
export function burst(random: SeededRandom, of: FrameRules, most: number): readonly Nonsense[] {
  const frames: Nonsense[] = [];
  for (let left = 1 + random.below(most); left > 0; left -= 1) {
    const next = nonsense(random, of);
    frames.push(next);
    if (next.fatal !== undefined || next.astray) break;
  }
  return frames;
}

const same = (left: Frame, right: Frame): boolean =>
  left.type === right.type &&
  left.flags === right.flags &&
  left.requestId === right.requestId &&
  left.aux === right.aux &&
  Buffer.compare(left.payload, right.payload) === 0;

function* piecesOf(random: SeededRandom, bytes: Uint8Array): Generator<Uint8Array> {
  for (let at = 0; at < bytes.byteLength; ) {
    const size = 1 + random.below(random.chance(0.5) ? 8 : 4096);
    yield bytes.slice(at, at + size);
    at += size;
  }
}

/** The decoder alone: pieces of any size give the frames that one piece gives. */
const decoder: Target = {
  name: "frame-decoder",
  share: 6,
  async open() {
    return {
      run(random): Tally {
        const sent = burst(random, rules, 6);
        const bytes = concatBytes(sent.map((one) => one.bytes));
        const whole = decode([bytes]);
        const cut = decode(piecesOf(random, bytes));
        const equal =
          whole.frames.length === cut.frames.length &&
          whole.frames.every((frame, at) => same(frame, cut.frames[at] ?? frame));
        if (!equal || whole.failure !== cut.failure) throw finding("pieces change frames", bytes);
        const last = sent.at(-1);
        const mustFail = last?.fatal === "too long";
        const mayFail = mustFail || last?.astray === true;
        const failed = whole.failure === "malformed";
        if (failed ? !mayFail : mustFail) throw finding("a length is not as it should be", bytes);
        return { frames: sent.length, accepted: whole.frames.length };
      },
      async close() {},
    };
  },
};

function decode(pieces: Iterable<Uint8Array>): {
  readonly frames: readonly Frame[];
  readonly failure: string | undefined;
} {
  const frames: Frame[] = [];
  const reader = createFrameDecoder({ frameMaxBytes });
  try {
    for (const piece of pieces) {
      reader.push(piece, (frame) =>
        frames.push({ ...frame, payload: new Uint8Array(frame.payload) }),
      );
      if (reader.pendingBytes() > frameHeaderBytes + frameMaxBytes)
        throw finding("more waits than a frame may have", piece);
    }
    return { frames, failure: undefined };
  } catch (error) {
    if (!(error instanceof MeshError)) throw error;
    return { frames, failure: error.code };
  }
}

const channel: Target = {
  name: "channel",
  share: 3,
  async open() {
    return {
      async run(random): Promise<Tally> {
        const [ours, theirs] = createStreamPair("fuzz", { pieceMaxBytes: 1 + random.below(5000) });
        let heard = 0;
        const receiver = createChannel(
          theirs,
          { frameMaxBytes, queueMaxBytes: 65_536, knownTypes: rules.known },
          (frame) => {
            heard += 1;
            receiver.send({ ...frame, payload: new Uint8Array(frame.payload) });
          },
        );
        let answered = 0;
        ours.receive((bytes) => {
          answered += bytes.byteLength;
        });
        const sent = burst(random, rules, 8);
        for (const { bytes } of sent) ours.send(bytes);
        const last = sent.at(-1);
        if (last?.fatal === undefined) await ours.close();
        const end = await receiver.ended;
        const shown = concatBytes(sent.map((one) => one.bytes));
        const mustReset = last?.fatal !== undefined;
        const mayReset = mustReset || last?.astray === true;
        if (end.how === "reset" ? !mayReset : mustReset)
          throw finding(`it ended by ${end.how}: ${end.reason}`, shown);
        if (end.reason === "") throw finding("it ended without a reason", shown);
        if (receiver.queuedBytes() > 0) throw finding("something waits in an ended channel", shown);
        if (receiver.send({ ...(sent[0]?.frame ?? rules.seeds[0]) }))
          throw finding("an ended channel takes frames", shown);
        if (answered > 0 && heard === 0) throw finding("answers to nothing", shown);
        return { frames: sent.length, accepted: heard };
      },
      async close() {},
    };
  },
};

export const channelTargets: readonly Target[] = [decoder, channel];
