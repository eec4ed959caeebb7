/** Reads the dependency files that compilers write for make. */

const newline = 10;
const carriageReturn = 13;
const space = 32;
const dollar = 36;
const backslash = 92;

/** The prerequisites of the first rule, unescaped. Undefined when this is no such file. */
export function prerequisitesOf(text: string): readonly string[] | undefined {
  const colon = endOfTargets(text);
  if (colon < 0) return undefined;
  const names: string[] = [];
  // The name being read: `begun`, then what lies behind `from`.
  let begun = "";
  let from = colon + 1;
  const end = (at: number): void => {
    const name = begun + text.slice(from, at);
    if (name !== "") names.push(name);
    begun = "";
  };
  for (let i = colon + 1; i < text.length; i++) {
    const c = text.charCodeAt(i);
    if (c > space && c !== backslash && c !== dollar) continue;
    if (c <= space) {
      end(i);
      from = i + 1;
      if (c === newline) return names;
    } else if (c === dollar) {
      if (text.charCodeAt(i + 1) !== dollar) continue;
      begun += text.slice(from, i);
      from = ++i;
    } else {
      const next = text.charCodeAt(i + 1);
      const isCrLf = next === carriageReturn && text.charCodeAt(i + 2) === newline;
      if (next === newline || isCrLf) {
        end(i);
        i += isCrLf ? 2 : 1;
        from = i + 1;
      } else if (escapes(text, i)) {
        begun += text.slice(from, i);
        from = ++i;
      }
    }
  }
  end(text.length);
  return names;
}

/** A backslash escapes white space and `#`; elsewhere it stands for itself. */
function escapes(text: string, at: number): boolean {
  const next = text.charAt(at + 1);
  if (next === " " || next === "\t" || next === "#") return true;
  // Backslashes are doubled only where they lead up to white space.
  return next === "\\" && /^\\+[ \t]/.test(text.slice(at, at + 4096));
}

/** The colon behind the targets: one that white space follows. */
function endOfTargets(text: string): number {
  const found = /:(?=[ \t\n\r]|\\\r?\n|$)/.exec(text);
  return found === null ? -1 : found.index;
}
