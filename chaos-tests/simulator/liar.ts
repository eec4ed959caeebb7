/**
 * Homes that lie: whoever asks them for a result gets the record of another action, a forged one,
 * or garbage. What they say otherwise is true.
 */
import { ac, acFrameMaxBytes, acProtocol, unpackRecords } from "../../src/action/ac.ts";
import { concatBytes } from "../../src/base/bytes.ts";
import type { Network, Stream } from "../../src/host/host.ts";
import { signatureBytes } from "../../src/host/signing.ts";
import type { SeededRandom } from "../../src/sim/random.ts";
import { encodeFrame, type Frame, frameOf } from "../../src/wire/frame.ts";
import { packedDigestBytes } from "../../src/wire/messages.ts";
import { createOverhearing } from "./overhear.ts";

export interface Lies {
  /** The network of a host that lies while `isLying`. */
  around(network: Network, isLying: () => boolean): Network;
}

/** True records that liars have overheard, to be told again about something else. */
const overheardMax = 256;

export function createLies(random: SeededRandom): Lies {
  const overheard: Uint8Array[] = [];

  /** About the action with this packed digest. */
  function lie(action: Uint8Array): Uint8Array {
    const record = overheard[random.below(overheard.length)];
    if (record === undefined || random.chance(0.2)) return random.bytes(200);
    if (random.chance(0.3)) return record;
    if (random.chance(0.5)) {
      const claimed = record.slice();
      claimed.set(action, signatureBytes + 2);
      return claimed;
    }
    const forged = record.slice(
      0,
      random.chance(0.3) ? random.below(record.byteLength) : undefined,
    );
    const at = random.below(forged.byteLength);
    forged[at] = (forged[at] ?? 0) ^ (1 << random.below(8));
    return forged;
  }

  function overhear(payload: Uint8Array): void {
    for (const record of unpackRecords(payload))
      if (overheard.length < overheardMax) overheard.push(record.slice());
  }

  function answer(stream: Stream, { type, requestId, payload }: Frame): void {
    if (type !== ac.lookup) return;
    const found = Array.from({ length: payload.byteLength / packedDigestBytes }, (_, aux) =>
      encodeFrame(
        frameOf(ac.found, {
          requestId,
          aux,
          payload: lie(payload.subarray(aux * packedDigestBytes, (aux + 1) * packedDigestBytes)),
        }),
      ),
    );
    try {
      stream.send(concatBytes([...found, encodeFrame(frameOf(ac.end, { requestId }))]));
    } catch {
      // The stream is over, and nobody is lied to.
    }
  }

  /** Passes on whole frames, so that the honest half sees all or nothing of what is answered here. */
  function lying(stream: Stream, isLying: () => boolean): Stream {
    return {
      ...stream,
      receive(onBytes) {
        const decoder = createOverhearing({ frameMaxBytes: acFrameMaxBytes });
        let waiting: Uint8Array[] = [];
        let isHonest = true;
        stream.receive((bytes) => {
          // Frames that come in pieces are answered by whoever answered their beginning.
          if (waiting.length === 0) isHonest = !isLying();
          waiting.push(bytes);
          decoder.hear(bytes, (frame) => {
            if (frame.type === ac.store) overhear(frame.payload);
            if (!isHonest) answer(stream, frame);
          });
          if (decoder.pendingBytes() > 0) return;
          const whole = concatBytes(waiting);
          waiting = [];
          if (isHonest) onBytes(whole);
        });
      },
    };
  }

  return {
    around: (network, isLying) => ({
      ...network,
      serve(protocol, onStream) {
        if (protocol !== acProtocol) return network.serve(protocol, onStream);
        network.serve(protocol, (peer, stream) => onStream(peer, lying(stream, isLying)));
      },
    }),
  };
}
