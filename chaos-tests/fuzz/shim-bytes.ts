/** What passes between a shim and its node, as bytes: right ones, and ones that are nearly right. */

import { concatBytes, utf8 } from "../../src/base/bytes.ts";
import {
  createShimParser,
  encodeExit,
  encodeRun,
  encodeStop,
  encodeWrite,
  freeFrame,
  pongFrame,
  type ShimFrame,
} from "../../src/compile/shim-protocol.ts";
import {
  encodeDone,
  encodeRequest,
  pingFrame,
  readReplies,
} from "../../src/compile/shim-replies.ts";
import type { SeededRandom } from "../../src/sim/random.ts";
import { writeU32 } from "../../src/wire/frame.ts";
import { lieAbout, mutate, pick } from "./mutate.ts";
import { finding, type Tally, type Target } from "./target.ts";

export const shimRequest: Uint8Array =
  encodeRequest({
    ...{ pid: 7, umask: 0o22, stderrIsTty: false, wantsColour: true },
    ...{ build: "b1", cwd: "/w", compiler: "/usr/bin/cc" },
    ...{ args: ["-c", "a.c"], env: ["PATH=/usr/bin", "LANG=C"] },
  }) ?? new Uint8Array();

const output = { stdout: utf8("out"), stderr: utf8("err") };
const run = { exitCode: 0, wallMs: 3, cpuMs: 2 };
/** What a shim sends after its request. */
export const shimFrames: readonly [Uint8Array, ...Uint8Array[]] = [
  pingFrame,
  encodeDone({ ...run, output: undefined }, false),
  encodeDone({ ...run, output }, true),
];

/** What a node answers. */
export const nodeReplies: readonly [Uint8Array, ...Uint8Array[]] = [
  encodeRun(["-fdiagnostics-color"], true),
  encodeRun([], false),
  encodeWrite(1, utf8("shown")),
  encodeWrite(2, utf8("shown")),
  encodeExit(3, utf8("out"), utf8("err")),
  encodeStop(15),
  pongFrame,
  freeFrame,
];

/** A type and a length in front: as `mutate`, and lies about these two. */
export function malformShim(
  random: SeededRandom,
  bytes: Uint8Array,
  others: readonly Uint8Array[],
): Uint8Array {
  if (random.chance(0.6)) {
    const out = new Uint8Array(bytes);
    const kind = random.below(4);
    if (kind === 0) out[0] = random.below(256);
    if (kind === 1) writeU32(out, 1, lieAbout(random, out.byteLength - 5));
    if (kind === 2 && out.byteLength > 9)
      writeU32(out, 5 + 4 * random.below((out.byteLength - 5) >> 2), lieAbout(random, 3));
    if (kind === 3) return concatBytes([out, pick(random, [shimRequest, ...shimFrames])]);
    return out;
  }
  return mutate(random, bytes, others);
}

function malformRequest(random: SeededRandom): Uint8Array {
  if (random.chance(0.3)) return shimRequest;
  const out = new Uint8Array(shimRequest);
  if (random.chance(0.5)) {
    // Any of its counts and lengths.
    writeU32(out, 4 * random.below(out.byteLength >> 2), lieAbout(random, out.byteLength));
    return out;
  }
  const changed = mutate(random, out, shimFrames);
  // So that what is inside is read at all.
  if (random.chance(0.6) && changed.byteLength >= 12) {
    changed.set(shimRequest.subarray(0, 8));
    writeU32(changed, 8, changed.byteLength - 12);
  }
  return changed;
}

/** A whole conversation of a shim: its request, then frames. */
export function shimTalk(random: SeededRandom): readonly Uint8Array[] {
  const frames = Array.from({ length: random.below(4) }, () =>
    malformShim(random, pick(random, shimFrames), shimFrames),
  );
  return [malformRequest(random), ...frames];
}

interface Heard {
  readonly request: string | undefined;
  readonly frames: readonly ShimFrame[];
  readonly bad: boolean;
}

function hear(pieces: Iterable<Uint8Array>): Heard {
  const parser = createShimParser();
  let request: string | undefined;
  const frames: ShimFrame[] = [];
  for (const piece of pieces) {
    parser.push(piece);
    if (request === undefined) {
      const parsed = parser.request();
      if (parsed.at === "bad") return { request, frames, bad: true };
      if (parsed.at === "more") continue;
      request = JSON.stringify(parsed.value);
    }
    for (;;) {
      const parsed = parser.frame();
      if (parsed.at === "bad") return { request, frames, bad: true };
      if (parsed.at === "more") break;
      frames.push(parsed.value);
    }
  }
  return { request, frames, bad: false };
}

function* cut(random: SeededRandom, bytes: Uint8Array): Generator<Uint8Array> {
  for (let at = 0; at < bytes.byteLength; ) {
    const size = 1 + random.below(random.chance(0.5) ? 6 : 2000);
    yield bytes.slice(at, at + size);
    at += size;
  }
}

const requests: Target = {
  name: "shim-parser",
  share: 5,
  async open() {
    return {
      run(random): Tally {
        const talk = shimTalk(random);
        const bytes = concatBytes(talk);
        const whole = hear([bytes]);
        const pieces = hear(cut(random, bytes));
        if (JSON.stringify(whole) !== JSON.stringify(pieces))
          throw finding("pieces change what a shim said", bytes);
        return { frames: talk.length, accepted: whole.frames.length };
      },
      async close() {},
    };
  },
};

const replies: Target = {
  name: "shim-replies",
  share: 3,
  async open() {
    return {
      run(random): Tally {
        const sent = Array.from({ length: 1 + random.below(4) }, () =>
          malformShim(random, pick(random, nodeReplies), nodeReplies),
        );
        const bytes = concatBytes(sent);
        const { replies: read, rest, bad } = readReplies(bytes);
        if (rest.byteLength > bytes.byteLength || (bad && rest.byteLength === 0))
          throw finding("replies out of nothing", bytes);
        return { frames: sent.length, accepted: read.length };
      },
      async close() {},
    };
  },
};

export const shimByteTargets: readonly Target[] = [requests, replies];
