/**
 * Reads a GCC or Clang command line: either what one compile takes and makes, or why the command
 * stays here. It is given arguments with response files already expanded, and reads nothing.
 */
import { type Reason, type Role, rowFor } from "./gcc-options.ts";
import {
  type Assembler,
  isLinkInput,
  type Language,
  languageOf,
  type Makes,
  type Spoken,
  type Unit,
  unitOf,
} from "./gcc-units.ts";
import { assemblerFlag, instructionSet, isHarmlessFeature } from "./gcc-values.ts";
import type { Family, SearchDirs } from "./search-path.ts";

export type { Reason } from "./gcc-options.ts";
export type { Assembler, Language, Makes, Unit } from "./gcc-units.ts";

export interface StaysHere {
  readonly at: "here";
  readonly reason: Reason;
  /** The argument that decided, where one did. */
  readonly culprit?: string;
}

/** Sources, and what is made of each. Paths are as typed. */
export interface ParsedCompile {
  readonly at: "anywhere";
  readonly language: Language;
  /** The language as -x takes it. */
  readonly languageName: string;
  readonly assembler: Assembler;
  readonly makes: Makes;
  /** One per source, at least one. */
  readonly units: readonly Unit[];
  readonly dependencies: DependencyOptions | undefined;
  readonly dirs: SearchDirs;
  /** Where `#embed` looks. */
  readonly embedDirs: readonly string[];
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

export interface DependencyOptions {
  readonly systemHeaders: boolean;
  readonly phony: boolean;
  /** Empty: the object's name. */
  readonly targets: readonly string[];
}

interface Draft {
  readonly family: Family;
  readonly dirs: { readonly [K in keyof SearchDirs]: string[] };
  readonly embedDirs: string[];
  readonly inputs: { readonly path: string; readonly language: string | undefined }[];
  readonly forced: string[];
  readonly defined: string[];
  readonly toolFlags: string[];
  readonly nativeFlags: string[];
  readonly bareArgs: string[];
  readonly targets: string[];
  trickyDefine: ParsedCompile["trickyDefine"];
  language: string | undefined;
  makes: Makes | undefined;
  macroDump: string | undefined;
  output: string | undefined;
  writesDependencies: boolean;
  systemHeaders: boolean;
  dependencyPath: string | undefined;
  phony: boolean;
  splitDwarf: boolean;
  coverage: boolean;
  lto: boolean;
  seeded: boolean;
  modern: boolean;
}

const here = (reason: Reason, culprit?: string): StaysHere => ({
  ...{ at: "here", reason },
  ...(culprit !== undefined && { culprit }),
});

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
    if (row.role.startsWith("here:")) return here(row.role.slice("here:".length) as Reason, arg);
    const refusal = take(draft, row.role as Role, name, value, words);
    if (refusal !== undefined) return refusal;
  }
  return finish(draft, driver);
}

function emptyDraft(family: Family): Draft {
  return {
    family,
    dirs: { quote: [], bracket: [], system: [], after: [] },
    embedDirs: [],
    inputs: [],
    forced: [],
    defined: [],
    toolFlags: [],
    nativeFlags: [],
    bareArgs: [],
    targets: [],
    trickyDefine: undefined,
    language: undefined,
    makes: undefined,
    macroDump: undefined,
    output: undefined,
    writesDependencies: false,
    systemHeaders: true,
    dependencyPath: undefined,
    phony: false,
    splitDwarf: false,
    coverage: false,
    lto: false,
    seeded: false,
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
      return isHarmlessFeature(value) ? undefined : here("unknown-flag", arg);
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
  "stage",
  "macro-dump",
  "output",
  "language",
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
    case "stage":
      draft.makes = earlier(draft.makes, name);
      return undefined;
    case "macro-dump":
      draft.macroDump = arg;
      return undefined;
    case "embed":
      draft.embedDirs.push(value);
      return undefined;
    case "lto":
      draft.lto = name !== "-fno-lto";
      return undefined;
    case "seed":
      draft.seeded = true;
      return undefined;
    case "output":
      draft.output = value;
      return value === "-" ? here("stdout") : undefined;
    case "language":
      draft.language = value;
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

/** Of several stages the one that ends first counts, wherever it stands. */
function earlier(before: Makes | undefined, name: string): Makes {
  if (before === "preprocessed" || name === "-E" || name === "--preprocess") return "preprocessed";
  return before === "assembly" || name === "-S" || name === "--assemble" ? "assembly" : "object";
}

function finish(draft: Draft, driver: string): ParsedCompile | StaysHere {
  const [first] = draft.inputs;
  if (first === undefined) return here("no-source");
  const { makes, writesDependencies, dependencyPath } = draft;
  if (makes === undefined) {
    const links = draft.inputs.every(({ path, language: given }) => !given && isLinkInput(path));
    return here(links ? "link" : "no-c-flag");
  }
  const spoken = commonLanguage(draft, driver);
  if (!("assembler" in spoken)) return spoken;
  const { language, assembler, name } = spoken;
  if (dependencyPath !== undefined && !writesDependencies) return here("bad-arguments");
  if (draft.macroDump !== undefined && makes !== "preprocessed")
    return here("dump", draft.macroDump);
  // Nothing comes of it, or nothing but a warning.
  if (assembler === "plain" ? makes !== "object" : assembler !== "none" && makes === "assembly")
    return here("assembler");
  if (draft.lto && !draft.seeded && draft.family === "gcc" && makes !== "preprocessed")
    return here("lto-random-seed");
  const made = unitsOf(draft, makes, assembler);
  if ("at" in made) return made;
  return {
    at: "anywhere",
    language,
    languageName: name,
    assembler,
    makes,
    units: made.units,
    dependencies: writesDependencies
      ? { systemHeaders: draft.systemHeaders, phony: draft.phony, targets: draft.targets }
      : undefined,
    dirs: draft.dirs,
    embedDirs: draft.embedDirs,
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

/** All sources are to be in one language: each has a compiler and header folders of its own. */
function commonLanguage({ inputs }: Draft, driver: string): Spoken | StaysHere {
  let common: Spoken | undefined;
  for (const input of inputs) {
    const spoken = languageOf(input, driver);
    if (typeof spoken === "string")
      return spoken === "language" ? here(spoken, input.language ?? input.path) : here(spoken);
    if (common !== undefined && common.name !== spoken.name) return here("several-languages");
    common = spoken;
  }
  return common ?? here("no-source");
}

function unitsOf(
  draft: Draft,
  makes: Makes,
  assembler: Assembler,
): { readonly units: readonly Unit[] } | StaysHere {
  const several = draft.inputs.length > 1;
  // The driver refuses one object for all of them; one dependency file is that of the last.
  if (several && (draft.output !== undefined || draft.dependencyPath !== undefined))
    return here("several-sources");
  const units: Unit[] = [];
  for (const { path } of draft.inputs) {
    const unit = unitOf(path, { ...draft, makes }, assembler);
    if (typeof unit === "string") return here(unit);
    if (units.some(({ output }) => output === unit.output)) return here("several-sources");
    units.push(unit);
  }
  return { units };
}
