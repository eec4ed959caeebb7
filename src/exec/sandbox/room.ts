/**
 * Builds the room of one run: its control folder, and one bay per folder that the command may
 * write to. The root, which it may only read, comes from `root.ts`.
 *
 * It starts no process for that and mounts nothing: it says what is to be mounted where.
 */
import type { MeshError } from "../../base/errors.ts";
import { messageOf } from "../../base/errors.ts";
import type { BlobStore } from "../../blob/store.ts";
import type { Disk, FileStat, Processes } from "../../host/host.ts";
import type { Bay, Layout, OutputPlace } from "./layout.ts";
import { type Mount, type Room, toolEnv } from "./walls.ts";

export interface BuiltRoom extends Room {
  /** Where on this machine the file of an output path is, once written. */
  hostPathOf(place: OutputPlace): string;
  /** What was at an output path before the command ran, for outputs that are inputs too. */
  readonly before: ReadonlyMap<string, FileStat>;
  /** An empty folder out of the command's reach, on the same file system as the bays. */
  readonly keepDir: string;
}

/** File operations under way at once: enough to keep the thread pool busy, few enough to abort. */
const batchSize = 128;

/**
 * Makes the folder `roomDir`, which must not exist, into a room around a root. When it rejects, something may be
 * left there: the caller removes it either way.
 */
export async function buildRoom(
  { disk, store }: { readonly disk: Disk; readonly store: BlobStore },
  layout: Layout,
  { roomDir, rootDir }: { readonly roomDir: string; readonly rootDir: string },
  signal: AbortSignal,
): Promise<BuiltRoom> {
  const bayDir = (index: number): string => `${roomDir}/bay-${index}`;
  const folders = layout.bays.flatMap((bay, i) =>
    bay.folders.map((folder) => (folder === "" ? bayDir(i) : `${bayDir(i)}/${folder}`)),
  );
  await makeFolders(disk, [roomDir, `${roomDir}/keep`, ...folders], signal);
  const fillings = layout.bays.flatMap((bay, i) => fillingsOf(bayDir(i), bay, store, disk));
  await inBatches(fillings, signal, (fill) => fill());

  const before = new Map<string, FileStat>();
  for (const [path, place] of layout.outputs) {
    const found = place.isInput ? disk.statNow(`${bayDir(place.bay)}/${place.name}`) : undefined;
    if (found !== undefined) before.set(path, found);
  }
  return {
    controlDir: roomDir,
    rootDir,
    mounts: layout.bays.flatMap((bay, i) => mountsOf(bay, bayDir(i), rootDir)),
    memoryTmp: layout.memoryTmp,
    hostPathOf: ({ bay, name }) => `${bayDir(bay)}/${name}`,
    before,
    keepDir: `${roomDir}/keep`,
  };
}

function fillingsOf(
  dir: string,
  bay: Bay,
  store: BlobStore,
  disk: Disk,
): readonly (() => Promise<void>)[] {
  return [
    ...bay.copies.map(
      ({ path, digest, executable }) =>
        () =>
          store.copyTo(digest, `${dir}/${path}`, executable ? 0o755 : 0o644),
    ),
    ...bay.symlinks.map(
      ({ path, target }) =>
        () =>
          disk.symlink(target, `${dir}/${path}`),
    ),
    // A file is mounted over a file.
    ...bay.shown
      .filter(({ kind }) => kind === "file")
      .map(
        ({ name }) =>
          () =>
            disk.append(`${dir}/${name}`, new Uint8Array()),
      ),
  ];
}

function mountsOf(bay: Bay, dir: string, rootDir: string): readonly Mount[] {
  return [
    { kind: "writable", from: dir, to: bay.path },
    ...bay.shown.map(({ name }): Mount => {
      const to = `${bay.path}/${name}`;
      return { kind: "read-only", from: rootDir + to, to };
    }),
  ];
}

/**
 * Makes folders, level by level: each costs one call then, and none is made by two calls at once.
 * All parents are there or among them.
 */
export async function makeFolders(
  disk: Disk,
  paths: readonly string[],
  signal: AbortSignal,
): Promise<void> {
  const levels: string[][] = [];
  for (const path of paths) {
    const depth = path.split("/").length;
    levels[depth] ??= [];
    levels[depth].push(path);
  }
  for (const level of levels)
    if (level !== undefined) await inBatches(level, signal, (path) => disk.makeDirectory(path));
}

/** Runs over all items, some at a time. Whatever happens, nothing is under way when it ends. */
export async function inBatches<T>(
  items: readonly T[],
  signal: AbortSignal,
  run: (item: T) => Promise<unknown>,
): Promise<void> {
  for (let start = 0; start < items.length; start += batchSize) {
    signal.throwIfAborted();
    const batch = items.slice(start, start + batchSize).map(run);
    const failed = (await Promise.allSettled(batch)).find(({ status }) => status === "rejected");
    if (failed?.status === "rejected") throw failed.reason;
  }
  signal.throwIfAborted();
}

/**
 * Removes a room, whatever the command made of it: folders deeper than a path may be long defeat
 * the ordinary way, not `rm`. Returns why something is left, or undefined.
 */
export async function removeRoom(
  { disk, processes }: { readonly disk: Disk; readonly processes: Processes },
  roomDir: string,
  signal: AbortSignal,
): Promise<string | undefined> {
  try {
    await disk.remove(roomDir);
    return undefined;
  } catch {
    try {
      const result = await processes.run(
        {
          argv: ["rm", "-rf", "--", roomDir],
          env: toolEnv,
          cwd: "/",
          timeoutMs: removeMaxMs,
          outputMaxBytes: 64 * 1024,
        },
        signal,
      );
      return result.exitCode === 0 ? undefined : `cannot remove ${roomDir}: rm failed`;
    } catch (error) {
      return `cannot remove ${roomDir}: ${messageOf(error as MeshError)}`;
    }
  }
}

const removeMaxMs = 60_000;

/** Rooms are named like this, so that a later start can tell what an earlier one left. */
export const roomPrefix: string = "exec-";
