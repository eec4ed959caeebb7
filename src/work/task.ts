/**
 * What a door hands to the owner: one task, and how to finish it either way.
 */

import type { ActionOutcome, EncodedAction, Progress } from "../action/action.ts";
import type { Phases } from "../base/events.ts";
import type { PeerId, TaskId } from "../base/ids.ts";

export interface Task {
  /** The build, exec or job it belongs to; cancelling that cancels the task. */
  readonly build: string;
  /** Durations are learned per kind: "c", "c++", "rustc", "wasm", "link", "other". */
  readonly kind: string;
  /** For people: the source file or crate. */
  readonly label: string;
  /** What a peer would run. Undefined: only this node may, for the reason in `whyHere`. */
  readonly action: EncodedAction | undefined;
  readonly whyHere: string | undefined;
  /** What a task reads and writes that may not leave; of others, the action says it. */
  readonly flow?: { readonly reads: readonly string[]; readonly writes: readonly string[] };
  /** A peer shall run it, also when it knows the result already. */
  readonly fresh?: boolean;
  /** A peer shall neither sign nor remember what it gives. */
  readonly forget?: boolean;
  /**
   * Runs it here, under a slot that the owner holds for it, and resolves to the exit code.
   * Outputs are then in place. Rejects only when `signal` aborts or the requester is gone.
   */
  readonly runHere: (signal: AbortSignal) => Promise<number>;
  /**
   * Puts a peer's successful outcome in place: fetch, verify, write, replay. Called at most once
   * per task at a time; when it rejects, nothing is written and the owner runs the task here.
   */
  readonly commit: (outcome: ActionOutcome, peer: PeerId, signal: AbortSignal) => Promise<void>;
  /** Parts of the answer of the attempt that holds the lease; see `Progress`. */
  readonly onProgress?: (progress: Progress, peer: PeerId) => void;
}

/** How a task ended. */
export type Outcome =
  | {
      readonly source: "here";
      readonly task: TaskId;
      readonly exitCode: number;
      readonly wallMs: number;
      readonly fallback: string | undefined;
      readonly phases: Phases;
    }
  | {
      readonly source: "there";
      readonly task: TaskId;
      readonly peer: PeerId;
      readonly exitCode: 0;
      readonly wallMs: number;
      readonly phases: Phases;
      /** The thief's signed record of this result, as it came; empty when it sent none. */
      readonly record: Uint8Array;
    };

export interface Owner {
  /** Resolves when the task is done here or there. Rejects with `signal.reason` on abort. */
  submit(task: Task, signal: AbortSignal): Promise<Outcome>;
}
