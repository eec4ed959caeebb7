/**
 * Runs benchmarks: all, or those named.
 *
 *     npm run bench [-- [--runs N] NAME …]
 *
 * Each prints a table and writes bench/results/NAME.json. Bounds that are not met are said, and
 * change nothing about the exit code: what a shared machine measures is for people to judge.
 * Exit codes: 0, 1 when a benchmark could not measure, 2 for a name or flag that does not exist.
 */
import { mkdirSync, writeFileSync } from "node:fs";
import { cpus, loadavg } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { type Bench, type Result, showResult } from "./bench.ts";
import { cache } from "./build/cache.ts";
import { cacheCargo } from "./build/cache-cargo.ts";
import { cacheHit } from "./build/cache-hit.ts";
import { clientCpu } from "./build/client-cpu.ts";
import { join as joinBench } from "./build/join.ts";
import { oneNode } from "./build/one-node.ts";
import { threeNodes } from "./build/three-nodes.ts";
import { blobs, scan } from "./micro/scripts.ts";
import { shim } from "./micro/shim.ts";
import { steal } from "./micro/steal.ts";
import { wasm } from "./micro/wasm.ts";
import { simDag } from "./sim/dag.ts";
import { simMakespan, simThousand } from "./sim/makespan.ts";
import { simSlowNode } from "./sim/slow-node.ts";
import { simSpeed } from "./sim/speed.ts";
import { efficiency } from "./steal/efficiency.ts";
import { idleMesh } from "./steal/idle-mesh.ts";
import { noOp } from "./steal/no-op.ts";
import { recovery } from "./steal/recovery.ts";
import { slowNode } from "./steal/slow-node.ts";
import { soak } from "./steal/soak.ts";

const benches: readonly Bench[] = [
  shim,
  steal,
  noOp,
  efficiency,
  recovery,
  slowNode,
  idleMesh,
  soak,
  wasm,
  blobs,
  scan,
  joinBench,
  clientCpu,
  threeNodes,
  oneNode,
  cache,
  cacheHit,
  cacheCargo,
  simMakespan,
  simThousand,
  simDag,
  simSlowNode,
  simSpeed,
];
const runsMax = 1000;
const results = join(import.meta.dirname, "results");

interface Wanted {
  readonly benches: readonly Bench[];
  readonly runs: number | undefined;
}

function usage(): string {
  const width = Math.max(...benches.map(({ name }) => name.length));
  const list = benches.map(({ name, about }) => `  ${name.padEnd(width)}  ${about}`);
  return ["usage: npm run bench [-- [--runs N] NAME …]", ...list].join("\n");
}

/** A string says what is wrong with the arguments. */
function parseWanted(args: readonly string[]): Wanted | string {
  try {
    const { values, positionals } = parseArgs({
      args: [...args],
      allowPositionals: true,
      options: { runs: { type: "string" }, help: { type: "boolean", short: "h" } },
    });
    if (values.help === true) return "";
    const runs = values.runs === undefined ? undefined : Number(values.runs);
    if (runs !== undefined && !(Number.isInteger(runs) && runs >= 1 && runs <= runsMax)) {
      return `--runs takes a whole number from 1 to ${runsMax}, not ${values.runs}`;
    }
    const unknown = positionals.filter((name) => benches.every((bench) => bench.name !== name));
    if (unknown.length > 0) return `no benchmark is called ${unknown.join(" or ")}`;
    const named = benches.filter(({ name }) => positionals.includes(name));
    return { benches: named.length === 0 ? benches : named, runs };
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
}

async function main(): Promise<number> {
  const wanted = parseWanted(process.argv.slice(2));
  if (typeof wanted === "string") {
    if (wanted === "") console.log(usage());
    else console.error(`bench: ${wanted}\n${usage()}`);
    return wanted === "" ? 0 : 2;
  }
  const stop = new AbortController();
  const onSignal = () => stop.abort(new Error("stopped"));
  for (const name of ["SIGINT", "SIGTERM"] as const) process.once(name, onSignal);
  mkdirSync(results, { recursive: true });
  let failed = 0;
  for (const bench of wanted.benches) {
    if (stop.signal.aborted) return 130;
    console.log(`\n${bench.name}: ${bench.about}`);
    const startMs = performance.now();
    const loadBefore = loadavg()[0] ?? 0;
    try {
      const result = await bench.run({
        runs: wanted.runs,
        say: (line) => console.log(`  … ${line}`),
        signal: stop.signal,
      });
      const seconds = (performance.now() - startMs) / 1000;
      console.log(showResult(result));
      console.log(
        `      ${seconds.toFixed(0)} s, load ${loadBefore.toFixed(1)} on ${cpus().length} cores`,
      );
      write(bench, result, { seconds, loadBefore });
    } catch (error) {
      if (stop.signal.aborted) return 130;
      failed += 1;
      console.error(`bench: ${bench.name} could not measure:`, error);
    }
  }
  return failed > 0 ? 1 : 0;
}

function write(
  { name, about }: Bench,
  result: Result,
  { seconds, loadBefore }: { readonly seconds: number; readonly loadBefore: number },
): void {
  const machine = {
    node: process.version,
    cores: cpus().length,
    cpu: cpus()[0]?.model ?? "",
    loadBefore,
    loadAfter: loadavg()[0] ?? 0,
  };
  const date = new Date().toISOString();
  const whole = { name, about, date, seconds, machine, ...result };
  writeFileSync(join(results, `${name}.json`), `${JSON.stringify(whole, undefined, 2)}\n`);
}

// Not only the code: a node that failed to stop must not keep the run from ending.
process.exit(await main());
