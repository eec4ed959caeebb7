/**
 * How long tasks take, learned from those that ran: an exponentially weighted mean per label and
 * per kind. Unknown is the mean of its kind, never infinity, and 0 when nothing is known at all.
 *
 * It also says when a running task is late: half as long again as expected, or as nine of ten of its
 * kind overrun what was expected.
 */
import { createRecentMap } from "../base/bounded.ts";

export interface Durations {
  expectedMs(kind: string, label: string): number;
  /** It was measured before; else what is expected is only what its kind takes. */
  isFamiliar(kind: string, label: string): boolean;
  /** Running longer than this, it lags behind; `Infinity` when too little is known. */
  lateMs(kind: string, label: string): number;
  learn(kind: string, label: string, wallMs: number): void;
  /** As it was learned in an earlier life: no measurement of today. */
  restore(kind: string, label: string, ms: number): void;
  /** All labels, oldest first. */
  known(): Iterable<readonly [kind: string, label: string, ms: number]>;
}

/** Weight of the newest measurement. */
const alpha = 0.3;
const kindsMax = 64;
/** As many of the latest measurements of a kind say what is usual. */
const samplesMax = 64;
/** Those that end first are short: a few say little about the others. */
const samplesMin = 12;
const lateQuantile = 0.9;
const lateFactor = 1.5;
/** Of a task never seen before, only its kind is known, and a kind has long tasks that are not late. */
const unknownFactor = 3;

interface Kind {
  meanMs: number;
  readonly walls: Samples;
  /** Measured over expected, of tasks whose label was known. */
  readonly ratios: Samples;
}

export function createDurations(labelsMax: number): Durations {
  const kinds = createRecentMap<string, Kind>(kindsMax);
  const labels = createRecentMap<string, number>(labelsMax);
  const blend = (old: number, wallMs: number) => old + alpha * (wallMs - old);
  const key = (kind: string, label: string) => `${kind}\0${label}`;
  return {
    expectedMs: (kind, label) => labels.get(key(kind, label)) ?? kinds.get(kind)?.meanMs ?? 0,
    isFamiliar: (kind, label) => labels.get(key(kind, label)) !== undefined,
    lateMs(kind, label) {
      const known = kinds.get(kind);
      const expectedMs = labels.get(key(kind, label));
      if (expectedMs !== undefined) {
        const ratio = known?.ratios.quantile(lateQuantile) ?? lateFactor;
        return lateFactor * Math.max(1, ratio) * expectedMs;
      }
      return unknownFactor * (known?.walls.quantile(lateQuantile) ?? Number.POSITIVE_INFINITY);
    },
    restore(kind, label, ms) {
      const known = kinds.get(kind) ?? newKind(ms);
      known.meanMs = blend(known.meanMs, ms);
      kinds.set(kind, known);
      labels.set(key(kind, label), ms);
    },
    *known() {
      for (const [name, ms] of labels.entries()) {
        const cut = name.indexOf("\0");
        yield [name.slice(0, cut), name.slice(cut + 1), ms];
      }
    },
    learn(kind, label, wallMs) {
      const name = key(kind, label);
      const before = labels.get(name);
      const known = kinds.get(kind) ?? newKind(wallMs);
      known.meanMs = blend(known.meanMs, wallMs);
      known.walls.add(wallMs);
      if (before !== undefined && before > 0) known.ratios.add(wallMs / before);
      kinds.set(kind, known);
      labels.set(name, before === undefined ? wallMs : blend(before, wallMs));
    },
  };
}

function newKind(wallMs: number): Kind {
  return { meanMs: wallMs, walls: createSamples(), ratios: createSamples() };
}

interface Samples {
  add(value: number): void;
  /** Undefined while there are too few to say. */
  quantile(part: number): number | undefined;
}

/** The latest values, in a ring. */
function createSamples(): Samples {
  const values: number[] = [];
  let next = 0;
  let sorted: readonly number[] | undefined;
  return {
    add(value) {
      values[next] = value;
      next = (next + 1) % samplesMax;
      sorted = undefined;
    },
    quantile(part) {
      if (values.length < samplesMin) return undefined;
      sorted ??= values.toSorted((a, b) => a - b);
      return sorted[Math.min(values.length - 1, Math.floor(part * values.length))];
    },
  };
}
