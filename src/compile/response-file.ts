/** Expands `@file` arguments as GCC and Clang do. Knows nothing of what the arguments mean. */
import { MeshError } from "../base/errors.ts";
import type { Disk } from "../host/host.ts";

/** Nested response files are followed this deep; a file that names itself ends here. */
const depthMax = 16;
const fileMaxBytes = 8 * 1024 * 1024;
const argumentsMax = 200_000;

/**
 * @returns the arguments with every `@file` replaced by the words in it.
 * @throws MeshError "io" when one cannot be read, "malformed" when it is no UTF-8, "limit".
 */
export function expandResponseFiles(
  args: readonly string[],
  cwd: string,
  disk: Pick<Disk, "readNow" | "statFollowNow">,
): readonly string[] {
  if (!args.some((arg) => arg.startsWith("@"))) return args;
  const expanded: string[] = [];
  const add = (words: readonly string[], depth: number): void => {
    if (depth > depthMax)
      throw new MeshError("limit", `response files are nested deeper than ${depthMax}`);
    for (const word of words) {
      if (word.startsWith("@") && word.length > 1)
        add(splitWords(readText(disk, word.slice(1), cwd)), depth + 1);
      else expanded.push(word);
      if (expanded.length > argumentsMax)
        throw new MeshError("limit", `more than ${argumentsMax} arguments`);
    }
  };
  add(args, 0);
  return expanded;
}

function readText(
  disk: Pick<Disk, "readNow" | "statFollowNow">,
  name: string,
  cwd: string,
): string {
  const path = name.startsWith("/") ? name : `${cwd}/${name}`;
  const stat = disk.statFollowNow(path);
  if (stat?.kind !== "file") throw new MeshError("io", `ENOENT: no response file ${path}`);
  if (stat.sizeBytes > fileMaxBytes)
    throw new MeshError("limit", `response file ${path} is larger than ${fileMaxBytes} bytes`);
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(disk.readNow(path));
  } catch (cause) {
    if (cause instanceof MeshError) throw cause;
    throw new MeshError("malformed", `response file ${path} is no UTF-8`, { cause });
  }
}

/** Words between white space; quotes group, and a backslash takes the next character as it is. */
export function splitWords(text: string): string[] {
  const words: string[] = [];
  let word: string | undefined;
  let quote = "";
  for (let i = 0; i < text.length; i++) {
    const c = text.charAt(i);
    if (c === "\\" && i + 1 < text.length) {
      i++;
      word = (word ?? "") + text.charAt(i);
    } else if (quote !== "") {
      if (c === quote) quote = "";
      else word = (word ?? "") + c;
    } else if (c === '"' || c === "'") {
      quote = c;
      word ??= "";
    } else if (/[ \t\n\r\v\f]/.test(c)) {
      if (word !== undefined) words.push(word);
      word = undefined;
    } else word = (word ?? "") + c;
  }
  if (word !== undefined) words.push(word);
  return words;
}
