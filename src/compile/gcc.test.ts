import { chmodSync, mkdirSync, symlinkSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { familyOf } from "./gcc-verdict.ts";
import {
  baseEnv,
  createGccWorld,
  findCompilers,
  type GccWorld,
  readable,
  runHere,
} from "./gcc-world.contract.ts";
import type { Invocation } from "./plan.ts";
import { canStage } from "./staged-root.contract.ts";

const compilers = findCompilers();
if (!canStage) console.warn("bwrap does not work here: byte identity is not tested");

let world: GccWorld;
let folder = "";

beforeAll(() => {
  world = createGccWorld();
  folder = world.folder;
  writeProject();
});
afterAll(() => world.close());

/** One small project with everything that makes include paths hard. */
function writeProject(): void {
  const { write } = world;
  const body =
    '#include "local.h"\n#include <lib/api.h>\nint twice(int n) { return n * FACTOR; }\n';
  write("src/main.c", `#include <stdio.h>\n${body}int unused(void) { int lost = 1; return 0; }\n`);
  write("src/main.cpp", `#include <cstddef>\n${body}`);
  write("src/heavy.cpp", `#include <vector>\n#include <string>\n${body}`);
  write("src/local.h", '#pragma once\n#include "../shared/../shared/deep.h"\n');
  write("shared/deep.h", "#define FACTOR 2\n");
  write("include/lib/api.h", '#include "detail.h"\nint twice(int n);\n');
  write("include/lib/detail.h", "#if __has_include(<lib/extra.h>)\n#define EXTRA 1\n#endif\n");
  write("with space/quote.h", "#define QUOTED 1\n");
  write("src/spaced name.c", '#include "quote.h"\nint q = QUOTED;\n');
  write("build/gen/generated.h", "#define GENERATED 7\n");
  write("src/gen.c", "#include <generated.h>\nint g = GENERATED;\n");
  write("src/computed.c", '#define H "local.h"\n#define G(x) x\n#include G(H)\nint c = FACTOR;\n');
  write("src/broken.c", "int f( { return 1; }\n");
  write("src/warn.c", "int main(void) { int x = 1; return y_undefined(); }\n");
  write("src/time.c", "const char *t = __DATE__ __TIME__;\n");
  write(
    "src/arch.c",
    "float dot(const float *a, const float *b, int n) { float s = 0; for (int i = 0; i < n; i++) s += a[i] * b[i]; return s; }\n",
  );
  write("src/pre.h", "#define PRE 3\n");
  write("args.rsp", `-I"${folder}/include" '-DNAME="a b"' -O1`);
  mkdirSync(join(folder, "out/sub"), { recursive: true });
  symlinkSync("../include", join(folder, "src/linked"));
  symlinkSync("out", join(folder, "outlink"));
  symlinkSync(folder, join(folder, "self"));
  symlinkSync("main.c", join(folder, "src/alias.c"));
}

interface Case {
  readonly name: string;
  readonly args: string | readonly string[];
  readonly cwd?: string;
  readonly env?: Readonly<Record<string, string>>;
  readonly only?: RegExp;
}

/** `$F` is the project's folder and `$S` a source in the compiler's language. */
const identical: readonly Case[] = [
  { name: "nothing special", args: "-c $S -I../include -o ../out/a.o" },
  {
    name: "the standard library",
    args: "-g -c heavy.cpp -I../include -o ../out/a.o -MD",
    only: /\+\+/,
  },
  { name: "debug information", args: "-g -O2 -c $S -I../include -o ../out/a.o" },
  { name: "absolute paths", args: "-g -c $F/src/$S -I$F/include -o $F/out/abs.o" },
  {
    name: "a dependency file",
    args: "-c $S -I../include -MD -MF ../out/x.d -MT t -MP -o ../out/a.o",
  },
  {
    name: "a dependency file without system headers",
    args: "-MMD -c $S -I../include -o ../out/a.o",
  },
  {
    name: "a dependency file from -Wp",
    args: "-Wp,-MMD,../out/.a.o.d -c $S -I../include -o ../out/a.o",
  },
  { name: "warnings", args: "-Wall -Wextra -c $S -I../include -o ../out/a.o" },
  {
    name: "warnings in colour",
    args: "-Wall -Wextra -fdiagnostics-color=always -c warn.c -o ../out/a.o",
    only: /^(?:gcc|clang)$/,
  },
  {
    name: "warnings that are errors",
    args: "-Wall -Werror -Wunused-variable -c main.c -I../include -o ../out/a.o",
    only: /^(?:gcc|clang)$/,
  },
  { name: "a syntax error", args: "-c broken.c -o ../out/a.o" },
  {
    name: "position independence and defines",
    args: ["-fPIC", "-DX=1", '-DS="a b"', "-c", "$S", "-I../include", "-o", "../out/a.o"],
  },
  { name: "a forced include", args: "-include pre.h -c $S -I../include -o ../out/a.o" },
  {
    name: "a source and folders with spaces",
    args: ["-c", "spaced name.c", "-I../with space", "-g", "-o", "../out/sp ace.o", "-MD"],
  },
  {
    name: "-iquote, -isystem and -idirafter",
    args: "-c $S -iquote ../shared -isystem ../include -idirafter ../with -o ../out/a.o",
  },
  { name: "a folder behind a link", args: "-g -c $S -Ilinked -o ../out/a.o -MD" },
  {
    name: "a source behind a link",
    args: "-g -c alias.c -I../include -o ../out/a.o -MD",
    only: /^(?:gcc|clang)$/,
  },
  { name: "an output behind a link", args: "-c $S -I../include -o ../outlink/sub/a.o -MD" },
  { name: "an object beside its source", args: "-c $S -Ilinked" },
  { name: "a generated header", args: "-c ../src/gen.c -I gen -o gen.o", cwd: "build" },
  {
    name: "include folders that do not exist",
    args: "-Wmissing-include-dirs -c $S -I../include -Inowhere -I../empty -o ../out/a.o",
  },
  { name: "a response file", args: "-c $S @../args.rsp -o ../out/a.o" },
  { name: "split debug information", args: "-g -gsplit-dwarf -c $S -I../include -o ../out/a.o" },
  {
    name: "coverage",
    args: "--coverage -frandom-seed=1 -c $S -I../include -o ../out/a.o",
    only: /clang/,
  },
  { name: "a computed include", args: "-c computed.c -o ../out/a.o -MD" },
  {
    name: "a working directory behind a link",
    args: "-g -c $S -I../include -o ../out/a.o",
    cwd: "self/src",
    env: { PWD: "$F/self/src" },
  },
  {
    name: "folders from the environment",
    args: "-c $S -o ../out/a.o -MD",
    env: { CPATH: "../include" },
  },
  {
    name: "a fixed time",
    args: "-c time.c -o ../out/a.o",
    env: { SOURCE_DATE_EPOCH: "1000000000" },
    only: /^(?:gcc|g\+\+)$/,
  },
  {
    name: "the plain C locale",
    args: "-Wall -c main.c -I../include -o ../out/a.o",
    env: { LC_ALL: "C" },
    only: /^gcc$/,
  },
  {
    name: "a locale that is not installed",
    args: "-Wall -c warn.c -o ../out/a.o",
    env: { LC_ALL: "xx_XX.UTF-8" },
  },
  {
    name: "this machine's own instructions",
    args: "-O3 -march=native -c arch.c -o ../out/a.o",
    only: /^(?:gcc|g\+\+)$/,
  },
  {
    name: "recorded switches",
    args: "-O2 -g -grecord-gcc-switches -frecord-gcc-switches -c $S -I../include -o ../out/a.o",
    only: /^(?:gcc|g\+\+)$/,
  },
  { name: "sanitizers", args: "-fsanitize=address,undefined -g -c $S -I../include -o ../out/a.o" },
  { name: "an explicit language", args: "-x c++ -std=c++17 -c main.c -I../include -o ../out/a.o" },
  {
    name: "warnings about flags for the linker",
    args: "-c $S -I../include -lm -L. -Wl,-z,now -o ../out/a.o",
  },
];

function invocation(compiler: string, given: Case): Invocation {
  const source = /\+\+$/.test(compiler) ? "main.cpp" : "main.c";
  const words = typeof given.args === "string" ? given.args.split(" ") : given.args;
  const fill = (text: string): string => text.replace("$F", folder).replace("$S", source);
  const env = Object.entries(given.env ?? {}).map(([name, value]) => [name, fill(value)]);
  return world.invocation(compiler, words.map(fill), given.cwd ?? "src", Object.fromEntries(env));
}

describe.skipIf(!canStage).each(compilers)(
  "elsewhere, $name gives the same bytes with",
  ({ name, path }) => {
    const fitting = identical.filter(({ only }) => only === undefined || only.test(name));
    test.each(fitting)("$name", async (given) => {
      const asked = invocation(path, given);
      const { spec } = await world.mustPlan(asked);
      const here = runHere(asked, spec.outputPaths);
      const there = world.stage.run(spec);
      expect(readable(there)).toEqual(readable(here));
      // A case that makes no object must be one that fails.
      expect(here.outputs.size > 0).toBe(here.exitCode === 0);
    });
  },
);

describe("a compile stays here", () => {
  const gcc = compilers[0]?.path ?? "";
  const reasonFor = async (some: Partial<Invocation>): Promise<string> => {
    const cwd = join(folder, "src");
    const planned = await world.plan({
      compiler: gcc,
      args: [],
      cwd,
      env: baseEnv,
      umask: 0,
      ...some,
    });
    return planned.at === "here" ? planned.reason : "goes";
  };
  const args = (text: string): readonly string[] => text.split(" ");

  test.each([
    ["-c time.c -o ../out/a.o", "time-macro"],
    ["-c main.c -DNOW=__DATE__ -I../include -o ../out/a.o", "time-macro"],
    ["-c main.c -I../include -o /dev/null", "output-special"],
    ["-c main.c -I../include -o ../outlink", "output-special"],
    ["-c main.c -I../include -o ../nowhere/a.o", "output-folder"],
    ["-c none.c -o ../out/a.o", "cannot-plan io"],
    ["-c main.c -include none.h -o ../out/a.o", "cannot-plan io"],
    ["-c main.c -include /dev/null -o ../out/a.o", "cannot-plan unsupported"],
    ["-c main.c @none.rsp", "cannot-plan io"],
    ["-c main.c -I pre.h -o ../out/a.o", "cannot-plan unsupported"],
    ["-c main.c -fno-such-thing=/x -o ../out/a.o", "unknown-flag -fno-such-thing=/x"],
    // Debug information would name the options in another order.
    ["-O3 -march=native -g -c arch.c -o ../out/a.o", "march-native"],
    ["main.c -o prog", "no-c-flag"],
    ["-c \ufffd.c", "not-utf8"],
    [`-c main.c -D${"x".repeat(130_000)}`, "too-long"],
  ])("%s", async (text, reason) => {
    expect(await reasonFor({ args: args(text) })).toBe(reason);
  });

  test.each([
    ["LD_PRELOAD", "environment LD_PRELOAD"],
    ["COMPILER_PATH", "environment COMPILER_PATH"],
    ["DEPENDENCIES_OUTPUT", "environment DEPENDENCIES_OUTPUT"],
    ["LC_ALL", "locale"],
    ["LOCPATH", "locale"],
  ])("with %s set to something strange", async (name, reason) => {
    const env = { ...baseEnv, LC_CTYPE: "C", [name]: "strange" };
    expect(await reasonFor({ args: args("-c main.c -I../include"), env })).toBe(reason);
  });

  test("when the compiler is a wrapper or a script", async () => {
    const { write } = world;
    write("bin/ccache", "#!/bin/sh\n");
    write("bin/gcc", "#!/bin/sh\nexec /usr/bin/gcc $@\n");
    for (const name of ["ccache", "gcc"]) chmodSync(join(folder, "bin", name), 0o755);
    symlinkSync("ccache", join(folder, "bin/cc"));
    const given = args("-c main.c -I../include");
    expect(await reasonFor({ compiler: join(folder, "bin/cc"), args: given })).toBe(
      "compiler-unknown",
    );
    expect(await reasonFor({ compiler: join(folder, "bin/gcc"), args: given })).toBe(
      "cannot-plan unsupported",
    );
  });

  test.each([
    ["incbin", '#define F "x"\nasm(".incbin \\"" F "\\"");\n'],
    ["incbin", 'asm(R"(.incbin "x")");\n'],
    ["embed", "const char x[] = {\n#embed F\n};\n"],
    ["time-macro", "const char *t = __TIMESTAMP__;\n"],
    ["computed-has-include", "#define H <x.h>\n#if __has_include(H)\n#endif\n"],
    ["file-pragma", '#pragma GCC dependency "main.c"\n'],
    ["cannot-plan unsupported", "#define G(x) x\n#include G(<none.h>)\n"],
  ])("because of what its source says: %s", async (reason, text) => {
    world.write("src/odd.c", text);
    expect(await reasonFor({ args: args("-c odd.c") })).toBe(reason);
  });
});

test("the action is named by what decides it, and by nothing else", async () => {
  const gcc = compilers[0];
  if (gcc === undefined) return;
  const given = { name: "", args: "-c main.c -I../include -o ../out/a.o" };
  const { spec, kind, label } = await world.mustPlan(invocation(gcc.path, given));
  expect({ kind, label, cwd: spec.cwd, outputPaths: spec.outputPaths }).toEqual({
    kind: "c",
    label: "main.c",
    cwd: join(folder, "src"),
    outputPaths: [join(folder, "out/a.o")],
  });
  expect(spec.argv).toEqual([gcc.path, "-c", "main.c", "-I../include", "-o", "../out/a.o"]);
  expect(spec.platform).toEqual({ platform: "linux/test" });
  const env = { ...baseEnv, HOME: "/home/x", TERM: "dumb", USER: "x" };
  const again = await world.mustPlan({ ...invocation(gcc.path, given), env });
  expect(again.spec).toEqual(spec);
  const paths = spec.inputs.map(({ path }) => path);
  expect(paths.length).toBe(new Set(paths).size);
  expect(paths.filter((path) => !path.startsWith("/") || /\/\.?\.?(?:\/|$)/.test(path))).toEqual(
    [],
  );
});

test("a dependency file that names what was not sent is refused", async () => {
  const gcc = compilers[0];
  if (gcc === undefined) return;
  const given = { name: "", args: "-c main.c -I../include -MD -o ../out/a.o" };
  const { check, spec } = await world.mustPlan(invocation(gcc.path, given));
  const answer = (text: string | undefined) =>
    check?.(async (path) =>
      path === spec.outputPaths[1] && text !== undefined ? Buffer.from(text) : undefined,
    );
  const api = join(folder, "include/lib/api.h").replaceAll(" ", "\\ ");
  for (const name of ["../include/lib/api.h", "../src/linked/lib/api.h", api, "linked/lib/api.h"])
    await expect(answer(`a.o: main.c local.h \\\n ${name}\n`)).resolves.toBeUndefined();
  for (const text of [undefined, "", "a.o:\n", "a.o: main.c local.h", "no rule\n"])
    await expect(answer(text)).rejects.toMatchObject({ code: "malformed" });
  for (const name of ["broken.c", "none.h", "none/x.h", "/usr/include/none.h", "../src", folder])
    await expect(answer(`a.o: main.c ${name}\n`)).rejects.toMatchObject({
      code: "refused",
      message: expect.stringMatching(/^scanner-miss: .* names /),
    });
});

test.each([
  ["/usr/bin/x86_64-linux-gnu-gcc-12", "gcc"],
  ["/opt/arm/bin/arm-none-eabi-g++", "gcc"],
  ["/usr/lib/llvm-14/bin/clang", "clang"],
  ["/usr/bin/clang++-19", "clang"],
  ["/usr/bin/cc", "gcc"],
  ["/usr/bin/c++", "gcc"],
  ["/usr/bin/x86_64-linux-gnu-g++-12", "gcc"],
  ["/usr/bin/aarch64-linux-gnu-clang-19", "clang"],
  ["/usr/bin/ccache", undefined],
  ["/usr/bin/python3", undefined],
  ["/usr/bin/cc1", undefined],
  ["/usr/bin/c99", undefined],
  ["/usr/bin/c89-gcc", undefined],
])("%s is of the family %s", (path, family) => {
  expect(familyOf(path)).toBe(family);
});
