/** Measurements that are programs of their own, as benchmarks among the others. */
import { spawn } from "node:child_process";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { atMost, type Bench, type Row, rowOf } from "../bench.ts";

const blobsDefault = 1000;
const largeMb = 200;
const runsDefault = 2;
const planMaxMs = 3;

/** The last line that blobs.ts prints. */
interface BlobsReport {
  readonly small: Sizes & { readonly blobsPerSecond: number };
  readonly large: Sizes;
  readonly single: { readonly p50Ms: number; readonly p99Ms: number };
}

interface Sizes {
  readonly mbPerSecond: number;
  readonly tcpMbPerSecond: number;
}

export const blobs: Bench = {
  name: "blobs",
  about: "blobs between two processes, against the same bytes over a bare TCP socket",
  async run({ runs = runsDefault, signal }) {
    const reports: BlobsReport[] = [];
    const args = ["--blobs", String(blobsDefault), "--large-mb", String(largeMb)];
    for (let run = 0; run < runs; run += 1) {
      reports.push((await runScript("blobs.ts", args, signal)) as BlobsReport);
    }
    const row = (
      what: string,
      unit: string,
      pick: (report: BlobsReport) => number,
      against?: Row,
    ): Row => rowOf(what, unit, reports.map(pick), against);
    const manyTcp = row("1-200 KB, bare TCP", "MB/s", ({ small }) => small.tcpMbPerSecond);
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

/** The last line that scan.ts prints. */
interface ScanReport {
  readonly results: readonly {
    readonly source: string;
    readonly coldMs: number;
    readonly warmMs: number;
    readonly dashM: number;
    readonly dashE: number;
  }[];
}

export const scan: Bench = {
  name: "scan",
  about: "CPU time of finding all inputs of a C++ compile, against g++ -M and g++ -E",
  async run({ runs = runsDefault, signal }) {
    const reports: ScanReport[] = [];
    for (let run = 0; run < runs; run += 1) {
      reports.push((await runScript("scan.ts", ["--rounds", "20"], signal)) as ScanReport);
    }
    const [first] = reports;
    const rows = (first?.results ?? []).flatMap(({ source }, at) => {
      const row = (
        what: string,
        pick: (one: ScanReport["results"][number]) => number,
        base?: Row,
      ) =>
        rowOf(
          `${source}: ${what}`,
          "ms CPU",
          reports.flatMap(({ results }) => results[at] ?? []).map(pick),
          base,
        );
      const expansion = row("g++ -E", ({ dashE }) => dashE);
      return [
        expansion,
        row("g++ -M", ({ dashM }) => dashM, expansion),
        row("plan, first of a node", ({ coldMs }) => coldMs, expansion),
        row("plan, later", ({ warmMs }) => warmMs, expansion),
      ];
    });
    return {
      rows: rows.map((row) => (row.against === undefined ? row : { ...row, against: "g++ -E" })),
      checks: rows
        .filter(({ what }) => what.endsWith("later"))
        .map(({ what, median }) => atMost(what, median, planMaxMs, "ms")),
      notes: ["each run's number is a median of its own"],
    };
  },
};

/** What a program beside this file prints in its last line. */
async function runScript(
  name: string,
  args: readonly string[],
  signal: AbortSignal,
): Promise<unknown> {
  signal.throwIfAborted();
  const child = spawn(process.execPath, [join(import.meta.dirname, name), ...args], {
    stdio: ["ignore", "pipe", "inherit"],
    signal,
  });
  const ended = new Promise<number | null>((resolve, reject) => {
    child.once("error", reject);
    child.once("close", resolve);
  });
  let last = "";
  createInterface(child.stdout).on("line", (line) => {
    last = line;
  });
  const exitCode = await ended;
  if (exitCode !== 0) throw new Error(`${name} ended with ${exitCode}`);
  return JSON.parse(last);
}
