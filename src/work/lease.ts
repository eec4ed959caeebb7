/**
 * The one place where a task changes state.
 *
 * A task is leased to one thief, and near the end of a build perhaps to a second one as a backup.
 * Only an attempt that holds a lease is listened to: an answer to any other one is a no-op, so a
 * message may be lost, doubled or late without harm; of two that hold one the first to be put in
 * place wins. Times are the owner's monotonic clock. This file does not know what a task is, only
 * where it stands.
 * Source of backups: M. Zaharia et al., "Improving MapReduce Performance in Heterogeneous
 * Environments" (LATE), OSDI 2008.
 */
import type { PeerId } from "../base/ids.ts";

/** What peers have made of a task so far. */
export interface Past {
  /** How many failed at it. */
  readonly failures: number;
  /** Who does not get it again: they failed at it, or had no time for it. At most once each. */
  readonly peers: readonly PeerId[];
}

/** One thief that may run the task now. */
export interface Holder {
  readonly attempt: number;
  readonly thief: PeerId;
  readonly grantedMs: number;
  readonly untilMs: number;
  /** No beat renews it beyond this: a thief that only beats must not hold a task for ever. */
  readonly endMs: number;
  readonly running: boolean;
  /** Taken ahead: it waits there for a slot, as far as is known here. */
  readonly waits: boolean;
}

/** Where one task stands at its owner: always exactly one of these. */
export type TaskState =
  | {
      readonly at: "queued";
      /** The last that was given away; they only grow. */
      readonly attempt: number;
      readonly past: Past;
      /** Why only this node may run it from now on. */
      readonly hereOnly: string | undefined;
    }
  | { readonly at: "here"; readonly attempt: number; readonly fallback: string | undefined }
  | {
      readonly at: "leased";
      readonly attempt: number;
      readonly past: Past;
      /** One or two, the older attempt first. */
      readonly holders: readonly Holder[];
    }
  /** An answer is in and its outputs are being put in place. */
  | {
      readonly at: "committing";
      readonly attempt: number;
      readonly past: Past;
      readonly answerer: Holder;
      /** The other one, which goes on until this is in place. */
      readonly holders: readonly Holder[];
    }
  | { readonly at: "done" }
  | { readonly at: "cancelled" };

export type TaskEvent =
  | { readonly type: "started-here" }
  | {
      readonly type: "granted";
      readonly thief: PeerId;
      readonly nowMs: number;
      readonly untilMs: number;
      /** When it must run at the latest. */
      readonly endMs: number;
      readonly waits: boolean;
    }
  | {
      readonly type: "renewed";
      readonly thief: PeerId;
      readonly attempt: number;
      readonly untilMs: number;
      readonly running: boolean;
      /** When it must be done at the latest, should it have begun to run just now. */
      readonly endMs: number;
    }
  /** Something else came from it, which shows that it lives. */
  | { readonly type: "heard"; readonly thief: PeerId; readonly untilMs: number }
  | { readonly type: "clock"; readonly nowMs: number }
  | { readonly type: "thief-left"; readonly thief: PeerId }
  | {
      readonly type: "answered";
      readonly thief: PeerId;
      readonly attempt: number;
      readonly exitCode: number;
    }
  | {
      readonly type: "gave-up";
      readonly thief: PeerId;
      readonly attempt: number;
      readonly reason: string;
    }
  /** The thief never ran it and has no time for it: nobody failed. */
  | {
      readonly type: "handed-back";
      readonly thief: PeerId;
      readonly attempt: number;
      readonly reason: string;
      /** It only had no room at that moment. */
      readonly mayHaveAgain: boolean;
    }
  /** It waits at its thief while somebody else could run it at once: nobody failed. */
  | { readonly type: "recalled"; readonly attempt: number }
  | { readonly type: "committed"; readonly attempt: number }
  | { readonly type: "commit-failed"; readonly attempt: number; readonly reason: string }
  | { readonly type: "finished-here" }
  | { readonly type: "cancel" };

/** After this many peers failed at a task, it stays at home. */
export const failuresMax: number = 2;

/** A task and its backup. */
const holdersMax = 2;

export const queued: TaskState = {
  at: "queued",
  attempt: 0,
  past: { failures: 0, peers: [] },
  hereOnly: undefined,
};

/** Whether this peer may have the task: as its first thief, or as a backup. */
export function mayHave(state: TaskState, peer: PeerId): boolean {
  if (state.at === "queued") return state.hereOnly === undefined && isNew(state.past, peer);
  if (state.at !== "leased" || state.holders.length >= holdersMax) return false;
  if (state.past.failures >= failuresMax) return false;
  return isNew(state.past, peer) && state.holders.every(({ thief }) => thief !== peer);
}

/** Those who may be running the task now. */
export function holdersOf(state: TaskState): readonly Holder[] {
  if (state.at === "leased") return state.holders;
  return state.at === "committing" ? [state.answerer, ...state.holders] : [];
}

/** What came between a thief and its task, for people. */
export function reasonOf(event: TaskEvent): string {
  switch (event.type) {
    case "gave-up":
    case "handed-back":
    case "commit-failed":
      return event.reason;
    case "answered":
      return event.exitCode === 0 ? "another attempt was faster" : `remote exit ${event.exitCode}`;
    case "thief-left":
      return "peer left";
    case "clock":
      return "lease expired";
    default:
      return event.type;
  }
}

/** The next state, or the very same object when the event means nothing here. */
export function step(state: TaskState, event: TaskEvent): TaskState {
  if (state.at === "done" || state.at === "cancelled") return state;
  switch (event.type) {
    case "cancel":
      return { at: "cancelled" };
    case "started-here":
      return state.at === "queued"
        ? { at: "here", attempt: state.attempt, fallback: state.hereOnly }
        : state;
    case "finished-here":
      return state.at === "here" ? { at: "done" } : state;
    case "granted":
      return granted(state, event);
    case "renewed":
      return renewed(state, event);
    case "heard":
      return heard(state, event.thief, event.untilMs);
    case "answered":
      return answered(state, event);
    case "gave-up":
      return without(state, holderIn(state, event), 1, reasonOf(event));
    case "handed-back":
      return without(state, holderIn(state, event), 0, reasonOf(event), event.mayHaveAgain);
    case "recalled":
      return recalled(state, event.attempt);
    case "thief-left":
      return withoutAll(state, ({ thief }) => thief === event.thief, reasonOf(event));
    case "clock":
      return withoutAll(state, ({ untilMs }) => untilMs <= event.nowMs, reasonOf(event));
    case "committed":
      return isCommitting(state, event.attempt) ? { at: "done" } : state;
    case "commit-failed":
      return isCommitting(state, event.attempt) ? notCommitted(state, event.reason) : state;
  }
}

type Leased = TaskState & { readonly at: "leased" };
type Committing = TaskState & { readonly at: "committing" };

function isNew({ peers }: Past, peer: PeerId): boolean {
  return !peers.includes(peer);
}

function isCommitting(state: TaskState, attempt: number): state is Committing {
  return state.at === "committing" && state.answerer.attempt === attempt;
}

/** The holder that speaks, if it holds a lease that is not being put in place. */
function holderIn(
  state: TaskState,
  { thief, attempt }: { readonly thief: PeerId; readonly attempt: number },
): Holder | undefined {
  if (state.at !== "leased" && state.at !== "committing") return undefined;
  return state.holders.find((one) => one.thief === thief && one.attempt === attempt);
}

function granted(state: TaskState, event: TaskEvent & { readonly type: "granted" }): TaskState {
  if ((state.at !== "queued" && state.at !== "leased") || !mayHave(state, event.thief))
    return state;
  const attempt = state.attempt + 1;
  const { thief, untilMs, endMs, waits } = event;
  const holder = { attempt, thief, grantedMs: event.nowMs, untilMs, endMs, waits, running: false };
  const holders = state.at === "leased" ? [...state.holders, holder] : [holder];
  return { at: "leased", attempt, past: state.past, holders };
}

/** What has begun to run keeps running; its time counts from then. */
function renewed(state: TaskState, event: TaskEvent & { readonly type: "renewed" }): TaskState {
  const old = holderIn(state, event);
  if (old === undefined || (state.at !== "leased" && state.at !== "committing")) return state;
  const endMs = event.running && !old.running ? event.endMs : old.endMs;
  const running = old.running || event.running;
  const untilMs = Math.min(event.untilMs, endMs);
  const fresh = { ...old, untilMs, endMs, running, waits: old.waits && !running };
  return { ...state, holders: state.holders.map((one) => (one === old ? fresh : one)) };
}

function heard(state: TaskState, thief: PeerId, untilMs: number): TaskState {
  if (state.at !== "leased" && state.at !== "committing") return state;
  if (state.holders.every((one) => one.thief !== thief)) return state;
  const holders = state.holders.map((one) =>
    one.thief === thief ? { ...one, untilMs: Math.min(untilMs, one.endMs) } : one,
  );
  return { ...state, holders };
}

function answered(state: TaskState, event: TaskEvent & { readonly type: "answered" }): TaskState {
  const answerer = holderIn(state, event);
  if (answerer === undefined) return state;
  // The other one's answer is being put in place: this one comes too late, whatever it says.
  if (state.at === "committing") return without(state, answerer, 0, undefined, true);
  if (state.at !== "leased") return state;
  // A peer's failure is never believed: one run here decides what the user sees.
  if (event.exitCode !== 0) return requeue(state, reasonOf(event));
  const holders = state.holders.filter((one) => one !== answerer);
  return { at: "committing", attempt: state.attempt, past: state.past, answerer, holders };
}

/** Not while another runs it: two that wait can both be taken back. */
function recalled(state: TaskState, attempt: number): TaskState {
  if (state.at !== "leased" || state.holders.length !== 1) return state;
  const [only] = state.holders;
  if (only === undefined || only.attempt !== attempt || only.running) return state;
  return requeue(state, undefined);
}

function withoutAll(
  state: TaskState,
  isOver: (holder: Holder) => boolean,
  reason: string,
): TaskState {
  if (state.at !== "leased" && state.at !== "committing") return state;
  return state.holders
    .filter(isOver)
    .reduce((left: TaskState, holder) => without(left, holder, 1, reason), state);
}

/**
 * One holder less; the last one's task goes back to the queue, for any other peer unless too many
 * have tried.
 */
function without(
  state: TaskState,
  holder: Holder | undefined,
  failures: number,
  reason: string | undefined,
  mayHaveAgain = false,
): TaskState {
  if (holder === undefined || (state.at !== "leased" && state.at !== "committing")) return state;
  const past = {
    failures: state.past.failures + failures,
    peers: mayHaveAgain ? state.past.peers : [...state.past.peers, holder.thief],
  };
  const left = { ...state, past, holders: state.holders.filter((one) => one !== holder) };
  if (left.at === "committing" || left.holders.length > 0) return left;
  return requeue(left, past.failures < failuresMax ? undefined : reason);
}

/** The one that still runs decides; without one, this node does. */
function notCommitted(state: Committing, reason: string): TaskState {
  const { attempt, holders } = state;
  const past = {
    failures: state.past.failures + 1,
    peers: [...state.past.peers, state.answerer.thief],
  };
  if (holders.length > 0) return { at: "leased", attempt, past, holders };
  return { at: "queued", attempt, past, hereOnly: reason };
}

function requeue({ attempt, past }: Leased | Committing, hereOnly: string | undefined): TaskState {
  return { at: "queued", attempt, past, hereOnly };
}
