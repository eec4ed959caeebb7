/**
 * Chance that can be repeated: everything drawn follows from one seed.
 *
 * The generator is sfc32 by Chris Doty-Humphrey (PractRand): 128 bits of state, fast in
 * JavaScript's 32-bit integers, and passes his own and TestU01's batteries.
 */
import { utf8 } from "../base/bytes.ts";
import { digestOf } from "../base/digest.ts";
import type { Random } from "../host/host.ts";

export interface SeededRandom extends Random {
  /** In [0, 1). */
  fraction(): number;
  chance(probability: number): boolean;
  /** In [min, max). */
  between(min: number, max: number): number;
  /**
   * A generator of its own for one part: what another part draws, or no longer draws, does not
   * change what this one gets.
   */
  fork(label: string): SeededRandom;
}

export function createSeededRandom(seed: string): SeededRandom {
  const next = sfc32(seed);
  const fraction = (): number => next() / 2 ** 32;
  return {
    bytes(count) {
      const bytes = new Uint8Array(count);
      for (let index = 0; index < count; index++) bytes[index] = next() >>> 24;
      return bytes;
    },
    below: (bound) => Math.floor(fraction() * bound),
    fraction,
    chance: (probability) => fraction() < probability,
    between: (min, max) => min + fraction() * (max - min),
    fork: (label) => createSeededRandom(`${seed}/${label}`),
  };
}

/** @returns a function that draws a whole number in [0, 2^32). */
function sfc32(seed: string): () => number {
  const digest = digestOf(utf8(seed));
  const word = (index: number): number =>
    Number.parseInt(digest.slice(index * 8, index * 8 + 8), 16) | 0;
  let a = word(0);
  let b = word(1);
  let c = word(2);
  let counter = word(3);
  return () => {
    const sum = (a + b + counter) | 0;
    counter = (counter + 1) | 0;
    a = b ^ (b >>> 9);
    b = (c + (c << 3)) | 0;
    c = ((c << 21) | (c >>> 11)) + sum;
    c |= 0;
    return sum >>> 0;
  };
}
