/** Reads the dependency files that compilers write for make. */

/** The prerequisites of the first rule, unescaped. Undefined when this is no such file. */
export function prerequisitesOf(text: string): readonly string[] | undefined {
  const colon = endOfTargets(text);
  if (colon < 0) return undefined;
  const names: string[] = [];
  let name = "";
  for (let i = colon + 1; i <= text.length; i++) {
    const c = text.charAt(i);
    if (c === "\\" && (text.charAt(i + 1) === "\n" || text.startsWith("\r\n", i + 1))) {
      i += text.charAt(i + 1) === "\n" ? 1 : 2;
      if (name !== "") names.push(name);
      name = "";
    } else if (c === "\\" && /[ \t#\\:]/.test(text.charAt(i + 1)) && escapes(text, i)) {
      name += text.charAt(++i);
    } else if (c === "$" && text.charAt(i + 1) === "$") {
      name += "$";
      i++;
    } else if (c === "" || /\s/.test(c)) {
      if (name !== "") names.push(name);
      name = "";
      if (c === "\n" || c === "") return names;
    } else name += c;
  }
  return names;
}

/** A backslash escapes white space and `#`; elsewhere it stands for itself. */
function escapes(text: string, at: number): boolean {
  const next = text.charAt(at + 1);
  if (next !== "\\" && next !== ":") return true;
  // Backslashes are doubled only where they lead up to white space.
  return next === "\\" && /^\\+[ \t]/.test(text.slice(at));
}

/** The colon behind the targets: one that white space follows. */
function endOfTargets(text: string): number {
  const found = /:(?=[ \t\n\r]|\\\r?\n|$)/.exec(text);
  return found === null ? -1 : found.index;
}
