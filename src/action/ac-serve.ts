/**
 * The home's half of `/mesh/ac/1`: says what it knows, and takes in what it is told.
 *
 * A peer that asks or tells more than any build needs is answered "not known" and not listened to.
 * Nothing here decides whether a record is right.
 */
import { createRecentMap } from "../base/bounded.ts";
import type { Digest } from "../base/digest.ts";
import { MeshError } from "../base/errors.ts";
import type { PeerId } from "../base/ids.ts";
import type { Clock, Stream } from "../host/host.ts";
import { type Channel, createChannel } from "../wire/channel.ts";
import { type Frame, frameOf } from "../wire/frame.ts";
import { unpackDigests } from "../wire/messages.ts";
import {
  ac,
  acFrameMaxBytes,
  acQueueMaxBytes,
  hasBlobsFlag,
  lookupMax,
  toHome,
  unpackRecords,
} from "./ac.ts";

export interface AcServeDeps {
  readonly clock: Clock;
  /** Whether this peer is a member: results are nobody else's business. */
  readonly allowed: (peer: PeerId) => boolean;
  /** A genuine record, and whether all its blobs are here. */
  readonly lookUp: (
    action: Digest,
  ) => { readonly record: Uint8Array; readonly hasBlobs: boolean } | undefined;
  /** A record as a peer sent it; shares memory with its frame. */
  readonly onTold: (record: Uint8Array, peer: PeerId) => void;
  readonly onTooMuch: () => void;
}

export interface AcServing {
  accept(peer: PeerId, stream: Stream): void;
}

/** Streams one peer may have open at a time; one more is reset. */
const streamsMaxPerPeer = 2;
const peersRemembered = 1024;
/** Above this a record that is known counts as not known: the reader is slow. */
const foundAboveBytes = acQueueMaxBytes / 2;
/** What one peer may ask and tell: this at once, and then this much a second. */
const limits = {
  actions: { burst: 50_000, perSecond: 10_000 },
  records: { burst: 20_000, perSecond: 2_000 },
  bytes: { burst: 64 * 1024 * 1024, perSecond: 4 * 1024 * 1024 },
} as const;

interface Session {
  streams: number;
  readonly budgets: { readonly [K in keyof typeof limits]: (amount: number) => boolean };
}

export function createAcServing(deps: AcServeDeps): AcServing {
  const { clock, allowed } = deps;
  /** Outlive their streams: whoever opens another does not start with full budgets. */
  const sessions = createRecentMap<PeerId, Session>(peersRemembered);

  function answer(channel: Channel, { requestId, payload }: Frame, { budgets }: Session): void {
    const actions = unpackDigests(payload, lookupMax);
    const isFair = budgets.actions(actions.length);
    if (!isFair) deps.onTooMuch();
    for (const [aux, action] of actions.entries()) {
      if (!isFair || channel.queuedBytes() > foundAboveBytes) break;
      const known = deps.lookUp(action);
      if (known === undefined) continue;
      const flags = known.hasBlobs ? hasBlobsFlag : 0;
      channel.send(frameOf(ac.found, { requestId, aux, flags, payload: known.record }));
    }
    channel.send(frameOf(ac.end, { requestId }));
  }

  function takeIn(peer: PeerId, { payload }: Frame, { budgets }: Session): void {
    const records = unpackRecords(payload);
    const isFair = budgets.records(records.length) && budgets.bytes(payload.byteLength);
    if (!isFair) deps.onTooMuch();
    for (const record of isFair ? records : []) deps.onTold(record, peer);
  }

  return {
    accept(peer, stream) {
      const session = sessions.get(peer) ?? { streams: 0, budgets: createBudgets(clock) };
      if (!allowed(peer)) return stream.reset("not a member");
      if (session.streams >= streamsMaxPerPeer) return stream.reset("too many streams");
      sessions.set(peer, session);
      session.streams += 1;
      const channel: Channel = createChannel(
        stream,
        { frameMaxBytes: acFrameMaxBytes, queueMaxBytes: acQueueMaxBytes, knownTypes: toHome },
        (frame) => {
          if (!allowed(peer)) throw new MeshError("refused", "no longer a member");
          if (frame.type === ac.lookup) answer(channel, frame, session);
          else takeIn(peer, frame, session);
        },
      );
      void channel.ended.then(() => {
        session.streams -= 1;
      });
    },
  };
}

function createBudgets(clock: Clock): Session["budgets"] {
  return {
    actions: createBudget(clock, limits.actions),
    records: createBudget(clock, limits.records),
    bytes: createBudget(clock, limits.bytes),
  };
}

/** A bucket that starts full and refills at a steady rate. False: there is not enough in it. */
function createBudget(
  clock: Clock,
  { burst, perSecond }: { readonly burst: number; readonly perSecond: number },
): (amount: number) => boolean {
  let left = burst;
  let atMs = clock.nowMs();
  return (amount) => {
    const nowMs = clock.nowMs();
    left = Math.min(burst, left + ((nowMs - atMs) / 1000) * perSecond);
    atMs = nowMs;
    if (amount > left) return false;
    left -= amount;
    return true;
  };
}
