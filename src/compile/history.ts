/**
 * What became of every task, for `mesh why`: who ran it, how long each part took, why it ran where
 * it did, and what it was made from.
 *
 * Kept in memory for a while, and on the disk for longer, since most nodes live for one build only:
 * `tasks.ndjson` has one record a line, `planned.ndjson` what the actions were made from
 * (`planned.ts`). Writing happens in batches behind the tasks' backs, and a disk that fails costs
 * nothing but memory of the past. It does not explain anything: `why.ts` does.
 */
import { join, resolve } from "node:path";
import type { ActionSpec } from "../action/action.ts";
import type { Digest } from "../base/digest.ts";
import { isMeshError } from "../base/errors.ts";
import type { Phases, Source } from "../base/events.ts";
import type { PeerId } from "../base/ids.ts";
import type { Clock, Disk } from "../host/host.ts";
import { createPlannedTable, type PlannedTable } from "./planned.ts";
import { createRotatingLog, type RotatingLog } from "./rotating-log.ts";

export interface TaskRecord {
  readonly task: string;
  readonly build: string;
  readonly kind: string;
  /** The source as the user typed it, or the crate's name. */
  readonly label: string;
  /** Absolute paths. */
  readonly outputs: readonly string[];
  readonly action: Digest | undefined;
  readonly source: Source;
  /** Who ran it when it was stolen. */
  readonly peer: PeerId | undefined;
  /** Who signed the result when it was known already. */
  readonly signer: PeerId | undefined;
  readonly exitCode: number;
  readonly whyHere: string | undefined;
  /** What went wrong elsewhere first. */
  readonly fallback: string | undefined;
  readonly wallMs: number;
  readonly phases: Phases;
  readonly planMs: number;
  readonly lookupMs: number;
  readonly endedWallMs: number;
  /** Why the result was not kept; undefined: it was. */
  readonly kept: string | undefined;
  /** Where it was called, for tasks without an action; an action says so itself. */
  readonly cwd?: string | undefined;
}

/** A record as it is on the disk. */
export interface StoredRecord extends TaskRecord {
  /** Absolute path of the source, where that is known. */
  readonly path: string | undefined;
  /** What people called the peer and the signer at the time. */
  readonly peerName: string | undefined;
  readonly signerName: string | undefined;
}

export interface HistoryDeps {
  readonly disk: Disk;
  readonly clock: Clock;
  /** What people call a node; ids say nothing once it has gone. */
  readonly nameOf?: (peer: PeerId) => string | undefined;
}

export interface HistoryOptions {
  /** `D/history`; made when there is something to write. */
  readonly folder: string;
  /** Records kept in memory, and about as many on the disk; older ones are forgotten. */
  readonly recordsMax: number;
}

export interface History {
  /** Remembers a finished task, and what it was made from when it was an action. Returns at once. */
  add(record: TaskRecord, spec: ActionSpec | undefined): void;
  /**
   * Records of this node since it started, newest first: by a task's id, or by the source or an
   * output, whole or as the last parts of its path. `readHistory` finds those of earlier nodes too.
   */
  find(query: string): readonly TaskRecord[];
  /** Everything added so far is on the disk, as far as that is possible. Never rejects. */
  flush(): Promise<void>;
  /** Flushes and ends; what is added later is not written. Never rejects. */
  close(): Promise<void>;
}

export const historyDefaults: { readonly recordsMax: number } = { recordsMax: 20_000 };

/** How long records are gathered: `mesh why` beside a running node asks it to flush first. */
const gatherMs = 250;
/** Records that wait for a disk that does not keep up; with more, the oldest are not written. */
const pendingMax = 20_000;
/** What one record takes on the disk, by experience. */
const recordBytes = 640;
/** Of each of the two files; some ten thousand actions, read within 20 ms. */
const plannedMaxBytes = 4 * 1024 * 1024;

interface Pending {
  readonly record: StoredRecord;
  readonly spec: ActionSpec | undefined;
}

/** Opens the history of a data directory. Reads nothing yet, and never rejects. */
export async function createHistory(
  { disk, clock, nameOf = () => undefined }: HistoryDeps,
  { folder, recordsMax }: HistoryOptions,
): Promise<History> {
  const { tasks, planned } = historyLogs(disk, folder, recordsMax);
  const closing = new AbortController();
  let recent: StoredRecord[] = [];
  let pending: Pending[] = [];
  let table: PlannedTable | undefined;
  let writing: Promise<void> = Promise.resolve();
  let gathering = false;
  let folderIsThere = false;

  function add(record: TaskRecord, spec: ActionSpec | undefined): void {
    const { peer, signer } = record;
    const { queueMs, fetchMs, runMs, returnMs } = record.phases;
    const phases = {
      ...{ queueMs: rounded(queueMs), fetchMs: rounded(fetchMs) },
      ...{ runMs: rounded(runMs), returnMs: rounded(returnMs) },
    };
    const stored: StoredRecord = {
      ...{ ...record, phases, planMs: rounded(record.planMs), lookupMs: rounded(record.lookupMs) },
      wallMs: rounded(record.wallMs),
      path: sourcePathOf(record, spec),
      peerName: peer && nameOf(peer),
      signerName: signer && nameOf(signer),
    };
    recent.push(stored);
    if (recent.length >= 2 * recordsMax) recent = recent.slice(-recordsMax);
    if (closing.signal.aborted) return;
    // A result that this node knew itself was planned here before.
    pending.push({ record: stored, spec: record.source === "cached-here" ? undefined : spec });
    if (pending.length > pendingMax) pending.shift();
    if (!gathering) void gather();
  }

  /** Never rejects. */
  async function gather(): Promise<void> {
    gathering = true;
    await clock.sleep(gatherMs, closing.signal).catch(() => {});
    gathering = false;
    await flush();
  }

  function flush(): Promise<void> {
    writing = writing.then(async () => {
      const batch = pending;
      pending = [];
      if (batch.length === 0) return;
      try {
        await write(batch);
      } catch (error) {
        if (!isMeshError(error)) throw error;
      }
    });
    return writing;
  }

  async function write(batch: readonly Pending[]): Promise<void> {
    if (!folderIsThere) {
      await disk.makeDirectory(folder);
      // Command lines and environments: nobody else's business.
      await disk.chmod(folder, 0o700);
      folderIsThere = true;
    }
    await writePlanned(batch);
    await tasks.append(batch.map(({ record }) => `${JSON.stringify(record)}\n`).join(""));
  }

  async function writePlanned(batch: readonly Pending[]): Promise<void> {
    const specs = batch.filter(({ spec }) => spec !== undefined);
    if (specs.length === 0) return;
    const known = table ?? createPlannedTable(await planned.current());
    // Until the lines are on the disk, nobody knows what the file holds.
    table = undefined;
    const lines = specs
      .map(({ record: { action }, spec }) => (action && spec ? known.linesFor(action, spec) : ""))
      .join("");
    if (lines === "" || !(await planned.append(lines))) table = known;
  }

  return {
    add,
    find: (query) => matching(recent, query).toReversed().slice(0, recordsMax),
    flush,
    async close() {
      closing.abort();
      await flush();
    },
  };
}

/** Microseconds: what a clock says beyond them is only long. */
function rounded(ms: number): number {
  return Math.round(ms * 1000) / 1000;
}

/** Where the history of a data directory lies. */
export function historyFolder(dataDir: string): string {
  return join(dataDir, "history");
}

/** The files of a history. @internal */
export function historyLogs(
  disk: Disk,
  folder: string,
  recordsMax: number,
): { readonly tasks: RotatingLog; readonly planned: RotatingLog } {
  const tasksMaxBytes = Math.ceil((recordsMax * recordBytes) / 2);
  return {
    tasks: createRotatingLog(disk, {
      path: join(folder, "tasks.ndjson"),
      sizeMaxBytes: tasksMaxBytes,
    }),
    planned: createRotatingLog(disk, {
      path: join(folder, "planned.ndjson"),
      sizeMaxBytes: plannedMaxBytes,
    }),
  };
}

/**
 * Those records that a person means by `query`, in their order. A whole path or a task's id means
 * just that; where nothing fits, the last parts of a path are enough.
 */
export function matching<R extends TaskRecord & { readonly path?: string | undefined }>(
  records: readonly R[],
  query: string,
  cwd = "/",
): readonly R[] {
  const byTask = records.filter(({ task }) => task === query);
  if (byTask.length > 0) return byTask;
  const whole = resolve(cwd, query);
  const exact = records.filter(({ path, outputs }) => path === whole || outputs.includes(whole));
  if (exact.length > 0) return exact;
  const parts = partsOf(query);
  if (parts === "") return [];
  return records.filter(({ path, label, outputs }) => {
    // A label alone may begin anywhere: then the query may be the longer of the two.
    const byLabel = partsOf(label);
    const labelFits =
      endsWithParts(byLabel, parts) || (path === undefined && endsWithParts(whole, byLabel));
    return labelFits || [path ?? "", ...outputs].some((one) => endsWithParts(one, parts));
  });
}

/** Without what only leads to it: `./`, `../`, a leading `/`. */
function partsOf(path: string): string {
  return path
    .split("/")
    .filter((part) => part !== "" && part !== "." && part !== "..")
    .join("/");
}

function endsWithParts(path: string, parts: string): boolean {
  return parts !== "" && (path === parts || path.endsWith(`/${parts}`));
}

/** For rustc the label is a crate's name, and the source is among the arguments. */
function sourcePathOf(
  { kind, label, cwd }: TaskRecord,
  spec: ActionSpec | undefined,
): string | undefined {
  if (spec === undefined) {
    const isKnown = cwd !== undefined || label.startsWith("/");
    return isKnown ? resolve(cwd ?? "/", label) : undefined;
  }
  const source = kind === "rustc" ? spec.argv.find((arg) => /^[^-].*\.rs$/.test(arg)) : undefined;
  return resolve(spec.cwd, source ?? label);
}
