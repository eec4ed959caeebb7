/**
 * Projects to build: leveldb's own C++ sources where the package registry can be reached, generated
 * C++ where not, and a small C project that is the worst case for whatever costs something per
 * compile. Each has a plain makefile with one rule, whose objects go to out/.
 */
import { mkdir, readdir, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { timed } from "./command.ts";

export interface Project {
  readonly name: string;
  readonly dir: string;
  /** Relative to `dir`. */
  readonly sources: readonly string[];
  /** As the makefile compiles them, without -c, source and output. */
  readonly compile: readonly string[];
  /** Removes what a build made. */
  clean(): Promise<void>;
}

/** Nothing that any of them needs is in there twice: a cold build is one after `clean`. */
async function project(
  name: string,
  dir: string,
  sources: readonly string[],
  compile: readonly string[],
): Promise<Project> {
  const [compiler = "", ...flags] = compile;
  const variable = compiler === "g++" ? "CXX" : "CC";
  const lines = [
    `${variable} = ${compiler}`,
    `FLAGS = ${flags.join(" ")}`,
    `OBJECTS = ${sources.map((source) => `out/${source}.o`).join(" ")}`,
    "all: $(OBJECTS)",
    "out/%.o: %",
    "\t@mkdir -p $(@D)",
    `\t@$(${variable}) $(FLAGS) -c $< -o $@`,
    "",
  ];
  await writeFile(join(dir, "Makefile"), lines.join("\n"));
  const clean = () => rm(join(dir, "out"), { recursive: true, force: true });
  await clean();
  return { name, dir, sources, compile, clean };
}

const registryMaxMs = 30_000;

/** At most `sourcesMax` of the 38 sources of leveldb 1.20, the largest first. */
export async function cxxProject(
  folder: string,
  level: "-O0" | "-O2",
  sourcesMax: number,
  signal: AbortSignal,
): Promise<Project> {
  const dir = join(folder, `cxx${level}`);
  await mkdir(dir, { recursive: true });
  const source = await unpackLeveldb(dir, signal);
  if (source === undefined) return generatedCxx(dir, level, sourcesMax);
  const found: string[] = ["port/port_posix.cc"];
  for (const part of ["db", "table", "util"]) {
    for (const name of await readdir(join(source, part))) {
      // c.cc needs a patch that the package does not apply.
      if (!name.endsWith(".cc") || /_(test|bench)\.cc$|^test|^c\.cc$|^leveldbutil/.test(name))
        continue;
      found.push(`${part}/${name}`);
    }
  }
  const chosen = found.sort().filter((_, at) => at % Math.ceil(found.length / sourcesMax) === 0);
  const flags = [
    "-std=c++11",
    "-pthread",
    "-DOS_LINUX",
    "-DLEVELDB_PLATFORM_POSIX",
    "-I.",
    "-Iinclude",
    level,
  ];
  const name = `leveldb, ${chosen.length} C++ files ${level}`;
  return project(name, source, chosen, ["g++", ...flags]);
}

async function unpackLeveldb(dir: string, signal: AbortSignal): Promise<string | undefined> {
  const within = AbortSignal.any([signal, AbortSignal.timeout(registryMaxMs)]);
  try {
    const { stdout } = await timed(
      ["npm", "pack", "--silent", "--prefer-offline", "classic-level@3.0.0"],
      { cwd: dir },
      within,
    );
    await timed(["tar", "xzf", stdout.trim()], { cwd: dir }, within);
    return join(dir, "package/deps/leveldb/leveldb-1.20");
  } catch (error) {
    if (signal.aborted) throw error;
    return undefined;
  }
}

async function generatedCxx(dir: string, level: string, count: number): Promise<Project> {
  const sources: string[] = [];
  for (let at = 0; at < count; at += 1) {
    sources.push(`part${at}.cc`);
    const text = `#include <algorithm>
#include <functional>
#include <iostream>
#include <map>
#include <memory>
#include <sstream>
#include <string>
#include <unordered_map>
#include <vector>
struct Record${at} { std::string name; std::vector<int> values; };
std::string part${at}(const std::vector<Record${at}>& records) {
  std::map<std::string, std::unordered_map<int, std::size_t>> seen;
  for (const auto& record : records)
    for (int value : record.values) ++seen[record.name][value * ${at + 1}];
  std::vector<std::pair<std::string, std::size_t>> sums;
  for (const auto& [name, counts] : seen) sums.emplace_back(name, counts.size());
  std::sort(sums.begin(), sums.end(), [](auto& a, auto& b) { return a.second > b.second; });
  std::ostringstream out;
  for (const auto& [name, sum] : sums) out << name << ' ' << sum << '\\n';
  return out.str();
}
`;
    await writeFile(join(dir, `part${at}.cc`), text);
  }
  const name = `generated, ${count} C++ files ${level} (the package registry was not reached)`;
  return project(name, dir, sources, ["g++", "-std=c++17", level]);
}

/** Files that compile in next to no time: the most that a compile's fixed cost can weigh. */
export async function smallC(folder: string, count: number): Promise<Project> {
  const dir = join(folder, "small-c");
  await mkdir(dir, { recursive: true });
  const sources: string[] = [];
  for (let at = 0; at < count; at += 1) {
    sources.push(`f${at}.c`);
    await writeFile(
      join(dir, `f${at}.c`),
      `#include <stdio.h>\nint f${at}(int x) { return printf("%d\\n", x + ${at}); }\n`,
    );
  }
  return project(`${count} trivial C files`, dir, sources, ["gcc", "-O1"]);
}
