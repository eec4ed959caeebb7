/**
 * rustc command lines, as Cargo writes them: which units can run anywhere, and what they read and
 * write.
 *
 * Every option stands in one table. An option that is not in it keeps the unit here: better a
 * local compile than a wrong one. It touches no disk.
 */
import { join, resolve } from "node:path";

/** Why a unit stays here; the closed set that the summary shows. */
export type RustReason =
  | "rustc-query" // --print, --version, -V, stdin: Cargo asks, nothing is compiled
  | "links" // bin, test, proc-macro, dylib, cdylib, staticlib: needs the linker
  | "incremental" // has state of an earlier run here, so it is quicker here
  | "native-library" // bundles a static library that a build script made
  | "unusual-outputs" // emits something whose name rustc chooses
  | "prints-for-people" // in the width and colours of a terminal that only this node sees
  | "no-dep-info" // without it nobody learns which variables were read
  | "unusual-sysroot"
  | `unknown-option ${string}`;

/** A unit that produces an rlib, an rmeta or both, and nothing else. */
export interface RustUnit {
  readonly crateName: string;
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
  /** Undefined: the host's. */
  readonly target: string | undefined;
  readonly incremental: string | undefined;
  /** Without `-C incremental`, which names a folder that only this node has. */
  readonly args: readonly string[];
}

export type RustParse =
  | {
      readonly at: "here";
      readonly reason: RustReason;
      readonly stem: string | undefined;
      readonly crateName: string;
      readonly externs: readonly string[];
    }
  | { readonly at: "anywhere"; readonly unit: RustUnit };

/** What an option does to where a unit may run. */
type Meaning = "keep" | "here-query" | "here-sysroot" | "here-links";

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
  "--test": "here-links",
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
  "codegen-units",
  "debug-assertions",
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
  "linker",
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
  const outDir = resolve(cwd, last("out-dir") ?? ".");
  const stem = join(outDir, `lib${crateName}${codegenOf("extra-filename") ?? ""}`);
  const externs = all("extern").flatMap((value) => externPath(value, cwd));
  const here = (reason: RustReason): RustParse => ({
    at: "here",
    reason,
    stem: crateName === "" ? undefined : stem,
    crateName,
    externs,
  });

  if (read.reason !== undefined) return here(read.reason);
  const source = sources[0];
  if (sources.length !== 1 || source === undefined || source === "-" || crateName === "") {
    return here("rustc-query");
  }
  const emits = all("emit").flatMap((value) => value.split(","));
  const reason = whyHere(all, emits, codegen);
  if (reason !== undefined) return here(reason);
  const depInfo = join(outDir, `${crateName}${codegenOf("extra-filename") ?? ""}.d`);
  const outputs = [
    ...(emits.includes("link") ? [`${stem}.rlib`] : []),
    ...(emits.includes("metadata") ? [`${stem}.rmeta`] : []),
    depInfo,
  ];
  const incremental = codegenOf("incremental");
  return {
    at: "anywhere",
    unit: {
      crateName,
      source: resolve(cwd, source),
      outDir,
      outputs,
      depInfo,
      stem,
      externs,
      dependencyDirs: all("L").flatMap((value) => dependencyDir(value, cwd)),
      target: last("target"),
      incremental: incremental === undefined ? undefined : resolve(cwd, incremental),
      args: read.words.filter((word) => !word.incremental).flatMap(({ words }) => words),
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
  const types = all("crate-type").flatMap((value) => value.split(","));
  if (types.length === 0 || !types.every((type) => type === "lib" || type === "rlib")) {
    return "links";
  }
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

interface Words {
  readonly words: readonly string[];
  readonly incremental: boolean;
}

interface Read {
  readonly options: readonly Option[];
  readonly sources: readonly string[];
  readonly words: readonly Words[];
  readonly reason: RustReason | undefined;
}

function readOptions(args: readonly string[]): Read {
  const options: Option[] = [];
  const sources: string[] = [];
  const words: Words[] = [];
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
      words.push({ words: [word], incremental: false });
      continue;
    }
    index += option.words.length - 1;
    options.push(option);
    words.push({
      words: option.words,
      incremental: option.name === "codegen" && splitCodegen(option.value)[0] === "incremental",
    });
    const meaning = withValue[option.name];
    if (option.name === "o") reason ??= "unusual-outputs";
    else if (option.name === "Z") reason ??= `unknown-option -Z ${option.value.slice(0, 40)}`;
    else if (meaning !== undefined && meaning !== "keep") reason ??= reasonOf[meaning];
  }
  return { options, sources, words, reason };
}

const reasonOf: Readonly<Record<Exclude<Meaning, "keep">, RustReason>> = {
  "here-query": "rustc-query",
  "here-sysroot": "unusual-sysroot",
  "here-links": "links",
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

function dependencyDir(value: string, cwd: string): string[] {
  const [, kind, path] =
    /^(?:(dependency|crate|native|framework|all)=)?([\s\S]*)$/.exec(value) ?? [];
  if (path === undefined || kind === "native" || kind === "framework") return [];
  return [resolve(cwd, path)];
}
