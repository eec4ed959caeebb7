/**
 * Reads the command line of a GCC or Clang driver that links: what it hands to the linker, and what
 * decides which linker, start files and default libraries it adds. It reads no file.
 */
import { rowFor } from "./gcc-options.ts";
import type { LinkReason } from "./link-options.ts";
import { type LinkStaysHere, staysHere } from "./link-words.ts";

export interface ParsedLink {
  readonly at: "anywhere";
  /** For the linker, in its order; -L has an order of its own. */
  readonly words: readonly string[];
  readonly folders: readonly string[];
  readonly output: string | undefined;
  /** Whatever else may change what the driver makes of them. */
  readonly modeFlags: readonly string[];
}

type Form = "flag" | "filled" | "separate" | "either";
type Use = "mode" | "word" | "words" | "folder" | "output" | "language";

const lines: readonly (readonly [Form, Use, string])[] = [
  ["flag", "mode", "-shared -static -pie -no-pie -nopie -static-pie -rdynamic -r -s -symbolic"],
  ["flag", "mode", "-nostdlib -nodefaultlibs -nostartfiles -nolibc -nostdlib++ -pthread -pthreads"],
  ["flag", "mode", "-static-libgcc -shared-libgcc -static-libstdc++ -static-libasan"],
  ["flag", "mode", "-static-libtsan -static-liblsan -static-libubsan -static-libgfortran"],
  ["flag", "mode", "-shared-libasan -static-libsan -shared-libsan -pg -p -profile"],
  ["filled", "mode", "-fuse-ld= --ld-path= -rtlib= --rtlib= -unwindlib= --unwindlib= -stdlib="],
  ["filled", "mode", "--sysroot= --target= --gcc-toolchain= --gcc-install-dir= -resource-dir="],
  ["separate", "mode", "--sysroot -target -resource-dir -isysroot"],
  ["either", "mode", "-B"],
  ["either", "word", "-l -T -u -z"],
  ["separate", "word", "-e -Ttext -Tdata -Tbss"],
  ["filled", "word", "-Ttext= -Tdata= -Tbss= --entry="],
  ["flag", "word", "-N -n"],
  ["either", "folder", "-L"],
  ["filled", "words", "-Wl,"],
  ["separate", "words", "-Xlinker"],
  ["either", "output", "-o"],
  ["separate", "output", "--output"],
  ["filled", "output", "--output="],
  ["either", "language", "-x"],
];

interface Row {
  readonly form: Form;
  readonly use: Use;
  readonly name: string;
}
const rows: readonly Row[] = lines
  .flatMap(([form, use, names]) => names.split(" ").map((name) => ({ form, use, name })))
  .sort((a, b) => b.name.length - a.name.length);

/** Options that make a driver do something else than link. */
const noLink = new Set(
  "-c -S -E -M -MM -fsyntax-only --compile --assemble --preprocess".split(" "),
);
const aside = /^(?:-v|-###|--version|--help.*|-dump.*|-?-print-.*|--target-help|-cc1.*)$/;

/** Whether a driver's command line is a link, as far as it shows without reading a file. */
export function wantsLink(args: readonly string[]): boolean {
  let inputs = false;
  for (const arg of args) {
    if (noLink.has(arg) || aside.test(arg)) return false;
    if (!arg.startsWith("-")) inputs = true;
  }
  return inputs;
}

/** Suffixes that make a driver compile; it hands every other file to the linker. */
const sources =
  /\.(?:c|cc|cp|cxx|cpp|c\+\+|C|CPP|i|ii|m|mi|mm|M|mii|h|hh|H|hp|hxx|hpp|HPP|h\+\+|tcc|s|S|sx|cu|cui|cl|hip|ll|bc|cppm|ixx|cxxm|ccm|c\+\+m|pcm|pch|gch|f|for|ftn|F|FOR|fpp|FPP|FTN|f90|f95|f03|f08|F90|F95|F03|F08|go|d|di|dd|adb|ads|mod|def|rs|brig|java|hipi|gcno)$/;

export function parseLinkArgs(args: readonly string[]): ParsedLink | LinkStaysHere {
  const words: string[] = [];
  const folders: string[] = [];
  const modeFlags: string[] = [];
  let output: string | undefined;
  for (let at = 0; at < args.length; at++) {
    const arg = args[at] ?? "";
    if (arg === "-") return staysHere("stdin");
    if (!arg.startsWith("-")) {
      if (sources.test(arg)) return staysHere("compile-and-link", arg);
      words.push(arg);
      continue;
    }
    if (noLink.has(arg)) return staysHere("not-a-link", arg);
    if (aside.test(arg)) return staysHere(arg.startsWith("-v") ? "verbose" : "query", arg);
    const row = rowOf(arg);
    if (row === undefined) {
      const taken = takeCompileFlag(args, at, modeFlags);
      if (typeof taken !== "number") return taken;
      at = taken;
      continue;
    }
    let value = arg.slice(row.name.length);
    const spelled = [arg];
    if (row.form === "separate" || (row.form === "either" && value === "")) {
      const next = args[++at];
      if (next === undefined) return staysHere("bad-arguments", arg);
      value = next;
      spelled.push(next);
    }
    switch (row.use) {
      case "mode":
        // Where the tools themselves lie must not depend on where they are called.
        if (row.name === "-B" && !value.startsWith("/")) return staysHere("unknown-flag", arg);
        modeFlags.push(...spelled);
        break;
      case "word":
        words.push(...spelled);
        break;
      case "words":
        words.push(...(row.name === "-Wl," ? value.split(",") : [value]));
        break;
      case "folder":
        folders.push(value);
        break;
      case "output":
        output = value;
        break;
      case "language":
        if (value !== "none") return staysHere("compile-and-link", arg);
    }
  }
  return { at: "anywhere", words, folders, output, modeFlags };
}

function rowOf(arg: string): Row | undefined {
  return rows.find(({ form, name }) => {
    if (form === "flag" || form === "separate") return arg === name;
    return arg.startsWith(name) && (form === "either" || arg.length > name.length);
  });
}

/** Options about headers, macros, warnings: no link is the other for them. */
const irrelevant =
  /^-(?:[IDUAwW]|i(?:system|quote|dirafter|nclude|macros|prefix|withprefix)|std=|-std=|ansi|pedantic|pipe|g|M|Q)/;

/** @returns where the option's last word is. */
function takeCompileFlag(
  args: readonly string[],
  at: number,
  modeFlags: string[],
): number | LinkStaysHere {
  const arg = args[at] ?? "";
  const found = rowFor(arg);
  if (found === undefined) return staysHere("unknown-flag", arg);
  const { form, role } = found.row;
  if (role.startsWith("here:")) {
    const reason = keptReasons.get(role.slice("here:".length));
    return reason === undefined ? staysHere("unknown-flag", arg) : staysHere(reason, arg);
  }
  const separate = form === "separate" || (form === "either" && arg.length === found.nameLength);
  const end = separate ? at + 1 : at;
  if (end >= args.length) return staysHere("bad-arguments", arg);
  if (!irrelevant.test(arg)) modeFlags.push(...args.slice(at, end + 1));
  return end;
}

const keptReasons: ReadonlyMap<string, LinkReason> = new Map<string, LinkReason>([
  ["lto", "lto"],
  ["specs", "specs"],
  ["plugin", "plugin"],
  ["save-temps", "save-temps"],
  ["verbose", "verbose"],
  ["query", "query"],
]);
