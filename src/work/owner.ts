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
  CancelSchema,
  type Grant,
  type StealGrant,
  StealGrantSchema,
  type StealRequest,
  TaskClosedSchema,
  type TaskDone,
  type TaskFailed,
  type TaskProgress,
} from "../wire/gen/mesh/v1/mesh_pb.ts";
import { readOutcome, readProgress } from "./answer.ts";
import { createDeque, type Queued } from "./deque.ts";
import type { Durations } from "./durations.ts";
import { toGrant } from "./grant.ts";
import { queued, step, type TaskEvent, type TaskState } from "./lease.ts";
import type { Slots } from "./slots.ts";
import type { Outcome, Owner, Task } from "./task.ts";

export interface OwnerDeps {
  readonly clock: Clock;
  readonly control: Pick<Control, "send" | "broadcastLoad">;
  readonly store: Pick<BlobStore, "put">;
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
  /** Tasks by where they stand, for status and for tests of what must be empty at rest. */
  counts(): Readonly<Record<"queued" | "here" | "leased" | "committing", number>>;
}

interface Entry extends Queued {
  readonly id: TaskId;
  readonly task: Task;
  readonly submittedMs: number;
  state: TaskState;
  readonly settle: (outcome: Outcome) => void;
  readonly fail: (error: unknown) => void;
  readonly cancelled: AbortController;
  /** A queued entry's place changes when it may no longer leave. */
  stealable: boolean;
}

export function createOwner(deps: OwnerDeps, options: OwnerOptions): OwnerParts {
  const { clock, control, slots, durations, emit } = deps;
  const entries = new Map<TaskId, Entry>();
  const deque = createDeque<Entry>();
  let order = 0;
  let watching = false;

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
      const untilMs = clock.nowMs() + options.leaseMs;
      for (const { task, attempt, running } of beat.held) {
        const entry = entries.get(asTaskId(task));
        if (entry === undefined || !renew(entry, peer, attempt, untilMs, running)) {
          stale(peer, task, attempt);
        }
      }
    },
    onProgress(peer, progress) {
      const entry = heldBy(peer, progress.task, progress.attempt);
      if (entry === undefined) return stale(peer, progress.task, progress.attempt);
      entry.task.onProgress?.(readProgress(progress), peer);
    },
    onDone,
    onFailed(peer, { task, attempt, code, message }) {
      const entry = heldBy(peer, task, attempt);
      if (entry === undefined) return stale(peer, task, attempt);
      apply(entry, { type: "gave-up", thief: peer, attempt, reason: `${code}: ${message}` });
    },
    onPeerLeft(peer) {
      for (const entry of entries.values()) apply(entry, { type: "thief-left", thief: peer });
    },
    counts() {
      const counts = { queued: 0, here: 0, leased: 0, committing: 0 };
      for (const { state } of entries.values()) {
        if (state.at !== "done" && state.at !== "cancelled") counts[state.at] += 1;
      }
      return counts;
    },
  };

  async function submit(task: Task, signal: AbortSignal): Promise<Outcome> {
    signal.throwIfAborted();
    if (entries.size >= options.tasksMax) {
      throw new MeshError("limit", `${options.tasksMax} tasks are already waiting or running`);
    }
    order += 1;
    const id = asTaskId(`${deps.idPrefix}-${order}`);
    const cancelled = new AbortController();
    const outcome = new Promise<Outcome>((settle, fail) => {
      const entry: Entry = {
        id,
        task,
        order,
        settle,
        fail,
        cancelled,
        state: queued,
        submittedMs: clock.nowMs(),
        stealable: task.action !== undefined,
        expectedMs: durations.expectedMs(task.kind, task.label),
      };
      entries.set(id, entry);
      emit({
        event: "task-queued",
        task: id,
        build: task.build,
        kind: task.kind,
        label: task.label,
        stealable: entry.stealable,
      });
      enqueue(entry);
    });
    const cancel = () => cancelEntry(id, signal.reason);
    signal.addEventListener("abort", cancel, { once: true });
    try {
      return await outcome;
    } finally {
      signal.removeEventListener("abort", cancel);
      entries.delete(id);
    }
  }

  function enqueue(entry: Entry): void {
    deque.push(entry);
    runHereWhilePossible();
    if (entry.stealable && entry.state.at === "queued") control.broadcastLoad();
  }

  function runHereWhilePossible(): void {
    while (deque.size > 0) {
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
    const { task } = entry;
    const started = apply(entry, { type: "started-here" });
    if (started.at !== "here") return;
    const { fallback, attempt } = started;
    emit({ event: "task-started", task: entry.id, build: task.build, peer: undefined, attempt });
    if (fallback !== undefined) {
      emit({
        event: "task-fallback",
        task: entry.id,
        build: task.build,
        label: task.label,
        reason: fallback,
      });
    }
    const startedMs = clock.nowMs();
    try {
      const exitCode = await task.runHere(entry.cancelled.signal);
      const wallMs = clock.nowMs() - startedMs;
      durations.learn(task.kind, task.label, wallMs);
      if (apply(entry, { type: "finished-here" }).at !== "done") return;
      finished(entry, { source: "here", exitCode, wallMs, fallback }, undefined);
    } catch (error) {
      apply(entry, { type: "cancel" });
      entry.fail(error);
    }
  }

  function onSteal(peer: PeerId, request: StealRequest): StealGrant {
    const platforms = new Set(request.platforms);
    const fair = Math.ceil(deque.stealable / 2);
    const taken = deque.takeForThief(Math.min(request.room, fair), ({ task }) =>
      platforms.has(task.action?.spec.platform["platform"] ?? ""),
    );
    const untilMs = clock.nowMs() + options.leaseMs;
    const grants: Grant[] = [];
    for (const entry of taken) {
      apply(entry, { type: "granted", thief: peer, untilMs });
      const { state, task } = entry;
      if (state.at !== "leased" || task.action === undefined) continue;
      grants.push(
        toGrant(entry.id, state.attempt, options.leaseMs, entry.expectedMs, task, task.action),
      );
      emit({
        event: "task-started",
        task: entry.id,
        build: task.build,
        peer,
        attempt: state.attempt,
      });
    }
    if (grants.length > 0) void watchLeases();
    return create(StealGrantSchema, { grants });
  }

  function onDone(peer: PeerId, done: TaskDone): void {
    const entry = heldBy(peer, done.task, done.attempt);
    const { attempt } = done;
    if (entry === undefined) {
      close(peer, done.task, attempt, false);
      stale(peer, done.task, attempt);
      return;
    }
    apply(entry, {
      type: "answered",
      thief: peer,
      attempt,
      exitCode: done.result?.exitCode ?? -1,
    });
    if (entry.state.at === "committing") void commit(entry, peer, attempt, done);
    else close(peer, done.task, attempt, false);
  }

  /** Never rejects. */
  async function commit(
    entry: Entry,
    peer: PeerId,
    attempt: number,
    done: TaskDone,
  ): Promise<void> {
    const { task } = entry;
    try {
      const outcome = await readOutcome(done, task.action?.spec.outputPaths ?? [], deps.store);
      await task.commit(outcome, peer, entry.cancelled.signal);
      durations.learn(task.kind, task.label, done.timings?.runMs ?? 0);
      const committed = apply(entry, { type: "committed", attempt });
      close(peer, done.task, attempt, committed.at === "done");
      if (committed.at !== "done") return;
      const wallMs = clock.nowMs() - entry.submittedMs;
      finished(entry, { source: "there", peer, exitCode: 0, wallMs }, peer);
    } catch (error) {
      const reason = isMeshError(error) ? `${error.code}: ${error.message}` : messageOf(error);
      close(peer, done.task, attempt, false);
      apply(entry, { type: "commit-failed", attempt, reason });
    }
  }

  /** Applies an event, and does what the new state asks for. */
  function apply(entry: Entry, event: TaskEvent): TaskState {
    const before = entry.state;
    entry.state = step(before, event);
    const { state, task } = entry;
    if (state === before || state.at !== "queued") return state;
    if (before.at !== "leased" && before.at !== "committing") return state;
    emit({
      event: "task-requeued",
      task: entry.id,
      build: task.build,
      peer: before.thief,
      attempt: before.attempt,
      reason: state.hereOnly ?? event.type,
    });
    control.send(before.thief, {
      type: "cancel",
      value: create(CancelSchema, { task: entry.id, attempt: before.attempt }),
    });
    entry.stealable = state.hereOnly === undefined;
    enqueue(entry);
    return entry.state;
  }

  function cancelEntry(id: TaskId, reason: unknown): void {
    const entry = entries.get(id);
    if (entry === undefined) return;
    const before = entry.state;
    if (before.at === "queued") deque.remove(entry);
    apply(entry, { type: "cancel" });
    if (entry.state.at !== "cancelled") return;
    if (before.at === "leased" || before.at === "committing") {
      control.send(before.thief, {
        type: "cancel",
        value: create(CancelSchema, { task: id, attempt: before.attempt }),
      });
    }
    emit({ event: "task-cancelled", task: id, build: entry.task.build });
    entry.cancelled.abort(reason);
    // A task that runs here ends when its process has: `runHere` rejects then.
    if (before.at !== "here") entry.fail(reason);
  }

  /** Expires leases, and sleeps for as long as there is one. Never rejects. */
  async function watchLeases(): Promise<void> {
    if (watching) return;
    watching = true;
    const forever = new AbortController().signal;
    for (;;) {
      const nowMs = clock.nowMs();
      let nextMs = Number.POSITIVE_INFINITY;
      for (const entry of entries.values()) {
        apply(entry, { type: "clock", nowMs });
        if (entry.state.at === "leased") nextMs = Math.min(nextMs, entry.state.untilMs);
      }
      if (nextMs === Number.POSITIVE_INFINITY) break;
      await clock.sleep(Math.max(1, nextMs - nowMs), forever);
    }
    watching = false;
  }

  function renew(
    entry: Entry,
    thief: PeerId,
    attempt: number,
    untilMs: number,
    running: boolean,
  ): boolean {
    const before = entry.state;
    // The answer overtook the beat: nothing to renew, nothing stale.
    if (before.at === "committing" && before.attempt === attempt) return true;
    apply(entry, { type: "renewed", thief, attempt, untilMs, running });
    return entry.state !== before;
  }

  function heldBy(peer: PeerId, task: string, attempt: number): Entry | undefined {
    const entry = entries.get(asTaskId(task));
    const held =
      entry?.state.at === "leased" && entry.state.thief === peer && entry.state.attempt === attempt;
    return held ? entry : undefined;
  }

  function stale(peer: PeerId, task: string, attempt: number): void {
    emit({ event: "task-stale", task: asTaskId(task), peer, attempt });
    control.send(peer, { type: "cancel", value: create(CancelSchema, { task, attempt }) });
  }

  function close(peer: PeerId, task: string, attempt: number, accepted: boolean): void {
    const value = create(TaskClosedSchema, { task, attempt, accepted });
    control.send(peer, { type: "closed", value });
  }

  function finished(entry: Entry, outcome: Outcome, peer: PeerId | undefined): void {
    emit({
      event: "task-done",
      task: entry.id,
      build: entry.task.build,
      label: entry.task.label,
      source: outcome.source,
      peer,
      exitCode: outcome.exitCode,
      wallMs: outcome.wallMs,
    });
    entry.settle(outcome);
  }
}
