/**
 * A stream that remembers whether this side reset it, and why.
 *
 * A channel that resets because of what the peer sent looks from outside like one that the peer
 * reset; the first is the peer's fault and has consequences, the second has none.
 */
import type { Stream } from "../host/host.ts";

export interface Watched {
  readonly stream: Stream;
  /** The reason given when this side reset the stream. */
  resetReason(): string | undefined;
}

export function watch(stream: Stream): Watched {
  let reason: string | undefined;
  return {
    resetReason: () => reason,
    stream: {
      protocol: stream.protocol,
      ended: stream.ended,
      send: (bytes) => stream.send(bytes),
      drained: (signal) => stream.drained(signal),
      receive(onBytes) {
        // One turn later, so that whoever builds a channel has it before its first frame.
        queueMicrotask(() => stream.receive(onBytes));
      },
      close: () => stream.close(),
      reset(why) {
        reason ??= why;
        stream.reset(why);
      },
    },
  };
}
