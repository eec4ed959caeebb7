/** Byte identity of everything that is no plain compile of one C or C++ source. */
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import {
  createGccWorld,
  findCompilers,
  type GccWorld,
  readable,
  runHere,
} from "./gcc-world.contract.ts";
import { canStage } from "./staged-root.contract.ts";

const compilers = findCompilers();
if (!canStage) console.warn("bwrap does not work here: byte identity is not tested");
const gcc = compilers.find(({ name }) => name === "gcc");
const clang = compilers.find(({ name }) => name === "clang");

let world: GccWorld;

beforeAll(() => {
  world = createGccWorld();
  writeProject();
});
afterAll(() => world.close());

function writeProject(): void {
  const { write, folder } = world;
  const body = "int twice(int n) { return n * FACTOR; }\n";
  for (const name of ["one", "two"]) {
    write(`src/${name}.c`, `#include "f.h"\n${body.replace("twice", name)}`);
    write(`src/${name}.cpp`, `#include "f.h"\n${body.replace("twice", name)}`);
  }
  write("src/f.h", "#pragma once\n#define FACTOR 2\n");
  write("src/same.c", '#include "f.h"\n#include <stdio.h>\nvoid hello(void) { puts("x"); }\n');
  write("src/plain.s", '.text\n.globl k\nk: nop\n.include "part.inc"\n.incbin "data.bin"\n');
  write("src/cooked.S", '#include "f.h"\n.text\n.globl k\nk: .long FACTOR\n.incbin "data.bin"\n');
  write("inc/part.inc", '.long 7\n.include "deep.inc"\n');
  write("inc/deep.inc", ".long 8\n");
  write("inc/data.bin", "DATA");
  write(
    "src/inline.c",
    'asm(".section .rodata\\n.globl d\\nd: .incbin \\"data.bin\\"\\n.include \\"deep.inc\\"\\n.text");\n',
  );
  write("src/macro.s", '.macro get file\n.incbin "\\file"\n.endm\nget data.bin\n');
  write("src/hidden.s", '.macro get how, file\n.inc\\how "\\file"\n.endm\nget bin, data.bin\n');
  write("src/computed.c", "#include AT_COMMAND\nint c = FACTOR;\n");
  write("src/nested.c", "#define CAT(a, b) a##b\n#include CAT(A, T)\nint c = FACTOR;\n");
  write("rsp/outer.rsp", `@${folder.replaceAll(" ", "\\ ")}/rsp/inner.rsp '-DX="q r"'`);
  write("rsp/inner.rsp", '-O1\n-DY=1 "-I../inc"');
  mkdirSync(join(folder, "out"));
}

interface Case {
  readonly name: string;
  readonly args: string;
  readonly only?: RegExp;
  /** Outputs that a run here writes, by their names. */
  readonly makes: readonly string[];
}

const objects: readonly Case[] = [
  { name: "two C sources", args: "-g -c one.c two.c", makes: ["one.o", "two.o"] },
  {
    name: "two C++ sources with all that goes with them",
    args: "-g -gsplit-dwarf -frandom-seed=1 --coverage -MD -c one.cpp two.cpp",
    makes: ["one.d", "one.dwo", "one.gcno", "one.o", "two.d", "two.dwo", "two.gcno", "two.o"],
  },
  {
    name: "an assembler text",
    args: "-S -O2 one.c -o ../out/one.s -MD",
    makes: ["one.d", "one.s"],
  },
  { name: "an assembler text without -o", args: "-S one.c", makes: ["one.s"] },
  {
    name: "an assembler text with coverage",
    args: "-S --coverage -frandom-seed=1 one.c -o ../out/one.s",
    makes: ["one.gcno", "one.s"],
  },
  { name: "a preprocessed text", args: "-E same.c -o ../out/same.i", makes: ["same.i"] },
  {
    name: "a preprocessed text with its dependency file",
    args: "-E -P -C -MMD same.c -o ../out/same.i",
    makes: ["same.d", "same.i"],
  },
  { name: "all macros", args: "-E -dM same.c -o ../out/same.i", makes: ["same.i"] },
  {
    name: "an assembler source with what it includes",
    args: "-c plain.s -I../inc -g -o ../out/plain.o",
    makes: ["plain.o"],
  },
  {
    name: "an assembler source through the preprocessor",
    args: "-c cooked.S -I../inc -g -MD -o ../out/cooked.o",
    makes: ["cooked.d", "cooked.o"],
  },
  {
    name: "an assembler source by -x",
    args: "-c -x assembler-with-cpp cooked.S -I../inc -o ../out/cooked.o",
    makes: ["cooked.o"],
  },
  {
    name: "a preprocessed assembler source",
    args: "-E cooked.S -I../inc -o ../out/cooked.s",
    makes: ["cooked.s"],
  },
  {
    name: "files that inline assembly reads",
    args: "-c inline.c -I../inc -o ../out/inline.o",
    makes: ["inline.o"],
  },
  {
    name: "a seeded object for optimisation at link time",
    args: "-O2 -g -flto -frandom-seed=one -c one.c -o ../out/one.o -MD",
    makes: ["one.d", "one.o"],
  },
  {
    name: "an object for optimisation at link time",
    args: "-O2 -g -flto=thin -fsplit-lto-unit -c one.c -o ../out/one.o",
    makes: ["one.o"],
    only: /clang/,
  },
  {
    name: "instrumentation",
    args: "-O2 -fprofile-instr-generate -fcoverage-mapping -c one.c -o ../out/one.o",
    makes: ["one.o"],
    only: /clang/,
  },
  {
    name: "coverage with a folder for its counts",
    args: "--coverage -fprofile-dir=/counts -fprofile-update=atomic -frandom-seed=1 -c one.c -o ../out/x.one.o",
    makes: ["x.one.gcno", "x.one.o"],
  },
  {
    name: "-x none and -pipe",
    args: "-x c -x none -pipe -c one.c -o ../out/one.o",
    makes: ["one.o"],
    only: /^(?:gcc|clang)$/,
  },
  {
    name: "-imacros and -include",
    args: "-imacros f.h -include same.c -c one.c -o../out/one.o",
    makes: ["one.o"],
    only: /^(?:gcc|clang)$/,
  },
  { name: "response files in each other", args: "-c one.c @../rsp/outer.rsp", makes: ["one.o"] },
];

describe.skipIf(!canStage).each(compilers)(
  "elsewhere, $name gives the same bytes for",
  ({ name, path }) => {
    const fitting = objects.filter(({ only }) => only === undefined || only.test(name));
    test.each(fitting)("$name", async ({ args, makes }) => {
      const asked = world.invocation(path, args.split(" "), "src");
      const { spec } = await world.mustPlan(asked);
      const before = new Set(filesOf(world.folder));
      const here = runHere(asked, spec.outputPaths);
      expect({ exitCode: here.exitCode, stderr: here.stderr }).toMatchObject({ exitCode: 0 });
      const names = [...here.outputs.keys()].map((path) => path.slice(path.lastIndexOf("/") + 1));
      expect(names.sort()).toEqual(makes);
      // Whatever else it wrote would be lost elsewhere.
      expect(filesOf(world.folder).filter((path) => !before.has(path))).toEqual([]);
      expect(readable(world.stage.run(spec))).toEqual(readable(here));
    });
  },
);

function filesOf(folder: string): readonly string[] {
  return readdirSync(folder, { recursive: true, encoding: "utf8" });
}

describe.skipIf(gcc === undefined)("assembler sources", () => {
  const args = (source: string): readonly string[] => [
    "-c",
    source,
    "-I../inc",
    "-o",
    "../out/m.o",
  ];
  const planOf = (source: string) =>
    world.plan(world.invocation(gcc?.path ?? "", args(source), "src"));

  test("are kept only after a run that saw nothing but the inputs", async () => {
    expect(await planOf("plain.s")).toMatchObject({ at: "anywhere", sandboxed: true });
    const plain = await planOf("one.c");
    expect(plain).toMatchObject({ at: "anywhere" });
    expect(plain).not.toHaveProperty("sandboxed");
  });

  test("that read what only the assembler works out stay here", async () => {
    expect(await planOf("macro.s")).toMatchObject({ at: "here", reason: "incbin" });
  });

  test.skipIf(!canStage)("whose macros make up a directive fail for want of the file", async () => {
    const planned = await planOf("hidden.s");
    if (planned.at === "here") throw new Error(planned.reason);
    expect(planned.sandboxed).toBe(true);
    const ran = world.stage.run(planned.spec);
    expect({ exitCode: ran.exitCode, outputs: ran.outputs.size }).toEqual({
      exitCode: 1,
      outputs: 0,
    });
  });
});

describe.skipIf(gcc === undefined || !canStage)("a precompiled header of gcc", () => {
  const path = gcc?.path ?? "";
  const header = (): string => join(world.folder, "pch/pre.h");
  const make = (...flags: string[]) =>
    spawnSync(path, ["-x", "c-header", ...flags, header(), "-o", `${header()}.gch`]);

  test("is an input, and changes no byte of the object", async () => {
    world.write("pch/pre.h", "#include <stdio.h>\n#define FACTOR 3\n");
    world.write("pch/use.c", '#include "pre.h"\nint use(int n) { return n * FACTOR; }\n');
    const args = ["-g", "-O2", "-Winvalid-pch", "-c", "use.c", "-o", "use.o", "-MD"];
    const asked = world.invocation(path, args, "pch");
    const plain = await world.mustPlan(asked);
    const without = runHere(asked, plain.spec.outputPaths);
    expect(make("-g", "-O2").status).toBe(0);
    const { spec, check } = await world.mustPlan(asked);
    expect(spec.inputs.map(({ path }) => path)).toContain(`${header()}.gch`);
    const here = runHere(asked, spec.outputPaths);
    const there = world.stage.run(spec);
    expect(readable(there)).toEqual(readable(here));
    const object = join(world.folder, "pch/use.o");
    expect(here.outputs.get(object)).toEqual(without.outputs.get(object));
    await expect(check?.(async (path) => here.outputs.get(path))).resolves.toBeUndefined();
    // It was really used: the header itself is not among what was read.
    const dependencies = here.outputs.get(join(world.folder, "pch/use.d"))?.toString();
    expect(dependencies).not.toContain("stdio.h");
  });

  test("that does not fit the options is passed over alike", async () => {
    expect(make("-O0", "-DOTHER").status).toBe(0);
    const args = ["-O2", "-DFACTORS", "-Winvalid-pch", "-c", "use.c", "-o", "use.o"];
    const asked = world.invocation(path, args, "pch");
    const { spec } = await world.mustPlan(asked);
    const here = runHere(asked, spec.outputPaths);
    expect(here.stderr).toContain("pre.h.gch");
    expect(readable(world.stage.run(spec))).toEqual(readable(here));
  });

  test("is used where it is forced", async () => {
    expect(make("-O2").status).toBe(0);
    const args = ["-O2", "-Winvalid-pch", "-include", "pre.h", "-c", "../src/one.c", "-o", "use.o"];
    const asked = world.invocation(path, args, "pch");
    const { spec } = await world.mustPlan(asked);
    const here = runHere(asked, spec.outputPaths);
    expect(here.stderr).toContain("FACTOR");
    expect(readable(world.stage.run(spec))).toEqual(readable(here));
  });

  test("made anew is another action", async () => {
    const args = ["-O2", "-c", "use.c", "-o", "use.o"];
    const asked = world.invocation(path, args, "pch");
    const before = await world.mustPlan(asked);
    // No two runs give the same bytes, which is why making one stays here.
    expect(make("-O2").status).toBe(0);
    expect((await world.mustPlan(asked)).spec.inputs).not.toEqual(before.spec.inputs);
    const creation = world.invocation(path, ["-O2", "-c", "pre.h"], "pch");
    expect(await world.plan(creation)).toMatchObject({ at: "here", reason: "pch-create" });
  });

  test("with a macro that names a header stays here", async () => {
    world.write("pch/named.c", '#include "pre.h"\n#define H "pre.h"\n#include H\n');
    const asked = world.invocation(path, ["-c", "named.c"], "pch");
    expect(await world.plan(asked)).toMatchObject({ at: "here", reason: "pch-use" });
  });

  test("of another compiler, or a folder of several, stays here", async () => {
    const use = ["-c", "use.c", "-include", "pre.h"];
    if (clang !== undefined)
      expect(await world.plan(world.invocation(clang.path, use, "pch"))).toMatchObject({
        reason: "pch-use",
      });
    rmSync(`${header()}.gch`);
    mkdirSync(`${header()}.gch`);
    expect(await world.plan(world.invocation(path, use, "pch"))).toMatchObject({
      reason: "pch-use",
    });
  });
});

describe.skipIf(gcc === undefined)("a header that a macro of the command line names", () => {
  const path = gcc?.path ?? "";

  test.skipIf(!canStage)("is found by asking the compiler, and gives the same bytes", async () => {
    for (const args of [
      ["-DAT_COMMAND=<f.h>", "-I../late", "-I.", "-c", "computed.c", "-o", "../out/c.o", "-MD"],
      ["-DAT=<f.h>", "-I../late", "-I.", "-c", "nested.c", "-o", "../out/c.o", "-MD"],
    ]) {
      world.write("late/other.h", "");
      const asked = world.invocation(path, args, "src");
      const { spec } = await world.mustPlan(asked);
      expect(spec.inputs.map(({ path }) => path)).toContain(join(world.folder, "src/f.h"));
      expect(readable(world.stage.run(spec))).toEqual(readable(runHere(asked, spec.outputPaths)));
    }
  });

  test("is a new plan once another file would be found for the macro's word", async () => {
    const { factsHold } = await import("../exec/facts.ts");
    const args = ["-DAT_COMMAND=<sub/g.h>", "-I../late", "-I../early", "-c", "computed.c"];
    world.write("early/sub/g.h", "#define FACTOR 5\n");
    const asked = world.invocation(path, args, "src");
    // What was written this very moment is not believed to be what the compiler saw.
    await new Promise((resolve) => setTimeout(resolve, 50));
    const { facts } = await world.mustPlan(asked);
    expect(factsHold(facts, world.view.look())).toBe(true);
    world.write("late/sub/g.h", "#define FACTOR 6\n");
    expect(factsHold(facts, world.view.look())).toBe(false);
  });
});

test("the project's folder holds nothing that a case forgot", () => {
  expect(existsSync(join(world.folder, "src/one.o"))).toBe(false);
});
