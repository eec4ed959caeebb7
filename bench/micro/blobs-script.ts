/** The blob exchange's own measurement (blobs.ts) as a benchmark among the others. */

import { spawn } from "node:child_process";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { type Bench, type Row, rowOf } from "../bench.ts";

const script = join(import.meta.dirname, "blobs.ts");
const blobsDefault = 1000;
const largeMb = 200;
const runsDefault = 3;

interface Sizes {
  readonly mbPerSecond: number;
  readonly tcpMbPerSecond: number;
  readonly cpuMs: number;
}

interface Report {
  readonly small: Sizes & { readonly blobsPerSecond: number };
  readonly large: Sizes;
  readonly single: { readonly p50Ms: number; readonly p99Ms: number };
}

export const blobs: Bench = {
  name: "blobs",
  about: "blobs between two processes, against the same bytes over a bare TCP socket",
  async run({ runs, signal }) {
    const reports: Report[] = [];
    for (let run = 0; run < (runs ?? runsDefault); run += 1) reports.push(await runScript(signal));
    const row = (what: string, unit: string, pick: (report: Report) => number, against?: Row) =>
      rowOf(what, unit, reports.map(pick), against);
    const manyTcp = row("1-200 KB blobs, bare TCP", "MB/s", ({ small }) => small.tcpMbPerSecond);
    const oneTcp = row(`${largeMb} MB, bare TCP`, "MB/s", ({ large }) => large.tcpMbPerSecond);
    return {
      rows: [
        manyTcp,
        row(`${blobsDefault} blobs of 1-200 KB`, "MB/s", ({ small }) => small.mbPerSecond, manyTcp),
        row(`${blobsDefault} blobs of 1-200 KB`, "blobs/s", ({ small }) => small.blobsPerSecond),
        oneTcp,
        row(`one blob of ${largeMb} MB`, "MB/s", ({ large }) => large.mbPerSecond, oneTcp),
        row("one blob of 8 KB, p50", "ms", ({ single }) => single.p50Ms),
        row("one blob of 8 KB, p99", "ms", ({ single }) => single.p99Ms),
      ],
      checks: [],
      notes: ["every blob is verified and stored; bytes over bare TCP are only counted"],
    };
  },
};

async function runScript(signal: AbortSignal): Promise<Report> {
  signal.throwIfAborted();
  const child = spawn(
    process.execPath,
    [script, "--blobs", String(blobsDefault), "--large-mb", String(largeMb)],
    { stdio: ["ignore", "pipe", "inherit"], signal },
  );
  const ended = new Promise<number | null>((resolve, reject) => {
    child.once("error", reject);
    child.once("close", resolve);
  });
  let last = "";
  createInterface(child.stdout).on("line", (line) => {
    last = line;
  });
  const exitCode = await ended;
  if (exitCode !== 0) throw new Error(`${script} ended with ${exitCode}`);
  return JSON.parse(last) as Report;
}
