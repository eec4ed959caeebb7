/**
 * Two ends of one in-process stream that keeps the promises of the `Stream` port, for tests that
 * need bytes to travel but no network. Not part of the product.
 */
import { MeshError } from "../base/errors.ts";
import { type Stream, type StreamEnd, sendMaxBytes } from "../host/host.ts";

export interface PairOptions {
  /** Delivered pieces are cut to this size. */
  readonly pieceMaxBytes?: number;
  /** `send` answers false while more than this waits. */
  readonly highWaterBytes?: number;
}

/** One end, with a brake and counters for tests. */
export interface PairEnd extends Stream {
  /** Stops (or restarts) delivery to this end, as a reader that is busy would. */
  hold(held: boolean): void;
  sends(): readonly number[];
  waitingBytes(): number;
}

export function createStreamPair(
  protocol: string,
  options: PairOptions = {},
): readonly [PairEnd, PairEnd] {
  const left = createEnd(protocol, options);
  const right = createEnd(protocol, options);
  left.join(right);
  right.join(left);
  return [left, right];
}

interface JoinedEnd extends PairEnd {
  join(other: JoinedEnd): void;
  arrive(bytes: Uint8Array): void;
  finish(end: StreamEnd): void;
  whenLow(levelBytes: number, signal: AbortSignal): Promise<void>;
}

function createEnd(protocol: string, options: PairOptions): JoinedEnd {
  const { pieceMaxBytes = sendMaxBytes, highWaterBytes = 1024 * 1024 } = options;
  let other: JoinedEnd | undefined;
  let deliver: ((bytes: Uint8Array) => void) | undefined;
  let inbox: Uint8Array[] = [];
  let inboxBytes = 0;
  let end: StreamEnd | undefined;
  let pendingEnd: StreamEnd | undefined;
  let held = false;
  let scheduled = false;
  const drainWaiters: (() => void)[] = [];
  const sizes: number[] = [];
  let settle: (end: StreamEnd) => void = () => {};
  const ended = new Promise<StreamEnd>((resolve) => {
    settle = resolve;
  });

  function schedule(): void {
    if (scheduled) return;
    scheduled = true;
    setImmediate(pump);
  }

  function pump(): void {
    scheduled = false;
    if (pendingEnd !== undefined && inbox.length === 0) conclude(pendingEnd);
    if (held || deliver === undefined || end !== undefined) return;
    const bytes = inbox;
    inbox = [];
    for (const whole of bytes) {
      inboxBytes -= whole.byteLength;
      for (let at = 0; at < whole.byteLength; at += pieceMaxBytes) {
        deliver(whole.subarray(at, at + pieceMaxBytes));
      }
    }
    for (const waiter of drainWaiters.splice(0)) waiter();
    if (pendingEnd !== undefined && inbox.length === 0) conclude(pendingEnd);
  }

  function conclude(how: StreamEnd): void {
    if (end !== undefined) return;
    end = how;
    for (const waiter of drainWaiters.splice(0)) waiter();
    settle(how);
  }

  const self: JoinedEnd = {
    protocol,
    ended,
    send(bytes) {
      if (end !== undefined || pendingEnd !== undefined) {
        throw new MeshError("peer-gone", "the stream has ended");
      }
      if (bytes.byteLength > sendMaxBytes) throw new Error(`one send of ${bytes.byteLength}`);
      sizes.push(bytes.byteLength);
      other?.arrive(bytes);
      return (other?.waitingBytes() ?? 0) <= highWaterBytes;
    },
    async drained(signal) {
      signal.throwIfAborted();
      await other?.whenLow(highWaterBytes, signal);
    },
    receive(onBytes) {
      deliver = onBytes;
      schedule();
    },
    async close() {
      other?.finish({ how: "closed", reason: "closed by the other side" });
      self.finish({ how: "closed", reason: "closed here" });
      await ended;
    },
    reset(reason) {
      conclude({ how: "reset", reason });
      other?.finish({ how: "reset", reason: "reset by the other side" });
    },
    hold(on) {
      held = on;
      if (!on) schedule();
    },
    sends: () => sizes,
    waitingBytes: () => inboxBytes,
    join(joined) {
      other = joined;
    },
    arrive(bytes) {
      inbox.push(bytes);
      inboxBytes += bytes.byteLength;
      schedule();
    },
    finish(how) {
      if (how.how === "reset") return conclude(how);
      pendingEnd ??= how;
      schedule();
    },
    whenLow(level, signal) {
      if (inboxBytes <= level || end !== undefined) return Promise.resolve();
      return new Promise((resolve, reject) => {
        const abort = (): void => reject(signal.reason);
        signal.addEventListener("abort", abort, { once: true });
        drainWaiters.push(() => {
          signal.removeEventListener("abort", abort);
          resolve();
        });
      });
    },
  };
  return self;
}
