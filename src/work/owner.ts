/**
 * The manager half of a node: answers for every task submitted here until it is done.
 *
 * 1. A submitted task is queued, the one with most of its build behind it first (`urgency.ts`).
 * 2. A free slot here takes the first and runs it here; with nothing queued, it takes back what a
 *    thief has not begun.
 * 3. A thief that asks, or that waits at a lifeline, gets tasks under leases (`leasing.ts`).
 * 4. A lease ends by an answer, by the thief leaving, or by the clock; then the task is queued
 *    again, or put in place and done. Every step is `lease.ts`.
 *
 * It does not know what a task does: the door that submitted it does.
 */
import { MeshError } from "../base/errors.ts";
import type { Emit } from "../base/events.ts";
import { asTaskId, type PeerId, type TaskId } from "../base/ids.ts";
import type { BlobStore } from "../blob/store.ts";
import type { Clock } from "../host/host.ts";
import type { Control, OwnLoad } from "../peer/control.ts";
import type { StealRequest } from "../wire/gen/mesh/v1/mesh_pb.ts";
import { createBackups } from "./backups.ts";
import { createDeque } from "./deque.ts";
import type { Durations } from "./durations.ts";
import { offerTree } from "./grant.ts";
import { createGranting, type GrantingDeps } from "./granting.ts";
import { createHotCount, heavyOf } from "./heavy.ts";
import { queued } from "./lease.ts";
import { createLeasing, type Leasing } from "./leasing.ts";
import { type Counts, createLedger, type Entry } from "./ledger.ts";
import { createLifelines } from "./lifelines.ts";
import { createPace } from "./pace.ts";
import type { Slots } from "./slots.ts";
import { createStanding } from "./standing.ts";
import type { Outcome, Owner, Task } from "./task.ts";
import type { Urgency } from "./urgency.ts";
import { createWorth } from "./worth.ts";

export interface OwnerDeps {
  readonly self: PeerId;
  readonly peerOf: GrantingDeps["peerOf"];
  readonly clock: Clock;
  readonly control: Pick<Control, "send" | "push" | "hint">;
  readonly store: Pick<BlobStore, "put" | "pin">;
  readonly slots: Slots;
  readonly durations: Durations;
  readonly urgency: Urgency;
  readonly emit: Emit;
  /** A part of every task id, so that ids differ between nodes and between runs of one node. */
  readonly idPrefix: string;
  /** There is something an idle slot of this node's own worker half could have. */
  readonly onSpare: () => void;
}

export interface OwnerOptions {
  readonly leaseMs: number;
  /** Submitting more than this waits nowhere: it fails with "limit". */
  readonly tasksMax: number;
  /** Of two tasks, which goes first. */
  readonly order: "critical-path" | "first-come";
}

/** The owner as `node/` sees it: the door's side and the wire's side. */
export interface OwnerParts
  extends Owner,
    Pick<Leasing, "onBeat" | "onProgress" | "onDone" | "onFailed"> {
  load(): OwnLoad;
  onSteal: Leasing["grant"];
  /** A peer sleeps and wants to be pushed to. */
  onLifeline(peer: PeerId, request: StealRequest): void;
  onPeerLeft(peer: PeerId): void;
  /** For status and for tests of what must be empty at rest. */
  counts(): Counts;
  /**
   * Takes nothing more and lets go of whatever does not run here: its `submit` rejects with
   * `reason`. What runs here ends by itself, since its process is its requester's.
   */
  stop(reason: MeshError): void;
}

const pacesMax = 1024;

export function createOwner(deps: OwnerDeps, options: OwnerOptions): OwnerParts {
  const { clock, control, slots, durations, urgency, emit } = deps;
  const ledger = createLedger();
  const deque = createDeque<Entry>();
  const hot = createHotCount();
  /** How many that peers may have wait for each platform. */
  const platforms = new Map<string, number>();
  const pace = createPace(pacesMax);
  const over = new AbortController();
  let order = 0;
  let stopped: MeshError | undefined;
  /** What an idle peer could have while nothing is queued, when it was looked at last. */
  let spare = 0;

  const nowMs = (): number => leasing.nowMs();
  const backups = createBackups(ledger, durations, nowMs);
  const granting = createGranting({
    stealable: deque.stealable,
    ...{ ledger, pace, backups, peerOf: deps.peerOf },
    worth: createWorth({ ledger, pace, slots, nowMs }),
  });
  const leasing = createLeasing({
    ...{ self: deps.self, clock, control, store: deps.store, emit, leaseMs: options.leaseMs },
    ...{ ledger, granting, backups, pace, durations, standing: createStanding(clock) },
    requeued: enqueue,
    taken: leaveQueue,
    finished,
    looked: lookForSpare,
  });
  const lifelines = createLifelines(
    {
      clock,
      surplus: () => surplus(),
      push(peer, request) {
        const grant = leasing.grant(peer, request);
        if (grant.grants.length > 0) control.push(peer, grant);
        return grant.grants.length > 0;
      },
      // What is away lags behind or waits: of that, nobody counts what it is.
      hint: (count) =>
        control.hint(count, deque.stealable.length > 0 ? [...platforms.keys()] : undefined),
    },
    over.signal,
  );

  slots.onFree(runHereWhilePossible);

  return {
    submit,
    load: () => ({
      queued: deque.size,
      stealable: surplus(),
      slots: slots.count,
      busy: slots.busy,
      hot: hot.bits,
    }),
    onSteal(peer, request) {
      lifelines.forget(peer);
      leasing.heard(peer);
      return leasing.grant(peer, request);
    },
    onLifeline(peer, request) {
      lifelines.register(peer, request);
      if (surplus() > 0) lifelines.wake();
    },
    onBeat: leasing.onBeat,
    onProgress: leasing.onProgress,
    onDone: leasing.onDone,
    onFailed: leasing.onFailed,
    onPeerLeft(peer) {
      lifelines.forget(peer);
      leasing.onPeerLeft(peer);
    },
    counts: () => ledger.counts(),
    stop(reason) {
      stopped = reason;
      for (const { id, state } of [...ledger.entries()]) {
        if (state.at !== "here") cancelEntry(id, reason);
      }
      leasing.stop();
      over.abort(reason);
    },
  };

  function surplus(): number {
    const waiting = deque.stealable.length;
    return waiting > 0 ? waiting : spare;
  }

  async function submit(task: Task, signal: AbortSignal): Promise<Outcome> {
    signal.throwIfAborted();
    if (stopped !== undefined) throw stopped;
    if (ledger.size >= options.tasksMax) {
      throw new MeshError("limit", `${options.tasksMax} tasks are already waiting or running`);
    }
    const offer = offerTree(task.action, deps.store);
    const tree = offer instanceof Promise ? await offer : offer;
    // A huge tree takes a while to store: by now nobody may want it any more, here or there.
    if (signal.aborted || stopped !== undefined) {
      tree.release();
      throw stopped ?? signal.reason;
    }
    order += 1;
    const id = asTaskId(`${deps.idPrefix}-${order}`);
    const { promise: outcome, resolve: settle, reject: fail } = Promise.withResolvers<Outcome>();
    const { build, kind, label, action } = task;
    const cancelled = new AbortController();
    const entry: Entry = {
      ...{ id, task, order, settle, fail, cancelled, state: queued },
      ...{ submittedMs: clock.nowMs(), startedMs: 0, movedBytes: 0, hushedTo: 0 },
      accuser: undefined,
      stealable: tree.offered,
      expectedMs: durations.expectedMs(kind, label),
      isFamiliar: durations.isFamiliar(kind, label),
      urgencyMs: urgencyOf(task),
      heavy: tree.offered && action !== undefined ? heavyOf(action.spec) : [],
    };
    ledger.add(entry);
    pace.wanted(entry.heavy);
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

  function urgencyOf({ build, kind, label, action, flow }: Task): number {
    const reads = flow?.reads ?? action?.spec.inputs.map(({ path }) => path) ?? [];
    const writes = flow?.writes ?? action?.spec.outputPaths ?? [];
    urgency.note({ build, kind, label, reads, writes });
    return options.order === "first-come" ? 0 : urgency.chainMs(kind, label);
  }

  function enqueue(entry: Entry): void {
    deque.push(entry);
    if (entry.stealable) {
      hot.add(entry.heavy);
      countPlatform(entry, 1);
    }
    runHereWhilePossible();
    if (entry.stealable && entry.state.at === "queued") lifelines.wake();
  }

  function leaveQueue(entry: Entry): void {
    deque.remove(entry);
    hasLeft(entry);
  }

  function hasLeft(entry: Entry): void {
    if (!entry.stealable) return;
    hot.remove(entry.heavy);
    countPlatform(entry, -1);
  }

  function countPlatform({ task: { action } }: Entry, by: number): void {
    const platform = action?.spec.platform.platform ?? "";
    const count = (platforms.get(platform) ?? 0) + by;
    if (count > 0) platforms.set(platform, count);
    else platforms.delete(platform);
  }

  function runHereWhilePossible(): void {
    while (stopped === undefined) {
      const next = deque.size > 0 ? undefined : granting.waiting();
      if (deque.size === 0 && next === undefined) return;
      const slot = slots.tryTake();
      if (slot === undefined) return;
      // It comes back into the queue, for this slot.
      if (next !== undefined) leasing.recall(next);
      const entry = deque.takeHere();
      if (entry === undefined) {
        slot();
        return;
      }
      hasLeft(entry);
      void runHere(entry).finally(slot);
    }
  }

  /** Never rejects. */
  async function runHere(entry: Entry): Promise<void> {
    const { task, id } = entry;
    const { build, label } = task;
    ledger.apply(entry, { type: "started-here" });
    const { state } = entry;
    if (state.at !== "here") return;
    const { fallback, attempt } = state;
    entry.startedMs = leasing.nowMs();
    emit({ event: "task-started", task: id, build, peer: undefined, attempt, backup: false });
    if (fallback !== undefined) {
      emit({ event: "task-fallback", task: id, build, label, reason: fallback });
    }
    const startedMs = clock.nowMs();
    try {
      const exitCode = await task.runHere(entry.cancelled.signal);
      const wallMs = clock.nowMs() - startedMs;
      durations.learn(task.kind, label, wallMs);
      backups.spent(wallMs);
      // It compiles here: then the peer that said it does not has something wrong with it.
      if (exitCode === 0 && entry.accuser !== undefined) leasing.blame(entry.accuser);
      if (ledger.apply(entry, { type: "finished-here" }) !== undefined) {
        const queueMs = startedMs - entry.submittedMs;
        const phases = { queueMs, fetchMs: 0, runMs: wallMs, returnMs: 0 };
        finished(entry, { source: "here", task: id, exitCode, wallMs, fallback, phases });
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

  function cancelEntry(id: TaskId, reason: unknown): void {
    const entry = ledger.get(id);
    if (entry === undefined) return;
    const before = ledger.apply(entry, { type: "cancel" });
    if (before === undefined) return;
    if (before.at === "queued") leaveQueue(entry);
    leasing.callOff(entry, before);
    emit({ event: "task-cancelled", task: id, build: entry.task.build });
    entry.cancelled.abort(reason);
    // A task that runs here ends when its process has: `runHere` settles it then.
    if (before.at !== "here") entry.fail(reason);
  }

  /** Looked at while tasks are away; what is queued goes first. */
  function lookForSpare(): void {
    const found = granting.spare();
    spare = deque.stealable.length > 0 || stopped !== undefined ? 0 : found;
    if (spare === 0) return;
    lifelines.wake();
    deps.onSpare();
  }

  function finished(entry: Entry, outcome: Outcome): void {
    const { task, id } = entry;
    const { build, label } = task;
    const { source, exitCode, wallMs, phases } = outcome;
    const peer = outcome.source === "there" ? outcome.peer : undefined;
    emit({ event: "task-done", task: id, build, label, source, peer, exitCode, wallMs, phases });
    entry.settle(outcome);
  }
}
