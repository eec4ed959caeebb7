/** What comes from around a compile: variables, the compiler itself, names, the command line. */
import { spawnSync } from "node:child_process";
import {
  appendFileSync,
  copyFileSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  realpathSync,
  renameSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { basename, dirname, join } from "node:path";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { canTorture, createTorture, has, type Torture } from "./torture.contract.ts";

let on: Torture;
beforeAll(async () => {
  if (canTorture) on = await createTorture();
});
afterAll(() => on?.close());
afterEach(() => on?.startAnew());

const compilers = canTorture ? ["gcc", ...(has("clang") ? ["clang"] : [])] : [];

describe.each(compilers)("with %s,", (cc) => {
  test.each([
    ["CPATH", "c"],
    ["C_INCLUDE_PATH", "c"],
    ["CPLUS_INCLUDE_PATH", "c++"],
  ])("%s says where headers are", async (name, language) => {
    on.write("a.x", "#include <x.h>\nint x = X;\n");
    for (const n of [1, 2]) on.write(`${n}/x.h`, `#define X ${n}\n`);
    await on.settle();
    const line = `$CC -x ${language} -c a.x`;
    const of = (value: string) => ({ cc, env: { [name]: value } });
    const one = await on.miss(line, of("1"));
    const two = await on.miss(line, of("2:1"));
    expect(two.files["a.o"]).not.toBe(one.files["a.o"]);
    await on.hit(line, of("1"));
    // An empty element is the working directory.
    on.write("x.h", "#define X 3\n");
    await on.settle();
    const here = await on.miss(line, of(":1"));
    expect(here.files["a.o"]).not.toBe(one.files["a.o"]);
    await on.hit(line, of(":1"));
    await on.hit(line, of("2:1"));
    expect(await on.same(line, { cc })).toMatchObject({ code: 1, source: "here" });
  });

  test("the variable of the other language does not count", async () => {
    on.write("a.c", "#include <x.h>\nint x = X;\n");
    for (const n of [1, 2]) on.write(`${n}/x.h`, `#define X ${n}\n`);
    await on.settle();
    const of = (value: string) => ({ cc, env: { CPLUS_INCLUDE_PATH: value, CPATH: "1" } });
    await on.miss("$CC -c a.c", of("2"));
    await on.hit("$CC -c a.c", of("elsewhere"));
  });

  test("the language of messages", async () => {
    on.write("a.c", "int f(void) { int b; }\n");
    await on.settle();
    const line = "$CC -Wall -c a.c";
    const of = (env: Record<string, string>) => ({ cc, env });
    const utf8 = await on.miss(line, of({ LANG: "C.UTF-8" }));
    const ascii = await on.miss(line, of({ LC_ALL: "C" }));
    // GCC has other quotation marks in each.
    if (cc === "gcc") expect(ascii.stderr).not.toBe(utf8.stderr);
    expect((await on.hit(line, of({ LANG: "C.UTF-8" }))).stderr).toBe(utf8.stderr);
    expect((await on.hit(line, of({ LC_ALL: "C" }))).stderr).toBe(ascii.stderr);
    const other = await on.same(line, of({ LANG: "de_DE.UTF-8", LANGUAGE: "de" }));
    expect(other).toMatchObject({ code: 0, source: "here" });
  });

  test("variables that no compiler reads", async () => {
    on.write("a.c", "int x;\n");
    await on.settle();
    await on.miss("$CC -c a.c", { cc, env: { HOME: "/a", MAKEFLAGS: "-j2" } });
    await on.hit("$CC -c a.c", { cc, env: { HOME: "/b", MAKEFLAGS: "-j3", NEW: "1" } });
  });

  test("variables that have a compiler write elsewhere", async () => {
    on.write("a.c", "int x;\n");
    await on.settle();
    for (const _ of [1, 2]) {
      const asked = { cc, env: { DEPENDENCIES_OUTPUT: "deps" } };
      const left = await on.stays("environment DEPENDENCIES_OUTPUT", "$CC -c a.c", asked);
      if (cc === "gcc") expect(left.files.deps).toBeDefined();
    }
  });

  test("a response file changes, and the one it names", async () => {
    on.write("a.c", "int x = X;\n");
    on.write("a.rsp", "-DX=1 @b.rsp");
    on.write("b.rsp", '"a.c"');
    await on.settle();
    const line = "$CC -c @a.rsp -o a.o";
    const first = await on.miss(line, { cc });
    await on.hit(line, { cc });
    on.write("a.rsp", "-DX=2 @b.rsp");
    await on.settle();
    const second = await on.miss(line, { cc });
    expect(second.files["a.o"]).not.toBe(first.files["a.o"]);
    on.write("b.rsp", "a.c -DX=2 -UX -DX=3");
    await on.settle();
    await on.miss(line, { cc });
    on.write("a.rsp", "-DX=1 @b.rsp");
    on.write("b.rsp", '"a.c"');
    await on.hit(line, { cc });
  });

  test("everything is in a response file", async () => {
    on.write("a.c", "int x = X;\n");
    on.write("a.rsp", "-c a.c -DX=1 -o a.o");
    await on.settle();
    await on.miss("$CC @a.rsp", { cc });
    on.write("a.rsp", "-c a.c -DX=2 -o a.o");
    await on.settle();
    await on.miss("$CC @a.rsp", { cc });
    await on.hit("$CC @a.rsp", { cc });
  });

  test("names hold spaces, quotes, newlines and dollars", async () => {
    const name = "a 'b' \"c\"\nd $e \\f.c";
    on.write(name, "#include \"h i.h\"\n#include <j 'k'.h>\nint x = X;\nint f(void) { int b; }\n");
    on.write("h i.h", "#define X K\n");
    on.write("in \"c\"\nl/j 'k'.h", "#define K 1\n");
    await on.settle();
    const argv = ["-Wall", "-c", name, '-Iin "c"\nl', "-o", "o 'o'\n.o", '-DY="q \\" r"'];
    const first = await on.miss(argv, { cc });
    expect(Object.keys(first.files)).toEqual(["o 'o'\n.o"]);
    await on.hit(argv, { cc });
    on.write("in \"c\"\nl/j 'k'.h", "#define K 2\n");
    await on.settle();
    await on.miss(argv, { cc });
  });

  test.each([
    ["a source", `printf 'int x;' >"$ODD.c"; exec $CC -c "$ODD.c"`],
    ["an output", `exec $CC -c a.c -o "$ODD.o"`],
    ["a header's folder", `mkdir "$ODD"; echo >"$ODD/x.h"; exec $CC -include x.h -I"$ODD" -c a.c`],
    ["the working directory", `mkdir "$ODD"; cd "$ODD"; exec $CC -c ../a.c`],
    ["a macro", `exec $CC -c a.c -DX="$ODD"`],
  ])("%s has a name that is no UTF-8", async (_, script) => {
    on.write("a.c", "int x;\n");
    await on.settle();
    const line = `ODD="$(printf 'o\\377d')"; ${script}`;
    for (const __ of [1, 2]) await on.stays("not-utf8", line, { cc });
  });

  test("a header whose name is no UTF-8 is included", async () => {
    on.write("a.c", Buffer.from('#include "o\xffd.h"\nint x = X;\n', "latin1"));
    writeFileSync(Buffer.from(on.at("o\xffd.h"), "latin1"), "#define X 1\n");
    await on.settle();
    for (const _ of [1, 2]) await on.stays("not-utf8", "$CC -c a.c", { cc });
  });

  test("a hundred thousand arguments", async () => {
    on.write("a.c", "int x;\n");
    await on.settle();
    const argv = ["-c", "a.c", ...Array.from({ length: 100_000 }, () => "-w")];
    // GCC cannot start its own compiler with that many.
    const first = await on.same(argv, { cc });
    const second = await on.same(argv, { cc });
    const { code } = first;
    expect(first).toMatchObject({ source: "here", kept: code === 0 ? undefined : "exit-code 1" });
    expect(second).toMatchObject({ source: code === 0 ? "cached-here" : "here" });
  });

  test("a hundred thousand arguments that are too long for anybody else", async () => {
    on.write("a.c", "int x;\n");
    await on.settle();
    const argv = ["-c", "a.c", ...Array.from({ length: 100_000 }, (_, i) => `-DN${i}`)];
    await on.stays("too-long", argv, { cc });
  });

  test("the working directory was deleted", async () => {
    on.write("a.c", "int x;\n");
    await on.settle();
    const line = `F=$PWD; mkdir gone; cd gone; rmdir ../gone; exec $CC -c "$F/a.c" -o "$F/a.o"`;
    for (const _ of [1, 2]) {
      const made = await on.same(line, { cc, heard: false });
      expect(made.source).toBeUndefined();
    }
  });

  test("the working directory is reached by a link, and PWD says so", async () => {
    on.write("real/a.c", "int f(void) { return 1; }\n");
    symlinkSync("real", on.at("way"));
    await on.settle();
    const real = await on.miss("cd real; exec $CC -g -c a.c", { cc });
    const way = await on.miss("cd way; exec $CC -g -c a.c", { cc });
    expect(way.files["real/a.o"]).not.toBe(real.files["real/a.o"]);
    await on.hit("cd way; exec $CC -g -c a.c", { cc });
    await on.hit("cd real; exec $CC -g -c a.c", { cc });
  });
});

describe.skipIf(!canTorture)("a compiler that is upgraded in place,", () => {
  /** A GCC of its own that shares with the system's all but its driver and the compiler proper. */
  function install(): string {
    const system = dirname(spawnSync("gcc", ["-print-prog-name=cc1"]).stdout.toString().trim());
    const own = on.at(`gcc/lib/gcc/${basename(dirname(system))}/${basename(system)}`);
    mkdirSync(own, { recursive: true });
    mkdirSync(on.at("gcc/bin"));
    for (const name of readdirSync(system))
      if (name !== "cc1") symlinkSync(join(system, name), join(own, name));
    copyFileSync(join(system, "cc1"), join(own, "cc1"));
    copyFileSync(realpathSync("/usr/bin/gcc"), on.at("gcc/bin/gcc"));
    return join(own, "cc1");
  }

  /** The same size, the same time stamp, another word in every object. */
  function upgrade(path: string, how: "over" | "renamed"): void {
    const text = readFileSync(path, "latin1").replaceAll("GNU C17", "GNU C71");
    const bytes = Buffer.from(text, "latin1");
    writeFileSync(how === "over" ? path : `${path}.new`, bytes, { mode: 0o755 });
    if (how === "renamed") renameSync(`${path}.new`, path);
    utimesSync(path, 1e9, 1e9);
  }

  test.each(["over", "renamed"] as const)("%s, under the old time stamp", async (how) => {
    const proper = install();
    utimesSync(proper, 1e9, 1e9);
    on.write("a.c", "int f(void) { return 1; }\n");
    await on.settle();
    const line = 'exec $CC "$PWD/gcc/bin/gcc" -g -c a.c';
    // The debug information names the compiler.
    const before = await on.miss(line, { cc: "" });
    await on.hit(line, { cc: "" });
    upgrade(proper, how);
    await on.settle();
    const after = await on.miss(line, { cc: "" });
    expect(after.files["a.o"]).not.toBe(before.files["a.o"]);
    await on.hit(line, { cc: "" });
  });

  test("its driver alone, and back", async () => {
    install();
    on.write("a.c", "int x;\n");
    await on.settle();
    const line = 'exec $CC "$PWD/gcc/bin/gcc" -c a.c';
    await on.miss(line, { cc: "" });
    copyFileSync(on.at("gcc/bin/gcc"), on.at("gcc/old"));
    appendFileSync(on.at("gcc/bin/gcc"), "\0");
    await on.settle();
    await on.miss(line, { cc: "" });
    renameSync(on.at("gcc/old"), on.at("gcc/bin/gcc"));
    await on.hit(line, { cc: "" });
  });

  test("an assembler appears where the driver looks first", async () => {
    install();
    on.write("a.c", "int x;\n");
    await on.settle();
    const line = 'exec $CC "$PWD/gcc/bin/gcc" -c a.c';
    const before = await on.miss(line, { cc: "" });
    mkdirSync(on.at("gcc/x86_64-linux-gnu/bin"), { recursive: true });
    const tools = spawnSync(on.at("gcc/bin/gcc"), ["-print-search-dirs"]).stdout.toString();
    const first = /^programs: =(.*)$/m.exec(tools)?.[1]?.split(":")[0] ?? "";
    expect(realpathSync(first).startsWith(on.folder)).toBe(true);
    // It assembles something else.
    on.write("y.s", ".globl other\n.set other, 1\n");
    const script = '#!/bin/sh\nexec /usr/bin/as "$@" y.s\n';
    writeFileSync(join(first, "as"), script, { mode: 0o755 });
    await on.settle();
    const after = await on.same(line, { cc: "" });
    expect(after).toMatchObject({ code: 0, source: "here" });
    expect(after.files["a.o"]).not.toBe(before.files["a.o"]);
  });
});
