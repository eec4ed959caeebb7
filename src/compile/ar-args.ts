/** Reads command lines of `ar` that make an archive. It reads no file. */

export interface ParsedArchive {
  readonly at: "anywhere";
  readonly archive: string;
  /** As typed, in order. */
  readonly files: readonly string[];
  readonly operation: "r" | "q";
  readonly modifiers: ReadonlySet<string>;
}

export interface ArchiveStaysHere {
  readonly at: "here";
  readonly reason: string;
}

const refused: ReadonlyMap<string, string> = new Map([
  ["U", "archive-times"],
  ["o", "archive-times"],
  ["T", "archive-thin"],
  ["a", "archive-position"],
  ["b", "archive-position"],
  ["i", "archive-position"],
  ["N", "archive-position"],
]);
const operations = "dmpqrstx";
const understood = "csSDuv";

export function parseArArgs(args: readonly string[]): ParsedArchive | ArchiveStaysHere {
  const here = (reason: string): ArchiveStaysHere => ({ at: "here", reason });
  let key = "";
  const names: string[] = [];
  for (const [at, arg] of args.entries()) {
    if (arg === "--thin") return here("archive-thin");
    if (arg.startsWith("--plugin")) return here("plugin");
    if (arg.startsWith("--")) return here(`unknown-flag ${arg}`);
    if (arg.startsWith("-")) key += arg.slice(1);
    else if (at === 0) key = arg;
    else names.push(arg);
  }
  const letters = [...key];
  // As an operation, `s` is for itself only; beside another one it asks for the index.
  const asked = letters.filter((letter) => operations.includes(letter) && letter !== "s");
  const [operation] = asked.length > 0 ? asked : letters.filter((letter) => letter === "s");
  if (operation === undefined || asked.length > 1) return here("bad-arguments");
  if (operation !== "r" && operation !== "q") return here(`archive-operation ${operation}`);
  const modifiers = new Set(letters.filter((letter) => letter !== operation));
  for (const letter of modifiers) {
    const reason = refused.get(letter);
    if (reason !== undefined) return here(reason);
    if (!understood.includes(letter)) return here(`unknown-flag ${letter}`);
  }
  const [archive, ...files] = names;
  if (archive === undefined || files.length === 0) return here("no-input");
  return { at: "anywhere", archive, files, operation, modifiers };
}
