/**
 * What a decoder promises, and the decoders of `/mesh/ctl/1`.
 */
import { concatBytes } from "../../src/base/bytes.ts";
import type { FailureCode } from "../../src/base/errors.ts";
import {
  controlFrame,
  decodeGrant,
  decodeLoad,
  decodeMessageFrame,
  decodeStealRequest,
  splitLoad,
} from "../../src/peer/control-frames.ts";
import { frameOf, readU32 } from "../../src/wire/frame.ts";
import { goldenFrames } from "./seeds.ts";
import { finding } from "./target.ts";

export interface Decoder {
  readonly name: string;
  readonly share: number;
  /** Right ones. */
  readonly seeds: readonly [Uint8Array, ...Uint8Array[]];
  readonly codes: readonly FailureCode[];
  /** Makes checksums and digests right again, so that what is behind them is reached as well. */
  readonly seal?: (bytes: Uint8Array) => Uint8Array;
  /** @throws what the decoder throws, and a finding when what it gives back is wrong. */
  readonly decode: (bytes: Uint8Array) => void;
}

export function check(sound: boolean, what: string, bytes: Uint8Array): void {
  if (!sound) throw finding(what, bytes);
}

export function payloadsOf(
  name: "hello" | "ctl" | "ac",
  type: number,
): readonly [Uint8Array, ...Uint8Array[]] {
  const [first = new Uint8Array(), ...rest] = goldenFrames(name).flatMap((frame) =>
    frame.type === type ? [frame.payload] : [],
  );
  return [first, ...rest];
}

export const malformed: readonly ["malformed"] = ["malformed"];

export const controlDecoders: readonly Decoder[] = [
  ...Object.entries(controlFrame).flatMap(([name, type]): readonly Decoder[] => {
    // These two carry nothing.
    if (name === "ping" || name === "pong") return [];
    return [controlDecoder(name, type)];
  }),
  ridingLoad(),
];

/** A load in front of another message; the first four bytes say how long it claims to be. */
function ridingLoad(): Decoder {
  const [load] = payloadsOf("ctl", controlFrame.load);
  const seed = concatBytes([
    Uint8Array.of(load.byteLength, 0, 0, 0),
    load,
    Uint8Array.of(10, 1, 65),
  ]);
  return {
    name: "ctl-riding-load",
    share: 1,
    seeds: [seed],
    codes: malformed,
    decode(bytes) {
      const payload = bytes.subarray(4);
      const aux = readU32(bytes, 0);
      const { load, rest } = splitLoad(frameOf(controlFrame.cancel, { payload, aux }));
      const left = payload.byteLength - (load === undefined ? 0 : aux);
      check(rest.payload.byteLength === left, "a message of another length", bytes);
    },
  };
}

function controlDecoder(name: string, type: number): Decoder {
  return {
    name: `ctl-${name}`,
    share: 1,
    seeds: payloadsOf("ctl", type),
    codes: malformed,
    decode(payload) {
      const frame = frameOf(type, { payload });
      if (name === "load") decodeLoad(frame);
      else if (name === "stealRequest" || name === "lifeline") decodeStealRequest(frame);
      else if (name === "stealGrant") {
        const { grants } = decodeGrant(frame);
        check(grants.length <= 256, "too many grants", payload);
        check(
          grants.every(({ task, label }) => task.length <= 128 && label.length <= 4096),
          "unbounded text in a grant",
          payload,
        );
      } else {
        const message = decodeMessageFrame(frame);
        if (message === undefined || message.type === "beat") return;
        check(message.value.task.length <= 128, "an unbounded name of a task", payload);
      }
    },
  };
}
