/**
 * Reads a linker's own command line: what it opens, in which order and where it looks for it. It is
 * given words with response files already expanded, and reads nothing.
 */
import { type LinkReason, type Role, readLinkOption } from "./link-options.ts";

export interface LinkStaysHere {
  readonly at: "here";
  readonly reason: LinkReason;
  readonly culprit: string;
}

export type LinkItem =
  /** `raw`: bytes to be linked as they are, whatever they mean. */
  | { readonly kind: "file"; readonly path: string; readonly raw: boolean }
  | { readonly kind: "library"; readonly name: string; readonly dynamic: boolean };

export interface LinkWords {
  readonly at: "anywhere";
  readonly items: readonly LinkItem[];
  /** -L, in order. */
  readonly folders: readonly string[];
  readonly runPaths: readonly string[];
  readonly linkPaths: readonly string[];
  /** Linker scripts, also looked for in the search path. */
  readonly scripts: readonly string[];
  readonly files: readonly string[];
  /** -R: a file with symbols, or a folder for the run path. */
  readonly symbols: readonly string[];
  /** Loaded by the linker itself. */
  readonly plugins: readonly string[];
  readonly output: string | undefined;
  readonly map: string | undefined;
  readonly dependencyFile: string | undefined;
  readonly sysroot: string | undefined;
  readonly emulation: string | undefined;
  readonly relocatable: boolean;
  readonly defaultFolders: boolean;
}

/** Words in a row; those that a compiler driver adds may do more than those of a user. */
export interface LinkSegment {
  readonly words: readonly string[];
  readonly own: boolean;
}

type Draft = { -readonly [K in keyof LinkWords]: Mutable<LinkWords[K]> } & {
  dynamic: boolean;
  raw: boolean;
  readonly stack: boolean[];
};
type Mutable<T> = T extends readonly (infer E)[] ? E[] : T;

export const staysHere = (reason: LinkReason, culprit = ""): LinkStaysHere => ({
  at: "here",
  reason,
  culprit,
});

export function readLinkWords(segments: readonly LinkSegment[]): LinkWords | LinkStaysHere {
  const draft = emptyDraft();
  for (const { words, own } of segments) {
    for (let at = 0; at < words.length; ) {
      const word = words[at] ?? "";
      if (!word.startsWith("-") || word === "-") {
        if (word === "-") return staysHere("stdin");
        draft.items.push({ kind: "file", path: word, raw: draft.raw });
        at++;
        continue;
      }
      const option = readLinkOption(words, at);
      if (option === undefined) return staysHere("unknown-flag", word);
      const { role, value } = option;
      if (role.startsWith("here:"))
        return staysHere(role.slice("here:".length) as LinkReason, word);
      const refusal = take(draft, role as Role, value, own);
      if (refusal !== undefined) return refusal;
      at += option.words;
    }
  }
  const { dynamic: _, raw: __, stack: ___, ...words } = draft;
  return words;
}

function emptyDraft(): Draft {
  return {
    at: "anywhere",
    items: [],
    folders: [],
    runPaths: [],
    linkPaths: [],
    scripts: [],
    files: [],
    symbols: [],
    plugins: [],
    output: undefined,
    map: undefined,
    dependencyFile: undefined,
    sysroot: undefined,
    emulation: undefined,
    relocatable: false,
    defaultFolders: true,
    dynamic: true,
    raw: false,
    stack: [],
  };
}

function take(draft: Draft, role: Role, value: string, own: boolean): LinkStaysHere | undefined {
  switch (role) {
    case "library":
      draft.items.push({ kind: "library", name: value, dynamic: draft.dynamic });
      return undefined;
    case "static":
      draft.dynamic = false;
      return undefined;
    case "relocatable":
      draft.dynamic = false;
      draft.relocatable = true;
      return undefined;
    case "dynamic":
      draft.dynamic = true;
      return undefined;
    case "push":
      draft.stack.push(draft.dynamic);
      return undefined;
    case "pop":
      draft.dynamic = draft.stack.pop() ?? draft.dynamic;
      return undefined;
    case "format":
      draft.raw = value !== "elf" && value !== "default" && !value.startsWith("elf");
      return undefined;
    case "no-default-folders":
      draft.defaultFolders = false;
      return undefined;
    case "plugin":
      if (!own) return staysHere("plugin", value);
      if (value.startsWith("/")) draft.plugins.push(value);
      return undefined;
    case "build-id":
      return value === "uuid" ? staysHere("build-id-uuid") : undefined;
    default:
      return takeFile(draft, role, value, own);
  }
}

function takeFile(
  draft: Draft,
  role: Role,
  value: string,
  own: boolean,
): LinkStaysHere | undefined {
  switch (role) {
    case "folder":
      draft.folders.push(value);
      return undefined;
    case "run-path":
      draft.runPaths.push(...value.split(":"));
      return undefined;
    case "link-path":
      draft.linkPaths.push(...value.split(":"));
      return undefined;
    case "symbols":
      draft.symbols.push(value);
      return undefined;
    case "script":
      draft.scripts.push(value);
      return undefined;
    case "file":
      draft.files.push(value);
      return undefined;
    case "sysroot":
      draft.sysroot = value;
      return undefined;
    case "emulation":
      draft.emulation = value;
      return undefined;
    case "output":
      if (!own) draft.output = value;
      return undefined;
    case "map":
      draft.map = value;
      return value === "-" ? staysHere("map-stdout") : undefined;
    case "dependency-file":
      draft.dependencyFile = value;
      return value === "-" ? staysHere("extra-output") : undefined;
    default:
      return undefined;
  }
}
