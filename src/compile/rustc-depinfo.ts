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

/**
 * Compares what the compiler says it read with what is set here. There is one line for each
 * variable that `env!` or `option_env!` looked at: `# env-dep:NAME` when it was unset, else
 * `# env-dep:NAME=value`, with backslash, newline and carriage return escaped in both. Code
 * "refused" when one of them differs.
 */
export function checkEnvironment(depInfo: string, env: Readonly<Record<string, string>>): void {
  for (const line of depInfo.split("\n")) {
    if (!line.startsWith(mark)) continue;
    // A name with "=" in it can be asked for, and is never set.
    const [, name = "", value] = /^([^=]*)(?:=([\s\S]*))?$/.exec(line.slice(mark.length)) ?? [];
    const here = env[unescaped(name)];
    if (here !== (value === undefined ? undefined : unescaped(value)))
      throw new MeshError("refused", `the unit reads ${name}, which is set differently there`);
  }
}

const mark = "# env-dep:";

function unescaped(text: string): string {
  return text.replace(/\\([\\nr])/g, (_, letter: string) => escapes[letter] ?? letter);
}

const escapes: Readonly<Record<string, string>> = { n: "\n", r: "\r" };
