/**
 * What reading one C or C++ file finds out, and where it is put down. It knows no syntax.
 */

/**
 * How a name is looked for, and whether the file is opened or only asked about. `embed` is
 * `#embed` and `__has_embed`; `incbin` and `assemble` are the assembler's `.incbin` and `.include`.
 */
export type Asking = "include" | "next" | "probe" | "probe-next" | "embed" | "incbin" | "assemble";

export interface Mention {
  readonly asking: Asking;
  /** `<name>` rather than `"name"`. */
  readonly angled: boolean;
  readonly name: string;
}

/** What else was seen. */
export interface Seen {
  /** `__DATE__` or `__TIME__`. */
  readonly time: boolean;
  /** `__TIMESTAMP__`: the file's mtime, which does not travel. */
  readonly timestamp: boolean;
  /** `.incbin` or `.include` of something that only the assembler can work out. */
  readonly incbin: boolean;
  /** One of these outside of a string: in C, nobody knows where its quotes end. */
  readonly bareAssembly: boolean;
  readonly embed: boolean;
  /** `#embed` or `__has_embed` of something that only the compiler can work out. */
  readonly computedEmbed: boolean;
  /** `#pragma once` or `#import`: twins elsewhere may count as this same file. */
  readonly once: boolean;
  /** A line that may be C++20 `import`, `module` or `export module`. */
  readonly modules: boolean;
  /** `#include` of something that only the compiler can work out. */
  readonly computed: boolean;
  /** `__has_include` of something that only the compiler can work out. */
  readonly computedProbe: boolean;
  /** A pragma that looks at files or at their times. */
  readonly filePragma: boolean;
  /** A name that is no UTF-8: paths here are text. */
  readonly strangeName: boolean;
}

export interface Lexical {
  readonly mentions: readonly Mention[];
  readonly seen: Seen;
  /** Whether anything is set in `seen`: in most files there is not. */
  readonly remarkable: boolean;
  /** Macros that some `#include NAME` needs. */
  readonly includedMacros: readonly string[];
  /** Macros that are nothing but a header's name here. */
  readonly headerMacros: ReadonlyMap<string, readonly Mention[]>;
  /** Hashes of the names of all other macros defined here: enough to know that one may be. */
  readonly otherMacros: Int32Array;
  /** Macros whose bodies ask `__has_include` about their argument. */
  readonly probingMacros: readonly string[];
  /** Macros called by an `#if` with something other than a header's name. */
  readonly conditionCalls: readonly string[];
}

export type Draft = { -readonly [K in keyof Seen]: Seen[K] };

export interface Notes {
  readonly mentions: Map<string, Mention>;
  readonly seen: Draft;
  readonly includedMacros: Set<string>;
  readonly headerMacros: Map<string, Mention[]>;
  readonly otherMacros: Set<number>;
  readonly probingMacros: Set<string>;
  readonly conditionCalls: Set<string>;
}

export function createNotes(text: string): Notes {
  const notes: Notes = {
    mentions: new Map(),
    seen: {
      time: false,
      timestamp: false,
      incbin: false,
      bareAssembly: false,
      embed: false,
      computedEmbed: false,
      once: text.includes('_Pragma("once")'),
      modules: false,
      // Trigraphs may hide a directive or a line's continuation.
      computed: text.includes("??=") || text.includes("??/"),
      computedProbe: false,
      filePragma: false,
      strangeName: false,
    },
    includedMacros: new Set(),
    headerMacros: new Map(),
    otherMacros: new Set(),
    probingMacros: new Set(),
    conditionCalls: new Set(),
  };
  if (/\.inc(?:bin|lude)/i.test(text)) noteAssembly(text, notes);
  return notes;
}

const assemblerReads = /\.(incbin|include)(?![\w.$])/gi;

/**
 * What the assembler reads behind the compiler's back, be it told by `asm` or in a source of its
 * own. Comments are not told apart: they are not the same in both.
 */
function noteAssembly(text: string, notes: Notes): void {
  for (const { 1: directive = "", index, 0: found } of text.matchAll(assemblerReads)) {
    const rest = text.slice(index + found.length, index + found.length + 4096);
    const [, opening, name = "", closing] = /^[ \t]*(\\?)"([^"\\\n]+)(\\?)"/.exec(rest) ?? [];
    const asking = directive.toLowerCase() === "incbin" ? "incbin" : "assemble";
    if (name !== "" && opening === closing) {
      mention(asking, false, name, notes);
      if (opening === "") notes.seen.bareAssembly = true;
    } else if (asking === "incbin" || /^[ \t"'\\]/.test(rest)) notes.seen.incbin = true;
  }
}

export function toLexical(notes: Notes): Lexical {
  return {
    mentions: [...notes.mentions.values()],
    seen: notes.seen,
    remarkable: Object.values(notes.seen).includes(true),
    includedMacros: [...notes.includedMacros],
    headerMacros: notes.headerMacros,
    otherMacros: Int32Array.from(notes.otherMacros),
    probingMacros: [...notes.probingMacros],
    conditionCalls: [...notes.conditionCalls],
  };
}

/** FNV-1a: a clash only means that the compiler is asked. */
export function macroHash(name: string): number {
  let hash = 0x811c9dc5;
  for (let i = 0; i < name.length; i++) hash = Math.imul(hash ^ name.charCodeAt(i), 0x01000193);
  return hash | 0;
}

export function mention(asking: Asking, angled: boolean, raw: string, notes: Notes): void {
  const name = toUtf8(raw);
  if (name === undefined || name.includes("\0")) {
    notes.seen.strangeName = true;
    return;
  }
  if (name === "") return;
  const key = `${asking}${angled ? "<" : '"'}${name}`;
  if (!notes.mentions.has(key)) notes.mentions.set(key, { asking, angled, name });
}

export function toUtf8(raw: string): string | undefined {
  let ascii = true;
  for (let i = 0; i < raw.length; i++) if (raw.charCodeAt(i) >= 128) ascii = false;
  if (ascii) return raw;
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(Buffer.from(raw, "latin1"));
  } catch {
    return undefined;
  }
}
