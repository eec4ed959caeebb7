/** Adds up the verdicts of many seeds. */
import { type FaultKind, faultKinds } from "./fault-kinds.ts";
import type { Verdict } from "./scenario.ts";

export interface Sum {
  add(verdict: Verdict): void;
  failed(): number;
  /** How far it has got. */
  line(): string;
  /** How fast that was. */
  speed(): string;
  /** What came of it: the same for the same seeds. The last line is `N passed, M failed`. */
  text(): string;
}

export function createSum(count: number): Sum {
  const startedMs = performance.now();
  const fired = new Map<FaultKind, number>();
  const totals = { done: 0, failed: 0, virtualMs: 0, events: 0, jobs: 0, stolen: 0, known: 0 };
  return {
    add(verdict) {
      totals.done += 1;
      if (verdict.violations.length > 0) totals.failed += 1;
      for (const key of ["virtualMs", "events", "jobs", "stolen", "known"] as const)
        totals[key] += verdict[key];
      for (const [kind, times] of verdict.fired) fired.set(kind, (fired.get(kind) ?? 0) + times);
    },
    failed: () => totals.failed,
    line: () => `${totals.done} of ${count} seeds, ${totals.failed} failed`,
    speed() {
      const wallMs = performance.now() - startedMs;
      const times = (totals.virtualMs / wallMs).toFixed(0);
      return `${(wallMs / 1000).toFixed(1)} s, ${times} times as fast as the meshes' own time`;
    },
    text() {
      const { done, failed, virtualMs, events, jobs, stolen, known } = totals;
      const kinds = faultKinds.map((kind) => `${kind} ${fired.get(kind) ?? 0}`);
      return [
        `faults: ${kinds.join(", ")}`,
        `${(virtualMs / 1000).toFixed(0)} s, ${events} events, ${jobs} tasks, ${stolen} stolen, ${known} known`,
        `${done - failed} passed, ${failed} failed`,
      ].join("\n");
    },
  };
}
