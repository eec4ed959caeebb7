/**
 * What the compile door makes of one compiler invocation: an action that any node can run, or the
 * reason why only this one can.
 */
import type { ActionOutcome, ActionSpec } from "../action/action.ts";
import type { Facts } from "../exec/facts.ts";

/** One call of a compiler, as the shim saw it. */
export interface Invocation {
  /** Without argv[0]. */
  readonly args: readonly string[];
  /** The real compiler: absolute path, symlinks not resolved (argv[0] decides gcc's behaviour). */
  readonly compiler: string;
  readonly cwd: string;
  readonly env: Readonly<Record<string, string>>;
  /** File mode creation mask of the caller: outputs are created with 0666 (0777) less this. */
  readonly umask: number;
}

export type Plan = LocalPlan | ActionPlan;

/** Runs here, and nothing is remembered of it. */
export interface LocalPlan {
  readonly at: "here";
  /** Shown by the summary and `mesh why`: short, closed set per door, e.g. "link", "preprocess-only". */
  readonly reason: string;
  readonly kind: string;
  readonly label: string;
}

/** An action with every input it can have, so that its result is known by its digest. */
export interface ActionPlan {
  readonly at: "anywhere";
  /** "c", "c++", "rustc", "link", "ar", "cuda". */
  readonly kind: string;
  /** The source as the user typed it, or the crate's name. */
  readonly label: string;
  readonly spec: ActionSpec;
  /** Those of the output paths that every successful run writes. */
  readonly required: readonly string[];
  /** Every file and every look-up, failed ones included, that this plan was made from. */
  readonly facts: Facts;
  /** Set when only this machine shall run it, although its result may be kept: e.g. "link". */
  readonly whyHere?: string;
  /**
   * True when the real compiler, run in place, might read more than the inputs without anybody
   * noticing (procedural macros): only a run in the sandbox then gives a result to be kept.
   */
  readonly sandboxed?: boolean;
  /** In front of the user's arguments in a run in place; they change no output. */
  readonly hereArgs?: readonly string[];
  /** A file that `hereArgs` has the tool write; where it could not, it would fail. */
  readonly hereFile?: string;
  /**
   * Looks at outputs before they are put in place or kept: output path to bytes reader. Rejects
   * with "malformed" or "refused" when they cannot be what a local run would have written.
   */
  readonly check?: (read: (path: string) => Promise<Uint8Array | undefined>) => Promise<void>;
  /** After a run in place: rejects with "refused" when it read something that is no input. */
  readonly checkHere?: () => Promise<void>;
  /** Told of a run in the sandbox that failed: the next plan may know better. */
  readonly failed?: (outcome: ActionOutcome) => Promise<void>;
  /** The same work as any other checkout would name it; see `Portable`. */
  readonly portable?: Portable;
}

/** An action without the place where its checkout lies, for results that do not depend on it. */
export interface Portable {
  /** Placeholders stand for the folders that differ between checkouts. */
  readonly spec: ActionSpec;
  /** What a result here is elsewhere; undefined when its bytes tell where it was made. */
  readonly toPortable: (outcome: ActionOutcome) => Promise<ActionOutcome | undefined>;
  /** What a portable result is here. Its blobs are in the store; so are those of the answer. */
  readonly fromPortable: (outcome: ActionOutcome) => Promise<ActionOutcome>;
}

/** Reads one compiler's command lines. Never rejects because of what the user typed: that is a local plan. */
export type Planner = (invocation: Invocation, signal: AbortSignal) => Promise<Plan>;
