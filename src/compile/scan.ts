/**
 * Reads one C or C++ file for everything that may make the compiler open another file, and for
 * what makes its meaning depend on more than files.
 *
 * Conditions are not evaluated: what a dead branch names is reported too. A file that is named
 * for nothing costs a transfer; one that is missed would cost the truth. This file knows nothing
 * about search paths.
 */

import { directive } from "./scan-directives.ts";
import { createNotes, type Lexical, type Notes, toLexical } from "./scan-notes.ts";
import {
  afterLiteral,
  afterNumber,
  afterOr,
  afterRawString,
  afterSplice,
  apostrophe,
  backslash,
  classes,
  colon,
  endOfLine,
  hash,
  isRawPrefix,
  newline,
  percent,
  quote,
  slash,
  star,
  underscore,
} from "./scan-text.ts";

export { type Lexical, type Mention, macroHash, type Seen } from "./scan-notes.ts";

/** Scans a whole file. Never throws: what makes no sense to it is left to the compiler. */
export function scanSource(bytes: Uint8Array): Lexical {
  const text = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("latin1");
  const notes = createNotes(text);
  walk(text, notes);
  return toLexical(notes);
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
