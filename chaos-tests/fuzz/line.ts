/**
 * A stream as an attacker uses it: bytes go out as they are, frames that come in are told, and
 * whatever the other side does is no surprise.
 */
import { isMeshError } from "../../src/base/errors.ts";
import { type Stream, type StreamEnd, sendMaxBytes } from "../../src/host/host.ts";
import { createFrameDecoder, encodeFrame, type Frame } from "../../src/wire/frame.ts";

export interface Line {
  /** False: the stream has ended. */
  send(bytes: Uint8Array): boolean;
  say(frame: Frame): boolean;
  readonly ended: Promise<StreamEnd>;
  /** How it ended; undefined while it lives. */
  end(): StreamEnd | undefined;
}

const anyFrameMaxBytes = 2 ** 26;

export function lineOver(stream: Stream, onFrame: (frame: Frame, line: Line) => void): Line {
  const decoder = createFrameDecoder({ frameMaxBytes: anyFrameMaxBytes });
  let end: StreamEnd | undefined;
  const send = (bytes: Uint8Array): boolean => {
    try {
      for (let at = 0; at < bytes.byteLength; at += sendMaxBytes)
        stream.send(bytes.subarray(at, at + sendMaxBytes));
      return true;
    } catch (error) {
      if (isMeshError(error, "peer-gone")) return false;
      throw error;
    }
  };
  const line: Line = {
    send,
    say: (frame) => send(encodeFrame(frame)),
    ended: stream.ended.then((how) => {
      end = how;
      return how;
    }),
    end: () => end,
  };
  stream.receive((piece) => decoder.push(piece, (frame) => onFrame(frame, line)));
  return line;
}
