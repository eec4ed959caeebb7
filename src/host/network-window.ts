/**
 * How often a stream tells its sender that there is room again.
 *
 * The multiplexer of libp2p does so for every message, which answers each small one with a packet
 * of its own: a system call here, and one, a decryption and a wake-up over there. Half a window is
 * early enough, as every other implementation of yamux has it. It knows nothing of what is sent.
 */
import type { Stream as Libp2pStream } from "@libp2p/interface";

/** What is used of the inside of a yamux stream; see its `stream.ts`. */
interface Inside {
  readonly state: number;
  readonly recvWindow: number;
  readonly recvWindowCapacity: number;
  sendWindowUpdate(): void;
}

/** The state in which an update carries nothing but the room: earlier ones open the stream. */
const established = 3;

/** Where a later version of the library is made differently, it stays as it is. */
export function widenRarely(raw: Libp2pStream): void {
  if (!hasInside(raw)) return;
  const widen = raw.sendWindowUpdate.bind(raw);
  raw.sendWindowUpdate = () => {
    const usedBytes = raw.recvWindow - raw.recvWindowCapacity;
    if (raw.state === established && usedBytes < raw.recvWindow / 2) return;
    widen();
  };
}

function hasInside(raw: Libp2pStream): raw is Libp2pStream & Inside {
  const { state, recvWindow, recvWindowCapacity, sendWindowUpdate } = raw as Partial<Inside>;
  return (
    typeof state === "number" &&
    typeof recvWindow === "number" &&
    typeof recvWindowCapacity === "number" &&
    typeof sendWindowUpdate === "function"
  );
}
