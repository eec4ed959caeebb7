/**
 * Takes what a command wrote into the store.
 *
 * The files lie in folders that the command could write to, so nothing about them is trusted:
 * only regular files count, and a symlink is never followed, or a foreign command could have this
 * node read any file of its user aloud.
 */
import type { OutputBlob } from "../action/action.ts";
import { MeshError } from "../base/errors.ts";
import type { BlobStore } from "../blob/store.ts";
import type { Disk, FileStat } from "../host/host.ts";

/** Where the outputs of one run are. */
export interface Site {
  /** Output path, as the action spells it, to path on this machine. */
  readonly places: ReadonlyMap<string, string>;
  /** What was at an output path before the command ran. */
  readonly before: ReadonlyMap<string, FileStat>;
  /** A folder the command cannot reach; undefined where there is none. */
  readonly keepDir: string | undefined;
}

export interface Capture {
  /** One output, while the command is still running. Undefined when there is none (any more). */
  early(path: string): Promise<OutputBlob | undefined>;
  /** All outputs, once every process of the command is gone. In the order of the action. */
  all(): Promise<readonly OutputBlob[]>;
}

export function createCapture(
  { disk, store }: { readonly disk: Disk; readonly store: BlobStore },
  { places, before, keepDir }: Site,
  { outputsMaxBytes }: { readonly outputsMaxBytes: number },
): Capture {
  const taken = new Map<string, { readonly stat: FileStat; readonly blob: OutputBlob }>();
  let sizeBytes = 0;

  async function take(path: string, from: string, stat: FileStat): Promise<OutputBlob> {
    if (stat.kind !== "file")
      throw new MeshError("refused", `the output ${path} is not a regular file`);
    sizeBytes += stat.sizeBytes;
    if (sizeBytes > outputsMaxBytes)
      throw new MeshError("limit", `the outputs are larger than ${outputsMaxBytes} bytes: ${path}`);
    const digest = await store.putFile(from);
    return { path, digest, executable: (stat.mode & 0o111) !== 0 };
  }

  return {
    async early(path) {
      const place = places.get(path);
      if (place === undefined) return undefined;
      // A second name, where the command cannot exchange the file for a symlink between our look
      // and our read. Linking does not follow symlinks either.
      const kept = keepDir === undefined ? undefined : `${keepDir}/${taken.size}`;
      if (kept !== undefined && (await disk.stat(place)) === undefined) return undefined;
      if (kept !== undefined) await disk.link(place, kept);
      const stat = await disk.stat(kept ?? place);
      if (stat === undefined) return undefined;
      const blob = await take(path, kept ?? place, stat);
      taken.set(path, { stat, blob });
      return blob;
    },

    async all() {
      const outputs: OutputBlob[] = [];
      for (const [path, place] of places) {
        const stat = await disk.stat(place);
        const earlier = taken.get(path);
        if (earlier !== undefined) {
          // Others may be using it already: it must have been what it was announced to be.
          if (stat === undefined || !isSame(stat, earlier.stat))
            throw new MeshError("refused", `${path} changed after it was announced as complete`);
          outputs.push(earlier.blob);
          continue;
        }
        if (stat === undefined) continue;
        const was = before.get(path);
        if (was !== undefined && isSame(stat, was) && stat.ctimeNs === was.ctimeNs) continue;
        outputs.push(await take(path, place, stat));
      }
      return outputs;
    },
  };
}

/** Not the time of the last change of the inode: a second name changes that. */
function isSame(left: FileStat, right: FileStat): boolean {
  return (
    left.inode === right.inode &&
    left.sizeBytes === right.sizeBytes &&
    left.mtimeNs === right.mtimeNs &&
    left.kind === right.kind
  );
}
