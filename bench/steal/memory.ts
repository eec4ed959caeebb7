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
  /** As the system counts it: with what the engine keeps for later. */
  readonly rssBytes: number;
  /** What its objects and buffers take. */
  readonly liveBytes: number;
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
    const { heapUsed, external } = process.memoryUsage();
    console.log(JSON.stringify({ event: "memory", liveBytes: heapUsed + external }));
  }, 50);
});`;

/** Environment of a node whose memory is to be read. */
export const reporting: Readonly<Record<string, string>> = {
  NODE_OPTIONS: `--import data:text/javascript,${encodeURIComponent(report)}`,
};

/** @param livesSeen what the node has said so far, from its "memory" events */
export async function holdingsOf(
  { child: { pid = 0 } }: LiveNode,
  livesSeen: readonly number[],
): Promise<Holdings> {
  const before = livesSeen.length;
  process.kill(pid, "SIGUSR2");
  await until("the node's word on its memory", () => livesSeen.length > before);
  return { ...ofProcess(pid), liveBytes: livesSeen.at(-1) ?? 0 };
}

export async function ownHoldings(): Promise<Holdings> {
  setFlagsFromString("--expose-gc");
  const gc = runInNewContext("gc") as () => void;
  gc();
  // What a finalizer lets go of needs a second one.
  await new Promise((wake) => setTimeout(wake, 50));
  gc();
  const { heapUsed, external } = process.memoryUsage();
  return { ...ofProcess(process.pid), liveBytes: heapUsed + external };
}

function ofProcess(pid: number): Pick<Holdings, "rssBytes" | "files"> {
  const status = readFileSync(`/proc/${pid}/status`, "utf8");
  const rssKiB = Number(/^VmRSS:\s+(\d+)/m.exec(status)?.[1] ?? 0);
  return { rssBytes: rssKiB * 1024, files: readdirSync(`/proc/${pid}/fd`).length };
}
