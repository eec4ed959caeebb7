/**
 * A simulated stream: two ends, and between them bytes on their way.
 *
 * Order and reliability are the stream's own; how long bytes take, and whether they may pass at
 * all, it asks its line. It knows nothing about peers.
 */
import assert from "node:assert/strict";
import { concatBytes } from "../base/bytes.ts";
import { isMeshError, MeshError, messageOf } from "../base/errors.ts";
import { type Stream, type StreamEnd, sendMaxBytes } from "../host/host.ts";
import type { SeededRandom } from "./random.ts";
import type { Machine, Timeline } from "./time.ts";

/** The way from one machine to another. */
export interface Line {
  /** When `sizeBytes` sent now would arrive, in ms from now; at the earliest at `afterMs`. */
  arrivalMs(sizeBytes: number, afterMs: number): number;
  /** Calls `pass` at once, or when the line is open again. */
  whenOpen(pass: () => void): void;
}

/** One end, with what only the network may do to it. */
export interface StreamSide {
  readonly stream: Stream;
  /** Ends this side because its connection ended. */
  cut(reason: string): void;
}

/** Bytes queued beyond this make `send` answer false. */
const queueHighBytes = 1024 * 1024;

interface Side {
  readonly machine: Machine;
  /** The way from this side to the other. */
  readonly line: Line;
  readonly ended: PromiseWithResolvers<StreamEnd>;
  end: StreamEnd | undefined;
  queuedBytes: number;
  lastArrivalMs: number;
  onBytes: ((bytes: Uint8Array) => void) | undefined;
  /** Arrived, but nobody receives yet. */
  early: Uint8Array[];
  /** How it ends once `early` has been received. */
  lateEnd: StreamEnd | undefined;
  /** Waiting for room in the queue. */
  readonly waiting: (() => void)[];
  /** Waiting for the end to arrive at the other side, or for the connection to end. */
  readonly cuts: (() => void)[];
}

export interface StreamWorld {
  readonly timeline: Timeline;
  readonly random: SeededRandom;
}

/** Makes both ends of a stream. `lines` are the ways from the first to the second and back. */
export function createStreamPair(
  world: StreamWorld,
  protocol: string,
  machines: readonly [Machine, Machine],
  lines: readonly [Line, Line],
): readonly [StreamSide, StreamSide] {
  const first = createSide(machines[0], lines[0]);
  const second = createSide(machines[1], lines[1]);
  return [exposeSide(world, protocol, first, second), exposeSide(world, protocol, second, first)];
}

function createSide(machine: Machine, line: Line): Side {
  return {
    machine,
    line,
    ended: Promise.withResolvers<StreamEnd>(),
    end: undefined,
    queuedBytes: 0,
    lastArrivalMs: 0,
    onBytes: undefined,
    early: [],
    lateEnd: undefined,
    waiting: [],
    cuts: [],
  };
}

function exposeSide(world: StreamWorld, protocol: string, own: Side, other: Side): StreamSide {
  const requireOpen = (): void => {
    if (own.end !== undefined) throw new MeshError("peer-gone", `the ${protocol} stream has ended`);
  };
  const reset = (reason: string): void => {
    if (own.end !== undefined) return;
    finish(own, { how: "reset", reason });
    travel(world, own, other, 0, "net.reset", () =>
      finish(other, { how: "reset", reason: "the peer reset the stream" }),
    );
  };
  const stream: Stream = {
    protocol,
    ended: own.ended.promise,
    send(bytes) {
      assert(bytes.byteLength <= sendMaxBytes, `a send of ${bytes.byteLength} bytes is too large`);
      requireOpen();
      carry(world, own, other, bytes);
      return own.queuedBytes <= queueHighBytes;
    },
    async drained(signal) {
      signal.throwIfAborted();
      requireOpen();
      if (own.queuedBytes > queueHighBytes) await room(own, signal);
      requireOpen();
    },
    receive(onBytes) {
      assert(own.onBytes === undefined, "receive is called once");
      own.onBytes = (bytes) => {
        try {
          onBytes(bytes);
        } catch (error) {
          reset(messageOf(error));
          // A peer that talks nonsense costs its stream; a bug in this program is not hidden.
          if (!isMeshError(error)) throw error;
        }
      };
      if (own.early.length > 0 || own.lateEnd !== undefined)
        world.timeline.schedule(own.machine, 0, "net.early", () => catchUp(own));
    },
    async close() {
      if (own.end !== undefined) return;
      finish(own, { how: "closed", reason: "this side closed the stream" });
      await new Promise<void>((resolve) => {
        own.cuts.push(resolve);
        // Behind everything that was sent, as it takes the same way.
        travel(world, own, other, 0, "net.close", () => {
          endInTurn(other, { how: "closed", reason: "the peer closed the stream" });
          world.timeline.schedule(own.machine, 0, "net.closed", resolve);
        });
      });
    },
    reset,
  };
  const cut = (reason: string): void => {
    finish(own, { how: "reset", reason });
    for (const settle of own.cuts.splice(0)) settle();
  };
  return { stream, cut };
}

/** Resolves when the queue has room again, or the stream has ended. */
function room(own: Side, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const onAbort = (): void => reject(signal.reason);
    signal.addEventListener("abort", onAbort, { once: true });
    own.waiting.push(() => {
      signal.removeEventListener("abort", onAbort);
      resolve();
    });
  });
}

/** Sends bytes; where they are cut on the way is left to chance. */
function carry(world: StreamWorld, own: Side, other: Side, bytes: Uint8Array): void {
  own.queuedBytes += bytes.byteLength;
  travel(world, own, other, bytes.byteLength, "net.bytes", () => {
    own.queuedBytes -= bytes.byteLength;
    if (own.waiting.length > 0 && own.queuedBytes <= queueHighBytes)
      world.timeline.schedule(own.machine, 0, "net.drained", () => wake(own));
    if (other.end !== undefined) return;
    // Framing must not depend on what was sent together arriving together.
    const cut = world.random.chance(0.25) ? world.random.below(bytes.byteLength) : 0;
    if (cut > 0) deliver(other, bytes.subarray(0, cut));
    deliver(other, bytes.subarray(cut));
  });
}

function deliver(side: Side, bytes: Uint8Array): void {
  if (side.end !== undefined) return;
  if (side.onBytes === undefined || side.early.length > 0) side.early.push(bytes);
  else side.onBytes(bytes);
}

/** Gives what came before anybody received: in one piece, however it was sent. */
function catchUp(side: Side): void {
  const { early, lateEnd } = side;
  side.early = [];
  if (early.length > 0 && side.end === undefined) side.onBytes?.(concatBytes(early));
  if (lateEnd !== undefined) finish(side, lateEnd);
}

/** A stream that was closed ends for its reader after the last byte. */
function endInTurn(side: Side, end: StreamEnd): void {
  if (side.early.length > 0) side.lateEnd = end;
  else finish(side, end);
}

/** Makes `arrive` happen at the other end, after what was sent before, if the line lets it. */
function travel(
  world: StreamWorld,
  own: Side,
  other: Side,
  sizeBytes: number,
  kind: string,
  arrive: () => void,
): void {
  const { timeline } = world;
  // What a killed process still does in its last turn nobody hears of.
  if (!own.machine.isAlive) return;
  own.line.whenOpen(() => {
    const nowMs = timeline.nowMs();
    const delayMs = own.line.arrivalMs(sizeBytes, own.lastArrivalMs);
    own.lastArrivalMs = nowMs + delayMs;
    timeline.schedule(other.machine, delayMs, kind, () => {
      // What a side that has reset had queued is lost, but the reset itself is not.
      if (kind === "net.reset" || own.end?.how !== "reset") arrive();
    });
  });
}

function finish(side: Side, end: StreamEnd): void {
  if (side.end !== undefined) return;
  side.end = end;
  side.ended.resolve(end);
  wake(side);
}

function wake(side: Side): void {
  for (const go of side.waiting.splice(0)) go();
}
