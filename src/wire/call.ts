/**
 * Questions and answers over a channel: numbers each question and finds its answer again.
 *
 * Knows neither the stream nor the types: the owner of the channel feeds answers in.
 */
import { MeshError } from "../base/errors.ts";
import type { Clock } from "../host/host.ts";
import { type Frame, frameOf } from "./frame.ts";

export interface Calls {
  /**
   * Sends a question and waits for the frame that bears its number. Codes: "deadline"; "limit"
   * when too many questions are open; "peer-gone" when it cannot be sent or the channel ends.
   */
  ask(type: number, payload: Uint8Array, signal: AbortSignal): Promise<Frame>;
  /** Settles the question this frame answers. False: nobody waits (any more), which is no fault. */
  answer(frame: Frame): boolean;
  /** Fails every open question, and all later ones: for the end of the channel. */
  fail(error: MeshError): void;
  open(): number;
}

export interface CallsDeps {
  readonly clock: Clock;
  /** Normally `channel.send`: false when it was not queued. */
  readonly send: (frame: Frame) => boolean;
}

export interface CallsOptions {
  readonly openMax: number;
  readonly deadlineMs: number;
}

interface Waiting {
  readonly resolve: (frame: Frame) => void;
  readonly reject: (error: unknown) => void;
}

export function createCalls({ clock, send }: CallsDeps, options: CallsOptions): Calls {
  const waiting = new Map<number, Waiting>();
  let lastId = 0;
  let failure: MeshError | undefined;

  function wait(type: number, payload: Uint8Array, signal: AbortSignal): Promise<Frame> {
    return new Promise((resolve, reject) => {
      // 0 means "asks nothing", and a number still in use must not be given out again.
      do lastId = (lastId + 1) >>> 0;
      while (lastId === 0 || waiting.has(lastId));
      const requestId = lastId;
      const forget = (): void => {
        waiting.delete(requestId);
        signal.removeEventListener("abort", abort);
      };
      const abort = (): void => {
        forget();
        reject(signal.reason);
      };
      signal.addEventListener("abort", abort, { once: true });
      waiting.set(requestId, {
        resolve(frame) {
          forget();
          resolve(frame);
        },
        reject(error) {
          forget();
          reject(error);
        },
      });
      if (!send(frameOf(type, { requestId, payload }))) {
        waiting.get(requestId)?.reject(new MeshError("peer-gone", "the stream has ended"));
      }
    });
  }

  return {
    async ask(type, payload, signal) {
      signal.throwIfAborted();
      if (failure !== undefined) throw failure;
      if (waiting.size >= options.openMax) {
        throw new MeshError("limit", `${waiting.size} questions to this peer are open already`);
      }
      return clock.withDeadline(signal, options.deadlineMs, (inTime) =>
        wait(type, payload, inTime),
      );
    },
    answer(frame) {
      const question = waiting.get(frame.requestId);
      question?.resolve(frame);
      return question !== undefined;
    },
    fail(error) {
      failure ??= error;
      for (const question of [...waiting.values()]) question.reject(error);
    },
    open: () => waiting.size,
  };
}
