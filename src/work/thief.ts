/**
 * The worker half of a node: steals while it is idle, runs what it got, and answers.
 *
 * Nothing polls: a search starts when a peer's hint promises work, when a slot comes free or when
 * a peer joins, and ends when no hint promises anything. What is stolen runs behind this node's
 * own tasks, and goes back when it would wait for them. It does not know what an action does:
 * `execute` does.
 */
import { create } from "@bufbuild/protobuf";
import { isMeshError, MeshError, messageOf } from "../base/errors.ts";
import type { Emit } from "../base/events.ts";
import { asTaskId, type PeerId } from "../base/ids.ts";
import type { Clock, Random } from "../host/host.ts";
import { createAlarm } from "../peer/alarm.ts";
import type { Control } from "../peer/control.ts";
import type { Directory, Peer } from "../peer/directory.ts";
import {
  BeatSchema,
  type Grant,
  StealRequestSchema,
  TaskFailedSchema,
} from "../wire/gen/mesh/v1/mesh_pb.ts";
import { writeDone, writeProgress } from "./answer.ts";
import { type ForeignDeps, runForeign } from "./foreign.ts";
import { createPatience } from "./patience.ts";
import type { Slots } from "./slots.ts";
import { chooseVictim } from "./victim.ts";

export interface ThiefDeps extends ForeignDeps {
  readonly clock: Clock;
  readonly random: Random;
  readonly control: Pick<Control, "send" | "steal">;
  readonly directory: Pick<Directory, "peers">;
  readonly slots: Slots;
  readonly emit: Emit;
  /** Tasks of this node's own that wait: while there are any, nothing is stolen. */
  readonly ownQueued: () => number;
  /** What this node may run for others; empty: it never steals. */
  readonly platforms: readonly string[];
}

export interface ThiefOptions {
  readonly beatMs: number;
  /** Tasks taken beyond the free slots, so that their inputs move while others run. */
  readonly prefetchTasks: number;
  /** How long after two misses a hint that still promises work is tried again, at first ... */
  readonly retryMs: number;
  /** ... and in the end. */
  readonly retryMaxMs: number;
  /** How long an answered task's outputs are kept for an owner that says nothing. */
  readonly keepAnsweredMs: number;
}

export interface Thief {
  /** Something changed that may make a search worthwhile. */
  wake(): void;
  onCancel(peer: PeerId, task: string, attempt: number): void;
  onClosed(peer: PeerId, task: string, attempt: number, accepted: boolean): void;
  onPeerLeft(peer: PeerId): void;
  /** Foreign tasks held, from grant to answer taken. */
  held(): number;
}

interface Held {
  readonly owner: PeerId;
  readonly grant: Grant;
  readonly abort: AbortController;
  running: boolean;
  /** Waited already at the last beat while this node had work of its own. */
  overdue: boolean;
  /** Resolves the wait for the owner's last word. */
  closed: (accepted: boolean) => void;
  answered: boolean;
}

export function createThief(deps: ThiefDeps, options: ThiefOptions, signal: AbortSignal): Thief {
  const { clock, control, directory, slots, emit } = deps;
  const held = new Map<string, Held>();
  const patience = createPatience(clock, options);
  const alarm = createAlarm(clock);
  let searching = false;
  let beating = false;

  signal.addEventListener("abort", () => {
    for (const entry of held.values()) handBack(entry, "this node is stopping");
  });
  slots.onFree(wake);

  return {
    wake,
    onCancel: (peer, task, attempt) => heldBy(peer, task, attempt)?.abort.abort(cancelled),
    onClosed: (peer, task, attempt, accepted) => heldBy(peer, task, attempt)?.closed(accepted),
    onPeerLeft(peer) {
      for (const entry of held.values()) {
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
        if (room <= 0) return;
        const victim = chooseVictim(patience.ready(peers), (bound) => deps.random.below(bound));
        if (victim !== undefined) {
          await stealFrom(victim, room);
          continue;
        }
        patience.keep(peers);
        const waitMs = patience.waitMs(peers);
        if (waitMs === Number.POSITIVE_INFINITY) return;
        await alarm.wait(waitMs, signal);
      }
    } finally {
      // In the turn in which it gave up: a wake-up in the next one must start another.
      searching = false;
    }
  }

  function roomNow(): number {
    if (deps.ownQueued() > 0) return 0;
    let waiting = 0;
    let answered = 0;
    for (const entry of held.values()) {
      if (entry.answered) answered += 1;
      else if (!entry.running) waiting += 1;
    }
    // An owner that cannot take so much in is not helped by more.
    if (answered >= answeredMax) return 0;
    return slots.count - slots.busy + options.prefetchTasks - waiting;
  }

  async function stealFrom(victim: Peer, room: number): Promise<void> {
    const askedMs = clock.nowMs();
    const request = create(StealRequestSchema, { room, platforms: [...deps.platforms] });
    try {
      const { grants } = await control.steal(victim.id, request, signal);
      const rttMs = clock.nowMs() - askedMs;
      emit({ event: "steal-asked", peer: victim.id, granted: grants.length, rttMs });
      for (const grant of grants.slice(0, room)) keep(victim.id, grant);
      for (const { task, attempt } of grants.slice(room)) {
        sendBack(victim.id, task, attempt, "there was room for fewer");
      }
      if (grants.length > 0) return patience.gave(victim.id);
    } catch (error) {
      // It is gone, or too slow, or talks nonsense and has been dropped for it.
      if (!isMeshError(error) || signal.aborted) throw error;
    }
    // By what its hint says now: the answer brought a newer one.
    patience.missed(directory.peers().find(({ id }) => id === victim.id) ?? victim);
  }

  function keep(owner: PeerId, grant: Grant): void {
    const key = keyOf(owner, grant.task, grant.attempt);
    if (held.has(key)) return;
    const entry: Held = {
      owner,
      grant,
      abort: new AbortController(),
      running: false,
      overdue: false,
      closed: () => {},
      answered: false,
    };
    held.set(key, entry);
    void beat();
    void work(entry).finally(() => {
      held.delete(key);
      wake();
    });
  }

  /** Never rejects: whatever goes wrong is told to the owner. */
  async function work(entry: Held): Promise<void> {
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
            emit({ event: "foreign-started", ...said });
          },
          onProgress: (progress) =>
            control.send(owner, {
              type: "progress",
              value: writeProgress(task, attempt, progress),
            }),
        },
        abort.signal,
      );
      try {
        const value = await writeDone(task, attempt, run, deps.store);
        const accepted = await answer(entry, () => control.send(owner, { type: "done", value }));
        // What its owner did not take is not remembered: it knows more about what may be wrong.
        if (accepted) run.keep();
        emit({ event: "foreign-done", ...said, outcome: accepted ? "accepted" : "refused" });
      } finally {
        run.release();
      }
    } catch (error) {
      if (abort.signal.aborted) {
        emit({ event: "foreign-done", ...said, outcome: "cancelled" });
        return;
      }
      emit({ event: "foreign-done", ...said, outcome: "failed" });
      const code = isMeshError(error) ? error.code : "io";
      const value = create(TaskFailedSchema, { task, attempt, code, message: messageOf(error) });
      control.send(owner, { type: "failed", value });
    }
  }

  /** Tells the owner at once, so that it need not wait for the lease, and ends the work on it. */
  function handBack(entry: Held, why: string): void {
    const { owner, grant, answered, abort } = entry;
    if (!answered && !abort.signal.aborted) sendBack(owner, grant.task, grant.attempt, why);
    abort.abort(new MeshError("cancelled", why));
  }

  /** "cancelled" says that nobody failed at it. */
  function sendBack(owner: PeerId, task: string, attempt: number, message: string): void {
    const value = create(TaskFailedSchema, { task, attempt, code: "cancelled", message });
    control.send(owner, { type: "failed", value });
  }

  /** Sends the answer and keeps its outputs until the owner has them or is gone. */
  function answer(entry: Held, send: () => void): Promise<boolean> {
    return clock
      .withDeadline(entry.abort.signal, options.keepAnsweredMs, (inner) => {
        return new Promise<boolean>((resolve, reject) => {
          entry.closed = resolve;
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

  /** One message per owner renews all its leases, for as long as there are any. Never rejects. */
  async function beat(): Promise<void> {
    if (beating) return;
    beating = true;
    for (;;) {
      await clock.sleep(options.beatMs, signal).catch(() => {});
      if (signal.aborted) break;
      handBackOverdue();
      const open = [...held.values()].filter((entry) => isOpen(entry));
      if (open.length === 0) break;
      for (const [owner, entries] of Map.groupBy(open, (entry) => entry.owner)) {
        const leases = entries.map(({ grant: { task, attempt }, running }) => ({
          task,
          attempt,
          running,
        }));
        control.send(owner, { type: "beat", value: create(BeatSchema, { held: leases }) });
      }
    }
    beating = false;
  }

  /** What would wait behind this node's own queue is better off with anybody else. */
  function handBackOverdue(): void {
    const isBusy = deps.ownQueued() > 0;
    for (const entry of held.values()) {
      if (entry.running || !isOpen(entry)) continue;
      if (isBusy && entry.overdue) handBack(entry, "this node has work of its own");
      entry.overdue = isBusy;
    }
  }

  function heldBy(peer: PeerId, task: string, attempt: number): Held | undefined {
    return held.get(keyOf(peer, task, attempt));
  }
}

/** Answers whose outputs are kept for their owners at a time; with more, nothing is stolen. */
const answeredMax = 64;

/** Its lease has to be renewed. */
function isOpen({ answered, abort }: Held): boolean {
  return !answered && !abort.signal.aborted;
}

const cancelled = new DOMException("the owner no longer wants it", "AbortError");

function keyOf(owner: PeerId, task: string, attempt: number): string {
  return `${owner}\0${task}\0${attempt}`;
}
