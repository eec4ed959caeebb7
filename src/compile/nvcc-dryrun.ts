/**
 * Reads what `nvcc --dryrun` prints: settings, then the commands that it would give to a shell, one
 * per line. Whatever a shell would do more with a line than split it into words is not understood.
 */

export interface DryRun {
  /** Settings of its environment, the last of each name. */
  readonly variables: ReadonlyMap<string, string>;
  /** Words of each command, in the order of a plain run. */
  readonly commands: readonly (readonly string[])[];
  /** nvcc's own warnings, which it prints before it calls anything. */
  readonly notes: string;
  /** The dependency file, as typed or derived, and how many commands ran before it was written. */
  readonly dependencies: { readonly path: string; readonly after: number } | undefined;
}

const commandsMax = 1000;
const setting = /^([A-Za-z_]\w*)=(.*)$/;
const filter = /^-- Filter Dependencies -- > (.+)$/;

/** Undefined when any line is not understood. */
export function parseDryRun(text: string): DryRun | undefined {
  const variables = new Map<string, string>();
  const commands: (readonly string[])[] = [];
  let notes = "";
  let dependencies: DryRun["dependencies"];
  for (const line of text.split("\n")) {
    if (line === "") continue;
    if (!line.startsWith("#$ ")) {
      if (!line.startsWith("nvcc warning :") || commands.length > 0) return undefined;
      notes += `${line}\n`;
      continue;
    }
    const rest = line.slice(3);
    const [, name, value] = setting.exec(rest) ?? [];
    const filtered = filter.exec(rest)?.[1];
    if (name !== undefined && value !== undefined) {
      if (commands.length > 0) return undefined;
      variables.set(name, value);
    } else if (filtered !== undefined) {
      if (dependencies !== undefined) return undefined;
      dependencies = { path: filtered.trimEnd(), after: commands.length };
    } else {
      const words = shellWords(rest, variables);
      if (words === undefined || words[0] === undefined || commands.length >= commandsMax)
        return undefined;
      // Intermediate files, which go with their folder.
      if (words[0] !== "rm") commands.push(words);
    }
  }
  return { variables, commands, notes, dependencies };
}

/** Characters that make a shell do something; `~`, `#` and `=` matter only where a word starts. */
const unquotedSpecial = /[`$&|;<>()*?[\]{}!\n]/;

/** Splits a simple command as a shell does; undefined when it is more than that. */
export function shellWords(
  line: string,
  variables: ReadonlyMap<string, string>,
): string[] | undefined {
  const words: string[] = [];
  let word: string | undefined;
  let i = 0;
  while (i < line.length) {
    const c = line.charAt(i);
    if (c === " " || c === "\t") {
      if (word !== undefined) words.push(word);
      word = undefined;
      i++;
    } else if (c === "'") {
      const end = line.indexOf("'", i + 1);
      if (end < 0) return undefined;
      word = (word ?? "") + line.slice(i + 1, end);
      i = end + 1;
    } else if (c === '"') {
      const quoted = readQuoted(line, i + 1, variables);
      if (quoted === undefined) return undefined;
      word = (word ?? "") + quoted.text;
      i = quoted.end;
    } else if (c === "\\") {
      if (i + 1 >= line.length) return undefined;
      word = (word ?? "") + line.charAt(i + 1);
      i += 2;
    } else {
      if (unquotedSpecial.test(c) || (word === undefined && /[~#]/.test(c))) return undefined;
      word = (word ?? "") + c;
      i++;
    }
  }
  if (word !== undefined) words.push(word);
  return words;
}

/** @param start behind the opening quote */
function readQuoted(
  line: string,
  start: number,
  variables: ReadonlyMap<string, string>,
): { readonly text: string; readonly end: number } | undefined {
  let text = "";
  for (let i = start; i < line.length; i++) {
    const c = line.charAt(i);
    if (c === '"') return { text, end: i + 1 };
    if (c === "`") return undefined;
    if (c === "\\") {
      const next = line.charAt(i + 1);
      const escapes = next === '"' || next === "\\" || next === "$" || next === "`";
      text += escapes ? next : c;
      if (escapes) i++;
    } else if (c === "$") {
      // nvcc names one folder of its own so; anything else is the user's, for a shell to expand.
      const name = /^CICC_PATH(?!\w)/.exec(line.slice(i + 1))?.[0];
      const value = name === undefined ? undefined : variables.get(name);
      if (name === undefined || value === undefined) return undefined;
      text += value;
      i += name.length;
    } else text += c;
  }
  return undefined;
}
