/**
 * Reads one C or C++ file for everything that may make the compiler open another file, and for
 * what makes its meaning depend on more than files.
 *
 * Conditions are not evaluated: what a dead branch names is reported too. A file that is named
 * for nothing costs a transfer; one that is missed would cost the truth. This file knows nothing
 * about search paths.
 */

/** How a name is looked for, and whether the file is opened or only asked about. */
export type Asking = "include" | "next" | "probe" | "probe-next";

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
  /** The assembler's `.incbin`, which opens a file behind the compiler's back. */
  readonly incbin: boolean;
  readonly embed: boolean;
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

type Draft = { -readonly [K in keyof Seen]: Seen[K] };

interface Notes {
  readonly mentions: Map<string, Mention>;
  readonly seen: Draft;
  readonly includedMacros: Set<string>;
  readonly headerMacros: Map<string, Mention[]>;
  readonly otherMacros: Set<number>;
  readonly probingMacros: Set<string>;
  readonly conditionCalls: Set<string>;
}

/** Scans a whole file. Never throws: what makes no sense to it is left to the compiler. */
export function scanSource(bytes: Uint8Array): Lexical {
  const text = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("latin1");
  const notes: Notes = {
    mentions: new Map(),
    seen: {
      time: false,
      timestamp: false,
      incbin: text.includes(".incbin"),
      embed: false,
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
  walk(text, notes);
  return {
    mentions: [...notes.mentions.values()],
    seen: notes.seen,
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

const newline = 10;
const quote = 34;
const hash = 35;
const percent = 37;
const apostrophe = 39;
const star = 42;
const slash = 47;
const colon = 58;
const backslash = 92;
const underscore = 95;

/** 1: starts an identifier; 2: digit; 4: white space other than a newline. */
const classes: Uint8Array = new Uint8Array(256);
for (let c = 0; c < 256; c++) {
  const letter = (c >= 65 && c <= 90) || (c >= 97 && c <= 122) || c === underscore || c === 36;
  if (letter || c >= 128) classes[c] = 1;
  else if (c >= 48 && c <= 57) classes[c] = 2;
  else if (c === 32 || c === 9 || c === 11 || c === 12 || c === 13) classes[c] = 4;
}

/** The lexer proper: finds directives, and skips comments, literals and raw strings. */
function walk(text: string, notes: Notes): void {
  const end = text.length;
  let lineStart = true;
  let i = text.startsWith("\u00ef\u00bb\u00bf") ? 3 : 0;
  while (i < end) {
    const c = text.charCodeAt(i);
    const kind = classes[c];
    if (c === newline) {
      lineStart = true;
      i++;
    } else if (kind === 4) {
      i++;
    } else if (kind === 1) {
      const from = i;
      do i++;
      while (((classes[text.charCodeAt(i)] ?? 0) & 3) !== 0 && i < end);
      if (text.charCodeAt(i) === quote && isRawPrefix(text, from, i)) i = afterRawString(text, i);
      else noteWord(text, from, i, lineStart, notes);
      lineStart = false;
    } else if (c === slash) {
      const next = text.charCodeAt(i + 1);
      if (next === star) i = afterOr(text.indexOf("*/", i + 2), 2, end);
      else if (next === slash) i = endOfLine(text, i);
      else {
        i++;
        lineStart = false;
      }
    } else if (c === backslash) {
      const after = afterSplice(text, i);
      if (after === i) lineStart = false;
      i = after === i ? i + 1 : after;
    } else if (c === quote || c === apostrophe) {
      i = afterLiteral(text, i, c);
      lineStart = false;
    } else if (kind === 2) {
      i = afterNumber(text, i);
      lineStart = false;
    } else if (lineStart && c === hash) {
      i = directive(text, i + 1, notes);
      lineStart = false;
    } else if (lineStart && c === percent && text.charCodeAt(i + 1) === colon) {
      i = directive(text, i + 2, notes);
      lineStart = false;
    } else {
      i++;
      lineStart = false;
    }
  }
}

function noteWord(text: string, from: number, to: number, lineStart: boolean, notes: Notes): void {
  const length = to - from;
  if (text.charCodeAt(from) === underscore && text.charCodeAt(from + 1) === underscore) {
    if (length !== 8 && length !== 13) return;
    const word = text.slice(from, to);
    if (word === "__DATE__" || word === "__TIME__") notes.seen.time = true;
    else if (word === "__TIMESTAMP__") notes.seen.timestamp = true;
  } else if (lineStart && length === 6) {
    const word = text.slice(from, to);
    if (word === "import" || word === "module" || word === "export") {
      if (/^\s*(?:(?:import|module)\b\s*)?[\w"<:;]/.test(text.slice(to, to + 40)))
        notes.seen.modules = true;
    }
  }
}

function isRawPrefix(text: string, from: number, to: number): boolean {
  if (text.charCodeAt(to - 1) !== 82 || to - from > 3) return false;
  const prefix = text.slice(from, to);
  return (
    prefix === "R" || prefix === "LR" || prefix === "uR" || prefix === "UR" || prefix === "u8R"
  );
}

/** @param at the opening quote. What is no raw string after all is read as a plain one. */
function afterRawString(text: string, at: number): number {
  const open = text.indexOf("(", at + 1);
  if (open < 0 || open - at - 1 > 16) return afterLiteral(text, at, quote);
  const delimiter = text.slice(at + 1, open);
  if (/[\s\\)"]/.test(delimiter)) return afterLiteral(text, at, quote);
  const close = text.indexOf(`)${delimiter}"`, open + 1);
  return close < 0 ? afterLiteral(text, at, quote) : close + delimiter.length + 2;
}

/** A literal ends at its quote or, unterminated (an apostrophe in prose), with its line. */
function afterLiteral(text: string, at: number, close: number): number {
  const end = text.length;
  for (let i = at + 1; i < end; ) {
    const c = text.charCodeAt(i);
    if (c === close) return i + 1;
    if (c === newline) return i;
    if (c === backslash) {
      const after = afterSplice(text, i);
      i = after === i ? i + 2 : after;
    } else i++;
  }
  return end;
}

/** A number may hold apostrophes: 1'000. */
function afterNumber(text: string, at: number): number {
  let i = at + 1;
  for (;;) {
    const c = text.charCodeAt(i);
    if (((classes[c] ?? 0) & 3) !== 0 || c === 46) i++;
    else if (c === apostrophe && ((classes[text.charCodeAt(i + 1)] ?? 0) & 3) !== 0) i += 2;
    else return i;
  }
}

/** Past a backslash, white space and newline; `at` itself when it is no line continuation. */
function afterSplice(text: string, at: number): number {
  let i = at + 1;
  while (classes[text.charCodeAt(i)] === 4) i++;
  return text.charCodeAt(i) === newline ? i + 1 : at;
}

/** The newline that ends the logical line. */
function endOfLine(text: string, at: number): number {
  let from = at;
  for (;;) {
    const stop = text.indexOf("\n", from);
    if (stop < 0) return text.length;
    let last = stop - 1;
    while (last >= at && classes[text.charCodeAt(last)] === 4) last--;
    if (last < at || text.charCodeAt(last) !== backslash) return stop;
    from = stop + 1;
  }
}

function afterOr(found: number, length: number, end: number): number {
  return found < 0 ? end : found + length;
}

function skipBlank(text: string, at: number): number {
  let i = at;
  for (;;) {
    const c = text.charCodeAt(i);
    if (classes[c] === 4) i++;
    else if (c === backslash) {
      const after = afterSplice(text, i);
      if (after === i) return i;
      i = after;
    } else if (c === slash && text.charCodeAt(i + 1) === star)
      i = afterOr(text.indexOf("*/", i + 2), 2, text.length);
    else return i;
  }
}

function afterWord(text: string, at: number): number {
  let i = at;
  while (((classes[text.charCodeAt(i)] ?? 0) & 3) !== 0) i++;
  return i;
}

/**
 * Looks at the directive whose `#` lies before `at`. Returns where the lexer goes on: behind the
 * directive's name, or behind the header's name, in which `//` is no comment.
 */
function directive(text: string, at: number, notes: Notes): number {
  const from = skipBlank(text, at);
  const to = afterWord(text, from);
  // A directive's name cut in two by a line continuation is left to the compiler.
  if (text.charCodeAt(to) === backslash && afterSplice(text, to) !== to) notes.seen.computed = true;
  switch (text.slice(from, to)) {
    case "include":
      return header(text, to, "include", notes);
    case "include_next":
      return header(text, to, "next", notes);
    case "import":
      notes.seen.once = true;
      return header(text, to, "include", notes);
    case "embed":
      notes.seen.embed = true;
      return to;
    case "define":
      define(text, to, notes);
      return to;
    case "if":
    case "elif":
      condition(text, to, notes);
      return to;
    case "pragma":
      pragma(logicalLine(text, to), notes);
      return to;
    default:
      return to;
  }
}

function header(text: string, at: number, asking: Asking, notes: Notes): number {
  const from = skipBlank(text, at);
  const c = text.charCodeAt(from);
  if (c === 60 || c === quote) {
    const angled = c === 60;
    const close = text.indexOf(angled ? ">" : '"', from + 1);
    const stop = endOfLine(text, from);
    if (close > 0 && close < stop) {
      const name = text.slice(from + 1, close);
      if (name.includes("\n")) notes.seen.computed = true;
      else mention(asking, angled, name, notes);
      return close + 1;
    }
  }
  const line = logicalLine(text, from).trim();
  if (/^[A-Za-z_]\w*$/.test(line) && asking === "include") notes.includedMacros.add(line);
  else if (line !== "") notes.seen.computed = true;
  return from;
}

function mention(asking: Asking, angled: boolean, raw: string, notes: Notes): void {
  const name = toUtf8(raw);
  if (name === undefined || name.includes("\0")) {
    notes.seen.strangeName = true;
    return;
  }
  if (name === "") return;
  const key = `${asking}${angled ? "<" : '"'}${name}`;
  if (!notes.mentions.has(key)) notes.mentions.set(key, { asking, angled, name });
}

function toUtf8(raw: string): string | undefined {
  let ascii = true;
  for (let i = 0; i < raw.length; i++) if (raw.charCodeAt(i) >= 128) ascii = false;
  if (ascii) return raw;
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(Buffer.from(raw, "latin1"));
  } catch {
    return undefined;
  }
}

/** The rest of a line, continuations joined and comments taken out. */
function logicalLine(text: string, at: number): string {
  let line = "";
  let from = at;
  let i = at;
  for (;;) {
    const c = text.charCodeAt(i);
    if (i >= text.length || c === newline) return line + text.slice(from, i);
    if (c === backslash) {
      const after = afterSplice(text, i);
      if (after === i) i++;
      else {
        line += text.slice(from, i);
        from = i = after;
      }
    } else if (c === slash && text.charCodeAt(i + 1) === slash) {
      return line + text.slice(from, i);
    } else if (c === slash && text.charCodeAt(i + 1) === star) {
      line += `${text.slice(from, i)} `;
      from = i = afterOr(text.indexOf("*/", i + 2), 2, text.length);
    } else if (c === quote || c === apostrophe) {
      i = afterLiteral(text, i, c);
    } else i++;
  }
}

function define(text: string, at: number, notes: Notes): void {
  const from = skipBlank(text, at);
  const to = afterWord(text, from);
  const name = text.slice(from, to);
  // The usual fallback: `#define __has_include(x) 0`.
  if (name === "" || name.startsWith("__has_include")) return;
  const parameters = text.charCodeAt(to) === 40;
  const body = logicalLine(text, to).trim();
  if (body.includes("__has_include")) probesInBody(name, parameters, body, notes);
  if (body.includes("__has_embed")) notes.seen.embed = true;
  const literal = parameters ? null : /^(?:<([^>]+)>|"([^"\\]+)")$/.exec(body);
  const headerName = toUtf8(literal?.[1] ?? literal?.[2] ?? "");
  if (headerName === undefined || headerName === "") {
    notes.otherMacros.add(macroHash(name));
    return;
  }
  const known = notes.headerMacros.get(name) ?? [];
  known.push({ asking: "include", angled: literal?.[1] !== undefined, name: headerName });
  notes.headerMacros.set(name, known);
}

const probe = /\b(__has_include(?:_next)?)(?:__)?\b\s*(?:\(\s*(?:<([^>]*)>|"([^"]*)"|(\w*)))?/g;

function probesInBody(name: string, parameters: boolean, body: string, notes: Notes): void {
  const names = parameters ? body.slice(1, body.indexOf(")")).split(/[\s,]+/) : [];
  for (const [, how, angled, quoted, word] of body.matchAll(probe)) {
    const literal = angled ?? quoted;
    if (literal !== undefined)
      mention(
        how === "__has_include" ? "probe" : "probe-next",
        quoted === undefined,
        literal,
        notes,
      );
    else if (word === undefined || names.includes(word)) notes.probingMacros.add(name);
    else notes.seen.computedProbe = true;
  }
}

const call = /\b([A-Za-z_]\w*)\s*\(\s*(?:<([^>]*)>|"([^"]*)")?/g;
const harmless =
  /^(?:defined|__has_(?:c_|cpp_|declspec_)?attribute|__has_(?:builtin|feature|extension|warning|constexpr_builtin|keyword)|__is_identifier|__GNUC_PREREQ|__GLIBC_USE|__GLIBC_PREREQ)$/;

function condition(text: string, at: number, notes: Notes): void {
  const line = logicalLine(text, at);
  if (!line.includes("(")) return;
  for (const [, name = "", angled, quoted] of line.matchAll(call)) {
    if (harmless.test(name)) continue;
    const literal = angled ?? quoted;
    const next = name.startsWith("__has_include_next");
    if (name.startsWith("__has_embed")) notes.seen.embed = true;
    // A macro may stand for __has_include: what it is given is looked for in any case.
    else if (literal !== undefined)
      mention(next ? "probe-next" : "probe", quoted === undefined, literal, notes);
    else if (name.startsWith("__has_include")) notes.seen.computedProbe = true;
    else notes.conditionCalls.add(name);
  }
}

function pragma(line: string, notes: Notes): void {
  const words = line.trim().split(/\s+/, 2);
  if (words[0] === "once") notes.seen.once = true;
  else if (words[0] === "include_alias") notes.seen.filePragma = true;
  else if (words[0] === "GCC" && (words[1] === "dependency" || words[1] === "pch_preprocess"))
    notes.seen.filePragma = true;
  else if (words[0] === "clang" && words[1] === "module") notes.seen.modules = true;
}
