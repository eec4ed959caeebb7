/**
 * The options of GCC and Clang drivers, one row each: how an option takes its value, and what it
 * means for running the command elsewhere. An option that no row names keeps the command here.
 */

/** Why a command line is not given away. `unknown-flag` and `environment` name the culprit. */
export type Reason =
  | "no-source"
  | "no-c-flag"
  | "link"
  | "several-sources"
  | "several-architectures"
  | "stdin"
  | "stdout"
  | "several-languages"
  | "preprocess-only"
  | "syntax-only"
  | "query"
  | "verbose"
  | "language"
  | "assembler"
  | "assembler-flag"
  | "preprocessed-source"
  | "pch-create"
  | "pch-use"
  | "output-name"
  | "save-temps"
  | "dump"
  | "extra-output"
  | "time-report"
  | "profile"
  | "plugin"
  | "lto"
  | "lto-random-seed"
  | "modules"
  | "specs"
  | "charset"
  | "offload"
  | "list-file"
  | "sysroot-relative"
  | "bad-arguments"
  | "unknown-flag";

/**
 * `flag`: nothing follows. `joined`: the value is the rest, which may be empty. `filled`: the rest,
 * not empty. `separate`: the next argument. `either`: the rest, or the next argument if there is none.
 */
export type Form = "flag" | "joined" | "filled" | "separate" | "either";

/** What an option does here, besides travelling unchanged. */
export type Role =
  | "pass"
  /** Changes which tools run or which folders are searched by default. */
  | "tool"
  | "machine"
  | "feature"
  | "warning"
  | "preprocessor-pass"
  | "assembler-pass"
  | "llvm-pass"
  | "stage"
  | "macro-dump"
  | "output"
  | "language"
  | "standard"
  | "quote"
  | "bracket"
  | "system"
  | "after"
  | "embed"
  | "forced"
  | "define"
  | "dependencies"
  | "dependency-file"
  | "dependency-target"
  | "dependency-phony"
  | "charset"
  | "split-dwarf"
  | "coverage"
  | "lto"
  | "seed";

export interface Row {
  readonly form: Form;
  readonly role: Role | `here:${Reason}`;
}

type Line = readonly [form: Form, role: Role | `here:${Reason}`, names: string];

/** The longest name that fits an argument decides. */
const lines: readonly Line[] = [
  // What is to be made.
  ["flag", "stage", "-c --compile -S --assemble -E --preprocess"],
  ["either", "output", "-o"],
  ["separate", "output", "--output"],
  ["filled", "output", "--output="],
  ["either", "language", "-x"],
  ["filled", "standard", "-std= --std="],
  ["flag", "pass", "-ansi"],
  ["flag", "here:preprocess-only", "-M -MM --dependencies --user-dependencies"],
  ["flag", "pass", "-P -C -CC"],
  ["flag", "macro-dump", "-dD -dI -dM -dN -dU"],
  ["flag", "here:syntax-only", "-fsyntax-only"],
  [
    "flag",
    "here:query",
    "--version --help --target-help -dumpversion -dumpmachine -dumpfullversion",
  ],
  ["joined", "here:query", "-print- --print- -dumpspecs --help= -cc1"],
  ["flag", "here:verbose", "-v --verbose -### -Q"],

  // Where headers are.
  ["either", "bracket", "-I"],
  ["either", "quote", "-iquote"],
  ["either", "system", "-isystem"],
  ["either", "after", "-idirafter"],
  ["filled", "embed", "--embed-dir="],
  ["either", "forced", "-include -imacros"],
  ["either", "tool", "-isysroot"],
  ["separate", "tool", "--sysroot"],
  ["filled", "tool", "--sysroot="],
  ["flag", "tool", "-nostdinc -nostdinc++ -nostdlibinc -no-canonical-prefixes"],
  ["either", "tool", "-B"],

  // Macros.
  ["either", "define", "-D"],
  ["either", "pass", "-U -A"],
  ["flag", "pass", "-undef -trigraphs -H"],

  // Dependency files.
  ["flag", "dependencies", "-MD -MMD --write-dependencies --write-user-dependencies"],
  ["either", "dependency-file", "-MF"],
  ["either", "dependency-target", "-MT -MQ"],
  ["flag", "dependency-phony", "-MP"],
  ["flag", "pass", "-MV"],

  // Which tools.
  ["separate", "tool", "-target"],
  ["filled", "tool", "--target= --gcc-toolchain= --gcc-install-dir= -stdlib= -resource-dir="],
  ["separate", "tool", "-resource-dir"],
  ["joined", "here:specs", "-specs --specs --config"],
  ["separate", "here:plugin", "-wrapper -load"],
  ["joined", "here:plugin", "-fplugin -fpass-plugin"],

  // Code generation, optimisation, debugging, warnings.
  ["joined", "pass", "-O -g"],
  ["flag", "split-dwarf", "-gsplit-dwarf"],
  ["filled", "split-dwarf", "-gsplit-dwarf="],
  ["joined", "machine", "-m"],
  ["separate", "llvm-pass", "-mllvm"],
  ["joined", "feature", "-f"],
  ["joined", "warning", "-W"],
  ["filled", "preprocessor-pass", "-Wp,"],
  ["filled", "assembler-pass", "-Wa,"],
  ["joined", "pass", "-Wl,"],
  ["flag", "pass", "-w -pedantic -pedantic-errors -pthread -pipe -p -pg -Qunused-arguments"],
  ["separate", "pass", "--param"],
  ["filled", "pass", "--param="],

  // Links only: without effect beside -c, but some drivers warn about them.
  ["flag", "pass", "-shared -static -pie -no-pie -static-pie -rdynamic -s -r -nostdlib"],
  ["flag", "pass", "-nodefaultlibs -nostartfiles -nostdlib++ -nolibc -symbolic"],
  ["flag", "pass", "-static-libgcc -shared-libgcc -static-libstdc++ -static-libasan"],
  ["either", "pass", "-l -L"],
  ["separate", "pass", "-Xlinker -T -u -z -e"],
  ["filled", "pass", "-rtlib= --rtlib= -unwindlib= --unwindlib= -fuse-ld= --ld-path="],

  // Files beside the object.
  ["joined", "here:save-temps", "-save-temps --save-temps -save-stats"],
  ["joined", "here:dump", "-d -fdump- -fopt-info -fdebug-dump -fsave-optimization-record"],
  ["joined", "here:dump", "-foptimization-record -fdiagnostics-format= -fdiagnostics-add-output="],
  ["flag", "pass", "-fdiagnostics-format=text -fdiagnostics-format=clang"],
  ["joined", "here:extra-output", "-fstack-usage -fcallgraph-info -aux-info -MJ -fdeps- -fcrash-"],
  ["joined", "here:extra-output", "-fprofile-note= -fembed-bitcode -emit-"],
  [
    "joined",
    "here:time-report",
    "-ftime-report -ftime-trace -time -fmem-report -fpre-ipa-mem-report",
  ],
  ["joined", "here:time-report", "-fpost-ipa-mem-report -fproc-stat-report"],
  ["flag", "coverage", "--coverage -coverage -ftest-coverage -fprofile-arcs"],

  // Optimisation at link time.
  ["flag", "lto", "-flto -fno-lto"],
  ["filled", "lto", "-flto="],
  ["filled", "pass", "-flto-partition= -flto-compression-level= -flto-jobs="],
  ["flag", "pass", "-fsplit-lto-unit -fno-split-lto-unit -fwhole-program-vtables"],
  ["filled", "seed", "-frandom-seed="],

  // Files that the parser does not follow.
  ["flag", "pass", "-fprofile-instr-generate"],
  ["joined", "here:profile", "-fprofile-use -fprofile-generate -fprofile-instr- -fprofile-sample"],
  ["joined", "here:profile", "-fcs-profile- -fauto-profile -fbranch-probabilities -fprofile-list"],
  ["joined", "here:profile", "-fprofile-values -fprofile-remapping-file"],
  ["joined", "here:lto", "-flto -fthinlto"],
  ["joined", "here:modules", "-fmodule -fmodules -fimplicit-module -fprebuilt- -fbuiltin-module"],
  ["joined", "here:modules", "-fcxx-modules -fheader-unit -ftemplate-module -emit-module"],
  ["joined", "here:pch-use", "-include-pch -fpch- -fno-pch- -relocatable-pch"],
  [
    "joined",
    "here:preprocessed-source",
    "-fpreprocessed -fdirectives-only -no-integrated-cpp -remap",
  ],
  ["joined", "here:preprocessed-source", "-traditional"],
  ["joined", "here:assembler", "-fno-integrated-as -no-integrated-as -Xassembler"],
  ["joined", "charset", "-finput-charset= -fexec-charset= -fwide-exec-charset="],
  ["joined", "here:list-file", "-fsanitize-blacklist -fsanitize-ignorelist -fsanitize-system-"],
  [
    "joined",
    "here:list-file",
    "-fsanitize-coverage-allowlist -fsanitize-coverage-ignorelist -fxray-",
  ],
  ["joined", "here:list-file", "-frandomize-layout-seed-file -fsymbol-partition -fembed-offload"],
  ["joined", "here:offload", "-foffload -fopenmp-targets -fcuda -fgpu -fsycl -fopenacc -fhip"],
  ["joined", "here:several-architectures", "-arch -Xarch"],
  ["joined", "here:dump", "-fcompare-debug -fself-test -freport-bug"],
];

const exact = new Map<string, Row>();
const prefixes = new Map<string, Row>();
let longestPrefix = 0;
for (const [form, role, names] of lines) {
  for (const name of names.split(" ")) {
    if (form === "flag" || form === "separate" || form === "either")
      exact.set(name, { form, role });
    if (form === "flag" || form === "separate") continue;
    prefixes.set(name, { form, role });
    longestPrefix = Math.max(longestPrefix, name.length);
  }
}

/** The row for one argument, and how much of the argument is the option's name. */
export function rowFor(
  arg: string,
): { readonly row: Row; readonly nameLength: number } | undefined {
  const whole = exact.get(arg);
  if (whole !== undefined) return { row: whole, nameLength: arg.length };
  for (let length = Math.min(arg.length, longestPrefix); length > 1; length--) {
    const row = prefixes.get(arg.slice(0, length));
    if (row === undefined) continue;
    if (row.form === "filled" && arg.length === length) continue;
    return { row, nameLength: length };
  }
  return undefined;
}

/** For the tests: every option name that some row decides. @internal */
export const rowNames: readonly string[] = lines.flatMap(([, , names]) => names.split(" "));
