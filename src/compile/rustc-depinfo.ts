/**
 * rustc's dependency file: a makefile rule for each output, an empty rule for each source, and a
 * comment for each environment variable that the sources asked for.
 */
import { resolve } from "node:path";
import { MeshError } from "../base/errors.ts";

/** The sources it names, as absolute paths. */
export function sourcesIn(depInfo: string, cwd: string): readonly string[] {
  const sources: string[] = [];
  for (const line of depInfo.split("\n")) {
    if (!line.endsWith(":") || line.startsWith("#")) continue;
    // A colon in a path stands as it is; only spaces are escaped.
    sources.push(resolve(cwd, line.slice(0, -1).replaceAll("\\ ", " ")));
  }
  return sources;
}

export interface ReadVariable {
  readonly name: string;
  /** Undefined: it was not set. */
  readonly value: string | undefined;
}

/**
 * The variables that `env!` or `option_env!` looked at. There is one line for each: `# env-dep:NAME`
 * when it was unset, else `# env-dep:NAME=value`, with backslash, newline and carriage return
 * escaped in both.
 */
export function variablesIn(depInfo: string): readonly ReadVariable[] {
  return depInfo.split("\n").flatMap((line) => {
    if (!line.startsWith(mark)) return [];
    // A name with "=" in it can be asked for, and is never set.
    const [, name = "", value] = /^([^=]*)(?:=([\s\S]*))?$/.exec(line.slice(mark.length)) ?? [];
    return { name: unescaped(name), value: value === undefined ? undefined : unescaped(value) };
  });
}

/** Compares what the compiler says it read with what is set here. Code "refused" when it differs. */
export function checkEnvironment(depInfo: string, env: Readonly<Record<string, string>>): void {
  for (const { name, value } of variablesIn(depInfo)) {
    if (env[name] !== value)
      throw new MeshError("refused", `env-miss: the unit reads ${name}, which is set differently`);
  }
}

const mark = "# env-dep:";

function unescaped(text: string): string {
  return text.replace(/\\([\\nr])/g, (_, letter: string) => escapes[letter] ?? letter);
}

const escapes: Readonly<Record<string, string>> = { n: "\n", r: "\r" };
