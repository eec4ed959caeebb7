/**
 * The asking half of `/mesh/ac/1` towards one peer: one stream, many look-ups in flight.
 *
 * What is asked in one turn leaves as one frame. It believes nothing: whether a record is right is
 * found out by whoever asked. A stream that ends leaves every question open on it unanswered.
 */
import type { Digest } from "../base/digest.ts";
import { MeshError, messageOf } from "../base/errors.ts";
import type { PeerId } from "../base/ids.ts";
import type { Clock, Network } from "../host/host.ts";
import { watch } from "../peer/watched.ts";
import { type Channel, createChannel } from "../wire/channel.ts";
import { type Frame, frameOf } from "../wire/frame.ts";
import { packDigests } from "../wire/messages.ts";
import {
  ac,
  acFrameMaxBytes,
  acProtocol,
  acQueueMaxBytes,
  fromHome,
  hasBlobsFlag,
  lookupMax,
  lookupsOpenMax,
  packRecords,
} from "./ac.ts";

/** What a peer says that it knows. */
export interface Found {
  readonly peer: PeerId;
  /** May share memory with other frames: copy what is kept. */
  readonly record: Uint8Array;
  readonly hasBlobs: boolean;
}

export interface AcLink {
  /** Calls back once: with a record, with undefined for "not known", or with why it is over. */
  ask(action: Digest, onAnswer: (found: Found | undefined | MeshError) => void): void;
  /** Sends records, unless too much waits for this peer already. */
  tell(records: readonly Uint8Array[]): void;
  /** Sends what is queued, then ends. */
  close(): Promise<void>;
  reset(reason: string): void;
}

export interface AcLinkDeps {
  readonly network: Pick<Network, "open">;
  readonly clock: Clock;
  /** The stream is over. With `fault`, the peer sent what it must not. */
  readonly onEnd: (fault: MeshError | undefined) => void;
}

type Answer = Parameters<AcLink["ask"]>[1];

interface Question {
  readonly action: Digest;
  readonly onAnswer: Answer;
}

const openDeadlineMs = 5000;
/** Nothing more is sent to a peer for which this much waits already. */
const sendAboveBytes = acQueueMaxBytes / 2;
const busy = new MeshError("limit", "too many look-ups are open at this peer");

/** Opens the stream in the background; what is asked meanwhile waits for it. */
export function createAcLink(deps: AcLinkDeps, peer: PeerId, signal: AbortSignal): AcLink {
  const lookups = new Map<number, (Question | undefined)[]>();
  let channel: Channel | undefined;
  let asked: Question[] = [];
  let told: Uint8Array[] = [];
  let toldBytes = 0;
  let isDue = false;
  let lastId = 0;
  let over: MeshError | undefined;

  function finish(reason: string, fault?: MeshError): void {
    if (over !== undefined) return;
    over = new MeshError("peer-gone", `${peer}: ${reason}`);
    channel?.reset(reason);
    const open = [...lookups.values()].flat().concat(asked);
    lookups.clear();
    asked = [];
    told = [];
    for (const question of open) question?.onAnswer(over);
    deps.onEnd(fault);
  }

  function flushSoon(): void {
    if (isDue || channel === undefined) return;
    isDue = true;
    queueMicrotask(() => {
      isDue = false;
      flush();
    });
  }

  function flush(): void {
    if (channel === undefined) return;
    while (asked.length > 0) {
      const questions = asked.splice(0, lookupMax);
      lastId = lastId === 0xffff_ffff ? 1 : lastId + 1;
      lookups.set(lastId, questions);
      const payload = packDigests(questions.map(({ action }) => action));
      channel.send(frameOf(ac.lookup, { requestId: lastId, payload }));
    }
    for (const payload of packRecords(told)) {
      if (channel.queuedBytes() > sendAboveBytes) break;
      channel.send(frameOf(ac.store, { payload }));
    }
    told = [];
    toldBytes = 0;
  }

  /** @throws MeshError "malformed" */
  function accept({ type, requestId, aux, flags, payload }: Frame): void {
    const questions = lookups.get(requestId);
    if (questions === undefined) throw new MeshError("malformed", "an answer to no question");
    if (type === ac.end) {
      lookups.delete(requestId);
      for (const question of questions) question?.onAnswer(undefined);
      return;
    }
    const question = questions[aux];
    if (question === undefined) throw new MeshError("malformed", "an answer that nobody waits for");
    questions[aux] = undefined;
    question.onAnswer({ peer, record: payload, hasBlobs: (flags & hasBlobsFlag) !== 0 });
  }

  /** Resolves once the stream is open or will not be. Never rejects. */
  async function open(): Promise<void> {
    try {
      const stream = await deps.clock.withDeadline(signal, openDeadlineMs, async (inTime) => {
        const opened = await deps.network.open(peer, acProtocol, inTime);
        if (inTime.aborted) opened.reset("opened too late");
        return opened;
      });
      if (over !== undefined) return stream.reset("not needed any more");
      const watched = watch(stream);
      const limits = { frameMaxBytes: acFrameMaxBytes, queueMaxBytes: acQueueMaxBytes };
      channel = createChannel(watched.stream, { ...limits, knownTypes: fromHome }, accept);
      flush();
      void channel.ended.then(({ reason }) => {
        // Reset by this side before anybody here wanted it: it sent what it must not.
        const why = watched.resetReason();
        finish(reason, why === undefined ? undefined : new MeshError("malformed", why));
      });
    } catch (error) {
      finish(messageOf(error));
    }
  }

  const opened = open();
  return {
    ask(action, onAnswer) {
      if (over !== undefined) return onAnswer(over);
      const queuedBytes = channel?.queuedBytes() ?? 0;
      const tooMany = lookups.size >= lookupsOpenMax || asked.length >= lookupMax;
      // So the queue never runs over, which would look like the peer's fault.
      if (tooMany || queuedBytes > sendAboveBytes) return onAnswer(busy);
      asked.push({ action, onAnswer });
      flushSoon();
    },
    tell(records) {
      for (const record of records) {
        if (over !== undefined || toldBytes + record.byteLength > sendAboveBytes) return;
        told.push(record);
        toldBytes += record.byteLength;
      }
      flushSoon();
    },
    async close() {
      await opened;
      flush();
      await channel?.close();
      finish("this node is done with it");
    },
    reset: finish,
  };
}
