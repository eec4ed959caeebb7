/**
 * A file that lines are appended to. When it has grown beyond its bound it becomes the previous one,
 * and the one before that is gone. It does not know what the lines say.
 */
import { isMeshError } from "../base/errors.ts";
import type { Disk } from "../host/host.ts";

export interface RotatingLog {
  /** The text of the file that lines are appended to now; empty when there is none. */
  current(): Promise<string>;
  /** The file before it; empty when there is none. */
  previous(): Promise<string>;
  /**
   * Appends whole lines. True when the file is full now and the next line begins a new one.
   * Rejects as the disk does; part of the text may then be in the file, without a line's end.
   */
  append(lines: string): Promise<boolean>;
}

export function createRotatingLog(
  disk: Disk,
  { path, sizeMaxBytes }: { readonly path: string; readonly sizeMaxBytes: number },
): RotatingLog {
  const before = path.replace(/(\.\w+)?$/, ".1$1");
  let sizeBytes: number | undefined;

  return {
    current: () => textOf(disk, path),
    previous: () => textOf(disk, before),
    async append(lines) {
      const known = sizeBytes;
      sizeBytes = undefined;
      const foundBytes = known ?? (await disk.stat(path))?.sizeBytes ?? 0;
      // Whoever wrote before may have been cut off in a line.
      const text = known === undefined && foundBytes > 0 ? `\n${lines}` : lines;
      const bytes = Buffer.from(text);
      await disk.append(path, bytes);
      sizeBytes = foundBytes + bytes.byteLength;
      if (sizeBytes < sizeMaxBytes) return false;
      await disk.rename(path, before);
      sizeBytes = 0;
      return true;
    },
  };
}

/** A file that cannot be read is as good as none: what is in it is for people only. */
async function textOf(disk: Disk, path: string): Promise<string> {
  try {
    if ((await disk.stat(path)) === undefined) return "";
    return Buffer.from(await disk.read(path)).toString("utf8");
  } catch (error) {
    if (isMeshError(error)) return "";
    throw error;
  }
}
