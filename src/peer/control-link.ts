/**
 * The control stream to one peer: queues until it is open, puts the load hint in front, counts,
 * and notices when the peer floods, talks nonsense or falls silent.
 *
 * Knows nothing about what messages mean; control.ts does.
 */
import { MeshError } from "../base/errors.ts";
import type { PeerId } from "../base/ids.ts";
import type { Clock, Stream } from "../host/host.ts";
import { type Calls, createCalls } from "../wire/call.ts";
import { type Channel, createChannel, type Urgency } from "../wire/channel.ts";
import { type Frame, frameHeaderBytes } from "../wire/frame.ts";
import type { OwnLoad } from "./control.ts";
import {
  controlFrameMaxBytes,
  controlTypes,
  encodeLoad,
  pingFrame,
  withLoad,
} from "./control-frames.ts";
import { type Watched, watch } from "./watched.ts";

export interface Link {
  readonly peer: PeerId;
  readonly calls: Calls;
  /**
   * Queues a frame, and inside it the load if that changed. False: the link is over. A lazy one
   * goes with the next frame that is not, or after a short time.
   */
  send(frame: Frame, urgency?: Urgency | "lazy"): boolean;
  /** Sends the load alone, if it differs from what the peer was told last, or `again` all the same. */
  sendLoad(again?: boolean): void;
  /** What the peer was told last, and when. */
  told(): { readonly load: OwnLoad | undefined; readonly atMs: number };
  /** Asks for a sign of life. */
  ping(): void;
  /** Takes the stream over; false when there is one already. */
  open(stream: Stream): boolean;
  /** Something was asked: an answer, or anything else, must come within the silence bound. */
  expect(): void;
  /** A load hint with this number is news. */
  isNews(sequence: bigint): boolean;
  /** The time since a ping with this number, undefined when there was none. */
  pingMs(requestId: number): number | undefined;
  /** When the peer should be asked for a sign of life. */
  pingDueMs(intervalMs: number): number;
  /** When it counts as silent. Undefined while nothing is asked of it. */
  silentAtMs(): number | undefined;
  /** Gives it all its time again: this node itself was asleep. */
  forgive(): void;
  /** Ends the stream, politely or at once. Open questions fail with "peer-gone". */
  close(): Promise<void>;
  reset(reason: string): void;
}

export interface LinkDeps {
  readonly peer: PeerId;
  readonly clock: Clock;
  /** The own load, undefined before anybody said it. */
  readonly load: () => OwnLoad | undefined;
  readonly nextSequence: () => bigint;
  readonly onSent: (type: number) => void;
  /** Something went onto the wire, however many frames it is. */
  readonly onWire: () => void;
  readonly onFrame: (frame: Frame) => void;
  /** The stream ended while the link was in use. With `fault`, by the peer's doing. */
  readonly onEnded: (reason: string, fault: MeshError | undefined) => void;
}

/** Above this the load hint and pings are left out: newer ones follow. */
const dropAboveBytes = 256 * 1024;
/** A peer that lets this much wait does not read; one frame of full size always fits on top. */
const queueMaxBytes = 1024 * 1024 + controlFrameMaxBytes + frameHeaderBytes;
const fullReason = "it does not read: too much waits to be sent";
/** What is not urgent waits this long for something to ride with. */
const lazyMs = 1000;
/** ... and no more than so many frames of it. */
const lazyMax = 64;
const stealsMax = 64;
const stealDeadlineMs = 2000;
/** Silence is this long with no frame at all, counted from the oldest unanswered question. */
const silentMs = 7000;
/** What a peer may send: this many at once, and then this many a second. */
const framesBurst = 50_000;
const framesPerSecond = 20_000;
const bytesBurst = 256 * 1024 * 1024;
const bytesPerSecond = 64 * 1024 * 1024;

export function createLink(deps: LinkDeps): Link {
  const { peer, clock } = deps;
  let channel: Channel | undefined;
  let watched: Watched | undefined;
  let overflowed = false;
  let over = false;
  let early: Frame[] = [];
  let earlyBytes = 0;
  let told: OwnLoad | undefined;
  let toldMs = Number.NEGATIVE_INFINITY;
  let lazy: Frame[] = [];
  let isLazyDue = false;
  let newest = 0n;
  let heardMs = clock.nowMs();
  let askedMs: number | undefined = heardMs;
  let pinged: { readonly requestId: number; readonly atMs: number } | undefined;
  let pings = 0;
  const frames = createBudget(clock, framesBurst, framesPerSecond);
  const bytes = createBudget(clock, bytesBurst, bytesPerSecond);
  const ended = new AbortController();

  function queue(frame: Frame, urgency: Urgency): boolean {
    if (over) return false;
    if (channel !== undefined) {
      const before = watched?.resetReason();
      const queued = channel.send(frame, urgency);
      if (before === undefined && watched?.resetReason() !== undefined) overflowed = true;
      return queued;
    }
    // Not open yet: the other side opens it, or it is on its way.
    if (urgency === "droppable") return false;
    early.push(frame);
    earlyBytes += frame.payload.byteLength + frameHeaderBytes;
    // A turn later: the caller must not find itself inside its own listener.
    if (earlyBytes > queueMaxBytes) queueMicrotask(() => deps.onEnded(fullReason, undefined));
    return true;
  }

  function send(frame: Frame, urgency: Urgency | "lazy" = "must"): boolean {
    if (urgency === "lazy") return sendLater(frame);
    sendLazy();
    return sendNow(frame, urgency);
  }

  function sendNow(frame: Frame, urgency: Urgency): boolean {
    const load = news();
    const whole = load === undefined ? frame : withLoad(frame, encodeLoad(load).payload);
    const isOne = whole.payload.byteLength <= controlFrameMaxBytes;
    if (!isOne) sendLoad();
    const queued = queue(isOne ? whole : frame, urgency);
    if (!queued) return false;
    if (isOne && load !== undefined) wasTold(load);
    deps.onSent(frame.type);
    return true;
  }

  function sendLater(frame: Frame): boolean {
    if (over) return false;
    lazy.push(frame);
    if (lazy.length >= lazyMax) sendLazy();
    else if (!isLazyDue) {
      isLazyDue = true;
      const due = (): void => {
        isLazyDue = false;
        sendLazy();
      };
      void clock.sleep(lazyMs, ended.signal).then(due, () => {});
    }
    return true;
  }

  /** The timer runs on: with a thousand tasks a second there would be a thousand of them. */
  function sendLazy(): void {
    const frames = lazy;
    lazy = [];
    for (const frame of frames) sendNow(frame, "must");
  }

  /** The load, if the peer was told another one last. */
  function news(again = false): (OwnLoad & { readonly sequence: bigint }) | undefined {
    const load = deps.load();
    if (load === undefined || (!again && sameLoad(load, told))) return undefined;
    return { ...load, sequence: deps.nextSequence() };
  }

  function wasTold({ sequence: _, ...load }: OwnLoad & { readonly sequence: bigint }): void {
    told = load;
    toldMs = clock.nowMs();
  }

  function sendLoad(again = false): void {
    const load = news(again);
    if (load === undefined) return;
    const frame = encodeLoad(load);
    if (!queue(frame, "droppable")) return;
    wasTold(load);
    deps.onSent(frame.type);
  }

  function receive(frame: Frame): void {
    heardMs = clock.nowMs();
    askedMs = undefined;
    if (!frames.take(1) || !bytes.take(frame.payload.byteLength + frameHeaderBytes)) {
      throw new MeshError("limit", "it sent more than any node has to say");
    }
    deps.onFrame(frame);
  }

  function open(stream: Stream): boolean {
    if (over || channel !== undefined) return false;
    const own = watch(stream);
    watched = own;
    const limits = { frameMaxBytes: controlFrameMaxBytes, queueMaxBytes, dropAboveBytes };
    let fault: MeshError | undefined;
    const opened = createChannel(
      counted(own.stream),
      { ...limits, knownTypes: controlTypes },
      (frame) => {
        try {
          receive(frame);
        } catch (error) {
          if (error instanceof MeshError) fault = error;
          throw error;
        }
      },
    );
    channel = opened;
    heardMs = clock.nowMs();
    askedMs = undefined;
    sendLoad();
    for (const frame of early) opened.send(frame);
    early = [];
    void opened.ended.then((end) => {
      if (over) return;
      const why = own.resetReason();
      if (why !== undefined && !overflowed) fault ??= new MeshError("malformed", why);
      deps.onEnded(
        fault?.message ?? (overflowed ? fullReason : `it ended the control stream (${end.how})`),
        fault,
      );
    });
    return true;
  }

  function counted(stream: Stream): Stream {
    return {
      ...stream,
      send(bytes) {
        deps.onWire();
        return stream.send(bytes);
      },
    };
  }

  function reset(reason: string): void {
    if (over) return;
    over = true;
    ended.abort();
    early = [];
    lazy = [];
    channel?.reset(reason);
    calls.fail(new MeshError("peer-gone", `${peer} has left: ${reason}`));
  }

  function ask(): void {
    askedMs ??= clock.nowMs();
  }

  const calls = createCalls({ clock, send }, { openMax: stealsMax, deadlineMs: stealDeadlineMs });

  return {
    peer,
    calls,
    send,
    sendLoad,
    told: () => ({ load: told, atMs: toldMs }),
    ping() {
      pings += 1;
      pinged = { requestId: pings, atMs: clock.nowMs() };
      ask();
      send(pingFrame(pings), "droppable");
    },
    open,
    expect: ask,
    isNews(sequence) {
      if (sequence <= newest) return false;
      newest = sequence;
      return true;
    },
    pingMs(requestId) {
      if (pinged?.requestId !== requestId) return undefined;
      const elapsedMs = clock.nowMs() - pinged.atMs;
      pinged = undefined;
      return elapsedMs;
    },
    pingDueMs: (intervalMs) => heardMs + intervalMs,
    silentAtMs: () => (askedMs === undefined ? undefined : askedMs + silentMs),
    forgive() {
      if (askedMs !== undefined) askedMs = clock.nowMs();
    },
    async close() {
      if (over) return;
      sendLazy();
      over = true;
      ended.abort();
      calls.fail(new MeshError("peer-gone", "this node is leaving the mesh"));
      await channel?.close();
    },
    reset,
  };
}

interface Budget {
  take(amount: number): boolean;
}

/** A bucket that starts full and refills at a steady rate. */
function createBudget(clock: Clock, burst: number, perSecond: number): Budget {
  let left = burst;
  let atMs = clock.nowMs();
  return {
    take(amount) {
      const nowMs = clock.nowMs();
      left = Math.min(burst, left + ((nowMs - atMs) / 1000) * perSecond);
      atMs = nowMs;
      left -= amount;
      return left >= 0;
    },
  };
}

function sameLoad(a: OwnLoad, b: OwnLoad | undefined): boolean {
  return (
    a.queued === b?.queued &&
    a.stealable === b.stealable &&
    a.slots === b.slots &&
    a.busy === b.busy &&
    a.hot === b.hot
  );
}
