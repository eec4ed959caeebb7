/**
 * rustc command lines, as Cargo writes them: which units can run anywhere, and what they read and
 * write.
 *
 * Every option stands in one table. An option that is not in it keeps the unit here: better a
 * local compile than a wrong one. It touches no disk.
 */
import { join, resolve } from "node:path";
import { type Linking, linkingOf, outputsOf, whyTypesHere } from "./rustc-outputs.ts";

/** Why a unit stays here; the closed set that the summary shows. */
export type RustReason =
  | "rustc-query" // --print, --version, -V, stdin: Cargo asks, nothing is compiled
  | "links" // for a system other than Linux
  | "incremental" // reads and writes state of earlier runs, which only this node has
  | "native-library" // bundles a static library that a build script made
  | "unusual-outputs" // emits something whose name rustc chooses
  | "prints-for-people" // in the width and colours of a terminal that only this node sees
  | "no-dep-info" // without it nobody learns which variables were read
  | "unusual-sysroot"
  | `unknown-option ${string}`;

/** A unit all of whose outputs have names that are known beforehand. */
export interface RustUnit {
  readonly crateName: string;
  /** What tells it from other units of the same crate, as part of file names. */
  readonly extra: string;
  /** Absolute. */
  readonly source: string;
  readonly outDir: string;
  /** Absolute paths of everything it may write. */
  readonly outputs: readonly string[];
  readonly depInfo: string;
  /** What dependents load this unit by, without extension: `<out dir>/lib<name><extra>`. */
  readonly stem: string;
  /** Absolute paths given with `--extern`. */
  readonly externs: readonly string[];
  /** Absolute folders that hold dependencies of dependencies. */
  readonly dependencyDirs: readonly string[];
  /** Absolute folders in which system libraries are looked for before the usual ones. */
  readonly nativeDirs: readonly string[];
  /** Names of system libraries. */
  readonly nativeNames: readonly string[];
  /** How the linker is used, if it is. */
  readonly linking: Linking | undefined;
  /** Whether system libraries can be bundled into a library that it makes. */
  readonly bundles: boolean;
  /** Whether it makes a library that holds all the code below it. */
  readonly packs: boolean;
  /** Undefined: the host's. */
  readonly target: string | undefined;
  readonly args: readonly string[];
}

export type RustParse =
  | {
      readonly at: "here";
      readonly reason: RustReason;
      readonly stem: string | undefined;
      readonly crateName: string;
      readonly externs: readonly string[];
      readonly nativeNames: readonly string[];
    }
  | { readonly at: "anywhere"; readonly unit: RustUnit };

/** What an option does to where a unit may run. */
type Meaning = "keep" | "here-query" | "here-sysroot";

/** Long options that take a value, as `--name=value` or `--name value`. */
const withValue: Readonly<Record<string, Meaning>> = {
  "crate-name": "keep",
  "crate-type": "keep",
  edition: "keep",
  emit: "keep",
  "error-format": "keep",
  json: "keep",
  color: "keep",
  "diagnostic-width": "keep",
  "out-dir": "keep",
  extern: "keep",
  cfg: "keep",
  "check-cfg": "keep",
  "cap-lints": "keep",
  target: "keep",
  "remap-path-prefix": "keep",
  allow: "keep",
  warn: "keep",
  "force-warn": "keep",
  deny: "keep",
  forbid: "keep",
  codegen: "keep",
  print: "here-query",
  explain: "here-query",
  sysroot: "here-sysroot",
};

const flags: Readonly<Record<string, Meaning>> = {
  "-g": "keep",
  "-O": "keep",
  "-v": "keep",
  "--verbose": "keep",
  "--test": "keep",
  "-h": "here-query",
  "--help": "here-query",
  "-V": "here-query",
  "-vV": "here-query",
  "--version": "here-query",
};

/** One-letter options that take a value, joined or not. */
const letters = new Set(["L", "l", "C", "A", "W", "D", "F", "o", "Z"]);

/** Codegen options that change nothing but the bytes of the declared outputs. */
const codegenKeep = new Set([
  "code-model",
  "codegen-units",
  "debug-assertions",
  "default-linker-libraries",
  "debuginfo",
  "dwarf-version",
  "embed-bitcode",
  "extra-filename",
  "force-frame-pointers",
  "force-unwind-tables",
  "inline-threshold",
  "instrument-coverage",
  "link-arg",
  "link-args",
  "link-dead-code",
  "link-self-contained",
  "linker",
  "linker-features",
  "linker-flavor",
  "linker-plugin-lto",
  "lto",
  "metadata",
  "no-prepopulate-passes",
  "opt-level",
  "overflow-checks",
  "panic",
  "prefer-dynamic",
  "relocation-model",
  "relro-level",
  "rpath",
  "strip",
  "symbol-mangling-version",
  "target-feature",
  "tune-cpu",
]);

interface Option {
  readonly name: string;
  readonly value: string;
  /** The words it was written in. */
  readonly words: readonly string[];
}

/** Reads one command line, without argv[0]. */
export function parseRustc(args: readonly string[], cwd: string): RustParse {
  const read = readOptions(args);
  const { options, sources } = read;
  const all = (name: string) =>
    options.flatMap((option) => (option.name === name ? option.value : []));
  const last = (name: string) => all(name).at(-1);
  const codegen = all("codegen").map(splitCodegen);
  const codegenOf = (name: string) => codegen.findLast(([key]) => key === name)?.[1];

  const crateName = last("crate-name") ?? "";
  const extra = codegenOf("extra-filename") ?? "";
  const outDir = resolve(cwd, last("out-dir") ?? ".");
  const stem = join(outDir, `lib${crateName}${extra}`);
  const externs = all("extern").flatMap((value) => externPath(value, cwd));
  const nativeNames = all("l").flatMap(nativeName);
  const here = (reason: RustReason): RustParse => ({
    ...{ at: "here", reason, stem: crateName === "" ? undefined : stem },
    ...{ crateName, externs, nativeNames },
  });

  if (read.reason !== undefined) return here(read.reason);
  const source = sources[0];
  if (sources.length !== 1 || source === undefined || source === "-" || crateName === "") {
    return here("rustc-query");
  }
  const emits = all("emit").flatMap((value) => value.split(","));
  const isTest = read.words.includes("--test");
  const types = isTest ? ["bin"] : all("crate-type").flatMap((value) => value.split(","));
  const target = last("target");
  const reason =
    (codegenOf("incremental") === undefined ? undefined : "incremental") ??
    whyTypesHere(types, emits, target) ??
    whyHere(all, emits, codegen);
  if (reason !== undefined) return here(reason);
  const depInfo = join(outDir, `${crateName}${extra}.d`);
  const dirs = all("L").map((value) => searchDir(value, cwd));
  return {
    at: "anywhere",
    unit: {
      ...{ crateName, extra, source: resolve(cwd, source), outDir, depInfo, stem, externs },
      outputs: [...outputsOf({ crateName, extra, outDir }, types, emits), depInfo],
      dependencyDirs: dirs.flatMap(({ kind, path }) => (isNative(kind) ? [] : path)),
      nativeDirs: dirs.flatMap(({ kind, path }) => (/^(native|all|)$/.test(kind) ? path : [])),
      nativeNames,
      linking: linkingOf(types, emits, target, codegen),
      bundles: emits.includes("link") && types.some((type) => /^(lib|rlib|staticlib)$/.test(type)),
      packs: emits.includes("link") && types.includes("staticlib"),
      target,
      args,
    },
  };
}

type Codegen = readonly (readonly [name: string, value: string])[];

/** What keeps a unit here that has one source and a name. */
function whyHere(
  all: (name: string) => readonly string[],
  emits: readonly string[],
  codegen: Codegen,
): RustReason | undefined {
  if (emits.length === 0 || !emits.every((emit) => emitNames.has(emit))) return "unusual-outputs";
  const reason = codegen.map(whyCodegenHere).find((why) => why !== undefined);
  if (reason !== undefined) return reason;
  if (all("l").some((value) => value.startsWith("static"))) {
    return "native-library";
  }
  if (all("target").at(-1)?.endsWith(".json")) return "unusual-sysroot";
  if (!emits.includes("dep-info")) return "no-dep-info";
  if (all("error-format").at(-1) !== "json") return "prints-for-people";
  return undefined;
}

const emitNames = new Set(["link", "metadata", "dep-info"]);

interface Read {
  readonly options: readonly Option[];
  readonly sources: readonly string[];
  readonly words: readonly string[];
  readonly reason: RustReason | undefined;
}

function readOptions(args: readonly string[]): Read {
  const options: Option[] = [];
  const sources: string[] = [];
  let reason: RustReason | undefined;
  for (let index = 0; index < args.length; index += 1) {
    const word = args[index] ?? "";
    const option = readOption(word, args[index + 1]);
    if (option === undefined) {
      const meaning = flags[word];
      if (word.startsWith("@") || (word.startsWith("-") && word !== "-" && meaning === undefined)) {
        reason ??= `unknown-option ${word.slice(0, 40)}`;
      }
      if (meaning !== undefined && meaning !== "keep") reason ??= reasonOf[meaning];
      if (!word.startsWith("-") || word === "-") sources.push(word);
      continue;
    }
    index += option.words.length - 1;
    options.push(option);
    const meaning = withValue[option.name];
    if (option.name === "o") reason ??= "unusual-outputs";
    else if (option.name === "Z") reason ??= `unknown-option -Z ${option.value.slice(0, 40)}`;
    else if (meaning !== undefined && meaning !== "keep") reason ??= reasonOf[meaning];
  }
  return { options, sources, words: args, reason };
}

const reasonOf: Readonly<Record<Exclude<Meaning, "keep">, RustReason>> = {
  "here-query": "rustc-query",
  "here-sysroot": "unusual-sysroot",
};

/** Undefined when the word is no option with a value. */
function readOption(word: string, next: string | undefined): Option | undefined {
  const long = /^--([a-z-]+)(?:=([\s\S]*))?$/.exec(word);
  if (long?.[1] !== undefined && long[1] in withValue) {
    const [, name, joined] = long;
    if (joined !== undefined) return { name, value: joined, words: [word] };
    return { name, value: next ?? "", words: next === undefined ? [word] : [word, next] };
  }
  const letter = word[1];
  if (word.startsWith("-") && letter !== undefined && letters.has(letter)) {
    const name = letter === "C" ? "codegen" : letter;
    if (word.length > 2) return { name, value: word.slice(2), words: [word] };
    return { name, value: next ?? "", words: next === undefined ? [word] : [word, next] };
  }
  return undefined;
}

function splitCodegen(value: string): readonly [string, string] {
  const at = value.indexOf("=");
  return at < 0 ? [value, ""] : [value.slice(0, at), value.slice(at + 1)];
}

function whyCodegenHere([name, value]: readonly [string, string]): RustReason | undefined {
  if (codegenKeep.has(name) || name === "incremental") return undefined;
  if (name === "split-debuginfo") return value === "off" ? undefined : "unusual-outputs";
  if (name === "target-cpu")
    return value === "native" ? "unknown-option -C target-cpu=native" : undefined;
  return `unknown-option -C ${name.slice(0, 40)}`;
}

/** `name=path` or `opts:name=path`; a bare name is one of the compiler's own crates. */
function externPath(value: string, cwd: string): string[] {
  const at = value.indexOf("=");
  return at < 0 ? [] : [resolve(cwd, value.slice(at + 1))];
}

function searchDir(value: string, cwd: string): { readonly kind: string; readonly path: string } {
  const [, kind = "", path = ""] =
    /^(?:(dependency|crate|native|framework|all)=)?([\s\S]*)$/.exec(value) ?? [];
  return { kind, path: resolve(cwd, path) };
}

const isNative = (kind: string): boolean => kind === "native" || kind === "framework";

/** `[KIND[:MODIFIERS]=]NAME[:RENAME]`. */
function nativeName(value: string): string[] {
  const [, name] = /^(?:[^=]*=)?([^:]+)/.exec(value) ?? [];
  return name === undefined ? [] : [name];
}
