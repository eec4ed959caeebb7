/**
 * Compares the include scanner with the compiler's own -M on every source below a folder.
 *
 *     node bench/scan-misses.ts [--compiler g++] [--headers] DIR [-- FLAGS]
 *
 * With --headers, each header below DIR is included by a source of its own. Sources that the
 * compiler rejects are passed over and counted. Exit code 1 when anything was missed.
 */
import { spawnSync } from "node:child_process";
import { mkdtempSync, readdirSync, realpathSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, relative, resolve } from "node:path";
import { parseArgs } from "node:util";
import { parseGccArgs } from "../src/compile/gcc-args.ts";
import { compileEnvironment } from "../src/compile/gcc-environment.ts";
import { createIncludeScanner, type IncludeQuery } from "../src/compile/includes.ts";
import { prerequisitesOf } from "../src/compile/make-rule.ts";
import { createFileView } from "../src/exec/file-view.ts";
import { createToolchains } from "../src/exec/toolchain.ts";
import { createClock } from "../src/host/clock.ts";
import { createDisk } from "../src/host/disk.ts";
import { createProcesses } from "../src/host/processes.ts";

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    compiler: { type: "string", default: "g++" },
    headers: { type: "boolean", default: false },
    limit: { type: "string", default: "1000000" },
  },
});
const [folder, ...flags] = positionals;
if (folder === undefined) throw new Error("usage: scan-misses.ts [--headers] DIR [-- FLAGS]");
const which = spawnSync("which", [values.compiler], { encoding: "utf8" }).stdout.trim();
const family = which.includes("clang") ? "clang" : "gcc";
const wanted = values.headers ? /\.(?:h|hh|hpp|hxx)$/ : /\.(?:c|cc|cpp|cxx)$/;
const files = readdirSync(folder, { recursive: true, encoding: "utf8" })
  .filter((name) => wanted.test(name))
  .sort()
  .slice(0, Number(values.limit));

const disk = createDisk();
const clock = createClock();
const processes = createProcesses();
const store = { has: () => true, adopt: () => undefined };
const view = createFileView({ disk, store, clock });
const toolchains = createToolchains({ disk, processes, store, clock, view });
const scanner = createIncludeScanner({ view, disk, clock });
const { signal } = new AbortController();
const work = mkdtempSync(join(tmpdir(), "mesh-misses-"));
const env = Object.fromEntries(
  Object.entries(process.env).filter((pair): pair is [string, string] => pair[1] !== undefined),
);
const count = { compared: 0, rejected: 0, local: 0, asked: 0, missed: 0, scanned: 0, opened: 0 };
const reasons = new Map<string, number>();

async function compare(source: string): Promise<void> {
  const args = [...flags, "-c", source];
  const parsed = parseGccArgs(args, values.compiler, family);
  if (parsed.at === "here") throw new Error(`${parsed.reason} ${parsed.culprit}`);
  const real = spawnSync(which, [...flags, "-M", "-MT", "x", source], {
    encoding: "utf8",
    maxBuffer: 1 << 28,
  });
  const opened = real.status === 0 ? prerequisitesOf(real.stdout) : undefined;
  if (opened === undefined) {
    count.rejected++;
    return;
  }
  const { libraryPath } = { libraryPath: "", ...compileEnvironment(env, parsed.language) };
  const cwd = process.cwd();
  const toolchain = await toolchains.closure(
    {
      driver: which,
      family,
      language: parsed.language,
      flags: parsed.toolFlags,
      cwd,
      path: env.PATH ?? "",
      libraryPath,
    },
    signal,
  );
  const { dirs, forced, defined } = parsed;
  const query: IncludeQuery = {
    family,
    cwd,
    source,
    dirs,
    standard: toolchain.includeDirs,
    forced,
    defined,
    also: [],
  };
  const scan = await scanner.scan(query, signal);
  count.compared++;
  count.scanned += scan.files.length;
  count.opened += opened.length;
  for (const [key, seen] of Object.entries(scan.seen))
    if (seen && key !== "once") reasons.set(key, (reasons.get(key) ?? 0) + 1);
  if (scan.twins) reasons.set("twins", (reasons.get("twins") ?? 0) + 1);
  if (scan.unresolved) {
    count.asked++;
    return;
  }
  for (const name of opened) {
    if (scan.entries.has(realpathSync(resolve(cwd, name)))) continue;
    count.missed++;
    process.stdout.write(`missed ${name} of ${source}\n`);
  }
}

try {
  for (const [i, name] of files.entries()) {
    if (!values.headers) await compare(join(folder, name));
    else {
      const source = join(work, `t${i}.${values.compiler.includes("+") ? "cpp" : "c"}`);
      writeFileSync(source, `#include "${relative(work, resolve(folder, name))}"\n`);
      await compare(source);
    }
  }
} finally {
  rmSync(work, { recursive: true, force: true });
  await processes.close();
}
process.stdout.write(`${JSON.stringify({ ...count, seen: Object.fromEntries(reasons) })}\n`);
process.exitCode = count.missed > 0 ? 1 : 0;
