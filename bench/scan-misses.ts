/**
 * Compares what the planner would send along with the compiler's own -M, on every source below a
 * folder.
 *
 *     node bench/scan-misses.ts [--compiler g++] [--headers] [--sample N] [--seconds S] DIR [-- FLAGS]
 *
 * With --headers, each header below DIR is included by a source of its own, by its name below the
 * folder that DIR is in: `--headers /usr/include/boost` includes <boost/any.hpp>. --sample takes N
 * of all files, spread evenly; --seconds ends the run early. Sources that the compiler rejects are
 * passed over and counted, and so are those that stay here, by reason. Exit code 1 when anything
 * was missed.
 */
import { spawnSync } from "node:child_process";
import { mkdtempSync, readdirSync, realpathSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join, relative, resolve } from "node:path";
import { parseArgs } from "node:util";
import { createGccPlanner } from "../src/compile/gcc.ts";
import { prerequisitesOf } from "../src/compile/make-rule.ts";
import { createFileView } from "../src/exec/file-view.ts";
import { createToolchains } from "../src/exec/toolchain.ts";
import { createClock } from "../src/host/clock.ts";
import { createDisk } from "../src/host/disk.ts";
import type { Processes } from "../src/host/host.ts";
import { createProcesses } from "../src/host/processes.ts";

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    compiler: { type: "string", default: "g++" },
    headers: { type: "boolean", default: false },
    sample: { type: "string", default: "1000000" },
    seconds: { type: "string", default: "3600" },
  },
});
const [folder, ...flags] = positionals;
if (folder === undefined) throw new Error("usage: scan-misses.ts [--headers] DIR [-- FLAGS]");
const compiler = spawnSync("which", [values.compiler], { encoding: "utf8" }).stdout.trim();
const wanted = values.headers ? /\.(?:h|hh|hpp|hxx)$/ : /\.(?:c|cc|cpp|cxx)$/;
const files = spread(
  readdirSync(folder, { recursive: true, encoding: "utf8" })
    .filter((name) => wanted.test(name))
    .sort(),
  Number(values.sample),
);
const count = { compared: 0, rejected: 0, asked: 0, missed: 0, planned: 0, opened: 0 };
const reasons = new Map<string, number>();

const disk = createDisk();
const clock = createClock();
const processes = createProcesses();
const counting: Processes = {
  ...processes,
  run(command, signal) {
    if (command.argv.includes("-M")) count.asked++;
    return processes.run(command, signal);
  },
};
const store = { has: () => true, adopt: () => undefined };
const view = createFileView({ disk, store, clock });
const toolchains = createToolchains({ disk, processes, store, clock, view });
const planner = createGccPlanner(
  { disk, processes: counting, store, toolchains, clock, view },
  { platform: "linux/bench", timeoutMs: 60_000 },
);
const { signal } = new AbortController();
const work = mkdtempSync(join(tmpdir(), "mesh-misses-"));
const env = { PATH: process.env.PATH ?? "", LANG: "C.UTF-8" };

function spread<T>(all: readonly T[], wantedCount: number): readonly T[] {
  const step = Math.max(1, all.length / wantedCount);
  return all.filter((_, i) => Math.floor(i / step) !== Math.floor((i - 1) / step));
}

async function compare(source: string): Promise<void> {
  const cwd = process.cwd();
  const real = spawnSync(compiler, [...flags, "-M", "-MT", "x", source], {
    cwd,
    env,
    encoding: "utf8",
    maxBuffer: 1 << 28,
  });
  const opened = real.status === 0 ? prerequisitesOf(real.stdout) : undefined;
  if (opened === undefined) {
    count.rejected++;
    return;
  }
  const args = [...flags, "-c", source, "-o", join(work, "out.o")];
  const plan = await planner({ compiler, args, cwd, env, umask: 0o022 }, signal);
  if (plan.at === "here") {
    reasons.set(plan.reason, (reasons.get(plan.reason) ?? 0) + 1);
    return;
  }
  const inputs = new Set(plan.spec.inputs.map(({ path }) => path));
  count.compared++;
  count.planned += inputs.size;
  count.opened += opened.length;
  for (const name of opened) {
    if (inputs.has(realpathSync(resolve(cwd, name)))) continue;
    count.missed++;
    process.stdout.write(`missed ${name} of ${source}\n`);
  }
}

const untilMs = clock.nowMs() + Number(values.seconds) * 1000;
try {
  for (const [i, name] of files.entries()) {
    if (clock.nowMs() > untilMs) break;
    if (!values.headers) await compare(join(folder, name));
    else {
      const source = join(work, `t${i}.${values.compiler.includes("+") ? "cpp" : "c"}`);
      const header = relative(dirname(resolve(folder)), resolve(folder, name));
      writeFileSync(source, `#include <${header}>\n`);
      await clock.sleep(20, signal);
      await compare(source);
    }
  }
} finally {
  rmSync(work, { recursive: true, force: true });
  await processes.close();
}
process.stdout.write(`${JSON.stringify({ ...count, stayed: Object.fromEntries(reasons) })}\n`);
process.exitCode = count.missed > 0 ? 1 : 0;
