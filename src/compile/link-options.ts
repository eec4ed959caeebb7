/**
 * The options of ELF linkers (GNU ld, gold, lld), one row each: how an option takes its value and
 * what it means for what a link reads and writes. An option that no row names is not understood.
 */

/** Why the result of a link is not remembered. Some name the culprit. */
export type LinkReason =
  | "not-a-link"
  | "compile-and-link"
  | "stdin"
  | "query"
  | "verbose"
  | "trace"
  | "map-stdout"
  | "time-report"
  | "build-id-uuid"
  | "lto"
  | "plugin"
  | "incremental"
  | "extra-output"
  | "save-temps"
  | "specs"
  | "language"
  | "script-output"
  | "input-missing"
  | "input-unknown"
  | "sysroot-relative"
  | "bad-arguments"
  | "unknown-flag";

/**
 * `flag`: nothing follows. `value`: `=VALUE`, or the next word. `maybe`: `=VALUE` or nothing.
 * `stuck`: one letter with its value behind it, or the next word. `joined`: the rest, if any.
 */
type Form = "flag" | "value" | "maybe" | "stuck" | "joined";

export type Role =
  | "pass"
  | "output"
  | "map"
  | "dependency-file"
  | "folder"
  | "library"
  | "static"
  | "dynamic"
  | "push"
  | "pop"
  | "relocatable"
  | "run-path"
  | "link-path"
  | "symbols"
  | "script"
  | "file"
  | "format"
  | "sysroot"
  | "emulation"
  | "build-id"
  | "no-default-folders"
  | "plugin";

type Line = readonly [form: Form, role: Role | `here:${LinkReason}`, names: string];

/** Long names with one or two dashes, without them; single letters only as they are. */
const lines: readonly Line[] = [
  // What is made.
  ["stuck", "output", "o"],
  ["value", "output", "output"],
  ["value", "map", "Map"],
  ["value", "dependency-file", "dependency-file"],
  [
    "flag",
    "pass",
    "shared Bshareable pie pic-executable no-pie no-pic-executable E export-dynamic",
  ],
  ["flag", "pass", "no-export-dynamic no-dynamic-linker s strip-all S strip-debug x X discard-all"],
  ["flag", "pass", "discard-locals discard-none strip-discarded no-strip-discarded q emit-relocs"],
  ["flag", "relocatable", "r i relocatable Ur"],
  // Neither of them links with shared libraries.
  ["flag", "static", "N omagic n nmagic"],
  ["flag", "pass", "no-omagic no-nmagic"],
  ["maybe", "build-id", "build-id"],
  ["value", "pass", "soname h dynamic-linker I hash-style e entry init fini oformat image-base"],
  ["value", "pass", "compress-debug-sections spare-dynamic-tags hash-size"],
  ["maybe", "pass", "package-metadata"],

  // What is read.
  ["stuck", "library", "l"],
  ["value", "library", "library"],
  ["stuck", "folder", "L"],
  ["value", "folder", "library-path"],
  ["flag", "static", "Bstatic dn non_shared static"],
  ["flag", "dynamic", "Bdynamic dy call_shared"],
  ["flag", "push", "push-state"],
  ["flag", "pop", "pop-state"],
  ["value", "run-path", "rpath"],
  ["value", "link-path", "rpath-link"],
  ["value", "symbols", "R just-symbols"],
  ["stuck", "script", "T"],
  ["value", "script", "script default-script dT"],
  ["value", "file", "version-script dynamic-list export-dynamic-symbol-list retain-symbols-file"],
  ["value", "file", "symbol-ordering-file call-graph-ordering-file section-ordering-file"],
  ["value", "format", "b format"],
  ["value", "sysroot", "sysroot"],
  ["stuck", "emulation", "m"],
  ["flag", "no-default-folders", "nostdlib"],
  ["flag", "pass", "( ) start-group end-group start-lib end-lib whole-archive no-whole-archive"],
  ["flag", "pass", "as-needed no-as-needed add-needed no-add-needed copy-dt-needed-entries"],
  ["flag", "pass", "no-copy-dt-needed-entries EB EL accept-unknown-input-arch"],

  // How it is made.
  ["joined", "pass", "O"],
  ["stuck", "pass", "z u y"],
  ["value", "pass", "undefined require-defined undefined-glob defsym section-start trace-symbol"],
  ["value", "pass", "Ttext Tdata Tbss Ttext-segment Trodata-segment Tldata-segment wrap"],
  ["value", "pass", "f F auxiliary filter exclude-libs exclude-symbols unresolved-symbols"],
  ["value", "pass", "sort-section orphan-handling ignore-unresolved-symbol export-dynamic-symbol"],
  ["value", "pass", "icf icf-iterations keep-unique pack-dyn-relocs split-stack-adjust-size"],
  ["value", "pass", "thread-count max-cache-size stub-group-size error-limit rosegment-gap"],
  [
    "value",
    "pass",
    "version-exports-section hash-bucket-empty-fraction build-id-chunk-size-for-treehash",
  ],
  ["value", "pass", "build-id-min-file-size-for-treehash warn-backrefs-exclude fuse-ld"],
  [
    "maybe",
    "pass",
    "demangle sort-common unique threads color-diagnostics plt-align power10-stubs",
  ],
  ["flag", "pass", "gc-sections no-gc-sections gc-keep-exported print-gc-sections"],
  ["flag", "pass", "no-print-gc-sections print-icf-sections no-print-icf-sections"],
  [
    "flag",
    "pass",
    "print-memory-usage eh-frame-hdr no-eh-frame-hdr no-demangle no-color-diagnostics",
  ],
  ["flag", "pass", "enable-new-dtags disable-new-dtags Bsymbolic Bsymbolic-functions Bno-symbolic"],
  ["flag", "pass", "Bsymbolic-non-weak-functions Bsymbolic-non-weak Bgroup define-common"],
  ["flag", "pass", "no-define-common d dc dp g Qy qmagic relax no-relax no-undefined"],
  ["flag", "pass", "allow-shlib-undefined no-allow-shlib-undefined allow-multiple-definition"],
  ["flag", "pass", "no-allow-multiple-definition undefined-version no-undefined-version"],
  ["flag", "pass", "fatal-warnings no-fatal-warnings w no-warnings noinhibit-exec"],
  ["flag", "pass", "warn-common no-warn-common warn-constructors warn-once warn-section-align"],
  ["flag", "pass", "warn-textrel warn-shared-textrel no-warn-shared-textrel warn-alternate-em"],
  ["flag", "pass", "warn-unresolved-symbols error-unresolved-symbols warn-execstack"],
  ["flag", "pass", "no-warn-execstack error-execstack no-error-execstack warn-rwx-segments"],
  ["flag", "pass", "no-warn-rwx-segments error-rwx-segments no-error-rwx-segments"],
  ["flag", "pass", "no-warn-mismatch no-warn-search-mismatch warn-search-mismatch warn-backrefs"],
  ["flag", "pass", "no-warn-backrefs warn-ifunc-textrel no-warn-ifunc-textrel"],
  ["flag", "pass", "warn-symbol-ordering no-warn-symbol-ordering detect-odr-violations"],
  ["flag", "pass", "no-detect-odr-violations check-sections no-check-sections no-keep-memory"],
  ["flag", "pass", "reduce-memory-overheads keep-files-mapped no-keep-files-mapped"],
  ["flag", "pass", "map-whole-files no-map-whole-files mmap-output-file no-mmap-output-file"],
  ["flag", "pass", "posix-fallocate no-posix-fallocate no-threads cref gdb-index no-gdb-index"],
  ["flag", "pass", "gnu-unique no-gnu-unique rosegment no-rosegment text-reorder no-text-reorder"],
  ["flag", "pass", "ctors-in-init-array no-ctors-in-init-array dynamic-list-data"],
  ["flag", "pass", "dynamic-list-cpp-new dynamic-list-cpp-typeinfo default-symver"],
  ["flag", "pass", "default-imported-symver ld-generated-unwind-info no-ld-generated-unwind-info"],
  ["flag", "pass", "force-group-allocation enable-non-contiguous-regions traditional-format"],
  ["flag", "pass", "print-map-discarded no-print-map-discarded ctf-variables no-ctf-variables"],
  ["flag", "pass", "no-pipeline-knowledge merge-exidx-entries no-merge-exidx-entries pic-veneer"],
  ["flag", "pass", "execute-only no-execute-only fix-cortex-a8 no-fix-cortex-a8"],
  ["flag", "pass", "fix-cortex-a53-843419 fix-cortex-a53-835769 no-fix-cortex-a53-843419"],
  ["flag", "pass", "no-fix-cortex-a53-835769 apply-dynamic-relocs no-apply-dynamic-relocs"],
  ["flag", "pass", "fortran-common no-fortran-common optimize-bb-jumps no-optimize-bb-jumps"],

  // What makes the result depend on more than the inputs, or prints what is nobody else's.
  ["value", "plugin", "plugin plugin-opt"],
  ["joined", "here:lto", "flto lto- thinlto-"],
  ["flag", "here:map-stdout", "M print-map"],
  ["flag", "here:trace", "t trace"],
  ["joined", "here:verbose", "v V verbose version"],
  ["joined", "here:query", "help target-help print-sysroot print-output-format"],
  ["joined", "here:time-report", "stats time-trace print-archive-stats"],
  ["joined", "here:incremental", "incremental"],
  ["joined", "here:extra-output", "out-implib reproduce opt-remarks- why-extract print-symbol-"],
  ["joined", "here:save-temps", "save-temps"],
];

const exact = new Map<string, { readonly form: Form; readonly role: Line[1] }>();
const begun: { readonly name: string; readonly role: Line[1] }[] = [];
for (const [form, role, names] of lines) {
  for (const name of names.split(" ")) {
    if (form !== "joined") exact.set(name, { form, role });
    else begun.push({ name, role });
  }
}

export interface LinkOption {
  readonly role: Role | `here:${LinkReason}`;
  readonly value: string;
  /** How many words it takes. */
  readonly words: number;
}

/** Reads the option at `words[at]`; undefined when no row names it or its value is missing. */
export function readLinkOption(words: readonly string[], at: number): LinkOption | undefined {
  const word = words[at] ?? "";
  const dashes = word.startsWith("--") ? 2 : 1;
  const [, name = "", joined] = /^([^=]*)(?:=(.*))?$/s.exec(word.slice(dashes)) ?? [];
  const row = exact.get(name);
  // A single letter never takes two dashes, nor a value behind "=".
  const fits = row !== undefined && (name.length > 1 ? true : dashes === 1 && joined === undefined);
  if (row !== undefined && fits) {
    const { form, role } = row;
    if (form === "flag") return joined === undefined ? { role, value: "", words: 1 } : undefined;
    if (joined !== undefined) return { role, value: joined, words: 1 };
    if (form === "maybe") return { role, value: "", words: 1 };
    const next = words[at + 1];
    return next === undefined ? undefined : { role, value: next, words: 2 };
  }
  const letter = dashes === 1 ? exact.get(word.charAt(1)) : undefined;
  if (letter?.form === "stuck" && word.length > 2)
    return { role: letter.role, value: word.slice(2), words: 1 };
  const start = begun.find(({ name: prefix }) => word.startsWith(prefix, dashes));
  return start && { role: start.role, value: word, words: 1 };
}
