/**
 * Frames over one stream: packs small ones into few sends, splits large ones, bounds the queue.
 *
 * Knows nothing about what the frames mean. Back-pressure between peers is the protocol's own
 * matter (credit, or messages that may be dropped); this bounds only what waits here.
 */
import { isMeshError, MeshError, messageOf } from "../base/errors.ts";
import { type Stream, type StreamEnd, sendMaxBytes } from "../host/host.ts";
import {
  createFrameDecoder,
  type Frame,
  frameHeaderBytes,
  optionalFlag,
  unfilled,
  writeFrame,
} from "./frame.ts";

/** What happens to a frame when the queue is long. */
export type Urgency =
  /** Queued in any case; past `queueMaxBytes` the channel is reset instead. */
  | "must"
  /** Dropped while more than `dropAboveBytes` wait: a newer one will follow anyway. */
  | "droppable";

export interface ChannelOptions {
  /** Largest payload accepted from the other side; a longer one resets the stream. */
  readonly frameMaxBytes: number;
  /** Bytes that may wait here. One more and the channel is reset: the peer does not keep up. */
  readonly queueMaxBytes: number;
  /** Above this many waiting bytes, droppable frames are dropped. Default: a quarter of the bound. */
  readonly dropAboveBytes?: number;
  /** Types to hand on. Others are skipped if they say so (`optionalFlag`), else reset the stream. */
  readonly knownTypes?: ReadonlySet<number>;
}

export interface Channel {
  /**
   * Queues a frame; frames queued in one turn leave in one send. The payload belongs to the
   * channel afterwards. Never throws for what the other side does.
   * @returns false when the frame was not queued: dropped, or the channel has ended.
   */
  send(frame: Frame, urgency?: Urgency): boolean;
  /** Bytes that wait here because the stream takes no more. */
  queuedBytes(): number;
  /** Resolves once nothing waits here. Codes: "peer-gone" when the channel ends first. */
  drained(signal: AbortSignal): Promise<void>;
  /** Resolves once, when no more frames will come; never rejects. */
  readonly ended: Promise<StreamEnd>;
  /** Sends what is queued, then ends both directions. */
  close(): Promise<void>;
  /** Ends now, dropping what is queued. */
  reset(reason: string): void;
}

/**
 * Takes the stream over and delivers each frame to `onFrame`. A MeshError that `onFrame` throws
 * resets the stream with its message; any other error is a bug and goes on.
 */
export function createChannel(
  stream: Stream,
  options: ChannelOptions,
  onFrame: (frame: Frame) => void,
): Channel {
  const outgoing = createOutgoing(stream, options, () => reset("the send queue is full"));
  let over = false;
  let ownEnd: StreamEnd | undefined;

  function reset(reason: string): void {
    if (over) return;
    over = true;
    ownEnd = { how: "reset", reason };
    outgoing.stop();
    stream.reset(reason);
  }

  const decoder = createFrameDecoder(options);
  const accept = (frame: Frame): void => {
    // A frame behind the one that made us reset must not be acted on.
    if (over) return;
    if (options.knownTypes?.has(frame.type) ?? true) {
      onFrame(frame);
    } else if ((frame.flags & optionalFlag) === 0) {
      throw new MeshError("malformed", `unknown frame type ${frame.type}`);
    }
  };
  stream.receive((piece) => {
    if (over) return;
    try {
      decoder.push(piece, accept);
    } catch (error) {
      reset(messageOf(error));
      if (!isMeshError(error)) throw error;
    }
  });

  const ended = stream.ended.then((end): StreamEnd => {
    over = true;
    outgoing.stop();
    if (ownEnd !== undefined) return ownEnd;
    // Frees our half as well; the stream is over for both sides, so how that ends is no news.
    if (end.how === "closed") stream.close().catch(() => {});
    return end.how === "closed" && decoder.pendingBytes() > 0
      ? { how: "reset", reason: "the stream ended inside a frame" }
      : end;
  });

  return {
    send: (frame, urgency = "must") => !over && outgoing.send(frame, urgency),
    queuedBytes: () => outgoing.queuedBytes(),
    drained: (signal) => outgoing.drained(signal),
    ended,
    async close() {
      if (over) return;
      await outgoing.flushed();
      if (over) return;
      await stream.close();
    },
    reset,
  };
}

interface Outgoing {
  send(frame: Frame, urgency: Urgency): boolean;
  queuedBytes(): number;
  drained(signal: AbortSignal): Promise<void>;
  /** Resolves when nothing waits or the stream has ended; never rejects. */
  flushed(): Promise<void>;
  stop(): void;
}

function createOutgoing(stream: Stream, options: ChannelOptions, onFull: () => void): Outgoing {
  const { queueMaxBytes, dropAboveBytes = queueMaxBytes / 4 } = options;
  const stopped = new AbortController();
  let queue: Frame[] = [];
  let queuedBytes = 0;
  /** A flush is due at the end of this turn, or waits for the stream. */
  let busy = false;
  let waiters: (() => void)[] = [];

  async function flush(): Promise<void> {
    // One turn of patience: frames that are sent together travel together.
    await undefined;
    try {
      while (queue.length > 0 && !stopped.signal.aborted) {
        const batch = queue;
        queue = [];
        for (const chunk of chunksOf(batch)) {
          const more = stream.send(chunk);
          queuedBytes -= chunk.byteLength;
          if (!more) await stream.drained(stopped.signal);
          if (stopped.signal.aborted) return;
        }
      }
    } catch {
      // The stream is gone: its `ended` says so to everybody, and the rest is dropped.
      stop();
    } finally {
      busy = false;
      wake();
    }
  }

  function wake(): void {
    const woken = waiters;
    waiters = [];
    for (const waiter of woken) waiter();
  }

  function stop(): void {
    queue = [];
    queuedBytes = 0;
    stopped.abort();
    wake();
  }

  return {
    send(frame, urgency) {
      const frameBytes = frameHeaderBytes + frame.payload.byteLength;
      if (stopped.signal.aborted) return false;
      if (urgency === "droppable" && queuedBytes + frameBytes > dropAboveBytes) return false;
      if (queuedBytes + frameBytes > queueMaxBytes) {
        onFull();
        return false;
      }
      queue.push(frame);
      queuedBytes += frameBytes;
      if (!busy) {
        busy = true;
        void flush();
      }
      return true;
    },
    queuedBytes: () => queuedBytes,
    async flushed() {
      while (busy && !stopped.signal.aborted) {
        await new Promise<void>((resolve) => void waiters.push(resolve));
      }
    },
    async drained(signal) {
      signal.throwIfAborted();
      if (busy && !stopped.signal.aborted) await idle(waiters, signal);
      if (stopped.signal.aborted) throw new MeshError("peer-gone", "the stream has ended");
    },
    stop,
  };
}

/** Waits for the next wake-up; an abort leaves no listener and no entry behind. */
function idle(waiters: (() => void)[], signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const wake = (): void => {
      signal.removeEventListener("abort", abort);
      resolve();
    };
    const abort = (): void => {
      const at = waiters.indexOf(wake);
      if (at >= 0) waiters.splice(at, 1);
      reject(signal.reason);
    };
    signal.addEventListener("abort", abort, { once: true });
    waiters.push(wake);
  });
}

/** Lays frames out in chunks of at most `sendMaxBytes`; only a frame longer than that is split. */
function* chunksOf(frames: readonly Frame[]): Generator<Uint8Array> {
  let from = 0;
  while (from < frames.length) {
    let until = from;
    let sizeBytes = 0;
    for (; until < frames.length; until += 1) {
      const next = frameHeaderBytes + (frames[until]?.payload.byteLength ?? 0);
      if (until > from && sizeBytes + next > sendMaxBytes) break;
      sizeBytes += next;
    }
    const chunk = unfilled(sizeBytes);
    let at = 0;
    for (const frame of frames.slice(from, until)) at = writeFrame(chunk, at, frame);
    from = until;
    for (let cut = 0; cut < sizeBytes; cut += sendMaxBytes) {
      yield chunk.subarray(cut, cut + sendMaxBytes);
    }
  }
}
