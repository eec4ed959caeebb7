/**
 * How long tasks take, learned from those that ran: an exponentially weighted mean per label and
 * per kind. Unknown is the mean of its kind, never infinity, and 0 when nothing is known at all.
 */
import { createRecentMap } from "../base/bounded.ts";

export interface Durations {
  expectedMs(kind: string, label: string): number;
  learn(kind: string, label: string, wallMs: number): void;
}

/** Weight of the newest measurement. */
const alpha = 0.3;

export function createDurations(labelsMax: number): Durations {
  const byKind = createRecentMap<string, number>(64);
  const byLabel = createRecentMap<string, number>(labelsMax);
  const blend = (old: number | undefined, wallMs: number) =>
    old === undefined ? wallMs : old + alpha * (wallMs - old);
  const key = (kind: string, label: string) => `${kind}\0${label}`;
  return {
    expectedMs: (kind, label) => byLabel.get(key(kind, label)) ?? byKind.get(kind) ?? 0,
    learn(kind, label, wallMs) {
      byKind.set(kind, blend(byKind.get(kind), wallMs));
      byLabel.set(key(kind, label), blend(byLabel.get(key(kind, label)), wallMs));
    },
  };
}
