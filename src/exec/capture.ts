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
  /**
   * All outputs, once the command has ended. In the order of the action. What the command left
   * running is being killed, and may be at it for another moment.
   */
  all(): Promise<readonly OutputBlob[]>;
}

export function createCapture(
  { disk, store }: { readonly disk: Disk; readonly store: BlobStore },
  { places, before, keepDir }: Site,
  { outputsMaxBytes }: { readonly outputsMaxBytes: number },
): Capture {
  const taken = new Map<string, { readonly stat: FileStat; readonly blob: OutputBlob }>();
  let sizeBytes = 0;
  let kept = 0;

  /**
   * A path to the same file, where nobody can exchange it for a symlink between our look and our
   * read: linking does not follow symlinks either. Undefined when the file is gone.
   */
  async function hold(place: string): Promise<string | undefined> {
    if (keepDir === undefined) return place;
    const held = `${keepDir}/${kept++}`;
    try {
      await disk.link(place, held);
      return held;
    } catch (error) {
      if ((await disk.stat(place)) === undefined) return undefined;
      throw error;
    }
  }

  async function take(path: string, place: string): Promise<OutputBlob | undefined> {
    // Not everything can be linked, a folder for one.
    if ((await disk.stat(place))?.kind === "directory") throw notRegular(path);
    const held = await hold(place);
    const stat = held === undefined ? undefined : await disk.stat(held);
    if (held === undefined || stat === undefined) return undefined;
    if (stat.kind !== "file") throw notRegular(path);
    sizeBytes += stat.sizeBytes;
    if (sizeBytes > outputsMaxBytes)
      throw new MeshError("limit", `the outputs are larger than ${outputsMaxBytes} bytes: ${path}`);
    const digest = await store.putFile(held);
    const blob = { path, digest, executable: (stat.mode & 0o111) !== 0 };
    taken.set(path, { stat, blob });
    return blob;
  }

  return {
    async early(path) {
      const place = places.get(path);
      return place === undefined ? undefined : take(path, place);
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
        const was = before.get(path);
        if (stat !== undefined && was !== undefined && isUntouched(stat, was)) continue;
        const blob = await take(path, place);
        if (blob !== undefined) outputs.push(blob);
      }
      return outputs;
    },
  };
}

function notRegular(path: string): MeshError {
  return new MeshError("refused", `the output ${path} is not a regular file`);
}

function isUntouched(now: FileStat, was: FileStat): boolean {
  return isSame(now, was) && now.ctimeNs === was.ctimeNs;
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
