/**
 * `/mesh/ctl/1`: one persistent stream per pair of peers, for every small message (protocols/ctl.md).
 *
 * Load hints ride in front of other messages by themselves; callers never send one by hand, except
 * to wake idle peers. A peer whose control stream ends, that falls silent or talks nonsense has
 * left: its connection is closed and everybody is told at once.
 */
import { create } from "@bufbuild/protobuf";
import { isMeshError, MeshError, messageOf } from "../base/errors.ts";
import type { Emit } from "../base/events.ts";
import type { PeerId } from "../base/ids.ts";
import type { Clock, Stream } from "../host/host.ts";
import { type Frame, frameOf } from "../wire/frame.ts";
import {
  type Beat,
  type Cancel,
  type Load,
  type StealGrant,
  StealGrantSchema,
  type StealRequest,
  type TaskClosed,
  type TaskDone,
  type TaskFailed,
  TaskFailedSchema,
  type TaskProgress,
} from "../wire/gen/mesh/v1/mesh_pb.ts";
import { createAlarm } from "./alarm.ts";
import {
  controlFrame,
  controlFrameMaxBytes,
  controlNames,
  decodeGrant,
  decodeLoad,
  decodeMessageFrame,
  decodeStealRequest,
  encodeMessageFrame,
  encodeStealRequest,
  fitGrant,
  pongFrame,
  splitLoad,
} from "./control-frames.ts";
import { createLink, type Link } from "./control-link.ts";
import type { LiveDirectory, Peer } from "./directory.ts";
import { chooseToHint } from "./hinting.ts";

export type ControlMessage =
  | { readonly type: "beat"; readonly value: Beat }
  | { readonly type: "progress"; readonly value: TaskProgress }
  | { readonly type: "done"; readonly value: TaskDone }
  | { readonly type: "failed"; readonly value: TaskFailed }
  | { readonly type: "closed"; readonly value: TaskClosed }
  | { readonly type: "cancel"; readonly value: Cancel };

/** What this node says of itself in load hints. */
export interface OwnLoad {
  readonly queued: number;
  readonly stealable: number;
  readonly slots: number;
  readonly busy: number;
  /** One bit for each large input of the tasks that wait. */
  readonly hot: bigint;
}

export interface Control {
  /**
   * Queues a message. Does nothing when the peer is gone: its `onLeft` tells. A lazy one waits a
   * little for another message to the same peer.
   */
  send(peer: PeerId, message: ControlMessage, urgency?: "lazy"): void;
  /** One round trip. Codes: "peer-gone", "deadline" (2 s). */
  steal(peer: PeerId, request: StealRequest, signal: AbortSignal): Promise<StealGrant>;
  /** Gives tasks that were not asked for. */
  push(peer: PeerId, grant: StealGrant): void;
  /** This node sleeps, and wants to be pushed to. */
  lifeline(peer: PeerId, request: StealRequest): void;
  /**
   * Sends the load to so many peers at most: those that look idle, were not told of work, and run
   * one of these platforms, if any are given.
   */
  hint(countMax: number, platforms?: readonly string[]): void;
  /** Set once, before the first peer joins. */
  attach(handlers: ControlHandlers): void;
  /** Messages sent since start, by type, and the `sends` that carried them. */
  sent(): Readonly<Record<string, number>>;
}

export interface ControlHandlers {
  readonly load: () => OwnLoad;
  readonly onSteal: (peer: PeerId, request: StealRequest) => StealGrant;
  readonly onPush: (peer: PeerId, grant: StealGrant) => void;
  readonly onLifeline: (peer: PeerId, request: StealRequest) => void;
  readonly onMessage: (peer: PeerId, message: ControlMessage) => void;
  /** A fresh load hint arrived; it is in the directory already. */
  readonly onLoad: (peer: PeerId) => void;
}

/** The control as its maker sees it. */
export interface LiveControl extends Control {
  /** Watches for silent peers until `signal` aborts. */
  start(signal: AbortSignal): void;
  /** Says goodbye: every stream is sent out and closed, as far as that takes half a second. */
  stop(): Promise<void>;
}

export interface ControlDeps {
  readonly directory: Pick<
    LiveDirectory,
    "network" | "get" | "onJoined" | "onLeft" | "setLoad" | "setRtt" | "drop"
  >;
  readonly clock: Clock;
  readonly emit: Emit;
}

const controlProtocol = "/mesh/ctl/1";

const openDeadlineMs = 5000;
/** After this long without a frame the peer is asked for a sign of life ... */
const quietMinMs = 5000;
/** ... or after this long for each peer, so that an idle node sends at most one message a second. */
const quietPerPeerMs = 1200;
/** Only one of a pair needs to ask; the higher id waits longer, in case the lower one does not. */
const higherPatience = 1.25;
/** Waking up this late means that this node slept, and that silence proves nothing. */
const asleepMs = 2000;
const idleMs = 60 * 60_000;
const goodbyeMs = 500;
const rttWeight = 0.2;

export function createControl(deps: ControlDeps): LiveControl {
  const { directory, clock, emit } = deps;
  const { network } = directory;
  const links = new Map<PeerId, Link>();
  const counts = new Map<string, number>();
  const stopped = new AbortController();
  const alarm = createAlarm(clock);
  let handlers: ControlHandlers | undefined;
  let sequence = 0n;
  let wakeAtMs = Number.POSITIVE_INFINITY;

  directory.onJoined(({ id }) => {
    const link: Link = createLink({
      peer: id,
      clock,
      load: () => handlers?.load(),
      nextSequence() {
        sequence += 1n;
        return sequence;
      },
      onSent(type) {
        const name = controlNames.get(type) ?? "other";
        count(name);
      },
      onWire: () => count("sends"),
      onFrame: (frame) => receive(link, frame),
      onEnded(reason, fault) {
        if (links.get(id) === link) directory.drop(id, reason, fault);
      },
    });
    links.set(id, link);
    // Of each pair the lower id opens, so that there is one stream and not two.
    if (network.self < id) void open(link);
    alarm.ring();
  });
  directory.onLeft(({ id }, reason) => {
    links.get(id)?.reset(reason);
    links.delete(id);
  });
  network.serve(controlProtocol, (peer: PeerId, stream: Stream) => {
    const link = links.get(peer);
    if (link === undefined || peer > network.self) return stream.reset("the lower peer id opens");
    if (!link.open(stream)) stream.reset("the control stream is open already");
  });

  function count(name: string): void {
    counts.set(name, (counts.get(name) ?? 0) + 1);
  }

  async function open(link: Link): Promise<void> {
    try {
      const stream = await clock.withDeadline(stopped.signal, openDeadlineMs, (signal) =>
        network.open(link.peer, controlProtocol, signal),
      );
      if (links.get(link.peer) !== link) return stream.reset("the peer has left");
      link.open(stream);
    } catch (error) {
      if (stopped.signal.aborted || links.get(link.peer) !== link) return;
      directory.drop(link.peer, `no control stream: ${messageOf(error)}`);
    }
  }

  function receive(link: Link, frame: Frame): void {
    try {
      dispatch(link, frame);
    } catch (error) {
      // A bound of this node is not the peer's fault; nonsense is.
      if (!isMeshError(error) || error.code === "malformed") throw error;
      const message = `a message from ${link.peer} was not taken: ${error.message}`;
      emit({ event: "log", level: "warn", message });
    }
  }

  function dispatch(link: Link, whole: Frame): void {
    const { load, rest } = splitLoad(whole);
    const isNews = load !== undefined && noteLoad(link, load);
    act(link, rest);
    // After the message that it came with: who is given a task must not ask for it.
    if (isNews) handlers?.onLoad(link.peer);
  }

  function act(link: Link, frame: Frame): void {
    const { peer } = link;
    switch (frame.type) {
      case controlFrame.load:
        if (noteLoad(link, decodeLoad(frame))) handlers?.onLoad(peer);
        return;
      case controlFrame.stealRequest: {
        const grant = handlers?.onSteal(peer, decodeStealRequest(frame)) ?? noGrant();
        sendGrant(link, frame.requestId, grant);
        return;
      }
      case controlFrame.stealGrant:
        if (frame.requestId === 0) handlers?.onPush(peer, decodeGrant(frame));
        else if (!link.calls.answer(frame)) giveBack(link, decodeGrant(frame));
        return;
      case controlFrame.lifeline:
        handlers?.onLifeline(peer, decodeStealRequest(frame));
        return;
      case controlFrame.ping:
        link.send(pongFrame(frame.requestId), "droppable");
        return;
      case controlFrame.pong:
        noteRtt(peer, link.pingMs(frame.requestId));
        return;
      default: {
        const message = decodeMessageFrame(frame);
        if (message !== undefined) handlers?.onMessage(peer, message);
      }
    }
  }

  /** False: it is older than what is known. */
  function noteLoad(link: Link, load: Load): boolean {
    const { queued, stealable, slots, busy, hot, sequence } = load;
    if (!link.isNews(sequence)) return false;
    const hint = { queued, stealable, slots, busy, hot, atMs: clock.nowMs() };
    directory.setLoad(link.peer, hint);
    return true;
  }

  /** Sends as many of the grants as fit; the owner takes the others back as if the thief had failed. */
  function sendGrant(link: Link, requestId: number, grant: StealGrant): void {
    const { payload, tooMany } = fitGrant(grant);
    link.send(frameOf(controlFrame.stealGrant, { requestId, payload }));
    for (const { task, attempt } of tooMany) {
      const why = "the action is too large for a control message";
      const value = failure(task, attempt, "limit", why);
      handlers?.onMessage(link.peer, { type: "failed", value });
    }
  }

  /** Nobody waits for this grant any more: its tasks must not wait for their leases to end. */
  function giveBack(link: Link, { grants }: StealGrant): void {
    for (const { task, attempt } of grants) {
      const why = "the grant came after the thief had given up";
      const value = failure(task, attempt, "deadline", why);
      link.send(encodeMessageFrame({ type: "failed", value }));
    }
  }

  function sendMessage(link: Link, message: ControlMessage, urgency: "lazy" | "must"): void {
    const frame = encodeMessageFrame(message);
    if (frame.payload.byteLength <= controlFrameMaxBytes) return void link.send(frame, urgency);
    const text = `a ${message.type} of ${frame.payload.byteLength} bytes is too large to send`;
    emit({ event: "log", level: "warn", message: text });
    if (message.type !== "done") return;
    const { task, attempt } = message.value;
    const value = failure(task, attempt, "limit", text);
    link.send(encodeMessageFrame({ type: "failed", value }));
  }

  function noteRtt(peer: PeerId, sampleMs: number | undefined): void {
    const known: Peer | undefined = directory.get(peer);
    if (sampleMs === undefined || known === undefined) return;
    const before = known.rttMs ?? sampleMs;
    directory.setRtt(peer, before + (sampleMs - before) * rttWeight);
  }

  function hint(countMax: number, platforms?: readonly string[]): void {
    const nowMs = clock.nowMs();
    const told = chooseToHint(links.values(), directory.get, nowMs, countMax, platforms);
    for (const link of told) {
      links.delete(link.peer);
      links.set(link.peer, link);
      // Also what it was told long ago: it may have missed that.
      link.sendLoad(true);
    }
  }

  /** Asks quiet peers for a sign of life and drops silent ones. @returns when to look again. */
  function watchOver(): number {
    const nowMs = clock.nowMs();
    const intervalMs = Math.max(quietMinMs, quietPerPeerMs * links.size);
    let nextMs = nowMs + idleMs;
    for (const link of [...links.values()]) {
      const silentAtMs = link.silentAtMs();
      if (silentAtMs !== undefined && silentAtMs <= nowMs) {
        directory.drop(link.peer, "it fell silent");
        continue;
      }
      const patience = network.self < link.peer ? 1 : higherPatience;
      const pingDueMs = link.pingDueMs(intervalMs * patience);
      if (silentAtMs === undefined && pingDueMs <= nowMs) link.ping();
      nextMs = Math.min(nextMs, link.silentAtMs() ?? pingDueMs);
    }
    return nextMs;
  }

  async function watchAlways(signal: AbortSignal): Promise<void> {
    for (;;) {
      if (clock.nowMs() - wakeAtMs > asleepMs) for (const link of links.values()) link.forgive();
      wakeAtMs = watchOver();
      await alarm.wait(wakeAtMs - clock.nowMs(), signal);
    }
  }

  return {
    send(peer, message, urgency) {
      const link = links.get(peer);
      if (link !== undefined) sendMessage(link, message, urgency ?? "must");
    },
    push(peer, grant) {
      const link = links.get(peer);
      if (link !== undefined) sendGrant(link, 0, grant);
    },
    lifeline(peer, request) {
      const payload = encodeStealRequest(request);
      links.get(peer)?.send(frameOf(controlFrame.lifeline, { payload }));
    },
    hint,
    async steal(peer, request, signal) {
      const link = links.get(peer);
      if (link === undefined) throw new MeshError("peer-gone", `${peer} is not connected`);
      const startedMs = clock.nowMs();
      link.expect();
      const silentAtMs = link.silentAtMs() ?? wakeAtMs;
      if (silentAtMs < wakeAtMs - quietMinMs) alarm.ring();
      const frame = await link.calls.ask(
        controlFrame.stealRequest,
        encodeStealRequest(request),
        signal,
      );
      noteRtt(peer, clock.nowMs() - startedMs);
      try {
        return decodeGrant(frame);
      } catch (error) {
        if (isMeshError(error)) directory.drop(peer, error.message, error);
        throw error;
      }
    },
    attach(given) {
      handlers = given;
    },
    sent: () => Object.fromEntries(counts),
    start(signal) {
      watchAlways(signal).catch((error: unknown) => {
        if (!signal.aborted) throw error;
      });
    },
    async stop() {
      stopped.abort();
      const closing = [...links.values()].map((link) => link.close().catch(() => {}));
      const all = Promise.all(closing);
      await clock.withDeadline(new AbortController().signal, goodbyeMs, () => all).catch(() => {});
    },
  };
}

function noGrant(): StealGrant {
  return create(StealGrantSchema, {});
}

function failure(task: string, attempt: number, code: string, message: string): TaskFailed {
  return create(TaskFailedSchema, { task, attempt, code, message });
}
