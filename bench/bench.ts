/**
 * What a benchmark is, and how its numbers are put together and shown.
 *
 * A number alone says little on a machine that does other things too. So every benchmark measures
 * its peer, or what its bound is a multiple of, interleaved in the same run.
 */

export interface Bench {
  readonly name: string;
  /** One line: what is measured, and against what. */
  readonly about: string;
  /** Rejects when it cannot measure; a bound that is not met is no failure. */
  run(options: BenchOptions): Promise<Result>;
}

export interface BenchOptions {
  /** How often each case is measured; undefined: as often as the benchmark finds enough. */
  readonly runs: number | undefined;
  /** Tells a person what goes on. */
  readonly say: (line: string) => void;
  /** Aborts between two measurements. */
  readonly signal: AbortSignal;
}

export interface Result {
  readonly rows: readonly Row[];
  readonly checks: readonly Check[];
  /** What the numbers do not say by themselves. */
  readonly notes: readonly string[];
}

/** One measured case. */
export interface Row {
  readonly what: string;
  readonly unit: string;
  readonly runs: number;
  readonly median: number;
  readonly p99: number;
  readonly min: number;
  readonly max: number;
  /** Its median in medians of the row named `against`. */
  readonly ratio: number | undefined;
  readonly against: string | undefined;
}

/** A number that has a bound. */
export interface Check {
  readonly what: string;
  readonly value: number;
  readonly bound: number;
  readonly unit: string;
  readonly side: "at most" | "at least";
  readonly met: boolean;
}

export function rowOf(what: string, unit: string, samples: readonly number[], against?: Row): Row {
  if (samples.length === 0) throw new Error(`${what}: nothing was measured`);
  const sorted = samples.toSorted((a, b) => a - b);
  const median = quantile(sorted, 0.5);
  return {
    what,
    unit,
    runs: samples.length,
    median,
    p99: quantile(sorted, 0.99),
    min: sorted[0] ?? 0,
    max: sorted.at(-1) ?? 0,
    // Nothing is a multiple of nothing, as of a CPU time below what the kernel counts.
    ratio: against === undefined || against.median === 0 ? undefined : median / against.median,
    against: against?.what,
  };
}

export function atMost(what: string, value: number, bound: number, unit: string): Check {
  return { what, value, bound, unit, side: "at most", met: value <= bound };
}

export function atLeast(what: string, value: number, bound: number, unit: string): Check {
  return { what, value, bound, unit, side: "at least", met: value >= bound };
}

export function medianOf(samples: readonly number[]): number {
  return quantile(
    samples.toSorted((a, b) => a - b),
    0.5,
  );
}

/** Between two neighbours it is in proportion, so that the median of two is their mean. */
function quantile(sorted: readonly number[], share: number): number {
  const place = (sorted.length - 1) * share;
  const low = sorted[Math.floor(place)] ?? 0;
  const high = sorted[Math.ceil(place)] ?? low;
  return low + (high - low) * (place - Math.floor(place));
}

/** A table for people: no colours, so that it can be pasted anywhere. */
export function showResult({ rows, checks, notes }: Result): string {
  const cells = rows.map((row) => [
    row.what,
    shown(row.median),
    shown(row.min),
    shown(row.max),
    row.runs >= 100 ? shown(row.p99) : "",
    row.unit,
    String(row.runs),
    row.ratio === undefined ? "" : `${row.ratio.toFixed(3)} × ${row.against}`,
  ]);
  const head = ["", "median", "min", "max", "p99", "unit", "runs", "ratio"];
  const lines = aligned([head, ...cells], new Set([1, 2, 3, 4, 6]));
  for (const { what, value, bound, unit, side, met } of checks) {
    const values = `${shown(value)} ${unit}, ${side} ${shown(bound)}`.replace(/ +/g, " ");
    lines.push(`${met ? "met " : "OVER"}  ${what}: ${values.replace(" ,", ",")}`);
  }
  return [...lines, ...notes.map((note) => `note  ${note}`)].join("\n");
}

function aligned(rows: readonly (readonly string[])[], right: ReadonlySet<number>): string[] {
  const widths = (rows[0] ?? []).map((_, column) =>
    Math.max(...rows.map((row) => (row[column] ?? "").length)),
  );
  return rows.map((row) =>
    row
      .map((cell, column) => {
        const width = widths[column] ?? 0;
        return right.has(column) ? cell.padStart(width) : cell.padEnd(width);
      })
      .join("  ")
      .trimEnd(),
  );
}

/** Three digits that count, and thousands apart. */
export function shown(value: number): string {
  if (!Number.isFinite(value)) return String(value);
  const size = Math.abs(value);
  if (size >= 100) return Math.round(value).toLocaleString("en");
  return value.toFixed(size >= 10 ? 1 : size >= 1 ? 2 : 3);
}
