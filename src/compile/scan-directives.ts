/**
 * Reads preprocessor directives for the files they name or ask about. Conditions are not
 * evaluated, and macros not expanded.
 */
import { type Asking, macroHash, mention, type Notes, toUtf8 } from "./scan-notes.ts";
import {
  afterSplice,
  afterWord,
  backslash,
  endOfLine,
  logicalLine,
  quote,
  skipBlank,
} from "./scan-text.ts";

/**
 * Looks at the directive whose `#` lies before `at`. Returns where the lexer goes on: behind the
 * directive's name, or behind the header's name, in which `//` is no comment.
 */
export function directive(text: string, at: number, notes: Notes): number {
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
      return embed(text, to, notes);
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
    case "ifdef":
    case "ifndef":
    case "elifdef":
    case "elifndef":
    case "undef":
      // A name that is only asked about is not expanded, __DATE__ neither.
      return afterWord(text, skipBlank(text, to));
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

function embed(text: string, at: number, notes: Notes): number {
  const line = logicalLine(text, at).trim();
  const [, angled, quoted] = /^(?:<([^>]+)>|"([^"\\]+)")/.exec(line) ?? [];
  const name = angled ?? quoted;
  if (name === undefined) notes.seen.computedEmbed = true;
  else noteEmbed(quoted === undefined, name, notes);
  return endOfLine(text, at);
}

function noteEmbed(angled: boolean, name: string, notes: Notes): void {
  notes.seen.embed = true;
  mention("embed", angled, name, notes);
}

function define(text: string, at: number, notes: Notes): void {
  const from = skipBlank(text, at);
  const to = afterWord(text, from);
  const name = text.slice(from, to);
  // The usual fallback: `#define __has_include(x) 0`.
  if (name === "" || /^__has_(?:include|embed)/.test(name)) return;
  const parameters = text.charCodeAt(to) === 40;
  const body = logicalLine(text, to).trim();
  if (body.includes("__has_include")) probesInBody(name, parameters, body, notes);
  if (body.includes("__has_embed")) notes.seen.computedEmbed = true;
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
    if (name.startsWith("__has_embed")) {
      if (literal === undefined) notes.seen.computedEmbed = true;
      else noteEmbed(quoted === undefined, literal, notes);
    }
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
