/**
 * The manager half of a node: answers for every task submitted here until it is done.
 *
 * 1. A submitted task is queued, longest expected first.
 * 2. A free slot here takes the best one and runs it here.
 * 3. A thief that asks gets up to half of what may leave, each under a lease.
 * 4. A lease ends by an answer, by the thief leaving, or by the clock; then the task is queued
 *    again, or put in place and done. Every step is `lease.ts`.
 *
 * It does not know what a task does: the door that submitted it does.
 */
import { create } from "@bufbuild/protobuf";
import { isMeshError, MeshError, messageOf } from "../base/errors.ts";
import type { Emit } from "../base/events.ts";
import { asTaskId, type PeerId, type TaskId } from "../base/ids.ts";
import type { BlobStore } from "../blob/store.ts";
import type { Clock } from "../host/host.ts";
import type { Control, OwnLoad } from "../peer/control.ts";
import {
  type Beat,
  type Grant,
  type StealGrant,
  StealGrantSchema,
  type StealRequest,
  type TaskDone,
  type TaskFailed,
  type TaskProgress,
} from "../wire/gen/mesh/v1/mesh_pb.ts";
import { phasesOf, readOutcome, readProgress } from "./answer.ts";
import { createDeque } from "./deque.ts";
import type { Durations } from "./durations.ts";
import { grantBytesOf, grantsMaxBytes, offerTree, toGrant } from "./grant.ts";
import { mayHave, queued, reasonOf, type TaskEvent, type TaskState } from "./lease.ts";
import { createLeases } from "./leases.ts";
import { type Counts, createLedger, type Entry } from "./ledger.ts";
import type { Slots } from "./slots.ts";
import { createStanding } from "./standing.ts";
import type { Outcome, Owner, Task } from "./task.ts";
import { createVoice } from "./voice.ts";

/** A stolen task that does not run after this long is given to somebody else. */
const startMaxMs = 120_000;
/** Over the time that the action itself allows: for its sandbox, its outputs and its answer. */
const endGraceMs = 30_000;
/** Outputs that are not in place after this long are no gain over a run here. */
const commitMaxMs = 300_000;

export interface OwnerDeps {
  readonly clock: Clock;
  readonly control: Pick<Control, "send" | "broadcastLoad">;
  readonly store: Pick<BlobStore, "put" | "pin">;
  readonly slots: Slots;
  readonly durations: Durations;
  readonly emit: Emit;
  /** A part of every task id, so that ids differ between nodes and between runs of one node. */
  readonly idPrefix: string;
}

export interface OwnerOptions {
  readonly leaseMs: number;
  /** Submitting more than this waits nowhere: it fails with "limit". */
  readonly tasksMax: number;
}

/** The owner as `node/` sees it: the door's side and the wire's side. */
export interface OwnerParts extends Owner {
  load(): OwnLoad;
  onSteal(peer: PeerId, request: StealRequest): StealGrant;
  onBeat(peer: PeerId, beat: Beat): void;
  onProgress(peer: PeerId, progress: TaskProgress): void;
  onDone(peer: PeerId, done: TaskDone): void;
  onFailed(peer: PeerId, failed: TaskFailed): void;
  onPeerLeft(peer: PeerId): void;
  /** For status and for tests of what must be empty at rest. */
  counts(): Counts;
  /**
   * Takes nothing more and lets go of whatever does not run here: its `submit` rejects with
   * `reason`. What runs here ends by itself, since its process is its requester's.
   */
  stop(reason: MeshError): void;
}

export function createOwner(deps: OwnerDeps, options: OwnerOptions): OwnerParts {
  const { clock, control, slots, durations, emit } = deps;
  const ledger = createLedger();
  const deque = createDeque<Entry>();
  const standing = createStanding(clock);
  const voice = createVoice(control);
  const leases = createLeases({ clock, expire });
  let order = 0;
  let stopped: MeshError | undefined;

  slots.onFree(runHereWhilePossible);

  return {
    submit,
    load: () => ({
      queued: deque.size,
      stealable: deque.stealable,
      slots: slots.count,
      busy: slots.busy,
    }),
    onSteal,
    onBeat(peer, beat) {
      for (const { task, attempt, running } of beat.held) {
        if (!renew(peer, task, attempt, running)) stale(peer, task, attempt);
      }
    },
    onProgress(peer, progress) {
      const entry = ledger.heldBy(peer, progress.task, progress.attempt);
      if (entry === undefined) return stale(peer, progress.task, progress.attempt);
      entry.task.onProgress?.(readProgress(progress), peer);
    },
    onDone,
    onFailed,
    onPeerLeft(peer) {
      for (const entry of [...ledger.leased()]) apply(entry, { type: "thief-left", thief: peer });
    },
    counts: () => ledger.counts(),
    stop(reason) {
      stopped = reason;
      for (const { id, state } of [...ledger.entries()]) {
        if (state.at !== "here") cancelEntry(id, reason);
      }
      leases.stop();
    },
  };

  async function submit(task: Task, signal: AbortSignal): Promise<Outcome> {
    signal.throwIfAborted();
    if (stopped !== undefined) throw stopped;
    if (ledger.size >= options.tasksMax) {
      throw new MeshError("limit", `${options.tasksMax} tasks are already waiting or running`);
    }
    const offer = offerTree(task.action, deps.store);
    const tree = offer instanceof Promise ? await offer : offer;
    signal.throwIfAborted();
    order += 1;
    const id = asTaskId(`${deps.idPrefix}-${order}`);
    const { promise: outcome, resolve: settle, reject: fail } = Promise.withResolvers<Outcome>();
    const entry: Entry = {
      id,
      task,
      order,
      settle,
      fail,
      cancelled: new AbortController(),
      state: queued,
      ...{ submittedMs: clock.nowMs(), grantedMs: 0 },
      stealable: tree.offered,
      expectedMs: durations.expectedMs(task.kind, task.label),
      accuser: undefined,
    };
    ledger.add(entry);
    const { build, kind, label } = task;
    emit({ event: "task-queued", task: id, build, kind, label, stealable: entry.stealable });
    enqueue(entry);
    const cancel = () => cancelEntry(id, signal.reason);
    signal.addEventListener("abort", cancel, { once: true });
    try {
      return await outcome;
    } finally {
      signal.removeEventListener("abort", cancel);
      ledger.remove(id);
      tree.release();
    }
  }

  function enqueue(entry: Entry): void {
    deque.push(entry);
    runHereWhilePossible();
    if (entry.stealable && entry.state.at === "queued") control.broadcastLoad();
  }

  function runHereWhilePossible(): void {
    while (deque.size > 0 && stopped === undefined) {
      const slot = slots.tryTake();
      if (slot === undefined) return;
      const entry = deque.takeHere();
      if (entry === undefined) {
        slot();
        return;
      }
      void runHere(entry).finally(slot);
    }
  }

  /** Never rejects. */
  async function runHere(entry: Entry): Promise<void> {
    const { task, id } = entry;
    const { build, label } = task;
    const { state } = apply(entry, { type: "started-here" });
    if (state.at !== "here") return;
    const { fallback, attempt } = state;
    emit({ event: "task-started", task: id, build, peer: undefined, attempt });
    if (fallback !== undefined) {
      emit({ event: "task-fallback", task: id, build, label, reason: fallback });
    }
    const startedMs = clock.nowMs();
    try {
      const exitCode = await task.runHere(entry.cancelled.signal);
      const wallMs = clock.nowMs() - startedMs;
      durations.learn(task.kind, label, wallMs);
      // It compiles here: then the peer that said it does not has something wrong with it.
      if (exitCode === 0 && entry.accuser !== undefined) standing.failed(entry.accuser);
      if (apply(entry, { type: "finished-here" }).state.at === "done") {
        const queueMs = startedMs - entry.submittedMs;
        const phases = { queueMs, fetchMs: 0, runMs: wallMs, returnMs: 0 };
        finished(
          entry,
          { source: "here", task: id, exitCode, wallMs, fallback, phases },
          undefined,
        );
      } else {
        // Its process was faster than the one that cancelled it; whoever did is told all the same.
        entry.fail(entry.cancelled.signal.reason);
      }
    } catch (error) {
      if (ledger.apply(entry, { type: "cancel" }) !== undefined) {
        emit({ event: "task-cancelled", task: id, build });
      }
      entry.fail(error);
    }
  }

  function onSteal(peer: PeerId, request: StealRequest): StealGrant {
    const platforms = new Set(request.platforms);
    const fair = Math.ceil(deque.stealable / 2);
    let roomBytes = grantsMaxBytes;
    const taken = standing.isWelcome(peer)
      ? deque.takeForThief(Math.min(request.room, fair), ({ task: { action }, state }) => {
          if (action === undefined || !platforms.has(action.spec.platform.platform ?? ""))
            return false;
          const grantBytes = grantBytesOf(action);
          if (!mayHave(state, peer) || grantBytes > roomBytes) return false;
          roomBytes -= grantBytes;
          return true;
        })
      : [];
    const nowMs = leases.nowMs();
    const granted: TaskEvent = {
      type: "granted",
      thief: peer,
      untilMs: nowMs + options.leaseMs,
      endMs: nowMs + startMaxMs,
    };
    const grants: Grant[] = [];
    for (const entry of taken) {
      const { state, task, id, expectedMs } = apply(entry, granted);
      if (state.at !== "leased" || task.action === undefined) continue;
      const { attempt } = state;
      entry.grantedMs = clock.nowMs();
      grants.push(toGrant(id, attempt, options.leaseMs, expectedMs, task, task.action));
      emit({ event: "task-started", task: id, build: task.build, peer, attempt });
    }
    if (grants.length > 0) leases.watch();
    return create(StealGrantSchema, { grants });
  }

  function onDone(peer: PeerId, done: TaskDone): void {
    const { task, attempt } = done;
    const entry = ledger.heldBy(peer, task, attempt);
    if (entry === undefined) {
      emit({ event: "task-stale", task: asTaskId(task), peer, attempt });
      voice.close(peer, task, attempt, false);
      return;
    }
    const exitCode = done.result?.exitCode ?? -1;
    if (exitCode !== 0) entry.accuser = peer;
    apply(entry, { type: "answered", thief: peer, attempt, exitCode });
    if (entry.state.at === "committing") void commit(entry, peer, attempt, done);
    else voice.close(peer, task, attempt, false);
  }

  function onFailed(peer: PeerId, { task, attempt, code, message }: TaskFailed): void {
    const entry = ledger.heldBy(peer, task, attempt);
    if (entry?.state.at !== "leased") {
      stale(peer, task, attempt);
      return;
    }
    const reason = `${code}: ${message}`;
    // It has no time for it after all, or had given up asking before the grant came.
    const isUntried = code === "cancelled" || (code === "deadline" && !entry.state.running);
    // What is too large for one is too large for all: that says nothing about this peer.
    if (!isUntried && code !== "limit") standing.failed(peer);
    apply(entry, { type: isUntried ? "handed-back" : "gave-up", thief: peer, attempt, reason });
  }

  /** Never rejects. */
  async function commit(
    entry: Entry,
    peer: PeerId,
    attempt: number,
    done: TaskDone,
  ): Promise<void> {
    const { task, id } = entry;
    try {
      const outcome = await readOutcome(done, task.action?.spec.outputPaths ?? [], deps.store);
      await clock.withDeadline(entry.cancelled.signal, commitMaxMs, (signal) =>
        task.commit(outcome, peer, signal),
      );
    } catch (error) {
      const reason = isMeshError(error) ? `${error.code}: ${error.message}` : messageOf(error);
      voice.close(peer, id, attempt, false);
      apply(entry, { type: "commit-failed", attempt, reason });
      return;
    }
    const runMs = done.timings?.runMs ?? 0;
    // Zero: the peer knew the result, which says nothing about how long a run takes.
    if (runMs > 0) durations.learn(task.kind, task.label, runMs);
    const isDone = apply(entry, { type: "committed", attempt }).state.at === "done";
    voice.close(peer, id, attempt, isDone);
    if (!isDone) return;
    standing.delivered(peer);
    const wallMs = clock.nowMs() - entry.submittedMs;
    const phases = phasesOf(done, wallMs, entry.grantedMs - entry.submittedMs);
    const { record } = done;
    finished(entry, { source: "there", task: id, peer, exitCode: 0, wallMs, phases, record }, peer);
  }

  /** Applies an event; a task that comes back from a thief is queued again. */
  function apply(entry: Entry, event: TaskEvent): Entry {
    const before = ledger.apply(entry, event);
    const { state } = entry;
    if (before === undefined || state.at !== "queued") return entry;
    if (before.at === "leased" || before.at === "committing") cameBack(entry, before, event);
    return entry;
  }

  function cameBack(
    entry: Entry,
    { thief, attempt }: TaskState & { readonly at: "leased" | "committing" },
    event: TaskEvent,
  ): void {
    const { task, id, state } = entry;
    const reason = reasonOf(event);
    emit({ event: "task-requeued", task: id, build: task.build, peer: thief, attempt, reason });
    // Everybody else knows already that it is over.
    if (event.type === "clock") voice.cancel(thief, id, attempt);
    if (event.type === "clock" || event.type === "commit-failed") standing.failed(thief);
    entry.stealable = state.at === "queued" && state.hereOnly === undefined;
    enqueue(entry);
  }

  function cancelEntry(id: TaskId, reason: unknown): void {
    const entry = ledger.get(id);
    if (entry === undefined) return;
    const before = ledger.apply(entry, { type: "cancel" });
    if (before === undefined) return;
    if (before.at === "queued") deque.remove(entry);
    if (before.at === "leased" || before.at === "committing") {
      voice.cancel(before.thief, id, before.attempt);
    }
    emit({ event: "task-cancelled", task: id, build: entry.task.build });
    entry.cancelled.abort(reason);
    // A task that runs here ends when its process has: `runHere` settles it then.
    if (before.at !== "here") entry.fail(reason);
  }

  function expire(nowMs: number): number {
    let nextMs = Number.POSITIVE_INFINITY;
    for (const entry of [...ledger.leased()]) {
      apply(entry, { type: "clock", nowMs });
      if (entry.state.at === "leased") nextMs = Math.min(nextMs, entry.state.untilMs);
    }
    return nextMs;
  }

  function renew(thief: PeerId, task: string, attempt: number, running: boolean): boolean {
    const entry = ledger.get(asTaskId(task));
    if (entry === undefined) return false;
    const { state } = entry;
    // The answer overtook the beat: nothing to renew, nothing stale.
    if (state.at === "committing" && state.attempt === attempt) return true;
    const nowMs = leases.nowMs();
    const untilMs = nowMs + options.leaseMs;
    const endMs = nowMs + (entry.task.action?.spec.timeoutMs ?? 0) + endGraceMs;
    const renewed: TaskEvent = { type: "renewed", thief, attempt, untilMs, endMs, running };
    return ledger.apply(entry, renewed) !== undefined;
  }

  function stale(peer: PeerId, task: string, attempt: number): void {
    emit({ event: "task-stale", task: asTaskId(task), peer, attempt });
    voice.cancel(peer, task, attempt);
  }

  function finished(entry: Entry, outcome: Outcome, peer: PeerId | undefined): void {
    const { task, id } = entry;
    const { build, label } = task;
    const { source, exitCode, wallMs, phases } = outcome;
    emit({ event: "task-done", task: id, build, label, source, peer, exitCode, wallMs, phases });
    entry.settle(outcome);
  }
}
