/**
 * Known results: what running an action gave, remembered here and at its result homes in the mesh.
 *
 * A result is kept as a record that names the action, its outputs by digest, and the node that ran
 * it, signed by that node (protocols/ac.md). A record that cannot be verified, or whose blobs
 * cannot be had, counts as a miss.
 */
import type { Digest } from "../base/digest.ts";
import type { PeerId } from "../base/ids.ts";
import type { ActionOutcome } from "./action.ts";

export interface KnownResult {
  /** Its exit code is 0. */
  readonly outcome: ActionOutcome;
  /** Who ran the action. */
  readonly signer: PeerId;
  readonly runMs: number;
  /** Nodes that are likely to have its blobs, for `exchange.fetch`. */
  readonly providers: readonly PeerId[];
}

export interface Results {
  /** A result known to this node, all of whose blobs are in its store. Answers from memory. */
  find(action: Digest): KnownResult | undefined;
  /**
   * Asks the action's result homes. Undefined when none of them knows in time or nobody is there.
   * Rejects only with `signal.reason`. The blobs may have to be fetched.
   */
  findInMesh(action: Digest, signal: AbortSignal): Promise<KnownResult | undefined>;
  /**
   * Remembers what this node saw its own run give, signs it, and tells the result homes in the
   * background. The blobs are in the store.
   */
  keep(action: Digest, outcome: ActionOutcome, runMs: number): void;
  /** Remembers another node's record, as it came with its answer. False: it was refused. */
  accept(record: Uint8Array): boolean;
  /** A record turned out to be of no use (a blob is missing or wrong): it is forgotten here. */
  refuse(action: Digest, why: string): void;
  stats(): ResultStats;
}

export interface ResultStats {
  readonly records: number;
  readonly bytes: number;
  /** Look-ups answered from here, from the mesh, and not at all. */
  readonly hitsHere: number;
  readonly hitsMesh: number;
  readonly misses: number;
  /** Records that were refused, by why: "signature", "malformed", "blob-missing" and the like. */
  readonly refused: Readonly<Record<string, number>>;
}
