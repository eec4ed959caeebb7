/**
 * The one place where a task changes state.
 *
 * Only the attempt that holds the lease is listened to: an answer to an older one is a no-op, so a
 * message may be lost, doubled or late without harm. Times are the owner's monotonic clock. This
 * file does not know what a task is, only where it stands.
 */
import type { PeerId } from "../base/ids.ts";

/** What peers have made of a task so far. */
export interface Past {
  /** How many failed at it. */
  readonly failures: number;
  /** Who does not get it again: they failed at it, or had no time for it. At most once each. */
  readonly peers: readonly PeerId[];
}

/** Where one task stands at its owner: always exactly one of these. */
export type TaskState =
  | {
      readonly at: "queued";
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
      readonly thief: PeerId;
      readonly untilMs: number;
      /** No beat renews it beyond this: a thief that only beats must not hold a task for ever. */
      readonly endMs: number;
      readonly running: boolean;
    }
  /** The answer is in and its outputs are being put in place. */
  | {
      readonly at: "committing";
      readonly attempt: number;
      readonly past: Past;
      readonly thief: PeerId;
    }
  | { readonly at: "done" }
  | { readonly at: "cancelled" };

export type TaskEvent =
  | { readonly type: "started-here" }
  | {
      readonly type: "granted";
      readonly thief: PeerId;
      readonly untilMs: number;
      /** When it must run at the latest. */
      readonly endMs: number;
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
    }
  | { readonly type: "committed"; readonly attempt: number }
  | { readonly type: "commit-failed"; readonly attempt: number; readonly reason: string }
  | { readonly type: "finished-here" }
  | { readonly type: "cancel" };

/** After this many peers failed at a task, it stays at home. */
export const failuresMax: number = 2;

export const queued: TaskState = {
  at: "queued",
  attempt: 0,
  past: { failures: 0, peers: [] },
  hereOnly: undefined,
};

/** Whether this peer may have the task. */
export function mayHave(state: TaskState, peer: PeerId): boolean {
  return state.at === "queued" && state.hereOnly === undefined && !state.past.peers.includes(peer);
}

/** What came between a thief and its task, for people. */
export function reasonOf(event: TaskEvent): string {
  switch (event.type) {
    case "gave-up":
    case "handed-back":
    case "commit-failed":
      return event.reason;
    case "answered":
      return `remote exit ${event.exitCode}`;
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
      if (state.at !== "queued" || !mayHave(state, event.thief)) return state;
      return {
        at: "leased",
        attempt: state.attempt + 1,
        past: state.past,
        thief: event.thief,
        untilMs: event.untilMs,
        endMs: event.endMs,
        running: false,
      };
    case "renewed":
      return holds(state, event) ? renewed(state, event) : state;
    case "answered":
      if (!holds(state, event)) return state;
      // A peer's failure is never believed: one run here decides what the user sees.
      return event.exitCode === 0
        ? { at: "committing", attempt: state.attempt, past: state.past, thief: state.thief }
        : requeue(state, reasonOf(event));
    case "gave-up":
      return holds(state, event) ? failed(state, reasonOf(event)) : state;
    case "handed-back":
      return holds(state, event) ? requeue(without(state, 0), undefined) : state;
    case "thief-left":
      return state.at === "leased" && state.thief === event.thief
        ? failed(state, reasonOf(event))
        : state;
    case "clock":
      return state.at === "leased" && state.untilMs <= event.nowMs
        ? failed(state, reasonOf(event))
        : state;
    case "committed":
      return isCommitting(state, event.attempt) ? { at: "done" } : state;
    case "commit-failed":
      return isCommitting(state, event.attempt) ? requeue(state, event.reason) : state;
  }
}

type Leased = TaskState & { readonly at: "leased" };
type Committing = TaskState & { readonly at: "committing" };

function holds(
  state: TaskState,
  { thief, attempt }: { readonly thief: PeerId; readonly attempt: number },
): state is Leased {
  return state.at === "leased" && state.thief === thief && state.attempt === attempt;
}

function isCommitting(state: TaskState, attempt: number): state is Committing {
  return state.at === "committing" && state.attempt === attempt;
}

/** What has begun to run keeps running; its time counts from then. */
function renewed(state: Leased, event: TaskEvent & { readonly type: "renewed" }): Leased {
  const endMs = event.running && !state.running ? event.endMs : state.endMs;
  const running = state.running || event.running;
  return { ...state, untilMs: Math.min(event.untilMs, endMs), endMs, running };
}

/** Back to the queue: for any other peer, unless too many have tried. */
function failed(state: Leased, reason: string): TaskState {
  const after = without(state, 1);
  return requeue(after, after.past.failures < failuresMax ? undefined : reason);
}

/** The same, for everybody but its thief. */
function without(state: Leased, failures: number): Leased {
  const { past, thief } = state;
  return {
    ...state,
    past: { failures: past.failures + failures, peers: [...past.peers, thief] },
  };
}

function requeue({ attempt, past }: Leased | Committing, hereOnly: string | undefined): TaskState {
  return { at: "queued", attempt, past, hereOnly };
}
