/**
 * The tasks of one owner that are away: given to thieves, renewed, taken back, put in place.
 *
 * Every step of a task is `lease.ts`, and what to give is `granting.ts`; this makes the messages,
 * events and follow-ups of both. It does not run anything here.
 */
import { create } from "@bufbuild/protobuf";
import { isMeshError, messageOf } from "../base/errors.ts";
import type { Emit } from "../base/events.ts";
import { asTaskId, type PeerId } from "../base/ids.ts";
import type { BlobStore } from "../blob/store.ts";
import type { Clock } from "../host/host.ts";
import type { Control } from "../peer/control.ts";
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
import type { Backups } from "./backups.ts";
import type { Durations } from "./durations.ts";
import { toGrant } from "./grant.ts";
import type { Choice, Granting } from "./granting.ts";
import { type Holder, holdersOf, reasonOf, type TaskEvent, type TaskState } from "./lease.ts";
import { createLeases } from "./leases.ts";
import type { Entry, Ledger } from "./ledger.ts";
import type { Pace } from "./pace.ts";
import type { Standing } from "./standing.ts";
import type { Outcome } from "./task.ts";
import { createVoice } from "./voice.ts";

/** A stolen task that does not run after this long is given to somebody else. */
const startMaxMs = 120_000;
/** Over the time that the action itself allows: for its sandbox, its outputs and its answer. */
const endGraceMs = 30_000;
/** Outputs that are not in place after this long are no gain over a run here. */
const commitMaxMs = 300_000;

export interface LeasingDeps {
  readonly self: PeerId;
  readonly clock: Clock;
  readonly control: Pick<Control, "send">;
  readonly store: Pick<BlobStore, "put">;
  readonly ledger: Ledger;
  readonly granting: Granting;
  readonly backups: Backups;
  readonly pace: Pace;
  readonly standing: Standing;
  readonly durations: Durations;
  readonly emit: Emit;
  readonly leaseMs: number;
  /** The task is queued again. */
  readonly requeued: (entry: Entry) => void;
  /** It leaves the queue. */
  readonly taken: (entry: Entry) => void;
  readonly finished: (entry: Entry, outcome: Outcome) => void;
  /** Called every now and then while tasks are away: some may lag behind by now. */
  readonly looked: () => void;
}

export interface Leasing {
  /** Monotonic time without the time this node slept through. */
  nowMs(): number;
  /** It has said something that is told to nobody here. */
  heard(peer: PeerId): void;
  /** Tasks for a peer that asked, or that is registered for a push. */
  grant(peer: PeerId, request: StealRequest): StealGrant;
  /** Takes a task back that its thief has not begun. */
  recall(entry: Entry): void;
  /** Tells those that run it that nobody wants it any more. */
  callOff(entry: Entry, before: TaskState): void;
  onBeat(peer: PeerId, beat: Beat): void;
  onProgress(peer: PeerId, progress: TaskProgress): void;
  onDone(peer: PeerId, done: TaskDone): void;
  onFailed(peer: PeerId, failed: TaskFailed): void;
  onPeerLeft(peer: PeerId): void;
  /** It said that a task fails which does not. */
  blame(peer: PeerId): void;
  stop(): void;
}

export function createLeasing(deps: LeasingDeps): Leasing {
  const { clock, ledger, granting, pace, standing, durations, emit, leaseMs } = deps;
  const voice = createVoice(deps.control);
  const leases = createLeases({ clock, expire });

  function grant(peer: PeerId, request: StealRequest): StealGrant {
    const grants: Grant[] = [];
    if (!standing.isWelcome(peer)) return create(StealGrantSchema, { grants });
    for (const choice of granting.choose(peer, request)) {
      const made = give(peer, request, choice);
      if (made !== undefined) grants.push(made);
    }
    if (grants.length > 0) leases.watch();
    return create(StealGrantSchema, { grants });
  }

  function give(
    peer: PeerId,
    { holds }: StealRequest,
    { entry, how, waits }: Choice,
  ): Grant | undefined {
    const { task, id, expectedMs, heavy } = entry;
    if (how === "recall") recall(entry);
    const nowMs = leases.nowMs();
    const backup = entry.state.at === "leased";
    const times = { nowMs, untilMs: nowMs + leaseMs, endMs: nowMs + startMaxMs };
    const before = ledger.apply(entry, { type: "granted", thief: peer, ...times, waits });
    const { state } = entry;
    if (before === undefined || state.at !== "leased" || task.action === undefined)
      return undefined;
    if (before.at === "queued") deps.taken(entry);
    else deps.backups.began(entry);
    entry.movedBytes = pace.sent(peer, heavy, holds);
    const { attempt } = state;
    if (backup) entry.hushedTo = attempt;
    emit({ event: "task-started", task: id, build: task.build, peer, attempt, backup });
    return toGrant(id, attempt, leaseMs, expectedMs, task, task.action);
  }

  function recall(entry: Entry): void {
    const [holder] = holdersOf(entry.state);
    if (holder === undefined) return;
    apply(entry, { type: "recalled", attempt: holder.attempt }, [holder]);
    voice.cancel(holder.thief, entry.id, holder.attempt);
  }

  function callOff({ id }: Entry, before: TaskState): void {
    for (const { thief, attempt } of holdersOf(before)) voice.cancel(thief, id, attempt);
  }

  /** Whoever says anything lives, and so do its leases. */
  function heard(peer: PeerId): void {
    const untilMs = leases.nowMs() + leaseMs;
    for (const entry of ledger.awayAt(peer)) {
      ledger.apply(entry, { type: "heard", thief: peer, untilMs });
    }
  }

  function onBeat(peer: PeerId, beat: Beat): void {
    for (const { task, attempt, running } of beat.held) {
      if (!renew(peer, task, attempt, running)) stale(peer, task, attempt);
    }
  }

  function renew(thief: PeerId, task: string, attempt: number, running: boolean): boolean {
    const entry = ledger.get(asTaskId(task));
    if (entry === undefined) return false;
    const { state } = entry;
    // The answer overtook the beat: nothing to renew, nothing stale.
    if (state.at === "committing" && state.answerer.attempt === attempt) return true;
    const nowMs = leases.nowMs();
    const untilMs = nowMs + leaseMs;
    const endMs = nowMs + (entry.task.action?.spec.timeoutMs ?? 0) + endGraceMs;
    const renewed: TaskEvent = { type: "renewed", thief, attempt, untilMs, endMs, running };
    return ledger.apply(entry, renewed) !== undefined;
  }

  function onProgress(peer: PeerId, progress: TaskProgress): void {
    heard(peer);
    const [entry] = ledger.heldBy(peer, progress.task, progress.attempt) ?? [];
    if (entry === undefined) {
      stale(peer, progress.task, progress.attempt);
      return;
    }
    // Of two attempts only the answer counts: what one has shown the other may not show again, and
    // what comes after a part that was left out makes no sense.
    if (entry.state.at !== "leased" || progress.attempt <= entry.hushedTo) return;
    entry.task.onProgress?.(readProgress(progress), peer);
  }

  function onDone(peer: PeerId, done: TaskDone): void {
    heard(peer);
    const { task, attempt } = done;
    const [entry, holder] = ledger.heldBy(peer, task, attempt) ?? [];
    if (entry === undefined || holder === undefined) {
      emit({ event: "task-stale", task: asTaskId(task), peer, attempt });
      voice.close(peer, task, attempt, false);
      return;
    }
    nextBegins(peer);
    const exitCode = done.result?.exitCode ?? -1;
    if (exitCode !== 0) entry.accuser = peer;
    const { state } = entry;
    apply(entry, { type: "answered", thief: peer, attempt, exitCode }, [holder]);
    if (entry.state.at === "committing" && state.at === "leased") {
      void commit(entry, peer, attempt, done);
    } else voice.close(peer, task, attempt, false);
  }

  /** It has a slot free now: what it took ahead first is what it runs next. */
  function nextBegins(peer: PeerId): void {
    let next: readonly [Entry, Holder] | undefined;
    for (const entry of ledger.awayAt(peer))
      for (const holder of holdersOf(entry.state))
        if (holder.thief === peer && holder.waits)
          if (next === undefined || holder.grantedMs < next[1].grantedMs) next = [entry, holder];
    if (next !== undefined) renew(peer, next[0].id, next[1].attempt, true);
  }

  function onFailed(peer: PeerId, { task, attempt, code, message }: TaskFailed): void {
    heard(peer);
    const [entry, holder] = ledger.heldBy(peer, task, attempt) ?? [];
    if (entry === undefined || holder === undefined) {
      stale(peer, task, attempt);
      return;
    }
    const reason = `${code}: ${message}`;
    // It has no time for it after all, or had given up asking before the grant came.
    const hadNoRoom = code === "refused";
    const isUntried = hadNoRoom || code === "cancelled" || (code === "deadline" && !holder.running);
    if (hadNoRoom) standing.refused(peer);
    // What is too large for one is too large for all: that says nothing about this peer.
    if (!isUntried && code !== "limit") standing.failed(peer);
    // One that says so and works on all the same shall stop.
    if (!isUntried) voice.cancel(peer, task, attempt);
    const said = { thief: peer, attempt, reason };
    const event: TaskEvent = isUntried
      ? { type: "handed-back", ...said, mayHaveAgain: hadNoRoom }
      : { type: "gave-up", ...said };
    apply(entry, event, [holder]);
  }

  /** Never rejects. */
  async function commit(
    entry: Entry,
    peer: PeerId,
    attempt: number,
    done: TaskDone,
  ): Promise<void> {
    const { task, id } = entry;
    const [holder] = holdersOf(entry.state);
    try {
      const outcome = await readOutcome(done, task.action?.spec.outputPaths ?? [], deps.store);
      await clock.withDeadline(entry.cancelled.signal, commitMaxMs, (signal) =>
        task.commit(outcome, peer, signal),
      );
    } catch (error) {
      const reason = isMeshError(error) ? `${error.code}: ${error.message}` : messageOf(error);
      voice.close(peer, id, attempt, false);
      apply(
        entry,
        { type: "commit-failed", attempt, reason },
        holder === undefined ? [] : [holder],
      );
      return;
    }
    if (holder !== undefined) learn(entry, holder, done);
    const before = ledger.apply(entry, { type: "committed", attempt });
    voice.close(peer, id, attempt, before !== undefined);
    if (before === undefined) return;
    standing.delivered(peer);
    dropOthers(entry, before, attempt);
    const grantedMs = (holder?.grantedMs ?? 0) - leases.nowMs() + clock.nowMs();
    const wallMs = clock.nowMs() - entry.submittedMs;
    const phases = phasesOf(done, wallMs, Math.max(0, grantedMs - entry.submittedMs));
    const { record } = done;
    const outcome: Outcome =
      peer === deps.self
        ? { source: "here", task: id, exitCode: 0, wallMs, fallback: undefined, phases }
        : { source: "there", task: id, peer, exitCode: 0, wallMs, phases, record };
    deps.finished(entry, outcome);
  }

  /** First commit wins. */
  function dropOthers(
    { id, task, expectedMs, isFamiliar }: Entry,
    before: TaskState,
    winner: number,
  ): void {
    for (const { thief, attempt, grantedMs } of holdersOf(before)) {
      if (attempt === winner) continue;
      voice.cancel(thief, id, attempt);
      // It would have taken still longer.
      if (isFamiliar) pace.ran(thief, leases.nowMs() - grantedMs, expectedMs);
      const reason = "another attempt was faster";
      emit({ event: "task-released", task: id, build: task.build, peer: thief, attempt, reason });
    }
  }

  function learn(
    { task, expectedMs, isFamiliar, movedBytes }: Entry,
    { thief: peer, grantedMs }: Holder,
    { timings }: TaskDone,
  ): void {
    // Whatever it says, it has not had it for longer: one lie must not spoil what is known of a kind.
    const awayMs = leases.nowMs() - grantedMs;
    const runMs = Math.min(timings?.runMs ?? 0, awayMs);
    const fetchMs = Math.min(timings?.fetchMs ?? 0, awayMs);
    // Zero: the peer knew the result, which says nothing about how long a run takes.
    if (runMs === 0) return;
    deps.backups.spent(runMs);
    // Of an unfamiliar one, nobody knows whether the task or the peer is slow.
    if (isFamiliar) pace.ran(peer, runMs, expectedMs);
    pace.fetched(peer, movedBytes, fetchMs);
    durations.learn(task.kind, task.label, runMs / Math.max(1, pace.slowness(peer)));
  }

  /** Applies an event that ends the attempts of `ended`; a task nobody holds any more is queued again. */
  function apply(entry: Entry, event: TaskEvent, ended: readonly Holder[]): void {
    const before = ledger.apply(entry, event);
    if (before === undefined) return;
    const { task, id, state } = entry;
    const { build } = task;
    const left = holdersOf(state);
    // A failure that a run here decides ends the other attempt as well.
    const others = holdersOf(before).filter((one) => !isIn(ended, one) && !isIn(left, one));
    const over = [...ended.filter((one) => !isIn(left, one)), ...others];
    for (const { thief, attempt } of over) {
      // Everybody else knows already that it is over.
      const isTold = event.type !== "clock" && !others.some((one) => one.attempt === attempt);
      if (!isTold) voice.cancel(thief, id, attempt);
      if (event.type === "clock" || event.type === "commit-failed") standing.failed(thief);
    }
    const reason = reasonOf(event);
    const isBack = state.at === "queued";
    for (const { thief: peer, attempt } of isBack ? over.slice(1) : over) {
      emit({ event: "task-released", task: id, build, peer, attempt, reason });
    }
    const [first] = over;
    if (state.at !== "queued" || first === undefined) return;
    const { thief: peer, attempt } = first;
    emit({ event: "task-requeued", task: id, build, peer, attempt, reason });
    entry.stealable = state.hereOnly === undefined;
    deps.requeued(entry);
  }

  function end(entry: Entry, event: TaskEvent, isOver: (holder: Holder) => boolean): void {
    const { state } = entry;
    if (state.at !== "leased" && state.at !== "committing") return;
    const ended = state.holders.filter(isOver);
    if (ended.length > 0) apply(entry, event, ended);
  }

  function expire(nowMs: number): number {
    let nextMs = Number.POSITIVE_INFINITY;
    for (const entry of [...ledger.away()]) {
      end(entry, { type: "clock", nowMs }, ({ untilMs }) => untilMs <= nowMs);
      const { state } = entry;
      if (state.at !== "leased" && state.at !== "committing") continue;
      for (const { untilMs } of state.holders) nextMs = Math.min(nextMs, untilMs);
    }
    deps.looked();
    return nextMs;
  }

  function stale(peer: PeerId, task: string, attempt: number): void {
    emit({ event: "task-stale", task: asTaskId(task), peer, attempt });
    voice.cancel(peer, task, attempt);
  }

  return {
    nowMs: () => leases.nowMs(),
    heard,
    grant,
    recall,
    callOff,
    onBeat,
    onProgress,
    onDone,
    onFailed,
    onPeerLeft(peer) {
      for (const entry of [...ledger.awayAt(peer)]) {
        end(entry, { type: "thief-left", thief: peer }, ({ thief }) => thief === peer);
      }
    },
    blame: (peer) => standing.failed(peer),
    stop: () => leases.stop(),
  };
}

function isIn(holders: readonly Holder[], { attempt }: Holder): boolean {
  return holders.some((one) => one.attempt === attempt);
}
