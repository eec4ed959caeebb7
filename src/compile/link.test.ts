import { chmodSync, readdirSync, rmSync, symlinkSync, utimesSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { encodeAction } from "../action/encode.ts";
import { factsHold } from "../exec/facts.ts";
import { createLdPlanner, createLinkPlanner } from "./link.ts";
import { wantsLink } from "./link-args.ts";
import {
  createLinkWorld,
  expectFaithful,
  expectStaged,
  type LinkWorld,
  mustPlan,
  programAt,
  reasonFor,
  runHere,
} from "./link-world.contract.ts";
import type { Planner } from "./plan.ts";

const compilers = ["gcc", "g++", "clang", "clang++"].flatMap((name) => {
  const path = programAt(name);
  return path === "" ? [] : [{ name, path }];
});
if (compilers.length < 4)
  console.warn(`only ${compilers.map(({ name }) => name)} of gcc, g++, clang, clang++ are here`);
const gcc = programAt("gcc");
const linkers = ["ld.bfd", "ld.gold", "ld.lld"].filter((name) => programAt(name) !== "");
if (linkers.length < 3) console.warn(`only ${linkers} of ld.bfd, ld.gold, ld.lld are here`);

let world: LinkWorld;
let link: Planner;
let ld: Planner;

beforeAll(() => {
  world = createLinkWorld();
  const options = { platform: "linux/test", timeoutMs: 60_000, scratch: world.scratch };
  link = createLinkPlanner(world.deps, options);
  ld = createLdPlanner(world.deps, options);
  writeProject();
});
afterAll(() => world.close());

function writeProject(): void {
  const { write, make } = world;
  write("main.c", "int part(void); int main(void) { return part(); }\n");
  write("part.c", "int part(void) { return 0; }\n");
  write("deep.c", "int deep(void) { return 0; }\n");
  write("outer.c", "int deep(void); int part(void) { return deep(); }\n");
  write("say.cpp", "#include <iostream>\nint main() { std::cout << 1; }\n");
  write("start.c", "void _start(void) { for (;;) {} }\n");
  for (const name of ["main", "part", "deep", "outer", "start"])
    make("gcc", `-fPIC -g -c ${name}.c -o ${name}.o`);
  if (programAt("g++") !== "") make("g++", "-c say.cpp -o say.o");
  make("ar", "rcs libpart.a part.o");
  make("ar", "rcsT libthin.a part.o");
  write("other/x", "");
  make("gcc", "-m32 -c part.c -o other/part.o");
  make("ar", "rcs other/libpart.a other/part.o");
  write("sub/x", "");
  write("early/x", "");
  make("gcc", "-shared deep.o -o sub/libdeep.so");
  make("gcc", "-shared outer.o -o libouter.so -Lsub -ldeep");
  make("gcc", "-shared outer.o -o libnear.so -Lsub -ldeep -Wl,-rpath,$ORIGIN/sub");
  make("gcc", "-shared part.o -o sub/libpart.so");
  write("libscript.so", "/* a script */ INPUT(part.o AS_NEEDED(-lm))\n");
  write("group.ld", "GROUP ( libpart.a deep.o )\n");
  write("versions.map", "V1 { global: part; local: *; };\n");
  write("list.dyn", "{ part; };\n");
  write("inner.ld", ".data : { *(.data) }\n");
  write("whole.ld", "SECTIONS { .text : { *(.text*) } INCLUDE inner.ld }\n");
  write("objects.rsp", "main.o 'part.o'\n");
  write("flags.rsp", "--as-needed\n");
  symlinkSync("part.o", join(world.folder, "alias.o"));
}

type Case = readonly [name: string, args: string, only?: RegExp];

const cases: readonly Case[] = [
  ["two objects", "main.o part.o -o prog"],
  ["the default output", "main.o part.o"],
  [
    "compile flags left over",
    "-O2 -g -Wall -std=c99 -DX -Iinc -fPIC main.o part.o -o prog",
    /c(c|lang)$/,
  ],
  ["C++", "say.o -o prog", /\+\+$/],
  [
    "C++, static libraries of the compiler",
    "say.o -o prog -static-libgcc -static-libstdc++",
    /\+\+$/,
  ],
  ["an archive", "main.o libpart.a -o prog"],
  ["a thin archive", "main.o libthin.a -o prog"],
  ["an object behind a link", "main.o alias.o -o prog"],
  ["a library from a folder", "main.o -L. -lpart -o prog"],
  ["a shared library before an archive", "main.o -Lsub -L. -lpart -o prog"],
  ["an archive behind -Bstatic", "main.o -Lsub -L. -Wl,-Bstatic -lpart -Wl,-Bdynamic -o prog"],
  ["a library by its file name", "main.o -L. -l:libpart.a -o prog"],
  ["everything static", "-static main.o -L. -lpart -lm -o prog"],
  ["a position-independent static program", "-static-pie main.o part.o -o prog"],
  ["no position independence", "-no-pie main.o part.o -o prog"],
  ["a shared library", "-shared part.o -o libmade.so -Wl,-soname,libmade.so.1"],
  ["no standard libraries", "-nostdlib start.o -o prog"],
  ["one object of two", "-r -nostdlib main.o part.o -o both.o"],
  ["system libraries", "main.o part.o -lm -lpthread -ldl -o prog"],
  ["threads and stripping", "-pthread -s main.o part.o -o prog"],
  ["a run path", "main.o -Lsub -lpart -Wl,-rpath,/opt/x -Wl,--enable-new-dtags -o prog"],
  ["a version script", "-shared part.o -Wl,--version-script=versions.map -o libmade.so"],
  ["a dynamic list", "main.o part.o -rdynamic -Wl,--dynamic-list,list.dyn -o prog"],
  ["a library that is a script", "main.o -L. -lscript -o prog"],
  ["a group", "main.o -Wl,--start-group libpart.a -lm -Wl,--end-group -o prog"],
  ["whole archives", "main.o -Wl,--whole-archive libpart.a -Wl,--no-whole-archive -o prog"],
  ["a response file", "@objects.rsp -o prog"],
  ["a response file of the linker", "main.o part.o -Wl,@flags.rsp -o prog"],
  ["a map", "main.o part.o -Wl,-Map=prog.map -o prog"],
  ["its own dependency file", "main.o part.o -Wl,--dependency-file=prog.d -o prog"],
  ["sections left out", "main.o part.o -Wl,--gc-sections -Wl,-z,now -Wl,--build-id=sha1 -o prog"],
  ["words of the linker one by one", "main.o -Xlinker --defsym -Xlinker part=0 -o prog"],
  ["sanitizers", "-fsanitize=address main.o part.o -o prog", /^gcc$/],
  ["OpenMP", "-fopenmp main.o part.o -o prog", /^gcc$/],
  ["profiling", "-pg main.o part.o -o prog", /^gcc$/],
];
/** Only GNU ld follows what shared libraries need, or has such scripts. */
const bfdCases: readonly Case[] = [
  ["a shared library with another one", "main.o -L. -louter -Wl,-rpath-link,sub -o prog"],
  ["a shared library that knows the other one", "main.o -L. -lnear -o prog"],
  ["a script among the inputs", "main.o group.ld -o prog"],
  ["a library for another machine", "main.o -Lother -Lsub -lpart -o prog"],
  ["a linker script with another one", "-no-pie -nostdlib -T whole.ld start.o -o prog"],
];

function named(some: readonly Case[]): { what: string; args: string }[] {
  return some.map(([what, args]) => ({ what, args }));
}

describe.each(compilers)("$name links", ({ name, path }) => {
  // The two drivers of one compiler differ in the libraries they add.
  const brief = /^(?:C\+\+|two objects|everything static|a library from)/;
  const fitting = [...cases, ...bfdCases].filter(
    ([what, , only]) => (only?.test(name) ?? true) && (!name.endsWith("++") || brief.test(what)),
  );
  test.each(named(fitting))("$what", { timeout: 60_000 }, async ({ args }) => {
    const asked = world.invocation(path, args.split(" "));
    const plan = await expectFaithful(link, asked);
    // A root for clang takes seconds: its library is large.
    if (name.startsWith("g") || args === "main.o part.o -o prog")
      expectStaged(world.stage, asked, plan);
    expect(plan.whyHere).toBe("link");
    expect(readdirSync(world.scratch)).toEqual([]);
  });
});

describe.each(linkers)("with %s", (linker) => {
  const chosen = `-fuse-ld=${linker.slice("ld.".length)}`;
  const few = cases.filter(([name]) => /two|archive|C\+\+|script|map|list|library/.test(name));
  test.each(named(few.filter(([, , only]) => only === undefined)))(
    "gcc links $what",
    { timeout: 60_000 },
    async ({ args }) => {
      const asked = world.invocation(gcc, [chosen, ...args.split(" ")]);
      expectStaged(world.stage, asked, await expectFaithful(link, asked));
    },
  );

  test.each([
    ["an object", "start.o -o prog"],
    ["a shared library", "-shared part.o -soname=libx.so.1 -o libmade.so"],
    ["a library by name", "start.o -L sub -L. -static -lpart -o prog"],
    ["one object of two", "-r main.o part.o -o both.o"],
    ["a response file", "@objects.rsp -shared -o libmade.so"],
  ])("%s, called directly", async (_, args) => {
    const asked = world.invocation(programAt(linker), args.split(" "));
    expectStaged(world.stage, asked, await expectFaithful(ld, asked));
  });
});

describe("a link has another name when", () => {
  const digest = async (args: string, env: Record<string, string> = {}): Promise<string> => {
    const plan = await mustPlan(link, world.invocation(gcc, args.split(" "), env));
    return encodeAction(plan.spec).digest;
  };
  const plain = "main.o -Learly -Lsub -lpart -o prog";

  test("an object has other bytes, and not when it was only touched", async () => {
    const before = await digest("main.o part.o -o prog");
    utimesSync(join(world.folder, "part.o"), 1, 1);
    expect(await digest("main.o part.o -o prog")).toBe(before);
    world.make("gcc", "-fPIC -g -DX -O2 -c part.c -o part.o");
    expect(await digest("main.o part.o -o prog")).not.toBe(before);
    world.make("gcc", "-fPIC -g -c part.c -o part.o");
    expect(await digest("main.o part.o -o prog")).toBe(before);
  });

  test("a library appears earlier in the search", async () => {
    const asked = world.invocation(gcc, plain.split(" "));
    const { facts } = await mustPlan(link, asked);
    const before = await digest(plain);
    const holds = (): boolean => factsHold(facts, world.deps.view.look());
    expect(holds()).toBe(true);
    writeFileSync(join(world.folder, "early/other.txt"), "");
    expect(holds()).toBe(true);
    world.make("gcc", "-shared part.o -g -Wl,-soname,x -o early/libpart.so");
    expect(holds()).toBe(false);
    expect(await digest(plain)).not.toBe(before);
    rmSync(join(world.folder, "early/libpart.so"));
    expect(await digest(plain)).toBe(before);
  });

  test("a script or a version script changes", async () => {
    for (const [name, args] of [
      ["libscript.so", "main.o -L. -lscript -o prog"],
      ["versions.map", "-shared part.o -Wl,--version-script=versions.map -o libmade.so"],
      ["inner.ld", "-no-pie -nostdlib -T whole.ld start.o -o prog"],
      ["objects.rsp", "@objects.rsp -o prog"],
    ] as const) {
      const text = String(await world.deps.disk.read(join(world.folder, name)).then(Buffer.from));
      const before = await digest(args);
      world.write(name, `${text} `);
      expect(await digest(args), name).not.toBe(before);
      world.write(name, text);
      expect(await digest(args), name).toBe(before);
    }
  });

  test("a member of a thin archive, or a library that a library needs, changes", async () => {
    for (const [made, by, args] of [
      ["part.o", "-fPIC -g -c part.c", "main.o libthin.a -o prog"],
      ["sub/libdeep.so", "-shared deep.o", "main.o -L. -lnear -o prog"],
    ] as const) {
      const before = await digest(args);
      world.make("gcc", `${by} -g0 -O2 -o ${made}${by.includes("shared") ? " -Wl,-soname,y" : ""}`);
      expect(await digest(args), made).not.toBe(before);
      world.make("gcc", `${by} -o ${made}`);
      expect(await digest(args), made).toBe(before);
    }
  });

  test("a flag or a variable that matters is another one", async () => {
    const before = await digest(plain);
    expect(await digest(`${plain} -s`)).not.toBe(before);
    expect(await digest(plain, { LD_RUN_PATH: "/opt/x" })).not.toBe(before);
    expect(await digest(plain, { LIBRARY_PATH: "/opt/x" })).not.toBe(before);
    expect(await digest(plain, { HOME: "/x", TERM: "dumb" })).toBe(before);
  });
});

test("the linker is the one behind the stand-ins of compilers in the PATH", async () => {
  world.write("stand-ins/.mesh-shim", "");
  world.write("stand-ins/ld", "#!/bin/sh\nexit 1\n");
  chmodSync(join(world.folder, "stand-ins/ld"), 0o755);
  const PATH = `${join(world.folder, "stand-ins")}:/usr/bin:/bin`;
  for (const { path } of compilers) {
    const asked = (env = {}) => world.invocation(path, ["main.o", "part.o", "-o", "prog"], env);
    const { spec } = await mustPlan(link, asked());
    expect((await mustPlan(link, asked({ PATH }))).spec.inputs).toEqual(spec.inputs);
  }
});

describe("a link is not remembered", () => {
  test.each([
    ["main.c part.o -o prog", "compile-and-link main.c"],
    ["-x c main.o -o prog", "compile-and-link -x"],
    ["-c main.o", "not-a-link -c"],
    ["-o prog", "no-input"],
    ["-flto main.o part.o -o prog", "lto -flto"],
    ["main.o part.o -Wl,--build-id=uuid -o prog", "build-id-uuid"],
    ["main.o part.o -Wl,-M -o prog", "map-stdout -M"],
    ["main.o part.o -Wl,-Map=- -o prog", "map-stdout"],
    ["main.o part.o -Wl,--trace -o prog", "trace --trace"],
    ["main.o part.o -Wl,--verbose -o prog", "verbose --verbose"],
    ["main.o part.o -v -o prog", "verbose -v"],
    ["main.o part.o -Wl,--stats -o prog", "time-report --stats"],
    ["main.o part.o -Wl,-plugin,/x.so -o prog", "plugin /x.so"],
    ["main.o part.o -fplugin=/x.so -o prog", "plugin -fplugin=/x.so"],
    ["main.o part.o -Wl,--incremental -o prog", "incremental --incremental"],
    ["main.o part.o -Wl,--no-such-flag -o prog", "unknown-flag --no-such-flag"],
    ["main.o part.o -save-temps -o prog", "save-temps -save-temps"],
    ["main.o part.o -specs=x -o prog", "specs -specs=x"],
    ["main.o part.o -Brel -o prog", "unknown-flag -Brel"],
    ["main.o none.o -o prog", "input-missing none.o"],
    ["main.o part.o -lnone -o prog", "input-missing -lnone"],
    ["main.o part.o -o /dev/null", "output-special"],
    ["main.o part.o -o nowhere/prog", "output-folder"],
    ["main.o @none.rsp -o prog", "cannot-plan io"],
    ["main.o blob -o prog", "input-unknown blob"],
    ["main.o writes.ld -o prog", "script-output"],
    ["main.o gone.a -o prog", "input-missing lost.o"],
    ["main.o broken.o -o prog", "cannot-plan malformed"],
  ])("%s", async (args, reason) => {
    world.write("blob", "\0\0\0\0");
    world.write("writes.ld", "OUTPUT(x)\n");
    world.write("broken.o", `\x7fELF${"\x02\x01\x01".padEnd(12, "\0")}${"\xff".repeat(100)}`);
    world.make("gcc", "-c deep.c -o lost.o");
    world.make("ar", "rcsT gone.a lost.o");
    rmSync(join(world.folder, "lost.o"));
    expect(await reasonFor(link, world.invocation(gcc, args.split(" ")))).toBe(reason);
  });

  test.each([
    ["COMPILER_PATH", "environment COMPILER_PATH"],
    ["GNUTARGET", "environment GNUTARGET"],
    ["LD_PRELOAD", "environment LD_PRELOAD"],
    ["LC_ALL", "locale"],
  ])("with %s set to something strange", async (name, reason) => {
    const asked = world.invocation(gcc, ["main.o", "part.o"], { [name]: "strange" });
    expect(await reasonFor(link, asked)).toBe(reason);
  });

  test("of objects that are not compiled to the end, alone or in an archive", async () => {
    world.make("gcc", "-flto -c part.c -o lto.o");
    world.make("gcc-ar", "rcs liblto.a lto.o");
    for (const [args, reason] of [
      ["main.o lto.o -o prog", "lto lto.o"],
      ["main.o -L. -llto -o prog", "lto -llto"],
    ] as const)
      expect(await reasonFor(link, world.invocation(gcc, args.split(" ")))).toBe(reason);
    if (programAt("clang") === "") return;
    world.make("clang", "-flto -c part.c -o bitcode.o");
    const asked = world.invocation(gcc, ["main.o", "bitcode.o"]);
    expect(await reasonFor(link, asked)).toBe("lto bitcode.o");
  });
});

describe("what the linker says it has read", () => {
  const asked = () => world.invocation(gcc, ["main.o", "libthin.a", "-o", "prog"]);
  const listOf = (hereArgs: readonly string[] | undefined): string =>
    (hereArgs?.[1] ?? "").replace("--dependency-file=", "");

  test.each([
    ["prog: \\\n  main.o \\\n  deep.o\n", "link-miss: deep.o"],
    ["prog: \\\n  main.o \\\n  none.o\n", "link-miss: none.o"],
    ["", "link-unverified: "],
    [undefined, "link-unverified: "],
  ])("is held against the plan: %j", async (text, message) => {
    const { hereArgs, checkHere } = await mustPlan(link, asked());
    const path = listOf(hereArgs);
    expect(path).toContain(world.scratch);
    if (text !== undefined) writeFileSync(path, text);
    await expect(checkHere?.()).rejects.toMatchObject({
      code: "refused",
      message: expect.stringContaining(message),
    });
    expect(readdirSync(world.scratch)).toEqual([]);
  });

  test("may name files with spaces and dollar signs, escaped or not", async () => {
    symlinkSync("part.o", join(world.folder, "a b$#.o"));
    const spaced = world.invocation(gcc, ["main.o", "a b$#.o", "-o", "prog"]);
    await expectFaithful(link, spaced);
    const { hereArgs, checkHere } = await mustPlan(link, spaced);
    writeFileSync(listOf(hereArgs), "prog: \\\n main.o \\\n a\\ b$$\\#.o\n");
    await expect(checkHere?.()).resolves.toBeUndefined();
  });

  test("shows an object that only a section of a linker script names", async () => {
    world.write("hidden.ld", "SECTIONS { .text : { part.o(.text) *(.text*) } }\n");
    const args = "-nostdlib -r -T hidden.ld main.o -o both.o".split(" ");
    const hidden = world.invocation(gcc, args);
    const plan = await mustPlan(link, hidden);
    runHere(hidden, plan, plan.hereArgs);
    await expect(plan.checkHere?.()).rejects.toMatchObject({
      code: "refused",
      message: "link-miss: part.o",
    });
  });

  test("of a driver and of a linker are files apart", async () => {
    const direct = world.invocation(programAt("ld"), ["start.o", "-o", "prog"]);
    const first = await mustPlan(link, asked());
    const second = await mustPlan(ld, direct);
    const paths = [listOf(first.hereArgs), (second.hereArgs?.[0] ?? "").split("=")[1] ?? ""];
    for (const path of paths) writeFileSync(path, "out: \\\n");
    await first.checkHere?.();
    expect(readdirSync(world.scratch)).toEqual(paths.slice(1).map((path) => basename(path)));
    await second.checkHere?.();
    expect(readdirSync(world.scratch)).toEqual([]);
  });

  test("is taken away when nobody asks for it: the number of lists is bounded", async () => {
    for (let i = 0; i < 70; i++) {
      const { hereArgs } = await mustPlan(link, asked());
      writeFileSync(listOf(hereArgs), "");
    }
    const { checkHere } = await mustPlan(link, asked());
    await checkHere?.().catch(() => {});
    expect(readdirSync(world.scratch).length).toBeLessThanOrEqual(64);
    const options = { platform: "linux/test", timeoutMs: 1, scratch: world.scratch };
    await (await mustPlan(createLinkPlanner(world.deps, options), asked()))
      .checkHere?.()
      .catch(() => {});
    await expect.poll(() => readdirSync(world.scratch)).toEqual([]);
  });
});

test("a link is told from a compile by its command line", () => {
  for (const args of ["a.o -o a", "-shared a.o", "@objects.rsp", "a.c -o a", "a.o -MD"])
    expect(wantsLink(args.split(" ")), args).toBe(true);
  for (const args of ["-c a.c", "a.c -S", "-E a.c", "-M a.c", "--version", "-v", "-print-x"])
    expect(wantsLink(args.split(" ")), args).toBe(false);
});
