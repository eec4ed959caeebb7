/**
 * `mesh why FILE|TASK`: who ran a compile, why there, and why its result was not known.
 *
 * It reads the data directory's history itself, since most nodes are gone when somebody asks; one
 * that runs is only told to write down what it still has in memory.
 */
import { isMeshError, MeshError } from "../base/errors.ts";
import { historyFolder } from "../compile/history.ts";
import { type Miss, readHistory } from "../compile/why.ts";
import { reasonText } from "../compile/why-reasons.ts";
import { createDisk } from "../host/disk.ts";
import { ask } from "./client.ts";
import { exitFailed } from "./exit.ts";
import { countOf } from "./summary.ts";
import { painter, type Terminal } from "./terminal.ts";
import { type Explained, whyList, whyText } from "./why-text.ts";

export interface WhyFlags {
  readonly dataDir: string;
  readonly cwd: string;
  readonly json: boolean;
}

/** A node that does not answer costs the last quarter of a second of its history. */
const flushMaxMs = 2_000;
const queryMaxChars = 4096;

/** Exit code 1 when nothing fits. */
export async function whyCommand(
  query: string,
  { dataDir, cwd, json }: WhyFlags,
  terminal: Terminal,
): Promise<number> {
  if (query.trim() === "" || query.length > queryMaxChars || query.includes("\0")) {
    throw new MeshError("usage", "why takes a source, an output or a task: mesh why src/main.cc");
  }
  await flushNode(dataDir);
  const view = await readHistory(createDisk(), historyFolder(dataDir));
  const newest = new Map<string, Explained>();
  for (const record of view.find(query, cwd)) {
    const file = record.path ?? `${record.kind} ${record.label}`;
    if (!newest.has(file)) newest.set(file, { record, miss: view.missOf(record) });
  }
  const found = [...newest.values()];
  if (json) {
    terminal.out(`${JSON.stringify({ query, tasks: found.map(jsonOf) })}\n`);
    return found.length === 0 ? exitFailed : 0;
  }
  const [first] = found;
  if (first === undefined) {
    terminal.err(`mesh: ${nothingText(query, dataDir, view.records.length)}\n`);
    return exitFailed;
  }
  const nowMs = Date.now();
  const paint = painter(terminal.outColor);
  terminal.out(found.length === 1 ? whyText(first, nowMs, paint) : whyList(found, query, nowMs));
  return 0;
}

async function flushNode(dataDir: string): Promise<void> {
  try {
    await ask(dataDir, { call: "history" }, { silenceMs: flushMaxMs });
  } catch (error) {
    if (!isMeshError(error)) throw error;
  }
}

function nothingText(query: string, dataDir: string, records: number): string {
  return records === 0
    ? `nothing is remembered in ${dataDir} yet: run \`mesh build\` or \`mesh exec\` first, ` +
        "or name another directory with --data-dir or MESH_DIR"
    : `no compile of ${query} is remembered (${countOf(records, "task")} of other files ` +
        `${records === 1 ? "is" : "are"}): name a source or an output as the build does, ` +
        "or the last parts of its path";
}

/** With reasons in words besides the short ones, and everything that differs. */
function jsonOf({ record, miss }: Explained): object {
  const inWords = (reason: string | undefined) => reason && reasonText(reason);
  // Elsewhere it is only why nobody would have been asked.
  const whyHere = record.source === "here" ? record.whyHere : undefined;
  return {
    ...record,
    whyHere,
    whyHereText: inWords(whyHere),
    fallbackText: inWords(record.fallback),
    keptText: inWords(record.kept),
    miss: missJson(miss),
  };
}

function missJson(miss: Miss): object {
  if (!("earlier" in miss)) return miss;
  const { task, endedWallMs, kept } = miss.earlier;
  return { ...miss, earlier: { task, endedWallMs, kept } };
}
