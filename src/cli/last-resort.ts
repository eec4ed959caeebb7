/**
 * Errors that reach nobody: thrown in a callback, or rejected with no one waiting.
 *
 * libp2p throws some outside every call (a stream that drains after it was closed); a node survives
 * those. Anything else is a bug of ours after which no state can be trusted: the node says so in
 * one line and ends, in order if that is quick. It knows neither nodes nor what ending one takes.
 */
import { messageOf } from "../base/errors.ts";
import { oneLine } from "./exit.ts";

export interface LastResort {
  /** Told of an error that the network threw past us. */
  readonly warn: (message: string) => void;
  /** Told once why the program ends. */
  readonly say: (message: string) => void;
  /** What to do before the program ends. It gets a second, then the program ends with 1. */
  readonly end: () => Promise<void>;
}

const endMaxMs = 1_000;

/** Returns the call that takes the handlers away again. */
export function installLastResort({ warn, say, end }: LastResort): () => void {
  let ending = false;
  const onError = (error: unknown) => {
    if (isNetworks(error)) {
      warn(`the network threw: ${place(error)}`);
      return;
    }
    // One failure leads to others; the first one says what happened.
    if (ending) return;
    ending = true;
    const exit = () => process.exit(1);
    setTimeout(exit, endMaxMs);
    say(`this is a bug in mesh-node, please report it: ${place(error)}`);
    // A microtask later, so that an `end` that throws is no other than one that rejects.
    Promise.resolve().then(end).then(exit, exit);
  };
  process.on("uncaughtException", onError);
  process.on("unhandledRejection", onError);
  return () => {
    process.off("uncaughtException", onError);
    process.off("unhandledRejection", onError);
  };
}

/** Whether libp2p threw it, with nothing of ours between the throw and libp2p. */
function isNetworks(error: unknown): boolean {
  const frames = framesOf(error);
  const ours = frames.findIndex(isOurs);
  return frames
    .slice(0, ours < 0 ? frames.length : ours)
    .some((frame) => /node_modules\/(@libp2p|@chainsafe|libp2p)\//.test(frame));
}

/** What it says and where of ours it passed, in one line. */
function place(error: unknown): string {
  const frames = framesOf(error);
  const frame = frames.find(isOurs) ?? frames[0];
  return `${oneLine(messageOf(error))}${frame === undefined ? "" : ` (${frame})`}`;
}

/** Ours is also what lies in the `node_modules` of whoever installed it. */
function isOurs(frame: string): boolean {
  const owner = frame.split("node_modules/").slice(1).at(-1);
  return owner === undefined || owner.startsWith("mesh-node/");
}

/** The lines of its stack, without Node's own. */
function framesOf(error: unknown): readonly string[] {
  const stack = error instanceof Error ? (error.stack ?? "") : "";
  return stack
    .split("\n")
    .map((line) => line.trim())
    .filter((line) => line.startsWith("at ") && !/\bnode:/.test(line));
}
