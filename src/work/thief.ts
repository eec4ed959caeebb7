/**
 * The worker half of a node: steals while it is idle, runs what it got, and answers.
 *
 * Nothing polls: a search starts when a peer's hint promises work, when a slot comes free or when
 * a peer joins, and ends after two misses in a row. What is stolen runs behind this node's own
 * tasks. It does not know what an action does: `execute` does.
 */
import { create } from "@bufbuild/protobuf";
import { isMeshError, messageOf } from "../base/errors.ts";
import type { Emit } from "../base/events.ts";
import { asTaskId, type PeerId } from "../base/ids.ts";
import type { Clock, Random } from "../host/host.ts";
import type { Control } from "../peer/control.ts";
import type { Directory } from "../peer/directory.ts";
import {
  BeatSchema,
  type Grant,
  StealRequestSchema,
  TaskFailedSchema,
} from "../wire/gen/mesh/v1/mesh_pb.ts";
import { writeDone, writeProgress } from "./answer.ts";
import { type ForeignDeps, runForeign } from "./foreign.ts";
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
  /** How long after two misses a hint that still promises work is tried again. */
  readonly retryMs: number;
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
  /** Resolves the wait for the owner's last word. */
  closed: (accepted: boolean) => void;
  answered: boolean;
}

export function createThief(deps: ThiefDeps, options: ThiefOptions, signal: AbortSignal): Thief {
  const { clock, control, directory, slots, emit } = deps;
  const held = new Map<string, Held>();
  let searching = false;
  let beating = false;

  signal.addEventListener("abort", () => {
    for (const entry of held.values()) entry.abort.abort(signal.reason);
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
    if (searching || signal.aborted || deps.platforms.length === 0) return;
    searching = true;
    search().then(
      () => {
        searching = false;
      },
      (error: unknown) => {
        searching = false;
        if (!signal.aborted) throw error;
      },
    );
  }

  async function search(): Promise<void> {
    let misses = 0;
    for (;;) {
      const room = roomNow();
      const victim = chooseVictim(directory.peers(), (bound) => deps.random.below(bound));
      if (room <= 0 || victim === undefined || signal.aborted) return;
      const got = await stealFrom(victim.id, room);
      misses = got > 0 ? 0 : misses + 1;
      if (misses >= 2) {
        // Its hint still promises work, and yet it gave none: no reason to hammer it.
        await clock.sleep(options.retryMs, signal);
        misses = 0;
      }
    }
  }

  function roomNow(): number {
    if (deps.ownQueued() > 0) return 0;
    let waiting = 0;
    for (const entry of held.values()) if (!entry.running && !entry.answered) waiting += 1;
    return slots.count - slots.busy + options.prefetchTasks - waiting;
  }

  async function stealFrom(victim: PeerId, room: number): Promise<number> {
    const askedMs = clock.nowMs();
    const request = create(StealRequestSchema, { room, platforms: [...deps.platforms] });
    try {
      const { grants } = await control.steal(victim, request, signal);
      const rttMs = clock.nowMs() - askedMs;
      emit({ event: "steal-asked", peer: victim, granted: grants.length, rttMs });
      for (const grant of grants) keep(victim, grant);
      return grants.length;
    } catch (error) {
      if (isMeshError(error, "peer-gone", "deadline", "limit")) return 0;
      throw error;
    }
  }

  function keep(owner: PeerId, grant: Grant): void {
    const key = keyOf(owner, grant.task, grant.attempt);
    const entry: Held = {
      owner,
      grant,
      abort: new AbortController(),
      running: false,
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
        const value = await writeDone(task, attempt, run.outcome, run.timings, deps.store);
        const accepted = await answer(entry, () => control.send(owner, { type: "done", value }));
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
    while (!signal.aborted) {
      const byOwner = Map.groupBy(
        [...held.values()].filter(({ answered }) => !answered),
        ({ owner }) => owner,
      );
      if (byOwner.size === 0) break;
      for (const [owner, entries] of byOwner) {
        const leases = entries.map(({ grant: { task, attempt }, running }) => ({
          task,
          attempt,
          running,
        }));
        control.send(owner, { type: "beat", value: create(BeatSchema, { held: leases }) });
      }
      await clock.sleep(options.beatMs, signal).catch(() => {});
    }
    beating = false;
  }

  function heldBy(peer: PeerId, task: string, attempt: number): Held | undefined {
    return held.get(keyOf(peer, task, attempt));
  }
}

const cancelled = new DOMException("the owner no longer wants it", "AbortError");

function keyOf(owner: PeerId, task: string, attempt: number): string {
  return `${owner}\0${task}\0${attempt}`;
}
