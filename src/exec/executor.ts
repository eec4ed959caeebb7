/**
 * The executor of a node: checks that an action is one that can be run here, and hands it to the
 * part that runs its kind. It runs nothing itself.
 */
import type { Execute } from "../action/action.ts";
import { MeshError } from "../base/errors.ts";
import { checkShape } from "./shape.ts";

export interface ExecutorDeps {
  /** Undefined on a node without a sandbox. */
  readonly native: Execute | undefined;
  /** Undefined on a node that runs no WASM. */
  readonly wasm: Execute | undefined;
}

export interface ExecutorOptions {
  /** The platform whose commands run here: `linux/x86_64`. */
  readonly platform: string;
}

/** Codes of its own: "unsupported" for another platform, "malformed" and "limit" for bad shapes. */
export function createExecutor(
  { native, wasm }: ExecutorDeps,
  { platform }: ExecutorOptions,
): Execute {
  return async (spec, onProgress, signal) => {
    signal.throwIfAborted();
    const wanted = spec.platform.platform;
    const execute = wanted === "wasm" ? wasm : wanted === platform ? native : undefined;
    if (execute === undefined)
      throw new MeshError(
        "unsupported",
        `this node (${platform}) cannot run ${wanted ?? "actions without a platform"}`,
      );
    if (wanted !== "wasm") checkShape(spec);
    return execute(spec, onProgress, signal);
  };
}
