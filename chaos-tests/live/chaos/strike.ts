/** What every fault is made of: whom it strikes, what it did, and how that is undone. */
import type { SeededRandom } from "../../../src/sim/random.ts";
import type { World } from "../nodes.ts";
import type { Fleet, Member, Part } from "./fleet.ts";
import type { Liar } from "./liar-control.ts";
import type { Seen } from "./processes.ts";
import type { Workload } from "./workload.ts";

export interface Strike {
  /** What was done, to whom; for the log. */
  readonly what: string;
  /** Undoes it. Undefined: there is nothing to undo. */
  readonly undo?: () => Promise<void> | void;
  readonly forMs: number;
}

export interface FaultContext {
  readonly world: World;
  readonly fleet: Fleet;
  readonly workload: Workload;
  readonly liar: Liar;
  /** Processes below nodes that were killed: none of them may be there in the end. */
  readonly orphans: Seen[];
  readonly signal: AbortSignal;
}

/** Undefined: there is nobody that this could strike now. */
export type Fault = (
  context: FaultContext,
  random: SeededRandom,
) => Promise<Strike | undefined> | Strike | undefined;

/** Somebody who fits and at whom nothing of this part is wrong now; taken until `undo` frees it. */
export function pick(
  { fleet }: FaultContext,
  random: SeededRandom,
  part: Part,
  fits: (member: Member) => boolean = () => true,
): { readonly member: Member; readonly free: () => void } | undefined {
  const free = fleet.members.filter((member) => !member.struck.has(part) && fits(member));
  const member = free[random.below(free.length)];
  if (member === undefined) return undefined;
  member.struck.add(part);
  return { member, free: () => void member.struck.delete(part) };
}

/** Never rejects: an aborted pause is a short one. */
export function pause(durationMs: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) return resolve();
    const timer = setTimeout(done, durationMs);
    function done(): void {
      clearTimeout(timer);
      signal.removeEventListener("abort", done);
      resolve();
    }
    signal.addEventListener("abort", done, { once: true });
  });
}
