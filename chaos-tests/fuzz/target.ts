/**
 * What every target of the fuzzer has in common: a name, and cases by their number.
 *
 * A case is made from the seed, the target and its number alone, so each can be run again by
 * itself. Whatever a case must not do it throws as a `Finding`.
 */

import type { FailureCode } from "../../src/base/errors.ts";
import { isMeshError, messageOf } from "../../src/base/errors.ts";
import { createSeededRandom, type SeededRandom } from "../../src/sim/random.ts";

/** What came of the frames of one case. */
export interface Tally {
  /** Malformed frames that were read by the target; what lies behind a refused one is not counted. */
  readonly frames: number;
  /** Those of them that happened to mean something. */
  readonly accepted: number;
}

export interface Target {
  readonly name: string;
  /** Its part of all frames, against those of the other targets. */
  readonly share: number;
  /** A case may come out differently after others, so it is seen again only behind them. */
  readonly leansOnEarlier?: boolean;
  /** Makes what its cases share, and starts counting what must not grow. */
  open(seed: string): Promise<OpenTarget>;
}

export interface OpenTarget {
  run(random: SeededRandom): Promise<Tally> | Tally;
  /** Checks that nothing is left, and ends. */
  close(): Promise<void>;
}

export function randomOf(seed: string, target: string, index: number): SeededRandom {
  return createSeededRandom(`${seed}/${target}/${index}`);
}

/** Something that must never happen has. */
export function finding(what: string, bytes?: Uint8Array): Error {
  const shown = bytes === undefined ? "" : `; bytes ${hexOf(bytes)}`;
  return new Error(`${what}${shown}`);
}

export function hexOf(bytes: Uint8Array): string {
  const hex = Buffer.from(bytes.subarray(0, 2048)).toString("hex");
  return bytes.byteLength > 2048 ? `${hex}… (${bytes.byteLength} bytes)` : hex;
}

/** The error if it may escape. @throws for any other. */
export function expected(
  error: unknown,
  codes: readonly FailureCode[],
  bytes: Uint8Array,
): FailureCode {
  if (isMeshError(error, ...codes)) return error.code;
  const name = error instanceof Error ? error.name : typeof error;
  const code = isMeshError(error) ? ` "${error.code}"` : "";
  const why = `${name}${code}: ${messageOf(error)}`;
  throw new Error(`what escaped is no ${codes.join(" or ")}: ${why}; bytes ${hexOf(bytes)}`, {
    cause: error,
  });
}
