/**
 * Where things end in C and C++ source: literals, comments, numbers, logical lines. Positions in,
 * positions out; nothing is remembered.
 */

export const newline = 10;
export const quote = 34;
export const hash = 35;
export const percent = 37;
export const apostrophe = 39;
export const star = 42;
export const slash = 47;
export const colon = 58;
export const backslash = 92;
export const underscore = 95;

/** 1: starts an identifier; 2: digit; 4: white space other than a newline. */
export const classes: Uint8Array = new Uint8Array(256);
for (let c = 0; c < 256; c++) {
  const letter = (c >= 65 && c <= 90) || (c >= 97 && c <= 122) || c === underscore || c === 36;
  if (letter || c >= 128) classes[c] = 1;
  else if (c >= 48 && c <= 57) classes[c] = 2;
  else if (c === 32 || c === 9 || c === 11 || c === 12 || c === 13) classes[c] = 4;
}

export function isRawPrefix(text: string, from: number, to: number): boolean {
  if (text.charCodeAt(to - 1) !== 82 || to - from > 3) return false;
  const prefix = text.slice(from, to);
  return (
    prefix === "R" || prefix === "LR" || prefix === "uR" || prefix === "UR" || prefix === "u8R"
  );
}

/** @param at the opening quote. What is no raw string after all is read as a plain one. */
export function afterRawString(text: string, at: number): number {
  const open = text.indexOf("(", at + 1);
  if (open < 0 || open - at - 1 > 16) return afterLiteral(text, at, quote);
  const delimiter = text.slice(at + 1, open);
  if (/[\s\\)"]/.test(delimiter)) return afterLiteral(text, at, quote);
  const close = text.indexOf(`)${delimiter}"`, open + 1);
  return close < 0 ? afterLiteral(text, at, quote) : close + delimiter.length + 2;
}

/** A literal ends at its quote or, unterminated (an apostrophe in prose), with its line. */
export function afterLiteral(text: string, at: number, close: number): number {
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
export function afterNumber(text: string, at: number): number {
  let i = at + 1;
  for (;;) {
    const c = text.charCodeAt(i);
    if (((classes[c] ?? 0) & 3) !== 0 || c === 46) i++;
    else if (c === apostrophe && ((classes[text.charCodeAt(i + 1)] ?? 0) & 3) !== 0) i += 2;
    else return i;
  }
}

/** Past a backslash, white space and newline; `at` itself when it is no line continuation. */
export function afterSplice(text: string, at: number): number {
  let i = at + 1;
  while (classes[text.charCodeAt(i)] === 4) i++;
  return text.charCodeAt(i) === newline ? i + 1 : at;
}

/** The newline that ends the logical line. */
export function endOfLine(text: string, at: number): number {
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

export function afterOr(found: number, length: number, end: number): number {
  return found < 0 ? end : found + length;
}

export function skipBlank(text: string, at: number): number {
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

export function afterWord(text: string, at: number): number {
  let i = at;
  while (((classes[text.charCodeAt(i)] ?? 0) & 3) !== 0) i++;
  return i;
}

/** The rest of a line, continuations joined and comments taken out. */
export function logicalLine(text: string, at: number): string {
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
