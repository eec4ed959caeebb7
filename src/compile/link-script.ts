/**
 * What a linker script asks a linker to open. Everything else in it is read over: what a script
 * does with the files is the linker's business.
 */

export interface ScriptWishes {
  /** INPUT, GROUP, AS_NEEDED and STARTUP, in order; libraries as `-lname`. */
  readonly inputs: readonly string[];
  readonly folders: readonly string[];
  /** INCLUDE. */
  readonly scripts: readonly string[];
  /** It names the output file or another target, which the command line does not show. */
  readonly strange: boolean;
}

export function readLinkerScript(text: string): ScriptWishes {
  const tokens = tokensOf(text);
  const inputs: string[] = [];
  const folders: string[] = [];
  const scripts: string[] = [];
  let strange = false;

  /** The words between this "(" and its ")"; where the latter is. */
  const list = (open: number): { words: string[]; end: number } => {
    const words: string[] = [];
    let depth = 0;
    let at = open;
    for (; at < tokens.length; at++) {
      const token = tokens[at] ?? "";
      if (token === "(") depth++;
      else if (token === ")") {
        if (--depth === 0) break;
      } else if (token !== "," && token !== "AS_NEEDED") words.push(unquoted(token));
    }
    return { words, end: at };
  };

  for (let at = 0; at < tokens.length; at++) {
    const token = tokens[at];
    if (token === "INCLUDE") scripts.push(unquoted(tokens[++at] ?? ""));
    if (tokens[at + 1] !== "(") continue;
    switch (token) {
      case "INPUT":
      case "GROUP":
      case "STARTUP": {
        const { words, end } = list(at + 1);
        inputs.push(...words);
        at = end;
        break;
      }
      case "SEARCH_DIR":
        folders.push(unquoted(tokens[at + 2] ?? ""));
        break;
      case "OUTPUT":
      case "HLL":
      case "SYSLIB":
        strange = true;
    }
  }
  return { inputs, folders, scripts, strange };
}

function tokensOf(text: string): string[] {
  return text.replace(/\/\*.*?\*\//gs, " ").match(/"[^"\n]*"|[(){};,]|[^\s"(){};,]+/g) ?? [];
}

function unquoted(token: string): string {
  return token.startsWith('"') ? token.slice(1, -1) : token;
}
