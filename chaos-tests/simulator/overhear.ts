/**
 * Frames of a stream that somebody else reads as well. What is no frame ends the listening and
 * nothing else: to be cut off for it is up to the reader.
 */
import { isMeshError } from "../../src/base/errors.ts";
import { createFrameDecoder, type Frame } from "../../src/wire/frame.ts";

export interface Overhearing {
  /** Calls `onFrame` for each frame that `bytes` complete; nothing it throws for nonsense gets out. */
  hear(bytes: Uint8Array, onFrame: (frame: Frame) => void): void;
  /** Bytes of an unfinished frame; 0 once nonsense came. */
  pendingBytes(): number;
}

export function createOverhearing(options: { readonly frameMaxBytes: number }): Overhearing {
  const decoder = createFrameDecoder(options);
  let isDeaf = false;
  return {
    hear(bytes, onFrame) {
      if (isDeaf) return;
      try {
        decoder.push(bytes, onFrame);
      } catch (error) {
        if (!isMeshError(error)) throw error;
        isDeaf = true;
      }
    },
    pendingBytes: () => (isDeaf ? 0 : decoder.pendingBytes()),
  };
}
