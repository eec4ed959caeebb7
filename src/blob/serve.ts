/**
 * The provider's half of `/mesh/blk/1`: answers what members ask for, never above their credit.
 *
 * Peers take turns by bytes (deficit round-robin), so one that asks for gigabytes does not hold up
 * one that asks for a header. Knows nothing about fetching.
 */
import { type Digest, sizeBytesOf } from "../base/digest.ts";
import { isMeshError, MeshError } from "../base/errors.ts";
import type { PeerId } from "../base/ids.ts";
import type { Stream } from "../host/host.ts";
import { type Channel, createChannel } from "../wire/channel.ts";
import { type Frame, frameHeaderBytes, frameOf } from "../wire/frame.ts";
import { unpackDigests } from "../wire/messages.ts";
import {
  blk,
  creditMaxBytes,
  frameMaxBytes,
  packIndexes,
  queueMaxItems,
  sendQueueMaxBytes,
  toProvider,
  unpackIndexes,
  unpackRange,
  wantMaxDigests,
  wholeMaxBytes,
} from "./blk.ts";
import type { BlobStore } from "./store.ts";

export interface Serving {
  accept(peer: PeerId, stream: Stream): void;
  readonly sentBlobs: number;
  readonly sentBytes: number;
}

export interface ServeDeps {
  readonly store: BlobStore;
  /** Whether this peer is a member: blobs are nobody else's business. */
  readonly allowed: (peer: PeerId) => boolean;
}

/** Bytes a peer may get before it is the next one's turn. */
const quantumBytes = 256 * 1024;
/** Blobs read in one turn, which bounds how long the turn holds the event loop. */
const turnMaxItems = 48;
/** Peers that are read for at a time; the others wait in the ring. */
const turnsMax = 4;
/** A peer whose socket holds more than this is not read for. */
const pauseAboveBytes = 512 * 1024;
/** Streams one peer may have open at a time; one more is reset. */
const streamsMaxPerPeer = 4;

/** A want that waits: a whole blob, or what is left of a range. */
interface Item {
  readonly requestId: number;
  /** Place in its list; undefined for a range. */
  readonly index: number | undefined;
  readonly digest: Digest;
  readonly start: number;
  readonly end: number;
  next: number;
  cancelled: boolean;
}

interface Session {
  readonly peer: PeerId;
  readonly channel: Channel;
  items: Item[];
  creditBytes: number;
  deficitBytes: number;
  /** In the ring, or being read for. */
  busy: boolean;
  over: boolean;
}

export function createServing({ store, allowed }: ServeDeps): Serving {
  const streams = new Map<PeerId, number>();
  const counts = { blobs: 0, bytes: 0 };
  const never = new AbortController().signal;
  let ring: Session[] = [];
  let turns = 0;

  function wake(session: Session): void {
    if (session.busy || session.over || nextFrameBytes(session) > session.creditBytes) return;
    session.busy = true;
    ring.push(session);
    startTurns();
  }

  function startTurns(): void {
    while (turns < turnsMax) {
      const session = ring.shift();
      if (session === undefined) return;
      turns += 1;
      void takeTurn(session);
    }
  }

  async function takeTurn(session: Session): Promise<void> {
    try {
      const parts = nextParts(session);
      const frames = await Promise.all(parts.map((part) => readPart(store, part)));
      for (const [at, frame] of frames.entries()) {
        const part = parts[at];
        if (part !== undefined) send(session, part, frame);
      }
    } finally {
      turns -= 1;
      startTurns();
    }
    if (session.channel.queuedBytes() > pauseAboveBytes) {
      await session.channel.drained(never).catch(() => {});
    }
    session.busy = false;
    wake(session);
  }

  function send(session: Session, part: Part, frame: Frame): void {
    if (session.over) return;
    if (part.item.cancelled || frame.type === blk.miss) {
      session.creditBytes += part.costBytes;
    } else {
      counts.bytes += frame.payload.byteLength;
      if (part.end === part.item.end) counts.blobs += 1;
    }
    if (frame.type === blk.miss) part.item.cancelled = true;
    if (!part.item.cancelled || frame.type === blk.miss) session.channel.send(frame);
  }

  return {
    get sentBlobs() {
      return counts.blobs;
    },
    get sentBytes() {
      return counts.bytes;
    },
    accept(peer, stream) {
      const open = streams.get(peer) ?? 0;
      if (!allowed(peer) || open >= streamsMaxPerPeer) {
        stream.reset(open >= streamsMaxPerPeer ? "too many streams" : "not a member");
        return;
      }
      streams.set(peer, open + 1);
      const session: Session = {
        peer,
        channel: createChannel(
          stream,
          { frameMaxBytes, queueMaxBytes: sendQueueMaxBytes, knownTypes: toProvider },
          (frame) => {
            if (!allowed(peer)) throw new MeshError("refused", "no longer a member");
            take(store, session, frame);
            wake(session);
          },
        ),
        items: [],
        creditBytes: 0,
        deficitBytes: 0,
        busy: false,
        over: false,
      };
      void session.channel.ended.then(() => {
        session.over = true;
        session.items = [];
        ring = ring.filter((other) => other !== session);
        const left = (streams.get(peer) ?? 1) - 1;
        if (left === 0) streams.delete(peer);
        else streams.set(peer, left);
      });
    },
  };
}

/** Acts on one frame of the requester. @throws MeshError "malformed" */
function take(store: BlobStore, session: Session, frame: Frame): void {
  const { requestId } = frame;
  switch (frame.type) {
    case blk.credit:
      session.creditBytes += frame.aux;
      if (session.creditBytes > creditMaxBytes) {
        throw new MeshError("malformed", `credit of ${session.creditBytes} bytes is too much`);
      }
      return;
    case blk.cancel:
      cancel(session, requestId, unpackIndexes(frame.payload));
      return;
    case blk.want: {
      const digests = unpackDigests(frame.payload, wantMaxDigests);
      const missing: number[] = [];
      for (const [index, digest] of digests.entries()) {
        const sizeBytes = sizeBytesOf(digest);
        if (sizeBytes > wholeMaxBytes) {
          throw new MeshError("malformed", `${digest} is too large to be wanted whole`);
        }
        if (!store.has(digest)) missing.push(index);
        else enqueue(session, { requestId, index, digest, start: 0, end: sizeBytes });
      }
      if (missing.length > 0) sendMiss(session, requestId, missing);
      return;
    }
    default: {
      const { digest, offset, lengthBytes } = unpackRange(frame.payload);
      const end = offset + lengthBytes;
      if (lengthBytes === 0 || end > sizeBytesOf(digest)) {
        throw new MeshError("malformed", `${digest} has no bytes ${offset} to ${end}`);
      }
      if (store.has(digest)) {
        enqueue(session, { requestId, index: undefined, digest, start: offset, end });
      } else {
        sendMiss(session, requestId, []);
      }
    }
  }
}

function sendMiss(session: Session, requestId: number, indexes: readonly number[]): void {
  session.channel.send(frameOf(blk.miss, { requestId, payload: packIndexes(indexes) }));
}

function enqueue(session: Session, item: Omit<Item, "next" | "cancelled">): void {
  if (session.items.length >= queueMaxItems) {
    throw new MeshError("malformed", `more than ${queueMaxItems} blobs are wanted at once`);
  }
  session.items.push({ ...item, next: item.start, cancelled: false });
}

/** Drops the named places of a list, or with none named the whole request. */
function cancel(session: Session, requestId: number, indexes: readonly number[]): void {
  const named = new Set<number | undefined>(indexes);
  session.items = session.items.filter((item) => {
    if (item.requestId !== requestId) return true;
    if (named.size > 0 && !named.has(item.index)) return true;
    item.cancelled = true;
    return false;
  });
}

/** One frame to come. */
interface Part {
  readonly item: Item;
  readonly offset: number;
  readonly end: number;
  readonly costBytes: number;
}

function nextFrameBytes({ items }: Session): number {
  const item = items.find(({ cancelled }) => !cancelled);
  if (item === undefined) return Number.POSITIVE_INFINITY;
  return frameHeaderBytes + Math.min(frameMaxBytes, item.end - item.next);
}

/** What this turn may send, paid for with credit; in the order it was asked for. */
function nextParts(session: Session): readonly Part[] {
  const parts: Part[] = [];
  // Turns that credit cut short are not saved up without end.
  session.deficitBytes = Math.min(session.deficitBytes + quantumBytes, 2 * quantumBytes);
  let done = 0;
  for (const item of session.items) {
    while (!item.cancelled && (item.next < item.end || item.start === item.end)) {
      const lengthBytes = Math.min(frameMaxBytes, item.end - item.next);
      const costBytes = frameHeaderBytes + lengthBytes;
      const tooMuch = costBytes > session.creditBytes || costBytes > session.deficitBytes;
      if (tooMuch || parts.length >= turnMaxItems) {
        session.items = session.items.slice(done);
        return parts;
      }
      session.creditBytes -= costBytes;
      session.deficitBytes -= costBytes;
      parts.push({ item, offset: item.next, end: item.next + lengthBytes, costBytes });
      item.next += lengthBytes;
      if (lengthBytes === 0) break;
    }
    done += 1;
  }
  session.items = [];
  // A peer that wants nothing saves nothing up for later.
  session.deficitBytes = 0;
  return parts;
}

/** The frame that answers: the bytes, or that they cannot be had here after all. */
async function readPart(store: BlobStore, { item, offset, end }: Part): Promise<Frame> {
  const { requestId, index, digest } = item;
  try {
    if (index !== undefined) {
      return frameOf(blk.blob, { requestId, aux: index, payload: await store.read(digest) });
    }
    const payload = await store.readRange(digest, offset, end - offset);
    if (payload.byteLength === end - offset) {
      return frameOf(blk.piece, { requestId, aux: offset - item.start, payload });
    }
  } catch (error) {
    if (!isMeshError(error)) throw error;
  }
  const payload = packIndexes(index === undefined ? [] : [index]);
  return frameOf(blk.miss, { requestId, payload });
}
