/**
 * Files on their way to their final name: written beside it or elsewhere, then renamed.
 *
 * Small ones are written at once: the calls take a few microseconds each, and waking a thread for
 * every one of them takes several times as long, here and in the thread. It knows nothing about
 * what the files mean.
 */
import * as fs from "node:fs";
import { dirname } from "node:path";
import { promisify } from "node:util";
import { MeshError } from "../base/errors.ts";
import { failing, quote } from "./disk-failure.ts";
import { createNew, toRead, withFile, writeAll } from "./file.ts";
import type { FileWriter } from "./host.ts";

/** Up to here a file is written without a thread. */
export const writeNowMaxBytes: number = 1024 * 1024;

const call = {
  close: promisify(fs.close),
  fsync: promisify(fs.fsync),
  unlink: promisify(fs.unlink),
};

export async function createWriter(temporaryPath: string, mode: number): Promise<FileWriter> {
  const file = await failing("create", temporaryPath, async () => {
    const opened = fs.openSync(temporaryPath, createNew, mode);
    fs.fchmodSync(opened, mode);
    return opened;
  });
  let at: "open" | "committed" | "discarded" = "open";
  let offset = 0;
  let failed: unknown;
  let last: Promise<void> = Promise.resolve();

  async function discard(): Promise<void> {
    if (at !== "open") return;
    at = "discarded";
    await last.catch(() => {});
    await call.close(file).catch(() => {});
    await call.unlink(temporaryPath).catch(() => {});
  }

  /** A small file comes in one piece; those of a large one are left to a thread. */
  async function writeAt(start: number, bytes: Uint8Array): Promise<void> {
    if (start === 0 && bytes.byteLength <= writeNowMaxBytes) writeAllNow(file, bytes);
    else await writeAll(file, bytes, start);
  }

  return {
    write(bytes) {
      // Each piece has its place, and only the last one is waited for: order cannot be mixed up.
      const start = offset;
      offset += bytes.byteLength;
      last = last
        .then(() => failing("write", temporaryPath, () => writeAt(start, bytes)))
        .catch((error: unknown) => {
          failed ??= error;
          throw error;
        });
      return last;
    },
    async commit(finalPath, { sync }) {
      if (at !== "open") throw new MeshError("io", `EBADF: ${quote(temporaryPath)} is ${at}`);
      await last.catch(() => {});
      try {
        if (failed !== undefined) throw failed;
        await failing("finish", finalPath, async () => {
          if (sync) await call.fsync(file);
          fs.renameSync(temporaryPath, finalPath);
          if (sync) await syncFolder(dirname(finalPath));
        });
      } catch (error) {
        await discard();
        throw error;
      }
      at = "committed";
      closeNow(file);
    },
    discard,
  };
}

/** After the rename the file is whole, whatever its descriptor says. */
function closeNow(file: number): void {
  try {
    fs.closeSync(file);
  } catch {
    // As with any close that fails, there is nothing left to close.
  }
}

/** Makes a file at `temporary` with `fill`, then moves it to `path`; on failure nothing stays. */
export function replaceNow(
  temporary: string,
  path: string,
  fill: (temporary: string) => void,
): void {
  try {
    fill(temporary);
    fs.renameSync(temporary, path);
  } catch (error) {
    unlinkNow(temporary);
    throw error;
  }
}

export function createNow(path: string, bytes: Uint8Array, mode: number): void {
  const file = fs.openSync(path, createNew, mode);
  try {
    fs.fchmodSync(file, mode);
    writeAllNow(file, bytes);
  } finally {
    fs.closeSync(file);
  }
}

function writeAllNow(file: number, bytes: Uint8Array): void {
  for (let done = 0; done < bytes.byteLength; ) {
    done += fs.writeSync(file, bytes, done, bytes.byteLength - done, done);
  }
}

function unlinkNow(path: string): void {
  try {
    fs.unlinkSync(path);
  } catch {
    // It was never made, or cannot be removed: then it is known by its name.
  }
}

/** A rename is on the disk only when its folder is. */
export async function syncFolder(path: string): Promise<void> {
  await withFile(path, toRead, 0, (folder) => call.fsync(folder));
}
