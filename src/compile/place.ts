/**
 * Puts a peer's outputs where the compiler would have written them: each of them whole, and all of
 * them or none unless the file system changes its mind half-way.
 */
import { dirname } from "node:path";
import type { OutputBlob } from "../action/action.ts";
import { type Digest, emptyDigest } from "../base/digest.ts";
import { MeshError } from "../base/errors.ts";
import type { BlobStore } from "../blob/store.ts";
import type { Disk } from "../host/host.ts";

export interface PlaceDeps {
  readonly disk: Pick<
    Disk,
    "statNow" | "statFollowNow" | "writeAtomic" | "temporaryNear" | "rename" | "remove"
  >;
  readonly store: Pick<BlobStore, "copyTo">;
}

/**
 * Why an output could not simply be put at one of these paths; undefined when all is well. A
 * compiler writes through a symlink, into a device, and complains of a folder that is not there:
 * only the real one does each of these right. A file with a second name (a hard link) is replaced
 * under this one, and the other keeps what it had.
 */
export function whyNotPlaceable(
  disk: Pick<Disk, "statNow" | "statFollowNow">,
  paths: readonly string[],
): string | undefined {
  const folders = new Set<string>();
  for (const path of paths) {
    const folder = dirname(path);
    if (!folders.has(folder)) {
      if (disk.statFollowNow(folder)?.kind !== "directory") return "no-output-folder";
      folders.add(folder);
    }
    const there = disk.statNow(path);
    if (there === undefined) continue;
    if (there.kind !== "file") return "output-not-a-file";
    if ((there.mode & 0o200) === 0) return "output-read-only";
  }
  return undefined;
}

/**
 * Places outputs whose blobs are in the store. Every one is written out beside its place first, so
 * a full disk or a missing blob leaves everything as it was; then all are renamed. Rejects with
 * "refused" when a path has become something that cannot be replaced. Whatever it rejects with, no
 * temporary file stays behind.
 */
export async function placeOutputs(
  { disk, store }: PlaceDeps,
  outputs: readonly OutputBlob[],
  umask: number,
  signal: AbortSignal,
): Promise<void> {
  const [only, ...others] = outputs;
  if (only === undefined) return;
  if (others.length === 0) {
    // Both ways of writing are atomic: one file alone needs no other name first.
    signal.throwIfAborted();
    refuseUnlessPlaceable(disk, outputs);
    return put({ disk, store }, only.digest, only.path, modeOf(only, umask));
  }
  const placings = outputs.map((output) => ({
    path: output.path,
    digest: output.digest,
    mode: modeOf(output, umask),
    temporary: disk.temporaryNear(output.path),
  }));
  try {
    const copies = await Promise.allSettled(
      placings.map(({ digest, temporary, mode }) => put({ disk, store }, digest, temporary, mode)),
    );
    for (const copy of copies) if (copy.status === "rejected") throw copy.reason;
    signal.throwIfAborted();
    refuseUnlessPlaceable(disk, outputs);
    // No way back from here, so nothing that is likely to stop half-way either.
    for (const { temporary, path } of placings) await disk.rename(temporary, path);
  } catch (error) {
    // Those that have been renamed are not there any more, which is no failure.
    await Promise.allSettled(placings.map(({ temporary }) => disk.remove(temporary)));
    throw error;
  }
}

function modeOf({ executable }: OutputBlob, umask: number): number {
  return (executable ? 0o777 : 0o666) & ~umask;
}

function refuseUnlessPlaceable(
  disk: Pick<Disk, "statNow" | "statFollowNow">,
  outputs: readonly OutputBlob[],
): void {
  const trouble = whyNotPlaceable(
    disk,
    outputs.map(({ path }) => path),
  );
  if (trouble !== undefined) throw new MeshError("refused", `cannot place outputs: ${trouble}`);
}

function put(
  { disk, store }: Pick<PlaceDeps, "disk" | "store">,
  digest: Digest,
  to: string,
  mode: number,
): Promise<void> {
  return digest === emptyDigest
    ? disk.writeAtomic(to, new Uint8Array(0), { mode, sync: false })
    : store.copyTo(digest, to, mode);
}
