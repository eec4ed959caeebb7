/** What `mesh why` says about a finished task, for a person. Pure. */
import type { StoredRecord } from "../compile/history.ts";
import type { Difference, Miss } from "../compile/why.ts";
import { reasonText } from "../compile/why-reasons.ts";
import { countOf } from "./summary.ts";
import { table } from "./table.ts";
import type { Paint } from "./terminal.ts";

/** Differences that are named; the rest is a number. */
export const differencesShown: number = 10;
/** Files that are listed when a name fits several. */
const filesShown = 20;

export interface Explained {
  readonly record: StoredRecord;
  readonly miss: Miss;
}

/** Everything that is known about one task. */
export function whyText({ record, miss }: Explained, nowWallMs: number, paint: Paint): string {
  const { kind, label, task, build, endedWallMs, outputs } = record;
  const rows: (readonly [string, string | readonly string[]])[] = [
    ["when", `${whenText(endedWallMs, nowWallMs)}, task ${task}${build && ` of build ${build}`}`],
    ...(outputs[0] === undefined ? [] : [["output", outputs[0]] as const]),
    ["ran", ranText(record)],
    ["time", timeText(record)],
  ];
  const { fallback } = record;
  if (fallback !== undefined) rows.push(["before", `elsewhere first: ${inWords(fallback)}`]);
  const here = hereText(record);
  if (here !== undefined) rows.push(["here", here]);
  const missed = missText(miss, nowWallMs);
  if (missed !== undefined) rows.push(["miss", missed]);
  rows.push(["kept", keptText(record)]);
  const lines = rows.flatMap(([name, said]) => {
    const [first = "", ...more] = typeof said === "string" ? [said] : said;
    return [
      `  ${paint("dim", name.padEnd(7))} ${first}`,
      ...more.map((line) => `            ${line}`),
    ];
  });
  return `${[`${paint("bold", label)} (${kind})`, ...lines].join("\n")}\n`;
}

/** One line for each of several files. */
export function whyList(found: readonly Explained[], query: string, nowWallMs: number): string {
  const rows = found
    .slice(0, filesShown)
    .map(({ record }) => [
      record.path ?? record.label,
      record.kind,
      placeText(record),
      agoText(nowWallMs - record.endedWallMs),
      record.task,
    ]);
  const left = (title: string) => ({ title, align: "left" }) as const;
  const lines = table([left("FILE"), left("KIND"), left("RAN"), left("WHEN"), left("TASK")], rows);
  const more = found.length - filesShown;
  return [
    `${countOf(found.length, "file")} ${found.length === 1 ? "fits" : "fit"} ${query}:`,
    ...lines,
    ...(more > 0 ? [`… and ${more} more`] : []),
    "For one of them: mesh why FILE, or mesh why TASK",
    "",
  ].join("\n");
}

function placeText({ source, peerName, peer, signerName, signer }: StoredRecord): string {
  if (source === "here") return "here";
  if (source === "there") return `on ${peerName ?? peer ?? "a peer"}`;
  return source === "cached-here" ? "known here" : `known by ${signerName ?? signer ?? "a peer"}`;
}

function ranText(record: StoredRecord): string {
  const { source, exitCode, peer, signer } = record;
  const nameOf = (name: string | undefined, id: string | undefined) =>
    name === undefined ? (id ?? "a peer") : `${name} (${id})`;
  const by = nameOf(record.signerName, signer);
  switch (source) {
    case "here":
      return `here, exit code ${exitCode}`;
    case "there":
      return `on ${nameOf(record.peerName, peer)}, which had a slot free and took it`;
    case "cached-here":
      return `not at all: its result was known here, signed by ${by}`;
    case "cached-mesh":
      return `not at all: its result was known in the mesh, signed by ${by}`;
  }
}

function timeText(record: StoredRecord): string {
  const { planMs, lookupMs, wallMs, phases, source } = record;
  const known = source === "cached-here" || source === "cached-mesh";
  const totalMs = planMs + wallMs + (known ? 0 : lookupMs);
  const parts: (readonly [string, number])[] = [
    ["planned", planMs],
    ["looked up", lookupMs],
    ...(known
      ? [["put in place", Math.max(0, wallMs - lookupMs)] as const]
      : ([
          ["queued", phases.queueMs],
          ["fetched", phases.fetchMs],
          ["ran", phases.runMs],
          ["returned", phases.returnMs],
        ] as const)),
  ];
  const shown = parts
    .filter(([name, ms]) => ms >= 0.05 || name === "ran")
    .map(([name, ms]) => `${name} ${timeOf(ms)}`);
  return `${timeOf(totalMs)}: ${shown.join(", ")}`;
}

/** "3.2 ms", "140 ms", "1.24 s", "75 s". */
export function timeOf(ms: number): string {
  if (ms < 10) return `${ms.toFixed(1)} ms`;
  if (ms < 1000) return `${Math.round(ms)} ms`;
  return ms < 60_000 ? `${(ms / 1000).toFixed(2)} s` : `${Math.round(ms / 1000)} s`;
}

function hereText({ source, whyHere, fallback }: StoredRecord): string | undefined {
  if (source !== "here" || (whyHere === undefined && fallback !== undefined)) return undefined;
  if (whyHere === undefined) return "a slot here was free before a peer asked for it";
  return `because ${inWords(whyHere)}`;
}

/** The sentence, and the short word that summaries use. */
function inWords(reason: string): string {
  const text = reasonText(reason);
  return text === reason ? reason : `${text} [${reason.split(/:? /)[0]}]`;
}

function keptText({ source, kept, action, exitCode }: StoredRecord): string {
  if (source === "cached-here" || source === "cached-mesh") return "yes, it was known already";
  if (action === undefined) return "no: nothing about it is looked up or remembered";
  if (kept !== undefined) return `no: ${inWords(kept)}`;
  return exitCode === 0 ? "yes" : `no: it ended with exit code ${exitCode}`;
}

function missText(miss: Miss, nowWallMs: number): string | readonly string[] | undefined {
  switch (miss.at) {
    case "hit":
    case "no-action":
      return undefined;
    case "first":
      return "nothing like it is remembered from before";
    case "forgotten":
      return `what the compile of ${earlierText(miss.earlier, nowWallMs)} was made from is forgotten`;
    case "same": {
      const { kept, exitCode } = miss.earlier;
      const what = `the very same was done ${earlierText(miss.earlier, nowWallMs)}`;
      if (kept !== undefined) return `${what}, but not kept: ${inWords(kept)}`;
      if (exitCode !== 0) return `${what}, and ended with exit code ${exitCode}`;
      return `${what}; its result has gone since, or was not to be used (--no-cache-read)`;
    }
    case "differs": {
      const { differences } = miss;
      const what = `the nearest one before was ${earlierText(miss.earlier, nowWallMs)}`;
      if (differences.length === 0) return `${what}; what differs is not remembered`;
      const more = differences.length - differencesShown;
      return [
        `${what}; since then:`,
        ...differences.slice(0, differencesShown).map(differenceText),
        ...(more > 0 ? [`and ${more} more`] : []),
      ];
    }
  }
}

function earlierText({ endedWallMs, task }: StoredRecord, nowWallMs: number): string {
  return `${agoText(nowWallMs - endedWallMs)} (task ${task})`;
}

const nouns: Readonly<Record<Difference["what"], string>> = {
  argument: "argument",
  variable: "variable",
  folder: "folder",
  compiler: "compiler file",
  input: "input",
  link: "symlink",
  platform: "platform",
  output: "output",
};

function differenceText({ what, change, name, before, after }: Difference): string {
  if (what === "folder" || what === "platform") return `${name}: ${before} → ${after}`;
  const values =
    before !== undefined && after !== undefined
      ? `: ${short(before)} → ${short(after)}`
      : what === "variable"
        ? `: ${short(after ?? before ?? "")}`
        : "";
  const moved =
    change === "moved" ? "arguments in another order, from" : `${nouns[what]} ${change}:`;
  return `${moved} ${short(name)}${values}`;
}

/** A variable may hold a whole certificate. */
function short(text: string): string {
  const line = text.replace(/\s+/g, " ");
  return line.length > 200 ? `${line.slice(0, 199)}…` : line;
}

function whenText(endedWallMs: number, nowWallMs: number): string {
  // Swedish is how ISO 8601 reads without its T.
  return `${new Date(endedWallMs).toLocaleString("sv")} (${agoText(nowWallMs - endedWallMs)})`;
}

/** "just now", "40 s ago", "5 min ago", "3 h ago", "2 days ago". */
export function agoText(ms: number): string {
  const seconds = Math.round(ms / 1000);
  if (seconds < 2) return "just now";
  if (seconds < 90) return `${seconds} s ago`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min ago`;
  if (seconds < 129_600) return `${Math.round(seconds / 3600)} h ago`;
  return `${Math.round(seconds / 86_400)} days ago`;
}
