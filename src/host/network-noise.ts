/**
 * Noise, the encryption of every connection, made cheap for many small messages.
 *
 * Knows nothing about cryptography: what is encrypted and how stays the library's alone.
 *
 * - What is written in one turn is encrypted and handed to the socket together. On its own, each
 *   message is a packet with a system call for its two bytes of length and one or two for the rest,
 *   and every message that arrives is answered with one that widens a window.
 * - Wherever what has arrived ends with a packet, the library asks for the next length all the
 *   same, and says that there is none by throwing inside: a stack trace for each packet.
 */
import {
  type NoiseComponents,
  type NoiseExtensions,
  type NoiseInit,
  noise,
} from "@chainsafe/libp2p-noise";
import type { ConnectionEncrypter, MessageStream } from "@libp2p/interface";

/** As `noise` of `@chainsafe/libp2p-noise`. */
export function thriftyNoise(
  init: NoiseInit,
): (components: NoiseComponents) => ConnectionEncrypter<NoiseExtensions> {
  const make = noise(init);
  return (components) => {
    const encrypter = make(components);
    const inbound = encrypter.secureInbound.bind(encrypter);
    const outbound = encrypter.secureOutbound.bind(encrypter);
    encrypter.secureInbound = async (stream, options) => thrifty(await inbound(stream, options));
    encrypter.secureOutbound = async (stream, options) => thrifty(await outbound(stream, options));
    return encrypter;
  };
}

/** Bytes in one buffer or several, as libp2p passes them on. */
interface ByteList {
  readonly byteLength: number;
  subarray(start?: number, end?: number): Uint8Array;
}

/** What is used of the inside of the library's encrypted stream. */
interface Inside {
  readonly stream: { send(bytes: Uint8Array): boolean };
  readonly decoder: { lengthDecoder: (arrived: ByteList) => number };
  encrypt(plain: Uint8Array): ByteList;
  sendData(data: ByteList): { sentBytes: number; canSendMore: boolean };
  writableNeedsDrain: boolean;
}

function thrifty<T extends { readonly connection: MessageStream }>(secured: T): T {
  const { connection } = secured;
  // Where a later version of the library is made differently, it stays as it is.
  if (!hasInside(connection)) return secured;
  connection.decoder.lengthDecoder = packetLength;
  sendTogether(connection);
  return secured;
}

function hasInside(connection: MessageStream): connection is MessageStream & Inside {
  const { stream, decoder, encrypt, sendData } = connection as Partial<Inside>;
  return (
    typeof stream?.send === "function" &&
    typeof decoder?.lengthDecoder === "function" &&
    typeof encrypt === "function" &&
    typeof sendData === "function"
  );
}

const lengthBytes = 2;
/** The longest packet there is: with fewer than `lengthBytes` here, it cannot be complete. */
const incomplete = 65_535;

/** @internal */
export function packetLength(arrived: ByteList): number {
  if (arrived.byteLength < lengthBytes) return incomplete;
  const [high = 0, low = 0] = arrived.subarray(0, lengthBytes);
  return high * 256 + low;
}

/** What one packet holds; more than that does not wait for the end of the turn. */
const togetherMaxBytes = 65_519;

function sendTogether(connection: MessageStream & Inside): void {
  const { stream } = connection;
  const encrypt = connection.encrypt.bind(connection);
  const close = connection.close.bind(connection);
  let waiting: Uint8Array[] = [];
  let waitingBytes = 0;
  let isDue = false;

  function flush(): boolean {
    if (waitingBytes === 0) return true;
    const [first] = waiting;
    const plain = waiting.length === 1 && first !== undefined ? first : Buffer.concat(waiting);
    waiting = [];
    waitingBytes = 0;
    return stream.send(encrypt(plain).subarray());
  }

  function flushLater(): void {
    isDue = false;
    if (connection.status !== "open" && connection.status !== "closing") return;
    try {
      // Whoever wrote has been told that there was room; the next one hears that there is not.
      if (!flush()) connection.writableNeedsDrain = true;
    } catch (error) {
      connection.abort(error instanceof Error ? error : new Error(String(error)));
    }
  }

  connection.sendData = (data) => {
    const sentBytes = data.byteLength;
    waiting.push(data.subarray());
    waitingBytes += sentBytes;
    if (waitingBytes > togetherMaxBytes) return { sentBytes, canSendMore: flush() };
    if (!isDue) {
      isDue = true;
      // After every promise of this turn: what they go on to send belongs to it.
      queueMicrotask(() => process.nextTick(flushLater));
    }
    return { sentBytes, canSendMore: true };
  };
  connection.close = async (options) => {
    flushLater();
    await close(options);
  };
}
