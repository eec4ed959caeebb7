/**
 * Whether something grows that should not: the heap after a collection, early and late in a run.
 *
 * What a node may keep by its own bounds (records it was told, peers it remembers) fills up in the
 * first part; after that a case may leave next to nothing behind. Without `--expose-gc` nothing is
 * measured.
 */
import { finding } from "./target.ts";

export interface Growth {
  /** After each case. */
  look(): void;
  /** @throws a finding when the later cases have left more behind than chance explains. */
  check(): void;
}

const perCaseBytes = 2048;
const everyCases = 25;

declare const gc: (() => void) | undefined;

/**
 * @param noiseBytes what may come and go at any time: a collection is not exact, and what is bounded
 * by some megabytes fills up slowly.
 */
export function createGrowth(what: string, noiseBytes: number): Growth {
  const heaps: number[] = [];
  let cases = 0;

  return {
    look() {
      cases += 1;
      if (cases % everyCases === 0 && typeof gc === "function") heaps.push(heapBytes());
    },
    check() {
      const late = Math.floor(heaps.length / 2);
      if (late < 2) return;
      const before = Math.min(...heaps.slice(late - 2, late + 1));
      const after = Math.min(...heaps.slice(-2));
      const allowed = noiseBytes + perCaseBytes * everyCases * (heaps.length - late);
      if (after - before <= allowed) return;
      const shown = heaps.map((bytes) => (bytes / 1024 / 1024).toFixed(1)).join(", ");
      throw finding(`${what} grew by ${after - before} bytes; heap in MiB: ${shown}`);
    },
  };
}

function heapBytes(): number {
  if (typeof gc !== "function") return 0;
  gc();
  gc();
  const { heapUsed, arrayBuffers } = process.memoryUsage();
  return heapUsed + arrayBuffers;
}
