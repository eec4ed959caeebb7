/**
 * What each source of a compile is, and the names of everything that is made of it, as GCC 12 and
 * Clang 14 choose them. It looks at names only.
 */
import type { Reason } from "./gcc-options.ts";

/** Whose headers and whose compiler: assembler sources count as C. */
export type Language = "c" | "c++";

/** How far a command goes: to a preprocessed text, an assembler text, or an object. */
export type Makes = "preprocessed" | "assembly" | "object";

/** `plain` is assembled as it is; `preprocessed` is read by the preprocessor first. */
export type Assembler = "none" | "plain" | "preprocessed";

/** One source and what is made of it. Paths are as typed. */
export interface Unit {
  readonly source: string;
  readonly output: string;
  readonly dependencyPath: string | undefined;
  /** `.dwo` and `.gcno` files that come with it; some are only written where there is cause. */
  readonly extraOutputs: readonly string[];
}

export interface Wishes {
  readonly makes: Makes;
  /** -o, if given. */
  readonly output: string | undefined;
  readonly writesDependencies: boolean;
  /** -MF, if given. */
  readonly dependencyPath: string | undefined;
  readonly splitDwarf: boolean;
  readonly coverage: boolean;
}

export interface Source {
  readonly path: string;
  /** -x. */
  readonly language: string | undefined;
}

export interface Spoken {
  readonly language: Language;
  readonly assembler: Assembler;
  /** As -x takes it. */
  readonly name: string;
}

const suffixOf: Readonly<Record<Makes, string>> = {
  preprocessed: ".i",
  assembly: ".s",
  object: ".o",
};

/** @returns the reason why this cannot be said, where it cannot. */
export function unitOf(source: string, wishes: Wishes, assembler: Assembler): Unit | Reason {
  const { makes, output: given, splitDwarf, coverage } = wishes;
  // Clang then names the .dwo after the source, as if there were no -o.
  if (makes === "assembly" && splitDwarf) return "extra-output";
  // Without -o the text goes to the standard output.
  if (makes === "preprocessed" && given === undefined) return "preprocess-only";
  const output = given ?? withSuffix(baseName(source), suffixOf[makes]);
  const writes = wishes.writesDependencies && assembler !== "plain";
  const derives =
    (writes && wishes.dependencyPath === undefined) ||
    (makes !== "preprocessed" && (splitDwarf || coverage));
  // Each compiler has an idea of its own where the suffix of `.name` begins.
  if (derives && /^\.[^.]*$/.test(baseName(output))) return "output-name";
  const extraOutputs: string[] = [];
  if (splitDwarf && makes === "object") extraOutputs.push(withSuffix(output, ".dwo"));
  if (coverage && makes !== "preprocessed" && assembler === "none")
    extraOutputs.push(withSuffix(output, ".gcno"));
  return {
    source,
    output,
    dependencyPath: writes ? (wishes.dependencyPath ?? withSuffix(output, ".d")) : undefined,
    extraOutputs,
  };
}

const spoken = (language: Language, assembler: Assembler, name: string): Spoken => ({
  language,
  assembler,
  name,
});

const byName: Readonly<Record<string, Spoken>> = {
  c: spoken("c", "none", "c"),
  "c++": spoken("c++", "none", "c++"),
  assembler: spoken("c", "plain", "assembler"),
  "assembler-with-cpp": spoken("c", "preprocessed", "assembler-with-cpp"),
};
const cxxSuffixes: ReadonlySet<string> = new Set(["cc", "cpp", "cxx", "c++", "C", "CPP", "cp"]);

/** @param driver the file name of the compiler as called: `g++` takes `.c` for C++. */
export function languageOf({ path, language }: Source, driver: string): Spoken | Reason {
  if (language !== undefined && language !== "none") {
    const known = byName[language];
    if (known !== undefined) return known;
    if (language.endsWith("-header") || language.endsWith("-header-unit")) return "pch-create";
    if (language.endsWith("cpp-output")) return "preprocessed-source";
    return "language";
  }
  const suffix = /\.([^./]+)$/.exec(path)?.[1] ?? "";
  if (cxxSuffixes.has(suffix)) return spoken("c++", "none", "c++");
  if (suffix === "c") {
    if (!/\+\+/.test(driver)) return cLanguage;
    // After `-x none`, g++ forgets that it takes this for C++, and clang++ does not.
    return language === "none" ? "language" : spoken("c++", "none", "c++");
  }
  if (suffix === "s") return spoken("c", "plain", "assembler");
  if (suffix === "S" || suffix === "sx") return spoken("c", "preprocessed", "assembler-with-cpp");
  if (/^(?:i|ii)$/.test(suffix)) return "preprocessed-source";
  if (/^(?:h|hh|H|hp|hxx|hpp|HPP|h\+\+|tcc)$/.test(suffix)) return "pch-create";
  if (/^(?:cppm|ixx|cxxm|c\+\+m|ccm|pcm)$/.test(suffix)) return "modules";
  return isLinkInput(path) ? "link" : "language";
}

const cLanguage = spoken("c", "none", "c");

export function isLinkInput(path: string): boolean {
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
