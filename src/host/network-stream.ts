/**
 * One libp2p stream as the port's `Stream`.
 *
 * Works around what a libp2p 3 stream does silently: `onDrain` that resolves for ever once it has
 * resolved, iterators without a bound, a `close` that ends one direction only. Knows nothing of
 * peers or connections.
 */
import assert from "node:assert/strict";
import type { Stream as Libp2pStream } from "@libp2p/interface";
import { isMeshError, MeshError, messageOf } from "../base/errors.ts";
import { type Stream, type StreamEnd, sendMaxBytes } from "./host.ts";
import { widenRarely } from "./network-window.ts";

/** How long the other side may take to accept what is queued and to close its half. */
const closeMaxMs = 10_000;

export function createStream(raw: Libp2pStream): Stream {
  widenRarely(raw);
  const end = watchEnd(raw);
  let receiving = false;

  function requireOpen(): void {
    if (end.isOver()) throw new MeshError("peer-gone", `the ${raw.protocol} stream has ended`);
  }

  return {
    protocol: raw.protocol,
    ended: end.ended,
    send(bytes) {
      assert(bytes.byteLength <= sendMaxBytes, `a send of ${bytes.byteLength} bytes is too large`);
      requireOpen();
      try {
        return raw.send(bytes);
      } catch (error) {
        throw new MeshError("peer-gone", `the ${raw.protocol} stream has ended`, { cause: error });
      }
    },
    async drained(signal) {
      signal.throwIfAborted();
      requireOpen();
      // Not `raw.onDrain()`: after its first drain it resolves at once for ever. Not "until
      // writeBufferLength is 0" either: an empty queue gets no drain event, so that would hang.
      // While this flag is set a drain event is certain to come, or the stream ends.
      while (raw.writableNeedsDrain) {
        await oneDrain(raw, signal);
        requireOpen();
      }
    },
    receive(onBytes) {
      assert(!receiving, "receive is called once");
      receiving = true;
      raw.addEventListener("message", ({ data }) => {
        const pieces = data instanceof Uint8Array ? [data] : data;
        try {
          for (const piece of pieces) {
            if (end.isOver()) return;
            onBytes(piece);
          }
        } catch (error) {
          raw.abort(new Error(messageOf(error)));
          // A peer that talks nonsense costs its stream; a bug in this program is not hidden.
          if (!isMeshError(error)) throw error;
        }
      });
    },
    async close() {
      if (end.isOver()) return;
      end.finish({ how: "closed", reason: "this side closed the stream" });
      await closeRaw(raw);
    },
    reset(reason) {
      end.finish({ how: "reset", reason });
      raw.abort(new Error(reason));
    },
  };
}

interface End {
  readonly ended: Promise<StreamEnd>;
  isOver(): boolean;
  /** The first call decides. */
  finish(end: StreamEnd): void;
}

/** Tells an ordinary end of a stream from a reset and from a lost connection. */
function watchEnd(raw: Libp2pStream): End {
  const { promise: ended, resolve } = Promise.withResolvers<StreamEnd>();
  let over = false;
  let remoteIsDone = false;

  function finish(end: StreamEnd): void {
    over = true;
    resolve(end);
  }

  raw.addEventListener("remoteCloseWrite", () => {
    remoteIsDone = true;
  });
  // "end" comes after the last byte was handed on; "close" may come while bytes wait for `receive`.
  raw.addEventListener("end", () => {
    if (over || !remoteIsDone) return;
    finish({ how: "closed", reason: "the peer closed the stream" });
    // The peer said all it had to say, and there is no half-open stream in this port.
    void closeRaw(raw);
  });
  raw.addEventListener("close", (event) => {
    if (event.error !== undefined) {
      const reason = event.local === true ? messageOf(event.error) : "the peer reset the stream";
      finish({ how: "reset", reason });
    } else if (!remoteIsDone) {
      finish({ how: "reset", reason: "the connection was lost" });
    }
  });
  if (raw.status !== "open") finish({ how: "reset", reason: "the connection was lost" });
  return { ended, isOver: () => over, finish };
}

/**
 * Sends what is queued, then ends this half; resets the stream if that or the other half takes too
 * long, since a half that nobody closes is never freed. Never rejects.
 */
async function closeRaw(raw: Libp2pStream): Promise<void> {
  const tooLate = setTimeout(() => raw.abort(new Error("the peer did not close")), closeMaxMs);
  tooLate.unref();
  raw.addEventListener("close", () => clearTimeout(tooLate), { once: true });
  if (raw.status !== "open") clearTimeout(tooLate);
  try {
    await raw.close({ signal: AbortSignal.timeout(closeMaxMs) });
  } catch (error) {
    raw.abort(new Error(messageOf(error)));
  }
}

/**
 * Resolves after the next drain event or the end of the stream. The microtask lets the stream's
 * own listener try to send the rest first, and raise its flag again if that did not fit.
 */
function oneDrain(raw: Libp2pStream, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const stop = (): void => {
      raw.removeEventListener("drain", onDrain);
      raw.removeEventListener("close", onDrain);
      signal.removeEventListener("abort", onAbort);
    };
    const onDrain = (): void => {
      stop();
      queueMicrotask(resolve);
    };
    const onAbort = (): void => {
      stop();
      reject(signal.reason);
    };
    raw.addEventListener("drain", onDrain);
    raw.addEventListener("close", onDrain);
    signal.addEventListener("abort", onAbort);
  });
}
