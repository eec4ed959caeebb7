/**
 * What a process holds on to: memory after a collection, and open files. For the benchmark's own
 * process, and for nodes that were started with `reporting` in their environment.
 */
import { readdirSync, readFileSync } from "node:fs";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import type { LiveNode } from "../../chaos-tests/live/nodes.ts";
import { until } from "../../chaos-tests/live/nodes.ts";

export interface Holdings {
  readonly rssBytes: number;
  readonly heapBytes: number;
  readonly files: number;
}

/** Loaded into a node before its own code: on SIGUSR2 it collects, and says what is left. */
const report = `
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
setFlagsFromString("--expose-gc");
const gc = runInNewContext("gc");
process.on("SIGUSR2", () => {
  gc();
  setTimeout(() => {
    gc();
    console.log(JSON.stringify({ event: "memory", heapBytes: process.memoryUsage().heapUsed }));
  }, 50);
});`;

/** Environment of a node whose memory is to be read. */
export const reporting: Readonly<Record<string, string>> = {
  NODE_OPTIONS: `--import data:text/javascript,${encodeURIComponent(report)}`,
};

/** @param heapsSeen what the node has said so far, from its "memory" events */
export async function holdingsOf(
  { child: { pid = 0 } }: LiveNode,
  heapsSeen: readonly number[],
): Promise<Holdings> {
  const before = heapsSeen.length;
  process.kill(pid, "SIGUSR2");
  await until("the node's word on its memory", () => heapsSeen.length > before);
  return { ...ofProcess(pid), heapBytes: heapsSeen.at(-1) ?? 0 };
}

export async function ownHoldings(): Promise<Holdings> {
  setFlagsFromString("--expose-gc");
  const gc = runInNewContext("gc") as () => void;
  gc();
  // What a finalizer lets go of needs a second one.
  await new Promise((wake) => setTimeout(wake, 50));
  gc();
  return { ...ofProcess(process.pid), heapBytes: process.memoryUsage().heapUsed };
}

function ofProcess(pid: number): Pick<Holdings, "rssBytes" | "files"> {
  const status = readFileSync(`/proc/${pid}/status`, "utf8");
  const rssKiB = Number(/^VmRSS:\s+(\d+)/m.exec(status)?.[1] ?? 0);
  return { rssBytes: rssKiB * 1024, files: readdirSync(`/proc/${pid}/fd`).length };
}
