/**
 * Measures what planning one C++ compile costs this machine's CPU, against the compiler's own ways
 * of finding headers, in the same run: `g++ -M` and `g++ -E`.
 *
 *     node bench/micro/scan.ts [--compiler g++] [--rounds 30]
 *
 * "cold" is a planner that has never seen a file; "warm" is the next source of the same kind, its
 * own text unseen. A plan includes the scan, the digests and the complete list of inputs. Prints a
 * table and, as the last line, the numbers as JSON.
 */
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, utimesSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { createGccPlanner } from "../../src/compile/gcc.ts";
import type { Plan, Planner } from "../../src/compile/plan.ts";
import { createFileView } from "../../src/exec/file-view.ts";
import { createToolchains } from "../../src/exec/toolchain.ts";
import { createClock } from "../../src/host/clock.ts";
import { createDisk } from "../../src/host/disk.ts";
import { createProcesses } from "../../src/host/processes.ts";

const { values } = parseArgs({
  options: {
    compiler: { type: "string", default: "g++" },
    rounds: { type: "string", default: "30" },
  },
});
const rounds = Number(values.rounds);
const compiler = spawnSync("which", [values.compiler], { encoding: "utf8" }).stdout.trim();
const { signal } = new AbortController();
const processes = createProcesses();
const folder = mkdtempSync(join(tmpdir(), "mesh-scan-bench-"));
const sources = {
  "four headers": "#include <vector>\n#include <string>\n#include <map>\n#include <iostream>\n",
  "the whole library": "#include <bits/stdc++.h>\n",
};

function newPlanner(): Planner {
  const disk = createDisk();
  const clock = createClock();
  const known = new Set<string>();
  const store = { has: (d: string) => known.has(d), adopt: (d: string) => void known.add(d) };
  const view = createFileView({ disk, store, clock });
  const toolchains = createToolchains({ disk, processes, store, clock, view });
  const deps = { disk, processes, store, toolchains, clock, view };
  return createGccPlanner(deps, { platform: "linux/bench", timeoutMs: 60_000 });
}

/** CPU time of this process while `run` runs, in milliseconds. */
async function cpuMsOf(run: () => Promise<Plan>): Promise<number> {
  const before = process.cpuUsage();
  const plan = await run();
  const { user, system } = process.cpuUsage(before);
  if (plan.at === "here") throw new Error(`stays here: ${plan.reason}`);
  return (user + system) / 1000;
}

/** CPU time of children so far, in milliseconds. */
function childCpuMs(): number {
  const ticks = readFileSync("/proc/self/stat", "utf8").split(") ")[1]?.split(" ") ?? [];
  return (Number(ticks[13]) + Number(ticks[14])) * 10;
}

function compilerMs(mode: string, source: string): number {
  const before = childCpuMs();
  const runs = Math.max(5, Math.round(rounds / 3));
  for (let i = 0; i < runs; i++)
    spawnSync(compiler, [mode, source, "-o", "/dev/null"], { stdio: "ignore" });
  return (childCpuMs() - before) / runs;
}

const median = (numbers: readonly number[]): number =>
  [...numbers].sort((a, b) => a - b)[Math.floor(numbers.length / 2)] ?? 0;

async function measure(name: string, text: string) {
  const invocation = (i: number) => {
    const source = join(folder, `${name.replaceAll(" ", "-")}-${i}.cpp`);
    writeFileSync(source, `${text}int f${i}() { return ${i}; }\n`);
    utimesSync(source, 1e9 + i, 1e9 + i);
    const env = { PATH: process.env.PATH ?? "", LANG: "C.UTF-8" };
    return { compiler, args: ["-O2", "-c", source], cwd: folder, env, umask: 0o022 };
  };
  const cold: number[] = [];
  for (let i = 0; i < 5; i++) {
    const planner = newPlanner();
    cold.push(await cpuMsOf(() => planner(invocation(i), signal)));
  }
  const planner = newPlanner();
  const first = await planner(invocation(0), signal);
  const warm: number[] = [];
  for (let i = 1; i <= rounds; i++) {
    const asked = invocation(i);
    warm.push(await cpuMsOf(() => planner(asked, signal)));
  }
  const source = invocation(0).args[2] ?? "";
  return {
    source: name,
    inputs: first.at === "anywhere" ? first.spec.inputs.length : 0,
    coldMs: median(cold),
    warmMs: median(warm),
    dashM: compilerMs("-M", source),
    dashE: compilerMs("-E", source),
  };
}

try {
  const results = [];
  for (const [name, text] of Object.entries(sources)) results.push(await measure(name, text));
  process.stdout.write("CPU milliseconds per source     inputs   cold   warm     -M     -E\n");
  for (const { source, inputs, coldMs, warmMs, dashM, dashE } of results) {
    const numbers = [coldMs, warmMs, dashM, dashE].map((ms) => ms.toFixed(1).padStart(6));
    process.stdout.write(
      `${source.padEnd(30)} ${String(inputs).padStart(7)} ${numbers.join(" ")}\n`,
    );
  }
  process.stdout.write(`${JSON.stringify({ bench: "scan", compiler, results })}\n`);
} finally {
  rmSync(folder, { recursive: true, force: true });
  await processes.close();
}
