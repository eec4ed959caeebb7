/**
 * A simulated stream: two ends, and between them bytes on their way.
 *
 * Order and reliability are the stream's own; how long bytes take, and whether they may pass at
 * all, it asks its line. It knows nothing about peers.
 */
import { concatBytes } from "../base/bytes.ts";
import { MeshError } from "../base/errors.ts";
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
  closing: boolean;
  queuedBytes: number;
  lastArrivalMs: number;
  onBytes: ((bytes: Uint8Array) => void) | undefined;
  /** Arrived, but nobody receives yet. */
  early: Uint8Array[];
  /** Waiting for room in the queue. */
  waiting: (() => void)[];
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
  return [
    exposeSide(world, protocol, first, second),
    exposeSide(world, protocol, second, first),
  ];
}

function createSide(machine: Machine, line: Line): Side {
  return {
    machine,
    line,
    ended: Promise.withResolvers<StreamEnd>(),
    end: undefined,
    closing: false,
    queuedBytes: 0,
    lastArrivalMs: 0,
    onBytes: undefined,
    early: [],
    waiting: [],
  };
}

function exposeSide(world: StreamWorld, protocol: string, own: Side, other: Side): StreamSide {
  const reset = (reason: string): void => {
    if (own.end !== undefined) return;
    finish(own, { how: "reset", reason });
    travel(world, own, other, 0, "net.reset", () =>
      finish(other, { how: "reset", reason: "the other side reset the stream" }),
    );
  };
  const stream: Stream = {
    protocol,
    send(bytes) {
      if (bytes.byteLength > sendMaxBytes)
        throw new MeshError("limit", `${bytes.byteLength} bytes in one send: cut it up`);
      if (own.end !== undefined || own.closing)
        throw new MeshError("peer-gone", `the ${protocol} stream has ended`);
      carry(world, own, other, bytes);
      return own.queuedBytes <= queueHighBytes;
    },
    drained: (signal) => drained(own, signal),
    receive(onBytes) {
      own.onBytes = onBytes;
      const early = own.early;
      own.early = [];
      // As a queue gives it: at once and in one piece, however it was sent.
      if (early.length > 0) onBytes(concatBytes(early));
    },
    ended: own.ended.promise,
    async close() {
      if (own.end !== undefined) return;
      if (!own.closing) {
        own.closing = true;
        // Behind everything that was sent, as it takes the same way.
        travel(world, own, other, 0, "net.close", () => {
          finish(other, { how: "closed", reason: "the other side closed the stream" });
          world.timeline.schedule(own.machine, 0, "net.closed", () =>
            finish(own, { how: "closed", reason: "closed" }),
          );
        });
      }
      await own.ended.promise;
    },
    reset,
  };
  return { stream, cut: (reason) => finish(own, { how: "reset", reason }) };
}

function drained(own: Side, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal.aborted) return reject(signal.reason);
    if (own.end !== undefined || own.queuedBytes <= queueHighBytes) return resolve();
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
  if (side.onBytes === undefined) side.early.push(bytes);
  else side.onBytes(bytes);
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
