import { describe, expect, test } from "vitest";
import { type ParsedCompile, parseGccArgs, type StaysHere } from "./gcc-args.ts";
import { rowNames } from "./gcc-options.ts";
import type { Unit } from "./gcc-units.ts";

const parse = (...args: string[]): ParsedCompile | StaysHere => parseGccArgs(args, "gcc", "gcc");

function compile(...args: string[]): ParsedCompile {
  const parsed = parse(...args);
  if (parsed.at === "here") throw new Error(`stays here: ${parsed.reason} ${parsed.culprit}`);
  return parsed;
}

/** A parsed compile of one source, its unit among the rest. */
type Flat = Omit<ParsedCompile, "units" | "bareArgs"> & Omit<Unit, "source">;

/** What an option does to `gcc -c a.c -o a.o`; only what differs from doing nothing is named. */
const effects: readonly (readonly [args: string, effect: Partial<Flat>])[] = [
  ["-c", {}],
  ["--compile", {}],
  ["-o dir/b.o", { output: "dir/b.o" }],
  ["-odir/b.o", { output: "dir/b.o" }],
  ["--output b.o", { output: "b.o" }],
  ["--output=b.o", { output: "b.o" }],
  ["-std=c++20", { modern: true }],
  ["-std=gnu17", {}],
  ["--std=c++2b", { modern: true }],
  ["-ansi", {}],
  ["-I inc", { dirs: dirs({ bracket: ["inc"] }) }],
  ["-Iinc", { dirs: dirs({ bracket: ["inc"] }) }],
  ["-iquote q", { dirs: dirs({ quote: ["q"] }) }],
  ["-iquoteq", { dirs: dirs({ quote: ["q"] }) }],
  ["-isystem s", { dirs: dirs({ system: ["s"] }) }],
  ["-idirafter z", { dirs: dirs({ after: ["z"] }) }],
  ["-include pre.h", { forced: ["pre.h"] }],
  ["-includepre.h", { forced: ["pre.h"] }],
  ["-imacros m.h", { forced: ["m.h"] }],
  ["-isysroot /r", { toolFlags: ["-isysroot", "/r"] }],
  ["--sysroot /r", { toolFlags: ["--sysroot", "/r"] }],
  ["--sysroot=/r", { toolFlags: ["--sysroot=/r"] }],
  ["-nostdinc", { toolFlags: ["-nostdinc"] }],
  ["-nostdinc++", { toolFlags: ["-nostdinc++"] }],
  ["-nostdlibinc", { toolFlags: ["-nostdlibinc"] }],
  ["-no-canonical-prefixes", { toolFlags: ["-no-canonical-prefixes"] }],
  ["-B tools", { toolFlags: ["-B", "tools"] }],
  ["-DA=1", { defined: ["A"] }],
  ["-D B", { defined: ["B"] }],
  ["-DNOW=__DATE__", { defined: ["NOW"], trickyDefine: "time" }],
  ["-DX=__TIMESTAMP__", { defined: ["X"], trickyDefine: "timestamp" }],
  ["-DX=__has_include(<a>)", { defined: ["X"], trickyDefine: "probe" }],
  ["-UA", {}],
  ["-U A", {}],
  ["-A machine=x", {}],
  ["-undef", {}],
  ["-trigraphs", {}],
  ["-H", {}],
  ["-MD", { dependencyPath: "a.d", dependencies: dependencies({}) }],
  ["-MMD", { dependencyPath: "a.d", dependencies: dependencies({ systemHeaders: false }) }],
  ["--write-dependencies", { dependencyPath: "a.d", dependencies: dependencies({}) }],
  [
    "--write-user-dependencies",
    { dependencyPath: "a.d", dependencies: dependencies({ systemHeaders: false }) },
  ],
  ["-MD -MF x.d", { dependencyPath: "x.d", dependencies: dependencies({}) }],
  ["-MD -MFx.d", { dependencyPath: "x.d", dependencies: dependencies({}) }],
  [
    "-MD -MT t -MQ q",
    { dependencyPath: "a.d", dependencies: dependencies({ targets: ["t", "q"] }) },
  ],
  ["-MD -MP", { dependencyPath: "a.d", dependencies: dependencies({ phony: true }) }],
  ["-MD -MV", { dependencyPath: "a.d", dependencies: dependencies({}) }],
  ["-Wp,-MD,x.d", { dependencyPath: "x.d", dependencies: dependencies({}) }],
  [
    "-Wp,-MMD,x.d,-MT,t",
    { dependencyPath: "x.d", dependencies: dependencies({ systemHeaders: false, targets: ["t"] }) },
  ],
  ["-Wp,-D_FORTIFY_SOURCE=2,-UX", { defined: ["_FORTIFY_SOURCE"] }],
  ["-target arm-linux", { toolFlags: ["-target", "arm-linux"] }],
  ["--target=arm-linux", { toolFlags: ["--target=arm-linux"] }],
  ["--gcc-toolchain=/g", { toolFlags: ["--gcc-toolchain=/g"] }],
  ["--gcc-install-dir=/g", { toolFlags: ["--gcc-install-dir=/g"] }],
  ["-stdlib=libc++", { toolFlags: ["-stdlib=libc++"] }],
  ["-resource-dir=/r", { toolFlags: ["-resource-dir=/r"] }],
  ["-resource-dir /r", { toolFlags: ["-resource-dir", "/r"] }],
  ["-O2", {}],
  ["-O", {}],
  ["-g3", {}],
  ["-gsplit-dwarf", { splitDwarf: true, toolFlags: ["-gsplit-dwarf"], extraOutputs: ["a.dwo"] }],
  [
    "-gsplit-dwarf=split",
    { splitDwarf: true, toolFlags: ["-gsplit-dwarf=split"], extraOutputs: ["a.dwo"] },
  ],
  ["-m32", { toolFlags: ["-m32"] }],
  ["-mavx2", {}],
  ["-mtune=generic", {}],
  ["-march=native", { nativeFlags: ["-march=native"] }],
  ["-mcpu=cortex-a53", { toolFlags: ["-mcpu=cortex-a53"] }],
  ["-mllvm -inline-threshold=5", {}],
  ["-fPIC", {}],
  ["-fvisibility=hidden", {}],
  ["-ffile-prefix-map=/a/b=.", {}],
  ["-frandom-seed=a.c", {}],
  ["-Wall", {}],
  ["-W", {}],
  ["-Werror=format", {}],
  ["-Wa,--noexecstack", {}],
  ["-Wl,-z,now", {}],
  ["-w", {}],
  ["-pedantic", {}],
  ["-pedantic-errors", {}],
  ["-pthread", {}],
  ["-pipe", {}],
  ["-p", {}],
  ["-pg", {}],
  ["-Qunused-arguments", {}],
  ["--param max-inline-insns=5", {}],
  ["--param=max-inline-insns=5", {}],
  ...linkOnly("-shared -static -pie -no-pie -static-pie -rdynamic -s -r -nostdlib -nodefaultlibs"),
  ...linkOnly("-nostartfiles -nostdlib++ -nolibc -symbolic -static-libgcc -shared-libgcc"),
  ...linkOnly("-static-libstdc++ -static-libasan -lm -L/x -rtlib=compiler-rt --rtlib=libgcc"),
  ...linkOnly("-unwindlib=none --unwindlib=none -fuse-ld=gold --ld-path=/ld"),
  ["-Xlinker x", {}],
  ["-T s.ld", {}],
  ["-u sym", {}],
  ["-z now", {}],
  ["-e main", {}],
  ["-fdiagnostics-format=text", {}],
  ["-fdiagnostics-format=clang", {}],
  ["--coverage", { extraOutputs: ["a.gcno"] }],
  ["-coverage", { extraOutputs: ["a.gcno"] }],
  ["-ftest-coverage", { extraOutputs: ["a.gcno"] }],
  ["-fprofile-arcs", { extraOutputs: ["a.gcno"] }],
  ["-finput-charset=UTF-8 -fexec-charset=utf8 -fwide-exec-charset=UTF-8", {}],
  ["-x c", {}],
  ["-S", { makes: "assembly" }],
  ["--assemble", { makes: "assembly" }],
  ["-E", { makes: "preprocessed" }],
  ["--preprocess", { makes: "preprocessed" }],
  ["-E -S -c", { makes: "preprocessed" }],
  ["-E -dM", { makes: "preprocessed" }],
  ["-E -dD -dI -dN -dU", { makes: "preprocessed" }],
  ["-E -P -C -CC", { makes: "preprocessed" }],
  ["-E -MD", { makes: "preprocessed", dependencyPath: "a.d", dependencies: dependencies({}) }],
  ["-E -gsplit-dwarf", { makes: "preprocessed", splitDwarf: true, toolFlags: ["-gsplit-dwarf"] }],
  ["-S --coverage", { makes: "assembly", extraOutputs: ["a.gcno"] }],
  ["--embed-dir=e", { embedDirs: ["e"] }],
  ["-flto -frandom-seed=a.c", {}],
  ["-flto=auto -frandom-seed=a.c -flto-partition=none -flto-compression-level=1", {}],
  ["-flto -fno-lto", {}],
  ["-flto-jobs=2 -fsplit-lto-unit -fno-split-lto-unit -fwhole-program-vtables", {}],
  ["-fprofile-instr-generate", {}],
  ["-fprofile-dir=/x -fprofile-update=atomic", {}],
];

const refused: readonly (readonly [args: string, reason: string])[] = [
  ["-M", "preprocess-only"],
  ["-MM", "preprocess-only"],
  ["--dependencies", "preprocess-only"],
  ["--user-dependencies", "preprocess-only"],
  ["-fsyntax-only", "syntax-only"],
  ["--version", "query"],
  ["--help", "query"],
  ["--help=target", "query"],
  ["--target-help", "query"],
  ["-dumpversion", "query"],
  ["-dumpmachine", "query"],
  ["-dumpfullversion", "query"],
  ["-dumpspecs", "query"],
  ["-print-prog-name=cc1", "query"],
  ["--print-search-dirs", "query"],
  ["-cc1", "query"],
  ["-v", "verbose"],
  ["--verbose", "verbose"],
  ["-###", "verbose"],
  ["-Q", "verbose"],
  ["-specs=x", "specs"],
  ["--specs=x", "specs"],
  ["--config=x", "specs"],
  ["-wrapper gdb", "plugin"],
  ["-load x", "plugin"],
  ["-fplugin=x.so", "plugin"],
  ["-fpass-plugin=x.so", "plugin"],
  ["-save-temps", "save-temps"],
  ["-save-temps=obj", "save-temps"],
  ["--save-temps", "save-temps"],
  ["-save-stats", "save-temps"],
  ["-dD", "dump"],
  ["-dumpbase x", "dump"],
  ["-fdump-tree-all", "dump"],
  ["-fopt-info", "dump"],
  ["-fdebug-dump", "dump"],
  ["-fsave-optimization-record", "dump"],
  ["-foptimization-record-file=x", "dump"],
  ["-fdiagnostics-format=sarif-file", "dump"],
  ["-fdiagnostics-add-output=sarif", "dump"],
  ["-fcompare-debug", "dump"],
  ["-fself-test=x", "dump"],
  ["-freport-bug", "dump"],
  ["-fstack-usage", "extra-output"],
  ["-fcallgraph-info=su", "extra-output"],
  ["-aux-info x", "extra-output"],
  ["-MJ x", "extra-output"],
  ["-fdeps-file=x", "extra-output"],
  ["-fcrash-diagnostics-dir=x", "extra-output"],
  ["-fprofile-note=x", "extra-output"],
  ["-fembed-bitcode", "extra-output"],
  ["-emit-llvm", "extra-output"],
  ["-ftime-report", "time-report"],
  ["-ftime-trace", "time-report"],
  ["-time", "time-report"],
  ["-fmem-report", "time-report"],
  ["-fpre-ipa-mem-report", "time-report"],
  ["-fpost-ipa-mem-report", "time-report"],
  ["-fproc-stat-report", "time-report"],
  ["-fprofile-use", "profile"],
  ["-fprofile-use=x", "profile"],
  ["-fprofile-generate", "profile"],
  ["-fprofile-instr-use=x", "profile"],
  ["-fprofile-sample-use=x", "profile"],
  ["-fcs-profile-generate", "profile"],
  ["-fauto-profile=x", "profile"],
  ["-fbranch-probabilities", "profile"],
  ["-fprofile-list=x", "profile"],
  ["-fprofile-values", "profile"],
  ["-fprofile-remapping-file=x", "profile"],
  ["-flto", "lto-random-seed"],
  ["-flto=auto", "lto-random-seed"],
  ["-fthinlto-index=x", "lto"],
  ["-fmodules-ts", "modules"],
  ["-fmodule-mapper=x", "modules"],
  ["-fimplicit-modules", "modules"],
  ["-fprebuilt-module-path=x", "modules"],
  ["-fbuiltin-module-map", "modules"],
  ["-fcxx-modules", "modules"],
  ["-fheader-unit=x", "modules"],
  ["-ftemplate-module", "modules"],
  ["-emit-module", "modules"],
  ["-include-pch x", "pch-use"],
  ["-fpch-preprocess", "pch-use"],
  ["-fno-pch-timestamp", "pch-use"],
  ["-relocatable-pch", "pch-use"],
  ["-fpreprocessed", "preprocessed-source"],
  ["-fdirectives-only", "preprocessed-source"],
  ["-no-integrated-cpp", "preprocessed-source"],
  ["-remap", "preprocessed-source"],
  ["-traditional-cpp", "preprocessed-source"],
  ["-fno-integrated-as", "assembler"],
  ["-no-integrated-as", "assembler"],
  ["-Xassembler x", "assembler"],
  ["-Wa,-adhln=x.lst", "assembler-flag"],
  ["-Wa,@file", "assembler-flag"],
  ["-finput-charset=latin1", "charset"],
  ["-fexec-charset=IBM1047", "charset"],
  ["-fwide-exec-charset=UTF-16", "charset"],
  ["-fsanitize-blacklist=x", "list-file"],
  ["-fsanitize-ignorelist=x", "list-file"],
  ["-fsanitize-system-ignorelist=x", "list-file"],
  ["-fsanitize-coverage-allowlist=x", "list-file"],
  ["-fsanitize-coverage-ignorelist=x", "list-file"],
  ["-fxray-always-instrument=x", "list-file"],
  ["-frandomize-layout-seed-file=x", "list-file"],
  ["-fsymbol-partition=x", "list-file"],
  ["-fembed-offload-object=x", "list-file"],
  ["-foffload=nvptx-none", "offload"],
  ["-fopenmp-targets=x", "offload"],
  ["-fcuda-is-device", "offload"],
  ["-fgpu-rdc", "offload"],
  ["-fsycl", "offload"],
  ["-fopenacc", "offload"],
  ["-fhip-new-launch-api", "offload"],
  ["-arch arm64", "several-architectures"],
  ["-Xarch_host -g", "several-architectures"],
  ["-I=inc", "sysroot-relative"],
  ["-isystem =/usr/x", "sysroot-relative"],
  ["-I-", "unknown-flag"],
  ["-Xclang -ast-dump", "unknown-flag"],
  ["-Xpreprocessor -MD", "unknown-flag"],
  ["-mllvm -info-output-file=x", "unknown-flag"],
  ["-Wp,-lang-asm", "unknown-flag"],
  ["-fnobody-knows=/this/file", "unknown-flag"],
  ["--nobody-knows", "unknown-flag"],
  ["-iwithprefix x", "unknown-flag"],
  ["-o -", "stdout"],
  ["-MD -MF -", "stdout"],
  ["-MF x.d", "bad-arguments"],
  ["-dM", "dump"],
  ["-S -gsplit-dwarf", "extra-output"],
  ["-include", "bad-arguments"],
  ["-x c-header", "no-source"],
  ["-", "stdin"],
  ["b.c -o x.o", "several-sources"],
  ["b.cpp", "several-languages"],
];

function dirs(some: Partial<ParsedCompile["dirs"]>): ParsedCompile["dirs"] {
  return { quote: [], bracket: [], system: [], after: [], ...some };
}

function dependencies(
  some: Partial<NonNullable<ParsedCompile["dependencies"]>>,
): NonNullable<ParsedCompile["dependencies"]> {
  return { systemHeaders: true, phony: false, targets: [], ...some };
}

function linkOnly(names: string): (readonly [string, Partial<Flat>])[] {
  return names.split(" ").map((name) => [name, {}] as const);
}

function flat({ bareArgs: _, units, ...rest }: ParsedCompile): Flat {
  const [unit] = units;
  if (unit === undefined || units.length > 1) throw new Error("not one source");
  const { source: __, ...made } = unit;
  return { ...rest, ...made };
}

describe("an option of a compile", () => {
  const plain = compile("-c", "a.c", "-o", "a.o");

  test.each(effects)("%s has its effect and no other", (args, effect) => {
    const parsed = compile("-c", "a.c", "-o", "a.o", ...args.split(" "));
    expect(flat(parsed)).toEqual({ ...flat(plain), ...effect });
  });

  test.each(refused)("%s keeps the compile here: %s", (args, reason) => {
    const parsed =
      reason === "no-source"
        ? parse("-c", ...args.split(" "))
        : parse("-c", "a.c", ...args.split(" "));
    expect(parsed).toMatchObject({ at: "here", reason });
  });

  test("every row of the table is tried above", () => {
    const tried = [...effects, ...refused].map(([args]) => args);
    const untried = rowNames.filter(
      (name) => !tried.some((args) => args.split(" ").some((word) => word.startsWith(name))),
    );
    expect(untried).toEqual([]);
  });
});

describe("the language", () => {
  test.each([
    ["gcc", "a.c", "c"],
    ["g++", "a.c", "c++"],
    ["clang++-14", "a.c", "c++"],
    ["gcc", "a.cc", "c++"],
    ["gcc", "dir.x/a.cpp", "c++"],
    ["gcc", "a.C", "c++"],
    ["gcc", "a.cxx", "c++"],
    ["gcc", "a.c++", "c++"],
  ])("%s takes %s for %s", (driver, source, language) => {
    expect(parseGccArgs(["-c", source], driver, "gcc")).toMatchObject({ at: "anywhere", language });
  });

  test.each([
    ["-x c++ a.weird", "c++"],
    ["-xc a.cpp", "c"],
    ["-x c++ -x none a.c", "c"],
  ])("%s says it is %s", (args, language) => {
    expect(parse("-c", ...args.split(" "))).toMatchObject({ at: "anywhere", language });
  });

  test.each([
    ["-S a.s", "assembler"],
    ["-E a.s -o a.i", "assembler"],
    ["-S a.S", "assembler"],
    ["-E a.c", "preprocess-only"],
    ["a.c b.c -MD -MF x.d", "several-sources"],
    ["a.c sub/a.c", "several-sources"],
    ["a.i", "preprocessed-source"],
    ["a.ii", "preprocessed-source"],
    ["-x cpp-output a.c", "preprocessed-source"],
    ["a.h", "pch-create"],
    ["a.hpp", "pch-create"],
    ["-x c++-header a.h", "pch-create"],
    ["a.cppm", "modules"],
    ["a.m", "language"],
    ["a.f90", "language"],
    ["-x objective-c a.c", "language"],
    ["a.o", "link"],
    ["", "no-source"],
  ])("%j keeps the compile here: %s", (args, reason) => {
    const words = args.split(" ").filter((word) => word !== "");
    expect(parse("-c", ...words)).toMatchObject({ at: "here", reason });
  });
});

describe("an assembler source", () => {
  test.each([
    ["a.s", "plain", "a.o"],
    ["a.S", "preprocessed", "a.o"],
    ["dir/a.sx", "preprocessed", "a.o"],
    ["-x assembler a.c", "plain", "a.o"],
    ["-x assembler-with-cpp a", "preprocessed", "a.o"],
    ["-E a.S -o a.i", "preprocessed", "a.i"],
  ])("%s is read %s and makes %s", (args, assembler, output) => {
    const parsed = compile("-c", ...args.split(" "));
    expect(parsed).toMatchObject({ language: "c", assembler, units: [{ output }] });
  });

  test("has a dependency file only where the preprocessor reads it, and never notes for coverage", () => {
    const args = ["-c", "-MD", "--coverage", "-gsplit-dwarf", "-o", "b.o"];
    const of = (source: string) => compile(...args, source).units;
    const extraOutputs = ["b.dwo"];
    expect(of("a.s")).toMatchObject([{ dependencyPath: undefined, extraOutputs }]);
    expect(of("a.S")).toMatchObject([{ dependencyPath: "b.d", extraOutputs }]);
  });
});

test("link time optimisation is only Clang's to share without a seed", () => {
  expect(parseGccArgs(["-flto", "-c", "a.c"], "clang", "clang")).toMatchObject({ at: "anywhere" });
  expect(parseGccArgs(["-flto", "-E", "a.c", "-oa.i"], "gcc", "gcc").at).toBe("anywhere");
});

test("after -x none, compilers for C++ disagree about .c", () => {
  const args = ["-c", "-x", "none", "a.c"];
  expect(parseGccArgs(args, "g++", "gcc")).toMatchObject({ reason: "language" });
  expect(parseGccArgs(args, "gcc", "gcc").at).toBe("anywhere");
});

describe("what is made", () => {
  test("several sources make an object each, in the working directory", () => {
    const { units } = compile("-c", "a.c", "src/b.c", "-MMD", "--coverage");
    expect(units).toEqual([
      { source: "a.c", output: "a.o", dependencyPath: "a.d", extraOutputs: ["a.gcno"] },
      { source: "src/b.c", output: "b.o", dependencyPath: "b.d", extraOutputs: ["b.gcno"] },
    ]);
  });

  test("a name that only has a suffix stays here when others are derived from it", () => {
    expect(parse("-c", "a.c", "-o", "out/.a", "-MD")).toMatchObject({ reason: "output-name" });
    expect(parse("-c", "a.c", "-o", ".a", "--coverage")).toMatchObject({ reason: "output-name" });
    expect(parse("-c", "a.c", "-o", ".a", "-MD", "-MF", "a.d").at).toBe("anywhere");
  });

  test("a compile without -o puts the object and all that goes with it in the working directory", () => {
    expect(flat(compile("-c", "src/a.b.c", "-MD", "-gsplit-dwarf", "--coverage"))).toMatchObject({
      output: "a.b.o",
      dependencyPath: "a.b.d",
      extraOutputs: ["a.b.dwo", "a.b.gcno"],
    });
  });

  test.each([
    ["out/a.cpp.o", "out/a.cpp"],
    ["out.d/a", "out.d/a"],
    ["a.x", "a"],
    [".hidden/a.lo", ".hidden/a"],
  ])("files beside %s are named %s.*", (output, stem) => {
    const args = ["-c", "a.c", "-o", output, "-MD", "--coverage", "-gsplit-dwarf"];
    expect(flat(compile(...args))).toMatchObject({
      dependencyPath: `${stem}.d`,
      extraOutputs: [`${stem}.dwo`, `${stem}.gcno`],
    });
  });

  test("the last -o and the last -MF count", () => {
    const args = ["-c", "a.c", "-o", "x.o", "-oy.o", "-MD", "-MF", "x.d", "-MFy.d"];
    expect(flat(compile(...args))).toMatchObject({ output: "y.o", dependencyPath: "y.d" });
  });

  test("a command that links stays here", () => {
    expect(parse("a.o", "b.a", "-o", "prog")).toMatchObject({ reason: "link" });
    expect(parse("a.c", "-o", "prog")).toMatchObject({ reason: "no-c-flag" });
  });

  test("a preprocessor run is told everything but source, output and dependency files", () => {
    const args = "-c a.c -o a.o -MD -MF a.d -MT t -Iinc -DA -Wp,-DB,-MMD,b.d -O2 -include x.h";
    expect(compile(...args.split(" ")).bareArgs).toEqual(
      "-Iinc -DA -DB -O2 -include x.h".split(" "),
    );
  });

  test("folders keep their order within each class", () => {
    const args = "-c a.c -I1 -isystem s1 -I 2 -iquote q -isystem s2 -idirafter z -I3";
    expect(compile(...args.split(" ")).dirs).toEqual({
      quote: ["q"],
      bracket: ["1", "2", "3"],
      system: ["s1", "s2"],
      after: ["z"],
    });
  });
});
