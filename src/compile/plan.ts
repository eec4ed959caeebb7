/**
 * What the compile door makes of one compiler invocation: an action that any node can run, or the
 * reason why only this one can.
 */
import type { ActionSpec } from "../action/action.ts";

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

export interface LocalPlan {
  readonly at: "here";
  /** Shown by the summary and `mesh why`: short, closed set per door, e.g. "link", "preprocess-only". */
  readonly reason: string;
  readonly kind: string;
  readonly label: string;
}

export interface ActionPlan {
  readonly at: "anywhere";
  /** "c", "c++", "rustc". */
  readonly kind: string;
  /** The source as the user typed it, or the crate's name. */
  readonly label: string;
  readonly spec: ActionSpec;
  /** Those of the output paths that every successful run writes. */
  readonly required: readonly string[];
  /**
   * Looks at a peer's outputs before they are put in place: output path to bytes reader. Rejects
   * with "malformed" or "refused" when they cannot be what a local run would have written.
   */
  readonly check?: (read: (path: string) => Promise<Uint8Array | undefined>) => Promise<void>;
}

/** Reads one compiler's command lines. Never rejects because of what the user typed: that is a local plan. */
export type Planner = (invocation: Invocation, signal: AbortSignal) => Promise<Plan>;
