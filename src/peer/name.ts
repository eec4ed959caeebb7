/**
 * Text from other machines, made fit to be shown on a terminal.
 */

/** One line of at most `maxChars` characters, without control, format or unassigned ones. */
export function plainName(text: string, maxChars: number): string {
  const plain = text
    .replace(/[\p{C}\p{Zl}\p{Zp}]/gu, "")
    .replace(/\s+/gu, " ")
    .trim();
  let kept = "";
  for (const char of plain) {
    // Counts as `length` does, and never cuts a pair in half.
    if (kept.length + char.length > maxChars) break;
    kept += char;
  }
  return kept.trimEnd();
}
