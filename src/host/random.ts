/** Chance: the operating system's cryptographic generator. */
import { randomBytes, randomInt } from "node:crypto";
import type { Random } from "./host.ts";

/** Bytes nobody can guess: keys and identities are made from these. */
export function createRandom(): Random {
  return {
    // A copy: a small Buffer may be a window on memory shared with other Buffers.
    bytes: (count) => new Uint8Array(randomBytes(count)),
    below: (bound) => randomInt(bound),
  };
}
