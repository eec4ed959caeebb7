/**
 * Everything that happens in a node, as one typed stream.
 *
 * Display, NDJSON log, status counters, trace and the chaos checkers all read
 * this and nothing else.
 */
import type { FailureCode } from "./errors.ts";
import type { PeerId, TaskId } from "./ids.ts";

/** Where a finished task's result came from. */
export type Source = "here" | "there" | "cached-here" | "cached-mesh";

/** Where a task's time went, in ms. Together they are what its requester waited for. */
export interface Phases {
  /** Before it ran: in the owner's deque and, when stolen, behind other tasks of the thief. */
  readonly queueMs: number;
  /** Getting inputs to where it ran. */
  readonly fetchMs: number;
  readonly runMs: number;
  /** Getting outputs to their places, and everything that is in none of the others. */
  readonly returnMs: number;
}

export interface OutputDifference {
  /** An output, or "stdout", "stderr", "exit code". */
  readonly path: string;
  /** The first byte that differs, from 0; also when one of the two ends there or is missing. */
  readonly atByte: number;
}

export type MeshEvent =
  | {
      readonly event: "peer-joined";
      readonly peer: PeerId;
      readonly name: string;
      readonly slots: number;
    }
  | {
      readonly event: "peer-left";
      readonly peer: PeerId;
      readonly name: string;
      readonly reason: string;
    }
  | {
      readonly event: "peer-refused";
      readonly peer: PeerId;
      readonly code: FailureCode;
      readonly reason: string;
    }
  | {
      readonly event: "task-queued";
      readonly task: TaskId;
      readonly build: string;
      readonly kind: string;
      readonly label: string;
      readonly stealable: boolean;
    }
  | {
      readonly event: "task-started";
      readonly task: TaskId;
      readonly build: string;
      readonly peer: PeerId | undefined;
      readonly attempt: number;
      /** Another attempt runs already, and lags behind; the first to be done wins. */
      readonly backup: boolean;
    }
  | {
      readonly event: "task-requeued";
      readonly task: TaskId;
      readonly build: string;
      readonly peer: PeerId;
      readonly attempt: number;
      readonly reason: string;
    }
  /** One of two attempts is over, and the other one goes on or has won. */
  | {
      readonly event: "task-released";
      readonly task: TaskId;
      readonly build: string;
      readonly peer: PeerId;
      readonly attempt: number;
      readonly reason: string;
    }
  | {
      readonly event: "task-stale";
      readonly task: TaskId;
      readonly peer: PeerId;
      readonly attempt: number;
    }
  | {
      readonly event: "task-done";
      readonly task: TaskId;
      readonly build: string;
      readonly label: string;
      readonly source: Source;
      readonly peer: PeerId | undefined;
      readonly exitCode: number;
      readonly wallMs: number;
      readonly phases: Phases;
    }
  | {
      readonly event: "task-fallback";
      readonly task: TaskId;
      readonly build: string;
      readonly label: string;
      readonly reason: string;
    }
  | { readonly event: "task-cancelled"; readonly task: TaskId; readonly build: string }
  /** A task that was stolen or known already was done again here, for `--compare`. */
  | {
      readonly event: "task-compared";
      readonly task: TaskId;
      readonly build: string;
      readonly label: string;
      readonly equal: boolean;
      readonly differs: readonly OutputDifference[];
    }
  | {
      readonly event: "foreign-started";
      readonly task: TaskId;
      readonly owner: PeerId;
      readonly label: string;
    }
  | {
      readonly event: "foreign-done";
      readonly task: TaskId;
      readonly owner: PeerId;
      readonly label: string;
      readonly outcome: "accepted" | "refused" | "failed" | "cancelled";
    }
  | {
      readonly event: "steal-asked";
      readonly peer: PeerId;
      readonly granted: number;
      readonly rttMs: number;
    }
  | { readonly event: "log"; readonly level: "info" | "warn"; readonly message: string };

export type Emit = (event: MeshEvent) => void;

/** A place to say what happens, and to listen. Listeners run at once and must not throw. */
export interface Events {
  readonly emit: Emit;
  /**
   * Returns the call that stops listening. The first who listens is told at once what was logged
   * before: a node finds damage on its disk while it starts, and nobody can listen before it has.
   */
  listen(listener: (event: MeshEvent) => void): () => void;
}

/** Beyond it, the first listener is not told. */
const earlyMax = 100;

export function createEvents(): Events {
  const listeners = new Set<(event: MeshEvent) => void>();
  /** Undefined once somebody has listened. */
  let early: MeshEvent[] | undefined = [];
  return {
    emit(event) {
      if (event.event === "log" && early !== undefined && early.length < earlyMax)
        early.push(event);
      for (const listener of listeners) listener(event);
    },
    listen(listener) {
      listeners.add(listener);
      for (const event of early ?? []) listener(event);
      early = undefined;
      return () => void listeners.delete(listener);
    },
  };
}
