/**
 * What is to be done: a command, its environment, and every file it may see.
 *
 * The identity of an action is the digest of its canonical Remote Execution API v2 bytes. Two
 * actions with one identity see the same bytes at the same paths, so they give the same result.
 */
import type { Digest } from "../base/digest.ts";
import type { TreeEntry } from "../blob/tree.ts";

export interface ActionSpec {
  /** argv[0] is an absolute path inside the input root. */
  readonly argv: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  /** Absolute; exists in the sandbox even when no input lies below it. */
  readonly cwd: string;
  /** Absolute paths of files the command may write. One that it does not write is left out. */
  readonly outputPaths: readonly string[];
  /** Everything visible to the command, the compiler itself included. The root is `/`. */
  readonly inputs: readonly TreeEntry[];
  /** Must match the executing node: `{ platform: "linux/x86_64" }` or `{ platform: "wasm" }`. */
  readonly platform: Readonly<Record<string, string>>;
  readonly timeoutMs: number;
}

/** An action as it travels. */
export interface EncodedAction {
  readonly digest: Digest;
  readonly actionBytes: Uint8Array;
  readonly commandBytes: Uint8Array;
  /** Names `treeBytes`, a Tree message. */
  readonly tree: Digest;
  readonly treeBytes: Uint8Array;
  readonly spec: ActionSpec;
}

/** What running an action gave. */
export interface ActionOutcome {
  readonly exitCode: number;
  readonly outputs: readonly OutputBlob[];
  /** Names of blobs in the store of the node that ran it. */
  readonly stdout: Digest;
  readonly stderr: Digest;
}

/** Every blob an outcome names: what has to be had before it is of use. */
export function blobsOf({ outputs, stdout, stderr }: ActionOutcome): readonly Digest[] {
  return [stdout, stderr, ...outputs.map(({ digest }) => digest)];
}

/** One file an action wrote, by its absolute path. */
export interface OutputBlob {
  readonly path: string;
  readonly digest: Digest;
  readonly executable: boolean;
}

/** Something that others may wait for before the action ends. */
export interface Progress {
  readonly stderr: Uint8Array;
  /** Outputs that are complete, announced by the text in `stderr`. */
  readonly outputs: readonly OutputBlob[];
}

/** Runs an action whose inputs are all in the store. `exec/` offers it, `work/` calls it. */
export type Execute = (
  spec: ActionSpec,
  onProgress: (progress: Progress) => void,
  signal: AbortSignal,
) => Promise<ActionOutcome>;
