/**
 * Gets a command its node: the one that runs, else one embedded for the command's duration.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { isMeshError, MeshError } from "../base/errors.ts";
import type { BuildRequest, BuildStarted, ControlEvent } from "../node/control-api.ts";
import { type Call, openCall } from "./client.ts";
import { type Embedded, startEmbedded } from "./embedded.ts";

/** Opens a call; undefined when no node listens. */
type Open<T> = () => Promise<T | undefined>;

export interface WithNode<T> {
  readonly opened: T;
  /** Undefined when the node was running already. */
  readonly embedded: Embedded | undefined;
}

/** Two commands started together both find no node; the later one waits for the earlier's. */
const rivalTries = 50;
const rivalPauseMs = 100;

/** Rejects with why there is no node, or with `signal.reason`. */
export async function withNode<T>(
  dataDir: string,
  open: Open<T>,
  signal: AbortSignal,
): Promise<WithNode<T>> {
  const running = await open();
  if (running !== undefined) return { opened: running, embedded: undefined };
  try {
    const embedded = await startEmbedded(dataDir, signal);
    const opened = await open();
    if (opened !== undefined) return { opened, embedded };
    await embedded.release();
    throw new MeshError("io", "it started, but cannot be reached");
  } catch (error) {
    if (!isMeshError(error, "in-use")) throw error;
    for (let tries = 0; tries < rivalTries; tries += 1) {
      await sleep(rivalPauseMs, undefined, { signal });
      const opened = await open();
      if (opened !== undefined) return { opened, embedded: undefined };
    }
    throw error;
  }
}

export interface BuildSession {
  readonly started: BuildStarted;
  readonly call: Call;
}

/** A node that takes longer to answer is not worth waiting for: the build runs without it. */
const startMaxMs = 10_000;

/** Undefined when no node listens. Rejects when one does but starts no build. */
export async function openBuild(
  dataDir: string,
  request: BuildRequest,
  onEvent: (event: ControlEvent) => void,
  signal: AbortSignal,
): Promise<BuildSession | undefined> {
  let begun: (started: BuildStarted) => void = () => {};
  const beginning = new Promise<BuildStarted>((resolve) => {
    begun = resolve;
  });
  const call = await openCall(dataDir, request, (event) => {
    onEvent(event);
    if (event.event === "build-started") begun(event);
  });
  if (call === undefined) return undefined;
  const timer = setTimeout(() => call.close(), startMaxMs);
  const onAbort = () => call.close();
  signal.addEventListener("abort", onAbort);
  try {
    const first = await Promise.race([beginning, call.ended]);
    signal.throwIfAborted();
    if ("event" in first) return { started: first, call };
    if (first.at === "failed") throw first.error;
    const why = first.at === "lost" && first.reason !== "given up" ? `: ${first.reason}` : "";
    throw new MeshError("deadline", `the node of ${dataDir} does not answer${why}`);
  } finally {
    clearTimeout(timer);
    signal.removeEventListener("abort", onAbort);
  }
}
