/**
 * Explains finished tasks from what the history of a data directory holds: which record a person
 * means, and why its result was not known already. Reads the disk, so it needs no running node.
 */
import { MeshError } from "../base/errors.ts";
import type { Phases, Source } from "../base/events.ts";
import type { Disk } from "../host/host.ts";
import {
  anything,
  array,
  number,
  object,
  oneOf,
  optional,
  type Read,
  text,
  whole,
} from "../node/shapes.ts";
import { historyLogs, matching, type StoredRecord } from "./history.ts";
import { type PlannedAction, plannedName, readPlanned } from "./planned.ts";

/** Why a task was not answered from known results. */
export type Miss =
  /** It was. */
  | { readonly at: "hit" }
  /** It is no action: nothing about it is looked up or kept. */
  | { readonly at: "no-action" }
  /** Nothing of the kind is remembered from before. */
  | { readonly at: "first" }
  /** Something is, but not what it was made from. */
  | { readonly at: "forgotten"; readonly earlier: StoredRecord }
  /** The same has been done before. */
  | { readonly at: "same"; readonly earlier: StoredRecord }
  | {
      readonly at: "differs";
      readonly earlier: StoredRecord;
      readonly differences: readonly Difference[];
    };

export interface Difference {
  readonly what:
    | "argument"
    | "variable"
    | "folder"
    | "compiler"
    | "input"
    | "link"
    | "platform"
    | "output";
  readonly change: "changed" | "added" | "removed" | "moved";
  /** The argument, the variable's name, the path. */
  readonly name: string;
  readonly before?: string;
  readonly after?: string;
}

export interface HistoryView {
  /** Newest first: see `matching`. */
  find(query: string, cwd: string): readonly StoredRecord[];
  missOf(record: StoredRecord): Miss;
  /** Everything, oldest first. */
  readonly records: readonly StoredRecord[];
}

/** Earlier compiles that are looked at for the nearest one. */
const candidatesMax = 8;

/** A folder that is not there is an empty history; lines that make no sense are passed over. */
export async function readHistory(disk: Disk, folder: string): Promise<HistoryView> {
  const { tasks, planned } = historyLogs(disk, folder, 1);
  const texts = await Promise.all([tasks.previous(), tasks.current()]);
  const records = texts.flatMap((one) => one.split("\n").flatMap(parseRecord));
  const actions = new Map(
    (await Promise.all([planned.previous(), planned.current()])).flatMap((one) => [
      ...readPlanned(one),
    ]),
  );
  const order = new Map(records.map((record, index) => [record, index]));
  const plannedOf = ({ action }: StoredRecord): PlannedAction | undefined =>
    action === undefined ? undefined : actions.get(plannedName(action))?.();
  return {
    records,
    find: (query, cwd) => matching(records, query, cwd).toReversed(),
    missOf: (record) => missOf(record, records.slice(0, order.get(record) ?? 0), plannedOf),
  };
}

function missOf(
  record: StoredRecord,
  before: readonly StoredRecord[],
  plannedOf: (record: StoredRecord) => PlannedAction | undefined,
): Miss {
  if (record.source === "cached-here" || record.source === "cached-mesh") return { at: "hit" };
  if (record.action === undefined) return { at: "no-action" };
  const earlier = before.filter((one) => isOfTheKind(one, record)).toReversed();
  const same = earlier.find(({ action }) => action === record.action);
  if (same !== undefined) return { at: "same", earlier: same };
  const newest = earlier[0];
  if (newest === undefined) return { at: "first" };
  const now = plannedOf(record);
  const distinct = new Map(earlier.toReversed().map((one) => [one.action, one]));
  const nearest = [...distinct.values()]
    .toReversed()
    .slice(0, candidatesMax)
    .flatMap((one) => {
      const then = plannedOf(one);
      if (now === undefined || then === undefined) return [];
      return [{ earlier: one, differences: differencesOf(then, now) }];
    })
    // Of equally near ones the newest stays in front: sorting is stable.
    .sort((a, b) => a.differences.length - b.differences.length)[0];
  if (nearest === undefined) return { at: "forgotten", earlier: newest };
  return { at: "differs", ...nearest };
}

/** The same thing as far as its user is concerned. */
function isOfTheKind(a: StoredRecord, b: StoredRecord): boolean {
  if (a.kind !== b.kind || a.action === undefined) return false;
  if (a.outputs.some((path) => b.outputs.includes(path))) return true;
  return a.path === undefined || b.path === undefined ? a.label === b.label : a.path === b.path;
}

/** What differs, in the order in which it is most often the reason. */
export function differencesOf(then: PlannedAction, now: PlannedAction): readonly Difference[] {
  const [compiler = ""] = now.argv;
  return [
    ...folderDifference(then, now),
    ...argumentDifferences(then.argv, now.argv),
    ...variableDifferences(then.env, now.env),
    ...inputDifferences(then.inputs, now.inputs, compiler),
    ...listDifferences("output", then.outputs, now.outputs),
    ...(then.platform === now.platform
      ? []
      : [changed("platform", "platform", then.platform, now.platform)]),
  ];
}

function changed(
  what: Difference["what"],
  name: string,
  before: string,
  after: string,
): Difference {
  return { what, change: "changed", name, before, after };
}

function folderDifference(then: PlannedAction, now: PlannedAction): readonly Difference[] {
  return then.cwd === now.cwd ? [] : [changed("folder", "working directory", then.cwd, now.cwd)];
}

function argumentDifferences(
  then: readonly string[],
  now: readonly string[],
): readonly Difference[] {
  if (then.join("\0") === now.join("\0")) return [];
  const found = listDifferences("argument", then, now);
  if (found.length > 0) return found;
  const at = now.findIndex((arg, index) => arg !== then[index]);
  return [{ what: "argument", change: "moved", name: now[at] ?? "" }];
}

/** As multisets: an argument that is given twice now was added once. */
function listDifferences(
  what: Difference["what"],
  then: readonly string[],
  now: readonly string[],
): readonly Difference[] {
  const counts = new Map<string, number>();
  for (const one of now) counts.set(one, (counts.get(one) ?? 0) + 1);
  for (const one of then) counts.set(one, (counts.get(one) ?? 0) - 1);
  return [...counts].flatMap(([name, count]): readonly Difference[] =>
    count === 0 ? [] : [{ what, change: count > 0 ? "added" : "removed", name }],
  );
}

function variableDifferences(
  then: readonly string[],
  now: readonly string[],
): readonly Difference[] {
  return mapDifferences(variables(then), variables(now)).map(([name, before, after]) => ({
    what: "variable",
    change: changeOf(before, after),
    name,
    ...(before === undefined ? {} : { before }),
    ...(after === undefined ? {} : { after }),
  }));
}

function variables(env: readonly string[]): ReadonlyMap<string, string> {
  return new Map(
    env.map((one) => {
      const cut = one.indexOf("=");
      return [one.slice(0, cut), one.slice(cut + 1)];
    }),
  );
}

function inputDifferences(
  then: ReadonlyMap<string, string>,
  now: ReadonlyMap<string, string>,
  compiler: string,
): readonly Difference[] {
  return mapDifferences(then, now)
    .map(([name, before, after]): Difference => {
      const isLink = before?.startsWith(">") || after?.startsWith(">");
      const what = isCompilerFile(name, compiler) ? "compiler" : isLink ? "link" : "input";
      return { what, change: changeOf(before, after), name };
    })
    .sort((a, b) => weight[a.what] - weight[b.what]);
}

/** What a user changed stands before what an upgrade brought along. */
const weight: Readonly<Record<Difference["what"], number>> = {
  argument: 0,
  variable: 0,
  folder: 0,
  input: 0,
  link: 1,
  compiler: 2,
  platform: 3,
  output: 3,
};

function changeOf(before: string | undefined, after: string | undefined): Difference["change"] {
  return before === undefined ? "added" : after === undefined ? "removed" : "changed";
}

function mapDifferences(
  then: ReadonlyMap<string, string>,
  now: ReadonlyMap<string, string>,
): readonly (readonly [name: string, before: string | undefined, after: string | undefined])[] {
  const names = new Set([...now.keys(), ...then.keys()]);
  return [...names].flatMap((name) => {
    const [before, after] = [then.get(name), now.get(name)];
    return before === after ? [] : [[name, before, after] as const];
  });
}

/** Programs, their libraries and a compiler's own files; headers of the system are inputs. */
function isCompilerFile(path: string, compiler: string): boolean {
  if (path === compiler || /\/(lib)?exec\/|\/s?bin\//.test(path)) return true;
  if (path.includes("/include/")) return false;
  return /\/rustlib\/|\/toolchains\/|^(\/usr)?\/lib(32|64|x32|exec)?\//.test(path);
}

const words = text(1024 * 1024);
const maybe = optional(words);
/** Branded texts and all: these lines are this program's own. */
const readRecord = object<StoredRecord>({
  task: words,
  build: words,
  kind: words,
  label: words,
  outputs: array(words),
  action: maybe as Read<StoredRecord["action"]>,
  source: oneOf<Source>("here", "there", "cached-here", "cached-mesh"),
  peer: maybe as Read<StoredRecord["peer"]>,
  signer: maybe as Read<StoredRecord["signer"]>,
  exitCode: whole(Number.MIN_SAFE_INTEGER),
  whyHere: maybe,
  fallback: maybe,
  wallMs: number,
  phases: object<Phases>({ queueMs: number, fetchMs: number, runMs: number, returnMs: number }),
  planMs: number,
  lookupMs: number,
  endedWallMs: number,
  kept: maybe,
  cwd: maybe,
  path: maybe,
  peerName: maybe,
  signerName: maybe,
});

function parseRecord(line: string): readonly StoredRecord[] {
  if (line === "") return [];
  try {
    return [readRecord(anything(JSON.parse(line), ""), "")];
  } catch (error) {
    // A line that a crash cut off, or one of another version.
    if (error instanceof SyntaxError || error instanceof MeshError) return [];
    throw error;
  }
}
