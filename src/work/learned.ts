/**
 * What a node has learned of its tasks, from one run of it to the next: how long each took, and what
 * comes behind what. Without it, the first build after each start would have no order.
 *
 * One JSON file, written whole. It only steers the order of work: a file that cannot be read counts
 * as none, and one that cannot be written costs the next start its memory.
 */
import { utf8 } from "../base/bytes.ts";
import { isMeshError } from "../base/errors.ts";
import type { Disk } from "../host/host.ts";
import { createDurations, type Durations } from "./durations.ts";
import { createUrgency, type Urgency } from "./urgency.ts";

export interface Learned {
  readonly durations: Durations;
  readonly urgency: Urgency;
  /** Resolves when what was learned up to now is on the disk, or will never be. */
  save(): Promise<void>;
}

export interface LearnedOptions {
  readonly path: string;
  readonly labelsMax: number;
}

const version = 1;
/** Written after so many measurements, and when the node stops. */
const savePeriod = 256;
const fileMaxBytes = 32 * 1024 * 1024;

/** Never rejects because of what the file holds. */
export async function openLearned(
  disk: Pick<Disk, "read" | "writeAtomic">,
  { path, labelsMax }: LearnedOptions,
): Promise<Learned> {
  const durations = createDurations(labelsMax);
  const urgency = createUrgency(durations);
  for (const { kind, label, ms, readers } of await readTasks(disk, path)) {
    if (ms !== undefined) durations.restore(kind, label, ms);
    for (const reader of readers) urgency.restore(kind, label, reader);
  }
  let unsaved = 0;
  let saving: Promise<void> = Promise.resolve();

  async function write(): Promise<void> {
    unsaved = 0;
    const bytes = utf8(JSON.stringify({ version, tasks: listOf(durations, urgency) }));
    await disk.writeAtomic(path, bytes, { mode: 0o600, sync: false }).catch((error: unknown) => {
      if (!isMeshError(error)) throw error;
    });
  }

  function save(): Promise<void> {
    saving = saving.then(() => (unsaved > 0 ? write() : undefined));
    return saving;
  }

  return {
    urgency,
    save,
    durations: {
      ...durations,
      learn(kind, label, wallMs) {
        durations.learn(kind, label, wallMs);
        unsaved += 1;
        if (unsaved === savePeriod) void save();
      },
    },
  };
}

/** As it lies in the file: names are told once, readers by their place in the list. */
interface Line {
  readonly kind: string;
  readonly label: string;
  readonly ms: number | undefined;
  readonly readers: readonly (readonly [kind: string, label: string])[];
}

type Row = readonly [kind: string, label: string, ms: number, readers: readonly number[]];

/** -1: nothing is known of its duration. */
function listOf(durations: Durations, urgency: Urgency): readonly Row[] {
  const places = new Map<string, number>();
  const rows: [string, string, number, number[]][] = [];
  const placeOf = (kind: string, label: string): number => {
    const key = `${kind}\0${label}`;
    const known = places.get(key);
    if (known !== undefined) return known;
    places.set(key, rows.length);
    rows.push([kind, label, -1, []]);
    return rows.length - 1;
  };
  for (const [kind, label, ms] of durations.known()) {
    const row = rows[placeOf(kind, label)];
    if (row !== undefined) row[2] = Math.round(ms * 10) / 10;
  }
  for (const [writer, reader] of urgency.edges()) {
    const place = placeOf(...reader);
    rows[placeOf(...writer)]?.[3].push(place);
  }
  return rows;
}

async function readTasks(disk: Pick<Disk, "read">, path: string): Promise<readonly Line[]> {
  try {
    const bytes = await disk.read(path);
    if (bytes.byteLength > fileMaxBytes) return [];
    return parse(JSON.parse(new TextDecoder().decode(bytes)));
  } catch (error) {
    if (isMeshError(error) || error instanceof SyntaxError) return [];
    throw error;
  }
}

/** What is not as it was written is left out. */
function parse(value: unknown): readonly Line[] {
  if (typeof value !== "object" || value === null || !("tasks" in value)) return [];
  if (!("version" in value) || value.version !== version || !Array.isArray(value.tasks)) return [];
  const rows = value.tasks.filter(isRow);
  // Places count all rows, so one that is broken spoils them all.
  if (rows.length !== value.tasks.length) return [];
  return rows.map(([kind, label, ms, readers]) => ({
    kind,
    label,
    ms: ms >= 0 ? ms : undefined,
    readers: readers.flatMap((place) => {
      const row = rows[place];
      return row === undefined ? [] : [[row[0], row[1]] as const];
    }),
  }));
}

function isRow(value: unknown): value is Row {
  if (!Array.isArray(value) || value.length !== 4) return false;
  const [kind, label, ms, readers] = value;
  const isNamed = typeof kind === "string" && typeof label === "string";
  const isTimed = typeof ms === "number" && Number.isFinite(ms);
  return isNamed && isTimed && Array.isArray(readers) && readers.every(Number.isSafeInteger);
}
