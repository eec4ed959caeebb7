/**
 * A make project made up for the run: C and C++ units, one header that all of them include, and what
 * plain make gives for each of its variants.
 */
import { mkdir, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { SeededRandom } from "../../../src/sim/random.ts";
import { snapshot } from "../files.ts";
import { runCommand } from "./command.ts";

export interface Project {
  readonly folder: string;
  readonly variants: number;
  /** Writes the sources of one variant and removes what was built. */
  prepare(variant: number): Promise<void>;
  /** What is wrong with what was built: outputs that plain make would not have written, or has. */
  wrong(variant: number): Promise<readonly string[]>;
}

export interface ProjectOptions {
  readonly cUnits: number;
  readonly cxxUnits: number;
  readonly variants: number;
}

const outputs = /\.o$|^program$/;
const plainMaxMs = 300_000;

export async function createProject(
  folder: string,
  random: SeededRandom,
  options: ProjectOptions,
  signal: AbortSignal,
): Promise<Project> {
  const { cUnits, cxxUnits, variants } = options;
  await mkdir(folder, { recursive: true });
  const names: string[] = [];
  for (let at = 0; at < cUnits; at += 1) {
    names.push(`c${at}`);
    await writeFile(join(folder, `c${at}.c`), cUnit(at, random));
  }
  for (let at = 0; at < cxxUnits; at += 1) {
    names.push(`x${at}`);
    await writeFile(join(folder, `x${at}.cc`), cxxUnit(at, random));
  }
  await writeFile(join(folder, "main.c"), mainUnit(cUnits, cxxUnits));
  await writeFile(join(folder, "Makefile"), makefile([...names, "main"]));

  async function prepare(variant: number): Promise<void> {
    const built = [...(await snapshot(folder, outputs)).keys()];
    for (const name of built) await rm(join(folder, name), { force: true });
    await writeFile(join(folder, "variant.h"), `#define VARIANT ${variant}\n`);
  }

  const plain: ReadonlyMap<string, Buffer>[] = [];
  for (let variant = 0; variant < variants; variant += 1) {
    await prepare(variant);
    const ran = await runCommand(
      ["make", "-s", "-j2"],
      { cwd: folder, timeoutMs: plainMaxMs },
      signal,
    );
    signal.throwIfAborted();
    if (ran.exitCode !== 0) throw new Error(`plain make failed: ${ran.stderr}`);
    plain.push(await snapshot(folder, outputs));
  }
  return {
    folder,
    variants,
    prepare,
    async wrong(variant) {
      const expected = plain[variant] ?? new Map<string, Buffer>();
      const found = await snapshot(folder, outputs);
      const names = new Set([...expected.keys(), ...found.keys()]);
      return [...names].flatMap((name) => {
        const want = expected.get(name);
        const have = found.get(name);
        if (want === undefined) return [`${name} should not be there`];
        if (have === undefined) return [`${name} is missing`];
        return have.equals(want) ? [] : [`${name} differs`];
      });
    },
  };
}

function makefile(names: readonly string[]): string {
  const objects = names.map((name) => `${name}.o`).join(" ");
  return [
    `program: ${objects}`,
    `\tg++ -o program ${objects}`,
    "%.o: %.c variant.h",
    "\tgcc -g -O1 -Wall -c $< -o $@",
    "%.o: %.cc variant.h",
    "\tg++ -g -O1 -Wall -c $< -o $@",
    "",
  ].join("\n");
}

function cUnit(at: number, random: SeededRandom): string {
  const steps = Array.from(
    { length: 4 + random.below(20) },
    (_, step) => `  sum = sum * ${3 + random.below(97)}u + (x >> ${step % 7});`,
  );
  return [
    "#include <stdio.h>",
    '#include "variant.h"',
    `unsigned c${at}(unsigned x) {`,
    `  unsigned sum = VARIANT + ${random.below(1000)}u;`,
    ...steps,
    `  printf("c${at} %u\\n", sum);`,
    "  return sum;",
    "}",
    "",
  ].join("\n");
}

function cxxUnit(at: number, random: SeededRandom): string {
  return [
    "#include <map>",
    "#include <string>",
    "#include <vector>",
    '#include "variant.h"',
    `extern "C" unsigned x${at}(unsigned n) {`,
    "  std::map<std::string, std::vector<unsigned>> all;",
    `  for (unsigned i = 0; i < n + ${1 + random.below(50)}; ++i)`,
    `    all[std::to_string(i % ${2 + random.below(9)})].push_back(i * VARIANT);`,
    "  unsigned sum = 0;",
    "  for (const auto &[key, values] : all)",
    "    for (unsigned value : values) sum += value + key.size();",
    "  return sum;",
    "}",
    "",
  ].join("\n");
}

function mainUnit(cUnits: number, cxxUnits: number): string {
  const calls = [
    ...Array.from({ length: cUnits }, (_, at) => `c${at}`),
    ...Array.from({ length: cxxUnits }, (_, at) => `x${at}`),
  ];
  return [
    ...calls.map((name) => `unsigned ${name}(unsigned);`),
    "int main(void) {",
    `  return (int)(${calls.map((name) => `${name}(1)`).join(" + ")});`,
    "}",
    "",
  ].join("\n");
}
