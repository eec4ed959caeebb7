/**
 * Whole frames with lies in their headers, for every protocol that is made of frames, and what
 * must be said about them: whether a receiver may go on at all.
 */
import type { SeededRandom } from "../../src/sim/random.ts";
import {
  encodeFrame,
  type Frame,
  frameHeaderBytes,
  optionalFlag,
  writeU32,
} from "../../src/wire/frame.ts";
import { lieAbout, mutate, pick } from "./mutate.ts";

export interface Nonsense {
  readonly bytes: Uint8Array;
  /** Whatever the protocol, this must end the stream; undefined: that is the protocol's matter. */
  readonly fatal: "unknown type" | "too long" | undefined;
  /** Its length is wrong: what follows is read as something else, or waited for. */
  readonly astray: boolean;
  /** As it is on the wire. */
  readonly frame: Frame;
}

export interface FrameRules {
  readonly seeds: readonly [Frame, ...Frame[]];
  readonly frameMaxBytes: number;
  readonly known: ReadonlySet<number>;
}

function frameWith(rules: FrameRules, frame: Frame): Nonsense {
  const isKnown = rules.known.has(frame.type) || (frame.flags & optionalFlag) !== 0;
  const tooLong = frame.payload.byteLength > rules.frameMaxBytes;
  return {
    bytes: encodeFrame(frame),
    fatal: tooLong ? "too long" : isKnown ? undefined : "unknown type",
    astray: false,
    frame,
  };
}

/** A right frame with something wrong, or nothing right at all. */
export function nonsense(random: SeededRandom, rules: FrameRules): Nonsense {
  const { seeds, frameMaxBytes } = rules;
  const frame = pick(random, seeds);
  const kind = random.below(100);
  if (kind < 62) {
    const others = seeds.map((one) => one.payload);
    const payload = mutate(random, frame.payload, others).subarray(0, frameMaxBytes);
    return frameWith(rules, { ...frame, payload });
  }
  if (kind < 72)
    return frameWith(rules, { ...frame, requestId: lieAbout(random, frame.requestId) });
  if (kind < 80) return frameWith(rules, { ...frame, aux: lieAbout(random, frame.aux) });
  if (kind < 84) return frameWith(rules, { ...frame, flags: random.below(256) });
  if (kind < 90) {
    const flags = random.chance(0.5) ? optionalFlag : 0;
    return frameWith(rules, { ...frame, type: random.below(256), flags });
  }
  if (kind < 92) return frameWith(rules, { ...frame, payload: new Uint8Array() });
  if (kind < 93) {
    const over = random.below(2);
    return frameWith(rules, { ...frame, payload: new Uint8Array(frameMaxBytes + over) });
  }
  return lengthLie(random, rules, frame);
}

function lengthLie(random: SeededRandom, rules: FrameRules, frame: Frame): Nonsense {
  const bytes = encodeFrame(frame);
  const claimed = lieAbout(random, frame.payload.byteLength);
  writeU32(bytes, 8, claimed);
  const tooLong = claimed > rules.frameMaxBytes;
  const seen = { ...frame, payload: bytes.subarray(frameHeaderBytes, frameHeaderBytes + claimed) };
  const honest = frameWith(rules, seen);
  return {
    ...honest,
    bytes,
    fatal: tooLong ? "too long" : honest.fatal,
    astray: claimed !== frame.payload.byteLength,
  };
}
