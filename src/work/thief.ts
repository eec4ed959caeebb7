/**
 * The worker half of a node: steals while it is idle, runs what it got, and answers.
 *
 * Nothing polls: a search starts when a peer's hint promises work, when a slot comes free or when
 * a peer joins, and ends when no hint promises anything; then it registers with its neighbours and
 * sleeps until something is pushed (`lifelines.ts`). What is stolen runs behind this node's own
 * tasks, and goes back when it would wait for them. It does not know what an action does:
 * `execute` does.
 */
import { create } from "@bufbuild/protobuf";
import { isMeshError, MeshError, messageOf } from "../base/errors.ts";
import type { Emit } from "../base/events.ts";
import { asTaskId, type PeerId } from "../base/ids.ts";
import type { Clock, Random } from "../host/host.ts";
import { createAlarm } from "../peer/alarm.ts";
import type { Control, ControlMessage } from "../peer/control.ts";
import type { Directory, Peer } from "../peer/directory.ts";
import {
  type Grant,
  type StealGrant,
  type StealRequest,
  StealRequestSchema,
  TaskFailedSchema,
} from "../wire/gen/mesh/v1/mesh_pb.ts";
import { writeDone, writeProgress } from "./answer.ts";
import { createBeats } from "./beats.ts";
import { type ForeignDeps, runForeign } from "./foreign.ts";
import { createHeld } from "./heavy.ts";
import { createHolding, type HeldTask, isOpen } from "./holding.ts";
import { neighboursOf } from "./lifelines.ts";
import { createPatience } from "./patience.ts";
import { createServed } from "./served.ts";
import type { Slots } from "./slots.ts";
import type { Strategy } from "./strategy.ts";
import { chooseVictim } from "./victim.ts";

export interface ThiefDeps extends ForeignDeps {
  readonly clock: Clock;
  readonly random: Random;
  readonly self: PeerId;
  readonly control: Pick<Control, "send" | "steal" | "lifeline">;
  /** Those that can be asked; also this node itself, while its own tasks lag behind elsewhere. */
  readonly directory: Pick<Directory, "peers">;
  readonly slots: Slots;
  readonly emit: Emit;
  /** Tasks of this node's own that wait: while there are any, nothing is stolen. */
  readonly ownQueued: () => number;
  /** What this node may run for others; empty: it never steals. */
  readonly platforms: readonly string[];
  /** Slots that are lent at the moment: fewer while whoever uses this machine needs it. */
  readonly lent: () => number;
}

export interface ThiefOptions {
  readonly beatMs: number;
  /** Tasks taken beyond the free slots at most; how many of them are worth it, the owner says. */
  readonly prefetchTasks: number;
  /** How long after two misses a hint that still promises work is tried again, at first ... */
  readonly retryMs: number;
  /** ... and in the end. */
  readonly retryMaxMs: number;
  /** How long an answered task's outputs are kept for an owner that says nothing. */
  readonly keepAnsweredMs: number;
  readonly strategy: Strategy;
}

export interface Thief {
  /** Something changed that may make a search worthwhile. */
  wake(): void;
  onCancel(peer: PeerId, task: string, attempt: number): void;
  onClosed(peer: PeerId, task: string, attempt: number, accepted: boolean): void;
  /** Tasks that were not asked for. */
  onPush(peer: PeerId, grant: StealGrant): void;
  onPeerLeft(peer: PeerId): void;
  /** Foreign tasks held, from grant to answer taken. */
  held(): number;
  /**
   * Takes nothing more, hands back what does not run, and lets the rest end: resolves when nothing
   * is held any more, or after `limitMs`.
   */
  drain(limitMs: number): Promise<void>;
}

export function createThief(deps: ThiefDeps, options: ThiefOptions, signal: AbortSignal): Thief {
  const { clock, control, directory, slots, emit } = deps;
  const held = createHolding();
  const patience = createPatience(clock, options);
  const alarm = createAlarm(clock);
  const victimView = {
    below: (bound: number) => deps.random.below(bound),
    servedMs: (peer: PeerId) => served.ms(peer),
    get hotBits() {
      return hot.hotBits;
    },
  };
  const served = createServed(clock);
  const hot = createHeld();
  /** Peers that will push when they have something. */
  const registered = new Set<PeerId>();
  /** Its answer is awaited: it may have pushed before. */
  let asked: PeerId | undefined;
  const beats = createBeats(
    { clock, control, open: held.open, before: handBackOverdue },
    options.beatMs,
    signal,
  );
  let searching = false;
  let draining = false;
  /** The last owner asked found it worth its while to give more than fills the slots. */
  let aheadPays = true;

  signal.addEventListener("abort", () => {
    for (const entry of held.all()) handBack(entry, "this node is stopping");
  });
  // What was taken ahead has this slot, or an answer goes out in a moment: the question travels with it.
  slots.onFree(() => {
    if (held.waiting() === 0 && !held.isAnswering()) wake();
  });

  return {
    wake,
    onPush,
    drain,
    onCancel: (peer, task, attempt) => held.get(peer, task, attempt)?.abort.abort(cancelled),
    onClosed: (peer, task, attempt, accepted) => held.get(peer, task, attempt)?.closed(accepted),
    onPeerLeft(peer) {
      registered.delete(peer);
      for (const entry of held.all()) {
        if (entry.owner === peer) entry.abort.abort(cancelled);
      }
    },
    held: () => held.size,
  };

  function wake(): void {
    if (signal.aborted || deps.platforms.length === 0) return;
    if (searching) {
      alarm.ring();
      return;
    }
    searching = true;
    search().catch((error: unknown) => {
      if (!signal.aborted) throw error;
    });
  }

  /** Ends when there is no room, or nobody who promises anything. */
  async function search(): Promise<void> {
    try {
      while (!signal.aborted) {
        const room = roomNow();
        const peers = directory.peers();
        if (room.total <= 0) {
          if (!isPressed() || patience.waitMs(peers) === Number.POSITIVE_INFINITY) return;
          await alarm.wait(pressedMs, signal);
          continue;
        }
        const victim = chooseVictim(patience.ready(peers), victimView, options.strategy);
        if (victim !== undefined) {
          await stealFrom(victim, room);
          continue;
        }
        patience.keep(peers);
        const waitMs = patience.waitMs(peers);
        if (waitMs === Number.POSITIVE_INFINITY) return sleep(peers, room);
        await alarm.wait(waitMs, signal);
      }
    } finally {
      // In the turn in which it gave up: a wake-up in the next one must start another.
      searching = false;
    }
  }

  /** Only because somebody else needs the machine: that passes without a word. */
  function isPressed(): boolean {
    return !draining && deps.ownQueued() === 0 && deps.lent() < slots.count;
  }

  /** Nobody has anything: whoever has next shall push it. */
  function sleep(peers: readonly Peer[], room: Room): void {
    if (room.idle <= 0) return;
    const ids = peers.flatMap(({ id }) => (id === deps.self ? [] : [id]));
    for (const peer of neighboursOf(deps.self, ids)) {
      if (registered.has(peer)) continue;
      registered.add(peer);
      control.lifeline(peer, requestFor(room));
    }
  }

  function roomNow(): Room {
    if (draining || deps.ownQueued() > 0 || deps.platforms.length === 0) return noRoom;
    // An owner that cannot take so much in is not helped by more.
    if (held.answered() >= answeredMax) return noRoom;
    const lent = Math.min(slots.count, deps.lent());
    const waiting = held.waiting();
    const idle = Math.max(0, lent - slots.busy - waiting);
    // What is taken ahead would run in a slot that is not lent at the moment.
    if (lent < slots.count) return { idle, total: idle };
    // Asked for in batches, and by itself only where the last time brought some.
    const isFed = waiting > options.prefetchTasks / 2;
    const ahead = idle === 0 && (isFed || !aheadPays) ? 0 : options.prefetchTasks;
    return { idle, total: idle + ahead };
  }

  function requestFor({ total, idle }: Room): StealRequest {
    const holds = hot.filter;
    return create(StealRequestSchema, { room: total, idle, platforms: [...deps.platforms], holds });
  }

  async function stealFrom(victim: Peer, room: Room): Promise<void> {
    const askedMs = clock.nowMs();
    try {
      beats.said(victim.id);
      registered.delete(victim.id);
      asked = victim.id;
      const { grants } = await control.steal(victim.id, requestFor(room), signal);
      const rttMs = clock.nowMs() - askedMs;
      emit({ event: "steal-asked", peer: victim.id, granted: grants.length, rttMs });
      const countMax = draining ? 0 : room.total; // It may have begun to leave meanwhile.
      for (const grant of grants.slice(0, countMax)) keep(victim.id, grant);
      for (const { task, attempt } of grants.slice(countMax)) {
        sendBack(victim.id, task, attempt, "refused", "there was room for fewer");
      }
      aheadPays = grants.length > room.idle;
      if (grants.length > 0) return patience.gave(victim.id);
      // Nothing was urgent: no promise is broken.
      if (room.idle === 0) return;
    } catch (error) {
      // It is gone, or too slow, or talks nonsense and has been dropped for it.
      if (!isMeshError(error) || signal.aborted) throw error;
    } finally {
      asked = undefined;
    }
    // By what its hint says now: the answer brought a newer one.
    patience.missed(directory.peers().find(({ id }) => id === victim.id) ?? victim);
  }

  function onPush(peer: PeerId, { grants }: StealGrant): void {
    // Else whoever pushes most has all slots; and it was meant for one that idles.
    const isWanted = (registered.delete(peer) || peer === asked) && roomNow().idle > 0;
    for (const grant of grants) {
      if (isWanted && roomNow().total > 0) keep(peer, grant);
      else sendBack(peer, grant.task, grant.attempt, "refused", "there is no room any more");
    }
  }

  async function drain(limitMs: number): Promise<void> {
    draining = true;
    for (const entry of held.all()) {
      if (!entry.running) handBack(entry, "this node is leaving");
    }
    const endMs = clock.nowMs() + limitMs;
    while (held.size > 0 && clock.nowMs() < endMs && !signal.aborted) {
      await clock.sleep(Math.min(drainLookMs, endMs - clock.nowMs()), signal).catch(() => {});
    }
    for (const entry of held.all()) handBack(entry, "this node is leaving");
  }

  function keep(owner: PeerId, grant: Grant): void {
    const entry: HeldTask = {
      owner,
      grant,
      abort: new AbortController(),
      running: false,
      ran: false,
      startedMs: 0,
      overdueSinceMs: undefined,
      closed: () => {},
      answered: false,
    };
    if (!held.add(entry)) return;
    beats.start();
    void work(entry).finally(() => {
      held.remove(entry);
      wake();
    });
  }

  /** Never rejects: whatever goes wrong is told to the owner. */
  async function work(entry: HeldTask): Promise<void> {
    const { owner, grant, abort } = entry;
    const { task, attempt } = grant;
    const said = { task: asTaskId(task), owner, label: grant.label };
    try {
      const run = await runForeign(
        deps,
        owner,
        grant,
        {
          onRunning() {
            entry.running = true;
            entry.startedMs = clock.nowMs();
            emit({ event: "foreign-started", ...said });
          },
          onProgress: (progress) =>
            say(owner, { type: "progress", value: writeProgress(task, attempt, progress) }),
          onInputs: hot.used,
          onRan() {
            entry.ran = true;
            // However it ended: the slot was its owner's.
            served.add(owner, clock.nowMs() - entry.startedMs);
          },
        },
        abort.signal,
      );
      try {
        const value = await writeDone(task, attempt, run, deps.store);
        const accepted = await answer(entry, run.keep, () => {
          say(owner, { type: "done", value });
          // In the same breath: what is asked for now travels with the answer.
          wake();
        });
        emit({ event: "foreign-done", ...said, outcome: accepted ? "accepted" : "refused" });
      } finally {
        run.release();
      }
    } catch (error) {
      const isCancelled = abort.signal.aborted;
      emit({ event: "foreign-done", ...said, outcome: isCancelled ? "cancelled" : "failed" });
      if (isCancelled) return;
      const code = isMeshError(error) ? error.code : "io";
      const value = create(TaskFailedSchema, { task, attempt, code, message: messageOf(error) });
      say(owner, { type: "failed", value });
    }
  }

  function say(owner: PeerId, message: ControlMessage): void {
    beats.said(owner);
    control.send(owner, message);
  }

  /** Tells the owner at once, so that it need not wait for the lease, and ends the work on it. */
  function handBack(entry: HeldTask, why: string): void {
    const { owner, grant, answered, abort } = entry;
    const { task, attempt } = grant;
    if (!answered && !abort.signal.aborted) sendBack(owner, task, attempt, "cancelled", why);
    abort.abort(new MeshError("cancelled", why));
  }

  /** Nobody failed at it: "cancelled", this node has no time for it; "refused", no room just now. */
  function sendBack(
    owner: PeerId,
    task: string,
    attempt: number,
    code: "cancelled" | "refused",
    message: string,
  ): void {
    const value = create(TaskFailedSchema, { task, attempt, code, message });
    say(owner, { type: "failed", value });
  }

  /** Sends the answer and keeps its outputs until the owner has them or is gone. */
  function answer(entry: HeldTask, onAccepted: () => void, send: () => void): Promise<boolean> {
    return clock
      .withDeadline(entry.abort.signal, options.keepAnsweredMs, (inner) => {
        return new Promise<boolean>((resolve, reject) => {
          entry.closed = (accepted) => {
            // What its owner did not take is not remembered: it knows more about what may be wrong.
            if (accepted) onAccepted();
            resolve(accepted);
          };
          entry.answered = true;
          inner.addEventListener("abort", () => reject(inner.reason), { once: true });
          send();
        });
      })
      .catch((error: unknown) => {
        if (isMeshError(error, "deadline")) return false;
        throw error;
      });
  }

  /** What would wait behind this node's own queue is better off with anybody else. */
  function handBackOverdue(): void {
    const isBusy = deps.ownQueued() > 0;
    for (const entry of held.all()) {
      if (entry.running || !isOpen(entry)) continue;
      entry.overdueSinceMs = isBusy ? (entry.overdueSinceMs ?? clock.nowMs()) : undefined;
      const { overdueSinceMs = Number.POSITIVE_INFINITY } = entry;
      if (clock.nowMs() - overdueSinceMs < options.beatMs) continue;
      handBack(entry, "this node has work of its own");
    }
  }
}

/** What a node has room for: `idle` would run at once, the rest of `total` is taken ahead. */
interface Room {
  readonly total: number;
  readonly idle: number;
}

const noRoom: Room = { total: 0, idle: 0 };

/** Answers whose outputs are kept for their owners at a time; with more, nothing is stolen. */
const answeredMax = 256;
const drainLookMs = 50;
/** How soon a machine that was busy with other things is looked at again while there is work. */
const pressedMs = 2000;

const cancelled = new DOMException("the owner no longer wants it", "AbortError");
