/**
 * How busy the machine is: read from Linux's /proc; elsewhere it counts as idle.
 */
import { readFileSync } from "node:fs";
import { availableParallelism, freemem } from "node:os";
import type { Vitals } from "./host.ts";

export function readVitals(): Vitals {
  const freeKiB = numberIn("/proc/meminfo", /^MemAvailable:\s+(\d+) kB/m);
  return {
    cores: availableParallelism(),
    // The reader itself is one of them.
    runnable: Math.max(0, (numberIn("/proc/loadavg", /^(?:\S+ ){3}(\d+)\//) ?? 1) - 1),
    memoryFreeBytes: freeKiB === undefined ? freemem() : freeKiB * 1024,
  };
}

/** The first group of the pattern as a number; undefined where there is no such file or line. */
function numberIn(path: string, pattern: RegExp): number | undefined {
  try {
    const found = pattern.exec(readFileSync(path, "utf8"))?.[1];
    return found === undefined ? undefined : Number(found);
  } catch {
    return undefined;
  }
}
