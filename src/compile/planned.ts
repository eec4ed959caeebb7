/**
 * What actions were made from, as lines of text: arguments, environment, folder, and every input
 * with the beginning of its digest.
 *
 * Compiles of one project share most of their inputs, so each path with its digest is written once
 * and named by a number from then on; a compile of 300 headers takes a few hundred bytes. It knows
 * no disk, and nothing of what became of the actions.
 */
import type { ActionSpec } from "../action/action.ts";
import type { Digest } from "../base/digest.ts";
import type { TreeEntry } from "../blob/tree.ts";

/** One action as it is remembered. */
export interface PlannedAction {
  readonly argv: readonly string[];
  /** `NAME=value`, sorted. */
  readonly env: readonly string[];
  readonly cwd: string;
  readonly platform: string;
  readonly outputs: readonly string[];
  /** Path to what was there: see `markOf`. */
  readonly inputs: ReadonlyMap<string, string>;
}

/** Turns actions into lines, for one file from its first line on. */
export interface PlannedTable {
  /** The lines to append for an action; empty when it is in the file. */
  linesFor(action: Digest, spec: ActionSpec): string;
}

/** 64 bits tell two contents of one path apart; nothing is looked up by them. */
const markHexChars = 16;
/** Numbers in one list: what an input tree may have, and then some. */
const listMax = 300_000;

interface Known {
  readonly id: number;
  readonly mark: string;
  /** The object it was last met as: the same one is the same entry. */
  entry: TreeEntry | undefined;
}

/** @param before what the file holds already. */
export function createPlannedTable(before: string): PlannedTable {
  const texts = new Map<string, number>();
  const inputs = new Map<string, Known>();
  const actions = new Set<string>();
  let lastText = 0;
  let lastInput = 0;
  for (const line of linesOf(before)) {
    if (line.at === "text") {
      texts.set(line.text, line.id);
      lastText = Math.max(lastText, line.id);
    } else if (line.at === "input") {
      inputs.set(line.path, { id: line.id, mark: line.mark, entry: undefined });
      lastInput = Math.max(lastInput, line.id);
    } else actions.add(line.action);
  }

  /** Parts of the answer under construction. */
  let added = "";

  function textId(text: string): number {
    const known = texts.get(text);
    if (known !== undefined) return known;
    lastText += 1;
    texts.set(text, lastText);
    added += `["s",${lastText},${JSON.stringify(text)}]\n`;
    return lastText;
  }

  function inputId(entry: TreeEntry): number {
    const known = inputs.get(entry.path);
    if (known !== undefined) {
      if (known.entry === entry) return known.id;
      if (known.mark === markOf(entry)) {
        known.entry = entry;
        return known.id;
      }
    }
    lastInput += 1;
    const mark = markOf(entry);
    inputs.set(entry.path, { id: lastInput, mark, entry });
    added += `["f",${lastInput},${JSON.stringify(entry.path)},${JSON.stringify(mark)}]\n`;
    return lastInput;
  }

  return {
    linesFor(action, spec) {
      const name = plannedName(action);
      if (actions.has(name)) return "";
      actions.add(name);
      added = "";
      const env = Object.keys(spec.env)
        .sort()
        .map((key) => textId(`${key}=${spec.env[key]}`));
      const argv = spec.argv.map(textId);
      const outputs = spec.outputPaths.map(textId);
      const files = Uint32Array.from(spec.inputs, inputId).sort();
      const platform = textId(platformText(spec.platform));
      const lists = [argv, env, outputs, files].map((ids) => `"${runsOf(ids)}"`).join(",");
      const line = `["a","${name}",${textId(spec.cwd)},${platform},${lists}]\n`;
      return added + line;
    },
  };
}

/** Every action in a file; what does not parse is left out. */
export function readPlanned(text: string): ReadonlyMap<string, () => PlannedAction> {
  const texts = new Map<number, string>();
  const inputs = new Map<number, readonly [path: string, mark: string]>();
  const actions = new Map<string, () => PlannedAction>();
  for (const line of linesOf(text)) {
    if (line.at === "text") texts.set(line.id, line.text);
    else if (line.at === "input") inputs.set(line.id, [line.path, line.mark]);
    else {
      const { rest } = line;
      actions.set(line.action, () => expand(rest, texts, inputs));
    }
  }
  return actions;
}

/** The name an action has in these files. */
export function plannedName(action: Digest): string {
  return action.slice(0, markHexChars);
}

/** What tells two entries of one path apart. */
export function markOf(entry: TreeEntry): string {
  if (entry.kind === "symlink") return `>${entry.target}`;
  if (entry.kind === "directory") return "/";
  const hash = entry.digest.slice(0, markHexChars);
  return entry.executable ? `${hash}x` : hash;
}

function platformText(platform: ActionSpec["platform"]): string {
  return Object.keys(platform)
    .sort()
    .map((name) => `${name}=${platform[name]}`)
    .join(" ");
}

type Line =
  | { readonly at: "text"; readonly id: number; readonly text: string }
  | { readonly at: "input"; readonly id: number; readonly path: string; readonly mark: string }
  | { readonly at: "action"; readonly action: string; readonly rest: string };

/**
 * A file of these is read before the first line is added to it: taking lines apart by hand needs a
 * quarter of JSON's time.
 */
function* linesOf(text: string): Generator<Line> {
  for (let from = 0; from < text.length; ) {
    const newline = text.indexOf("\n", from);
    const end = newline < 0 ? text.length : newline;
    const start = from;
    from = end + 1;
    // A line that a crash cut off does not end like this.
    if (!text.startsWith('["', start) || text[end - 1] !== "]") continue;
    const tag = text[start + 2];
    if (tag === "a") {
      // Taken apart only when somebody asks for this one.
      const action = text.slice(start + 6, start + 6 + markHexChars);
      yield { at: "action", action, rest: text.slice(start, end) };
    } else if (tag === "s" || tag === "f") {
      const comma = text.indexOf(",", start + 5);
      const id = Number(text.slice(start + 5, comma));
      const rest = text.slice(comma + 1, end - 1);
      const [first, second] = rest.includes("\\") ? parseList(`[${rest}]`) : plainTexts(rest);
      if (!Number.isSafeInteger(id) || typeof first !== "string") continue;
      if (tag === "s") yield { at: "text", id, text: first };
      else if (typeof second === "string") yield { at: "input", id, path: first, mark: second };
    }
  }
}

/** `"a"` or `"a","b"`, without anything escaped in it. */
function plainTexts(list: string): readonly unknown[] {
  const cut = list.indexOf('"', 1);
  if (!list.startsWith('"') || !list.endsWith('"')) return [];
  return cut === list.length - 1
    ? [list.slice(1, -1)]
    : [list.slice(1, cut), list.slice(cut + 3, -1)];
}

function parseList(list: string): readonly unknown[] {
  try {
    const value: unknown = JSON.parse(list);
    return Array.isArray(value) ? value : [];
  } catch {
    return [];
  }
}

function expand(
  line: string,
  texts: ReadonlyMap<number, string>,
  inputs: ReadonlyMap<number, readonly [path: string, mark: string]>,
): PlannedAction {
  const [, , cwd, platform, ...lists] = parseList(line);
  const text = (id: unknown): string => texts.get(Number(id)) ?? "?";
  const [argv = [], env = [], outputs = [], files = []] = lists.map(idsOf);
  return {
    argv: argv.map(text),
    env: env.map(text),
    cwd: text(cwd),
    platform: text(platform),
    outputs: outputs.map(text),
    inputs: new Map(files.flatMap((id) => [inputs.get(id) ?? []].filter(isPair))),
  };
}

function isPair(value: readonly string[]): value is readonly [string, string] {
  return value.length === 2;
}

/** `1-4,9,7`: numbers that follow one another are written as a range. */
function runsOf(ids: ArrayLike<number>): string {
  let text = "";
  for (let at = 0; at < ids.length; ) {
    const first = ids[at] ?? 0;
    let end = at + 1;
    while (end < ids.length && ids[end] === first + (end - at)) end += 1;
    if (text !== "") text += ",";
    text += end - at > 1 ? `${first}-${first + (end - at) - 1}` : `${first}`;
    at = end;
  }
  return text;
}

function idsOf(runs: unknown): readonly number[] {
  const ids: number[] = [];
  if (typeof runs !== "string" || runs === "") return ids;
  for (const run of runs.split(",")) {
    const [first = Number.NaN, last = first] = run.split("-").map(Number);
    // Counting stands still beyond the safe ones, and a damaged file may say anything.
    if (!Number.isSafeInteger(first) || !Number.isSafeInteger(last)) return ids;
    if (last < first || last - first > listMax - ids.length) return ids;
    for (let id = first; id <= last; id += 1) ids.push(id);
  }
  return ids;
}
