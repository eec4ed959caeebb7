/**
 * Reads a GCC or Clang command line: either what one compile takes and makes, or why the command
 * stays here. It is given arguments with response files already expanded, and reads nothing.
 */
import { type Reason, type Role, rowFor } from "./gcc-options.ts";
import type { Family, SearchDirs } from "./search-path.ts";

export type { Reason } from "./gcc-options.ts";

export type Language = "c" | "c++";

export interface StaysHere {
  readonly at: "here";
  readonly reason: Reason;
  /** The argument that decided, where one did. */
  readonly culprit?: string;
}

/** One source to one object. Paths are as typed. */
export interface ParsedCompile {
  readonly at: "anywhere";
  readonly language: Language;
  readonly source: string;
  readonly output: string;
  readonly dependencies: DependencyFile | undefined;
  /** `.dwo` and `.gcno` files that come with the object. */
  readonly extraOutputs: readonly string[];
  readonly dirs: SearchDirs;
  readonly forced: readonly string[];
  /** Names of macros defined by -D. */
  readonly defined: readonly string[];
  /** Values of -D that no include scan can see through. */
  readonly trickyDefine: "time" | "timestamp" | "probe" | undefined;
  /** What decides tools and standard folders, in order. */
  readonly toolFlags: readonly string[];
  /** Arguments that ask the machine what it is, e.g. -march=native. */
  readonly nativeFlags: readonly string[];
  /** C++20 or later: with Clang, a source may import modules. */
  readonly modern: boolean;
  readonly splitDwarf: boolean;
  /** The arguments less source, output and dependency options: what a preprocessor run needs. */
  readonly bareArgs: readonly string[];
}

export interface DependencyFile {
  readonly path: string;
  readonly systemHeaders: boolean;
  readonly phony: boolean;
  /** Empty: the object's name. */
  readonly targets: readonly string[];
}

interface Draft {
  readonly family: Family;
  readonly dirs: { readonly [K in keyof SearchDirs]: string[] };
  readonly inputs: { readonly path: string; readonly language: string | undefined }[];
  readonly forced: string[];
  readonly defined: string[];
  readonly toolFlags: string[];
  readonly nativeFlags: string[];
  readonly bareArgs: string[];
  readonly targets: string[];
  trickyDefine: ParsedCompile["trickyDefine"];
  language: string | undefined;
  compile: boolean;
  output: string | undefined;
  writesDependencies: boolean;
  systemHeaders: boolean;
  dependencyPath: string | undefined;
  phony: boolean;
  splitDwarf: boolean;
  coverage: boolean;
  modern: boolean;
}

const here = (reason: Reason, culprit?: string): StaysHere =>
  culprit === undefined ? { at: "here", reason } : { at: "here", reason, culprit };

/**
 * @param driver the file name of the compiler as called: `g++` takes `.c` for C++.
 */
export function parseGccArgs(
  args: readonly string[],
  driver: string,
  family: Family,
): ParsedCompile | StaysHere {
  const draft = emptyDraft(family);
  for (let i = 0; i < args.length; i++) {
    const arg = args[i] ?? "";
    if (arg === "-") return here("stdin");
    if (!arg.startsWith("-")) {
      draft.inputs.push({ path: arg, language: draft.language });
      continue;
    }
    const found = rowFor(arg);
    if (found === undefined) return here("unknown-flag", arg);
    const { row, nameLength } = found;
    const name = arg.slice(0, nameLength);
    let value = arg.slice(nameLength);
    const words = [arg];
    if (row.form === "separate" || (row.form === "either" && value === "")) {
      const next = args[++i];
      if (next === undefined) return here("bad-arguments", arg);
      value = next;
      words.push(next);
    }
    if (row.role.startsWith("here:")) return reasonOf(row.role, arg);
    const refusal = take(draft, row.role as Role, name, value, words);
    if (refusal !== undefined) return refusal;
  }
  return finish(draft, driver);
}

function reasonOf(role: string, arg: string): StaysHere {
  return here(role.slice("here:".length) as Reason, arg);
}

function emptyDraft(family: Family): Draft {
  return {
    family,
    dirs: { quote: [], bracket: [], system: [], after: [] },
    inputs: [],
    forced: [],
    defined: [],
    toolFlags: [],
    nativeFlags: [],
    bareArgs: [],
    targets: [],
    trickyDefine: undefined,
    language: undefined,
    compile: false,
    output: undefined,
    writesDependencies: false,
    systemHeaders: true,
    dependencyPath: undefined,
    phony: false,
    splitDwarf: false,
    coverage: false,
    modern: false,
  };
}

/** Lets one option have its effect; a reason when it keeps the command here. */
function take(
  draft: Draft,
  role: Role,
  name: string,
  value: string,
  words: readonly string[],
): StaysHere | undefined {
  const arg = words[0] ?? "";
  if (!aboutFiles.has(role)) draft.bareArgs.push(...words);
  switch (role) {
    case "pass":
      return undefined;
    case "tool":
      draft.toolFlags.push(...words);
      return value.startsWith("=") ? here("sysroot-relative", arg) : undefined;
    case "machine":
      if (/^(?:arch|tune|cpu)=native$/.test(value)) draft.nativeFlags.push(arg);
      else if (!instructionSet.test(value)) draft.toolFlags.push(arg);
      return undefined;
    case "feature":
      return feature(value) ? undefined : here("unknown-flag", arg);
    case "warning":
      return value.startsWith("p,") || value.startsWith("a,") || value.startsWith("l,")
        ? here("unknown-flag", arg)
        : undefined;
    case "llvm-pass":
      return /file|dir|output|stat|time|print|debug|dump|info|view|path/.test(value)
        ? here("unknown-flag", words.join(" "))
        : undefined;
    case "preprocessor-pass":
      return passToPreprocessor(draft, value, arg);
    case "assembler-pass":
      return value.split(",").every((word) => assemblerFlag.test(word))
        ? undefined
        : here("assembler-flag", arg);
    case "charset":
      return /^utf-?8$/i.test(value) ? undefined : here("charset", arg);
    case "standard":
      draft.modern = /\+\+(?:2[0-9a-z]|3)/.test(value);
      return undefined;
    case "quote":
    case "bracket":
    case "system":
    case "after":
      if (value.startsWith("=") || value.startsWith("$SYSROOT"))
        return here("sysroot-relative", arg);
      if (value === "-" || value === "") return here("unknown-flag", arg);
      draft.dirs[role].push(value);
      return undefined;
    case "define":
      return define(draft, value);
    default:
      return takeFile(draft, role, name, value, words);
  }
}

/** Options about sources, outputs and dependency files. */
const aboutFiles: ReadonlySet<Role> = new Set<Role>([
  "compile",
  "output",
  "dependencies",
  "dependency-file",
  "dependency-target",
  "dependency-phony",
  "preprocessor-pass",
]);

function takeFile(
  draft: Draft,
  role: Role,
  name: string,
  value: string,
  words: readonly string[],
): StaysHere | undefined {
  const arg = words[0] ?? "";
  switch (role) {
    case "compile":
      draft.compile = true;
      return undefined;
    case "output":
      draft.output = value;
      return value === "-" ? here("stdout") : undefined;
    case "language":
      draft.language = value === "none" ? undefined : value;
      return undefined;
    case "forced":
      draft.forced.push(value);
      return undefined;
    case "dependencies":
      draft.writesDependencies = true;
      draft.systemHeaders = name === "-MD" || name === "--write-dependencies";
      return undefined;
    case "dependency-file":
      draft.dependencyPath = value;
      return value === "-" ? here("stdout", arg) : undefined;
    case "dependency-target":
      draft.targets.push(value);
      return undefined;
    case "dependency-phony":
      draft.phony = true;
      return undefined;
    case "split-dwarf":
      draft.splitDwarf = true;
      draft.toolFlags.push(...words);
      return undefined;
    case "coverage":
      draft.coverage = true;
      return undefined;
    default:
      return here("unknown-flag", arg);
  }
}

/** x86 instruction sets, tuning and code shapes: none of them changes tools or folders. */
const instructionSet =
  /^(?:no-)?(?:sse|avx|fma|bmi|popcnt|aes|pclmul|f16c|lzcnt|movbe|sha|adx|rdrnd|rdseed|xsave|fsgsbase|cx16|sahf|prfchw|mmx|3dnow|abm|tbm|gfni|vaes|vpclmul|tune=|cmodel=|red-zone|stack|preferred-stack|incoming-stack|indirect|function-return|retpoline|omit-leaf|fentry|record-mcount|nop-mcount|skip-rax|harden-sls|speculative|branches-within|general-regs-only|fpmath=|recip|veclibabi|prefer-vector|long-double|align|cet|shstk|relax|accumulate)/;

/** A value with a slash or a suffix may be a file; only these are known to be none. */
function feature(value: string): boolean {
  const equals = value.indexOf("=");
  if (equals < 0) return true;
  if (/^(?:debug|macro|file|profile|coverage)-prefix-map=/.test(value)) return true;
  if (/^(?:(?:debug|coverage|file)-compilation-dir|profile-dir|random-seed)=/.test(value))
    return true;
  return /^[\w+,:-]*$|^[\d.]+$/.test(value.slice(equals + 1));
}

const assemblerFlag =
  /^(?:--(?:no)?execstack|--fatal-warnings|--no-warn|-W|--warn|-g\w*|--gdwarf-\d(?:-[a-z-]+)?|--gdwarf-sections|--compress-debug-sections(?:=\w+)?|--nocompress-debug-sections|-m[\w=.+-]+|--divide|--elf-stt-common=\w+|--noexecstack|--generate-missing-build-notes=\w+|-mrelax-relocations=\w+)$/;

function define(draft: Draft, value: string): StaysHere | undefined {
  draft.defined.push(/^\w*/.exec(value)?.[0] ?? "");
  if (value.includes("__has_")) draft.trickyDefine = "probe";
  else if (value.includes("__TIMESTAMP__")) draft.trickyDefine ??= "timestamp";
  else if (value.includes("__DATE__") || value.includes("__TIME__")) draft.trickyDefine ??= "time";
  return undefined;
}

/** -Wp,-MD,FILE and macros are common; everything else is too strange. */
function passToPreprocessor(draft: Draft, value: string, arg: string): StaysHere | undefined {
  const words = value.split(",");
  for (let i = 0; i < words.length; i++) {
    const word = words[i] ?? "";
    if (word === "-MD" || word === "-MMD") {
      const path = words[++i];
      if (path === undefined || path === "") return here("bad-arguments", arg);
      draft.writesDependencies = true;
      draft.systemHeaders = word === "-MD";
      draft.dependencyPath = path;
    } else if (word === "-MP") draft.phony = true;
    else if ((word === "-MT" || word === "-MQ") && i + 1 < words.length)
      draft.targets.push(words[++i] ?? "");
    else if (/^-[DU]\w/.test(word)) {
      draft.bareArgs.push(word);
      if (word.startsWith("-D")) define(draft, word.slice(2));
    } else return here("unknown-flag", arg);
  }
  return undefined;
}

function finish(draft: Draft, driver: string): ParsedCompile | StaysHere {
  const [input, second] = draft.inputs;
  if (input === undefined) return here("no-source");
  const language = languageOf(input, driver);
  if (!draft.compile) {
    const links = draft.inputs.every(({ path, language: given }) => !given && isLinkInput(path));
    return here(links ? "link" : "no-c-flag");
  }
  if (second !== undefined) return here("several-sources");
  if (typeof language !== "string") return language;
  if (draft.dependencyPath !== undefined && !draft.writesDependencies) return here("bad-arguments");
  const output = draft.output ?? withSuffix(baseName(input.path), ".o");
  return {
    at: "anywhere",
    language,
    source: input.path,
    output,
    dependencies: draft.writesDependencies
      ? {
          path: draft.dependencyPath ?? withSuffix(output, ".d"),
          systemHeaders: draft.systemHeaders,
          phony: draft.phony,
          targets: draft.targets,
        }
      : undefined,
    extraOutputs: [
      ...(draft.splitDwarf ? [withSuffix(output, ".dwo")] : []),
      ...(draft.coverage ? [withSuffix(output, ".gcno")] : []),
    ],
    dirs: draft.dirs,
    forced: draft.forced,
    defined: draft.defined,
    trickyDefine: draft.trickyDefine,
    toolFlags: draft.toolFlags,
    nativeFlags: draft.nativeFlags,
    modern: draft.modern,
    splitDwarf: draft.splitDwarf,
    bareArgs: draft.bareArgs,
  };
}

const byName: Readonly<Record<string, Language>> = { c: "c", "c++": "c++" };
const cxxSuffixes: ReadonlySet<string> = new Set(["cc", "cpp", "cxx", "c++", "C", "CPP", "cp"]);

function languageOf(
  { path, language }: { readonly path: string; readonly language: string | undefined },
  driver: string,
): Language | StaysHere {
  if (language !== undefined) {
    const known = byName[language];
    if (known !== undefined) return known;
    if (language.endsWith("-header") || language.endsWith("-header-unit"))
      return here("pch-create");
    if (language.startsWith("assembler")) return here("assembler");
    if (language.endsWith("cpp-output")) return here("preprocessed-source");
    return here("language", language);
  }
  const suffix = /\.([^./]+)$/.exec(path)?.[1] ?? "";
  if (cxxSuffixes.has(suffix)) return "c++";
  if (suffix === "c") return /\+\+/.test(driver) ? "c++" : "c";
  if (/^(?:s|S|sx)$/.test(suffix)) return here("assembler");
  if (/^(?:i|ii)$/.test(suffix)) return here("preprocessed-source");
  if (/^(?:h|hh|H|hp|hxx|hpp|HPP|h\+\+|tcc)$/.test(suffix)) return here("pch-create");
  if (/^(?:cppm|ixx|cxxm|c\+\+m|ccm|pcm)$/.test(suffix)) return here("modules");
  return isLinkInput(path) ? here("link") : here("language", `.${suffix}`);
}

function isLinkInput(path: string): boolean {
  return /\.(?:o|obj|lo|a|la|so(?:\.[\d.]+)?|ld|lds|map|ver|exp|def|res|dylib|bc)$/.test(path);
}

function baseName(path: string): string {
  return path.slice(path.lastIndexOf("/") + 1);
}

/** Replaces what follows the last dot of the file's name, or adds to a name without one. */
function withSuffix(path: string, suffix: string): string {
  const start = path.lastIndexOf("/") + 1;
  const dot = path.lastIndexOf(".");
  return (dot > start ? path.slice(0, dot) : path) + suffix;
}
