/**
 * Plain words for the short reasons that planners, doors and the owner give: why a task ran here,
 * and why a result was not kept. Every sentence goes on from "because".
 */

/** A reason in words. One that no row names, from a newer part or a peer, is told as it is. */
export function reasonText(reason: string): string {
  const exact = sentenceOf(reason);
  if (exact !== undefined) return exact.replace(/ %/, "");
  // "unknown-flag -fnew", "environment CPATH": a word of the set, and what it is about.
  const [, word = "", detail = ""] = /^((?:remote )?[a-z-]+):? (.*)$/s.exec(reason) ?? [];
  const sentence = sentenceOf(word);
  if (sentence === undefined) return reason;
  return sentence.includes("%") ? sentence.replace("%", detail) : `${sentence} (${detail})`;
}

/** The rows of docs/explain.md. @internal */
export function reasonRows(): readonly string[] {
  return Object.entries(sentences).map(
    ([reason, sentence]) => `| \`${reason}\` | ${sentence.replace("%", "…")} |`,
  );
}

function sentenceOf(reason: string): string | undefined {
  return Object.hasOwn(sentences, reason) ? sentences[reason] : undefined;
}

const sentences: Readonly<Record<string, string>> = {
  // Nobody else was to be asked.
  "no-peers": "no other machine was there",
  "no-steal": "--no-steal keeps every task on this machine",
  "slot-free": "a slot here was free at once",
  compare: "--compare does it here once more",
  "no-cache": "neither a peer nor a known result was to be used",

  // The command line.
  "not-utf8": "its command line or a file's name is not UTF-8, which actions are made of",
  "unknown-compiler": "this program's command line is not one that the mesh reads",
  "compiler-unknown": "the compiler is neither a GCC nor a Clang that the mesh knows",
  "compiler-wrapper": "the compiler is itself a wrapper, such as ccache or distcc",
  "no-source": "no source file is named on its command line",
  "no-c-flag": "it does more than compile one file (there is no -c)",
  link: "it links, which happens where its inputs are",
  links: "it links for a system that the mesh does not link for",
  "several-sources": "it compiles several sources at once",
  "several-languages": "its sources are in several languages",
  "several-architectures": "it compiles for several architectures at once",
  stdin: "its source comes from stdin",
  stdout: "its output goes to stdout",
  "output-name": "the name of its output leaves open what the files beside it are called",
  "too-long": "its command line is longer than a program can be given",
  "preprocess-only": "it only preprocesses, which is as quick here",
  "assembly-output": "it writes assembly (-S)",
  "syntax-only": "it only checks the syntax, and writes nothing",
  query: "it only asks the compiler something",
  "rustc-query": "it only asks rustc something",
  verbose: "it prints the compiler's own commands, which would be another machine's",
  language: "its language is not C or C++",
  assembler: "it runs the assembler in a way that the mesh does not follow",
  "assembler-flag": "an option for the assembler is one that the mesh does not know",
  "preprocessed-source": "its source has been preprocessed, and names files that cannot be checked",
  "pch-create": "it makes a precompiled header, which only its own compiler can use",
  "pch-use": "it may use a precompiled header, which holds addresses of this machine's compiler",
  "save-temps": "it keeps intermediate files (-save-temps)",
  dump: "it writes dumps whose names the compiler chooses",
  "extra-output": "it writes files beside the object that the mesh does not follow",
  "time-report": "it reports how long the compiler took, which differs every time",
  profile: "it reads or writes a profile",
  plugin: "it loads a compiler plugin, which may read anything",
  "lto-random-seed": "its link-time information has random names without -frandom-seed",
  lto: "it optimises at link time with files that the mesh does not follow",
  modules: "it uses modules, whose files the mesh does not follow",
  specs: "a specs or configuration file changes what the compiler does",
  charset: "it converts character sets, which this machine's C library does",
  offload: "it compiles for an accelerator",
  "list-file": "an option names a file that the mesh does not read",
  "sysroot-relative": "a header folder is given relative to the sysroot",
  "bad-arguments": "its command line is incomplete, and the compiler says so best",
  "unknown-flag": "the mesh does not know the option %",
  "unknown-option": "the mesh does not know the option %",
  environment: "the variable % changes what the compiler does",
  locale: "the messages of this language could not be found",
  "march-native": "it could not be found out what -march=native means here",

  // Links and archives.
  ar: "it makes an archive, which happens where its members are",
  "not-a-link": "it is neither a compile nor a link that the mesh reads",
  "compile-and-link": "it compiles and links in one command",
  trace: "it prints the files it links, wherever they are",
  "map-stdout": "it prints its map",
  "build-id-uuid": "its build id is random",
  "script-output": "a linker script names its output",
  "input-missing": "% is not there",
  "input-unknown": "% is no kind of file that the mesh knows how to link",
  "no-input": "no object is named on its command line",
  "linker-unknown": "the linker is none that the mesh knows",
  "linker-unverified": "the linker cannot say which files it read",
  "link-unverified": "the linker did not say which files it read",
  "link-unknown": "the linker did not write down what it read",
  "link-miss": "it read a file that was not among its inputs",
  "ar-wrapper": "the archiver is itself a wrapper",
  "ar-unknown": "the archiver is none that the mesh knows",
  "archive-times": "the archive holds times or owners of files, which differ every time",
  "archive-thin": "a thin archive only points to its members",
  "archive-update": "it changes an archive that is there, and keeps members of it",

  // CUDA.
  split: "nvcc was split into its parts, which are tasks of their own",
  "arch-native": "it compiles for the GPU of this machine, whatever that is",
  "device-link": "it links device code",
  "device-lto": "it optimises device code at link time",
  "device-only": "it writes device code only",
  "dependencies-only": "it only lists dependencies",
  "host-count": "how it splits its work depends on the cores of this machine",
  jobserver: "it takes its tokens from make",
  keep: "it keeps or names intermediate files",
  "response-file": "a response file could not be read",
  run: "it runs what it made",
  "source-type": "its source is of a kind that the mesh does not read",
  "toolkit-layout": "an option changes where the toolkit lies",
  "dry-run": "nvcc did not say what it would do",
  "no-scratch-folder": "there is no folder for its intermediate files",
  "no-program": "a program that nvcc calls was not found",
  "host-compiler": "its host compiler is none that the mesh knows",

  // Its source and headers.
  "time-macro": "it uses __DATE__, __TIME__ or __TIMESTAMP__, so every compile differs",
  incbin: "it includes bytes with .incbin",
  embed: "it includes bytes with #embed",
  "computed-has-include": "a macro decides which file __has_include asks for",
  "computed-include": "a macro decides which header is included",
  "file-pragma": "a #pragma names a file",
  "twin-headers": "two of its headers have the same bytes, which compilers tell apart by place",
  "scanner-miss": "the compiler read a header that the scan had not found",
  "cannot-plan": "its inputs could not be found out",
  "planner-failed": "its inputs could not be found out, which is a bug in mesh-node",

  // Its outputs.
  "no-output-folder": "the folder of its output is not there",
  "output-folder": "the folder of its output is not there",
  "output-special": "its output is a device, a pipe or a symlink",
  "output-not-a-file": "its output is a device, a pipe or a symlink",
  "output-read-only": "its output may not be written",

  // Rust.
  incremental: "it reads and writes state of earlier runs, which only this machine has",
  "native-library": "it bundles a static library that a build script made",
  "unusual-outputs": "it writes files whose names rustc chooses",
  "prints-for-people": "it prints for the terminal it was started from",
  "no-dep-info": "without a dependency file nobody learns what it read",
  "unusual-sysroot": "it uses a target or a sysroot of its own",
  "unsupported-toolchain": "this rustc's own files could not be found out",
  "package-too-large": "its package has too many files to send along",
  "input-vanished": "one of its inputs is gone",
  "reads-secret": "it reads a variable that looks like a secret",
  "input-miss": "it read a file that was not among its inputs",
  "env-miss": "it read a variable that was not among its inputs",
  "macro-looks-around": "a procedural macro may list folders, start programs or open connections",
  "macro-untraced": "what its procedural macros read cannot be watched here",
  "macro-reads-secret": "a procedural macro may read a variable or a file that looks like a secret",
  "macro-library": "a procedural macro uses a library that the mesh does not know",

  // What went wrong elsewhere, or with a file here.
  "remote exit": "it ended with exit code % there, which only a run here may decide",
  "peer left": "the peer went away",
  "lease expired": "the peer was not heard of any more",
  deadline: "it took too long",
  cancelled: "it was called off",
  "peer-gone": "the peer went away",
  "blob-missing": "bytes it needs were nowhere to be had",
  "blob-corrupt": "bytes that came were not what they said",
  limit: "it goes beyond a bound",
  malformed: "an answer or a file was not what its format says",
  refused: "an answer could not be what a run here would have given",
  "wrong-mesh": "the peer belongs to another mesh",
  "no-mesh": "there is no mesh",
  "in-use": "somebody else holds a file it needs",
  "no-space": "the disk is full",
  io: "the disk, a socket or a process failed",
  unsupported: "it is nothing that this machine can plan",
  usage: "it makes no sense",

  // Why a result was not kept.
  "exit-code": "it ended with exit code %",
  "output-too-long": "it printed more than is remembered",
  "output-missing": "an output was not there when it ended",
  "output-changed": "an output changed while it was copied",
  "input-changed": "an input was touched while it ran",
  "not-an-action": "nothing about it is looked up or remembered",
  "no-cache-write": "--no-cache and --no-cache-write remember nothing",
  "not-traceable": "it ran where its reads could not be watched",
};
