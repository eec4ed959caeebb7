/**
 * The requester's half of `/mesh/blk/1` towards one peer: one stream, many requests in flight.
 *
 * Grants credit, so that a provider never has more on its way than this side has agreed to hold.
 * Knows nothing about which peer should be asked for what, nor whether bytes are right.
 */
import type { Digest } from "../base/digest.ts";
import { MeshError, messageOf } from "../base/errors.ts";
import type { PeerId } from "../base/ids.ts";
import { type Clock, type Network, sendMaxBytes } from "../host/host.ts";
import { type Channel, createChannel } from "../wire/channel.ts";
import { type Frame, frameHeaderBytes, frameOf } from "../wire/frame.ts";
import { packDigests } from "../wire/messages.ts";
import {
  blk,
  blkProtocol,
  frameMaxBytes,
  fromProvider,
  packIndexes,
  packRange,
  sendQueueMaxBytes,
  unpackIndexes,
  wantMaxDigests,
} from "./blk.ts";
import { createMeter, type Meter } from "./meter.ts";

/** One thing asked of one peer; `unit` is what its asker needs to find its place again. */
export interface Ask<U> {
  readonly digest: Digest;
  readonly offset: number;
  readonly lengthBytes: number;
  /** A whole small blob, rather than a range of a large one. */
  readonly whole: boolean;
  readonly unit: U;
}

/** Calls `done` once when the bytes need no memory any more: credit is granted again then. */
export interface LinkEvents<U> {
  readonly onBlob: (link: Link<U>, ask: Ask<U>, bytes: Uint8Array, done: () => void) => void;
  /** Pieces of one range come in order; `offset` counts from the start of the blob. */
  readonly onPiece: (
    link: Link<U>,
    ask: Ask<U>,
    offset: number,
    bytes: Uint8Array,
    done: () => void,
  ) => void;
  readonly onMiss: (link: Link<U>, ask: Ask<U>) => void;
  /** The stream is over; `asks` were not answered. `opened` is false if it never came to be. */
  readonly onEnd: (link: Link<U>, asks: readonly Ask<U>[], opened: boolean) => void;
}

export interface Link<U> {
  readonly peer: PeerId;
  ask(ask: Ask<U>): void;
  /** Takes an ask back; what is still on its way is thrown away on arrival. */
  drop(ask: Ask<U>): void;
  reset(reason: string): void;
  /** Everything that was asked for and has not been answered. */
  asks(): readonly Ask<U>[];
  backlogBytes(): number;
  /** Bytes it makes sense to have asked for: about two windows. */
  appetiteBytes(): number;
  /** Whether the provider is silent because this side has not granted it anything. */
  isHeldUp(): boolean;
  readonly meter: Meter;
}

export interface LinkDeps<U> {
  readonly network: Network;
  readonly clock: Clock;
  readonly events: LinkEvents<U>;
}

export interface LinkOptions {
  readonly openDeadlineMs: number;
  /** The most this link may have on its way: all links share this node's memory. */
  readonly windowMaxBytes: () => number;
}

const windowStartBytes = 1024 * 1024;
/** Whole blobs asked for and not answered; more wait here, where they can still go elsewhere. */
const wholeInFlightMax = wantMaxDigests;

interface Request<U> {
  readonly asks: (Ask<U> | undefined)[];
  open: number;
  /** Of a range: where the next piece must begin, counted from the start of the range. */
  nextAt: number;
}

interface State<U> {
  channel: Channel | undefined;
  over: boolean;
  readonly requests: Map<number, Request<U>>;
  readonly places: Map<Ask<U>, { readonly requestId: number; readonly index: number }>;
  outbox: Ask<U>[];
  wholeInFlight: number;
  backlogBytes: number;
  /** Granted and not used yet. */
  creditBytes: number;
  /** Arrived and not done yet. */
  heldBytes: number;
  /** What may still come of asks that were dropped; anything else was never asked for. */
  strayBytes: number;
  lastRequestId: number;
  flushing: boolean;
  readonly meter: Meter;
  readonly options: LinkOptions;
}

/** Opens the stream in the background; asks made meanwhile wait for it. */
export function createLink<U>(
  deps: LinkDeps<U>,
  peer: PeerId,
  options: LinkOptions,
  signal: AbortSignal,
): Link<U> {
  const { clock, events } = deps;
  const meter = createMeter({ clock });
  const state = newState<U>(meter, options);
  const link: Link<U> = {
    peer,
    meter,
    ask(ask) {
      state.outbox.push(ask);
      state.backlogBytes += ask.lengthBytes;
      if (state.backlogBytes === ask.lengthBytes) meter.begin();
      flushSoon(state);
    },
    drop: (ask) => drop(state, ask),
    reset: (reason) => finish(reason),
    asks: () => [...state.places.keys(), ...state.outbox],
    backlogBytes: () => state.backlogBytes,
    isHeldUp: () => state.heldBytes > 0 && state.creditBytes < sendMaxBytes,
    appetiteBytes: () => 2 * windowBytes(state),
  };

  function finish(reason: string): void {
    if (state.over) return;
    state.over = true;
    state.channel?.reset(reason);
    const asks = link.asks();
    const opened = state.channel !== undefined;
    state.outbox = [];
    state.places.clear();
    state.requests.clear();
    state.backlogBytes = 0;
    events.onEnd(link, asks, opened);
  }

  async function open(): Promise<void> {
    try {
      const stream = await clock.withDeadline(signal, options.openDeadlineMs, async (inTime) => {
        const opened = await deps.network.open(peer, blkProtocol, inTime);
        // A stream that came too late has no owner any more.
        if (inTime.aborted) opened.reset("opened too late");
        return opened;
      });
      if (state.over) {
        stream.reset("not needed any more");
        return;
      }
      state.channel = createChannel(
        stream,
        { frameMaxBytes, queueMaxBytes: sendQueueMaxBytes, knownTypes: fromProvider },
        (frame) => accept(state, link, events, frame),
      );
      meter.begin();
      grant(state);
      flushSoon(state);
      finish((await state.channel.ended).reason);
    } catch (error) {
      finish(messageOf(error));
    }
  }

  void open();
  return link;
}

function newState<U>(meter: Meter, options: LinkOptions): State<U> {
  return {
    channel: undefined,
    over: false,
    requests: new Map(),
    places: new Map(),
    outbox: [],
    wholeInFlight: 0,
    backlogBytes: 0,
    creditBytes: 0,
    heldBytes: 0,
    strayBytes: 0,
    lastRequestId: 0,
    flushing: false,
    meter,
    options,
  };
}

/** What the pair can have on its way at its measured speed, twice over so that nobody waits. */
function windowBytes({ meter, options }: State<unknown>): number {
  const onTheWay = 2 * meter.peakBytesPerMs() * meter.rttMs();
  return Math.min(options.windowMaxBytes(), Math.max(windowStartBytes, onTheWay));
}

/** Grants what the window allows, in steps of a quarter of it: credit frames are not free. */
function grant(state: State<unknown>): void {
  if (state.over || state.channel === undefined) return;
  const window = windowBytes(state);
  const room = Math.floor(window - state.creditBytes - state.heldBytes);
  // A window may be as small as one frame. Then the last bytes of it must be granted as well, or
  // the provider waits for them for ever.
  const stuck = state.heldBytes === 0 && state.creditBytes < sendMaxBytes;
  if (room <= 0 || (room < window / 4 && !stuck)) return;
  state.creditBytes += room;
  state.channel.send(frameOf(blk.credit, { aux: room }));
}

/** Asks made in one turn leave together. */
function flushSoon<U>(state: State<U>): void {
  if (state.flushing || state.channel === undefined) return;
  state.flushing = true;
  queueMicrotask(() => {
    state.flushing = false;
    flush(state);
    state.meter.asked();
  });
}

function flush<U>(state: State<U>): void {
  const { channel } = state;
  if (state.over || channel === undefined) return;
  const later: Ask<U>[] = [];
  const whole: Ask<U>[] = [];
  for (const ask of state.outbox) {
    if (!ask.whole) {
      const requestId = register(state, [ask]);
      channel.send(frameOf(blk.range, { requestId, payload: packRange(ask) }));
    } else if (state.wholeInFlight + whole.length < wholeInFlightMax) {
      whole.push(ask);
    } else {
      later.push(ask);
    }
  }
  state.outbox = later;
  if (whole.length === 0) return;
  state.wholeInFlight += whole.length;
  const payload = packDigests(whole.map(({ digest }) => digest));
  channel.send(frameOf(blk.want, { requestId: register(state, whole), payload }));
}

function register<U>(state: State<U>, asks: Ask<U>[]): number {
  do state.lastRequestId = (state.lastRequestId + 1) >>> 0;
  while (state.lastRequestId === 0 || state.requests.has(state.lastRequestId));
  const requestId = state.lastRequestId;
  state.requests.set(requestId, { asks, open: asks.length, nextAt: 0 });
  for (const [index, ask] of asks.entries()) state.places.set(ask, { requestId, index });
  return requestId;
}

/** Closes an ask that was answered or dropped. */
function close<U>(state: State<U>, requestId: number, index: number): Ask<U> | undefined {
  const request = state.requests.get(requestId);
  const ask = request?.asks[index];
  if (request === undefined || ask === undefined) return undefined;
  request.asks[index] = undefined;
  request.open -= 1;
  if (request.open === 0) state.requests.delete(requestId);
  state.places.delete(ask);
  state.backlogBytes -= ask.lengthBytes;
  if (ask.whole) state.wholeInFlight -= 1;
  return ask;
}

function drop<U>(state: State<U>, ask: Ask<U>): void {
  const place = state.places.get(ask);
  if (place === undefined) {
    const at = state.outbox.indexOf(ask);
    if (at < 0) return;
    state.outbox.splice(at, 1);
    state.backlogBytes -= ask.lengthBytes;
    return;
  }
  const { requestId, index } = place;
  state.strayBytes += ask.lengthBytes - (state.requests.get(requestId)?.nextAt ?? 0);
  close(state, requestId, index);
  const payload = packIndexes(ask.whole ? [index] : []);
  state.channel?.send(frameOf(blk.cancel, { requestId, payload }));
}

/** Acts on one frame of the provider. @throws MeshError "malformed" */
function accept<U>(state: State<U>, link: Link<U>, events: LinkEvents<U>, frame: Frame): void {
  const { requestId, aux, payload } = frame;
  const request = state.requests.get(requestId);
  if (frame.type === blk.miss) {
    link.meter.heard(0);
    const indexes = payload.byteLength === 0 ? [0] : unpackIndexes(payload);
    for (const index of indexes) {
      const ask = close(state, requestId, index);
      if (ask !== undefined) events.onMiss(link, ask);
    }
    flushSoon(state);
    return;
  }
  const done = spend(state, frame);
  const ask = request?.asks[frame.type === blk.blob ? aux : 0];
  if (request === undefined || ask === undefined) {
    state.strayBytes -= payload.byteLength;
    if (state.strayBytes < 0) throw new MeshError("malformed", "bytes that nobody asked for");
    done();
    return;
  }
  if (ask.whole !== (frame.type === blk.blob)) {
    throw new MeshError("malformed", "the answer is of another kind than the question");
  }
  if (ask.whole) {
    close(state, requestId, aux);
    if (state.outbox.length > 0) flushSoon(state);
    events.onBlob(link, ask, payload, done);
    return;
  }
  const dueBytes = Math.min(frameMaxBytes, ask.lengthBytes - request.nextAt);
  const end = request.nextAt + dueBytes;
  // A peer that could send a byte at a time would never look silent.
  if (aux !== request.nextAt || payload.byteLength !== dueBytes) {
    throw new MeshError("malformed", `a piece of ${ask.digest} is out of place`);
  }
  request.nextAt = end;
  if (end === ask.lengthBytes) close(state, requestId, 0);
  events.onPiece(link, ask, ask.offset + aux, payload, done);
}

/** Takes the credit that a frame used, and gives the way to grant it again. */
function spend<U>(state: State<U>, { payload }: Frame): () => void {
  const costBytes = frameHeaderBytes + payload.byteLength;
  if (costBytes > state.creditBytes) {
    throw new MeshError("malformed", "the provider sent more than it had credit for");
  }
  state.creditBytes -= costBytes;
  state.heldBytes += costBytes;
  state.meter.heard(payload.byteLength);
  return () => {
    state.heldBytes -= costBytes;
    grant(state);
  };
}
