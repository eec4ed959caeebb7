/**
 * Remembers where a process may leave files unfinished, so that the next one of the same data
 * directory can remove them after a kill -9: most lie in users' folders, and nobody else would.
 *
 * One JSON string a line: how the paths of the files begin. A line is written before the first such
 * file is made; it is not synced, for after a power failure a stray file is the least of worries.
 */
import { appendFileSync } from "node:fs";
import { basename, dirname, join, sep } from "node:path";
import { textOf } from "../base/bytes.ts";
import { ownTemporaryPrefix } from "./disk.ts";
import type { Disk } from "./host.ts";

export interface Unfinished {
  /** Before files are made whose paths begin like this. Does nothing until `begin`. */
  note(pathPrefix: string): void;
  /** Removes what an earlier process left, and keeps notes from now on. Never rejects. */
  begin(disk: Sweeper): Promise<void>;
  /** Everything is in place: forgets the notes. Never rejects. */
  end(disk: Sweeper): Promise<void>;
}

type Sweeper = Pick<Disk, "read" | "list" | "remove">;

/** A build has fewer folders; beyond, they are noted again. */
const notedMax = 50_000;

/** The notes lie at `path`; what is unfinished below the folder `except`, others see to. */
export function createUnfinished(path: string, except: string): Unfinished {
  const noted = new Set<string>();
  const exceptPrefix = except + sep;
  let isOpen = false;

  return {
    note(prefix) {
      if (!isOpen || noted.has(prefix) || prefix.startsWith(exceptPrefix)) return;
      if (noted.size >= notedMax) noted.clear();
      noted.add(prefix);
      try {
        appendFileSync(path, `${JSON.stringify(prefix)}\n`, { mode: 0o600 });
      } catch {
        // A full disk: then a kill may leave a file behind, and no more than that.
      }
    },
    async begin(disk) {
      const left = await disk.read(path).catch(() => undefined);
      if (left !== undefined) {
        for (const prefix of prefixesIn(textOf(left))) await sweep(disk, prefix);
        await disk.remove(path).catch(() => {});
      }
      isOpen = true;
    },
    async end(disk) {
      isOpen = false;
      noted.clear();
      await disk.remove(path).catch(() => {});
    },
  };
}

/** A line that was cut short, or that somebody else wrote, is passed over. */
function prefixesIn(text: string): readonly string[] {
  return text.split("\n").flatMap((line) => {
    try {
      const value: unknown = JSON.parse(line);
      return typeof value === "string" ? [value] : [];
    } catch {
      return [];
    }
  });
}

async function sweep(disk: Sweeper, prefix: string): Promise<void> {
  const folder = dirname(prefix);
  const name = basename(prefix);
  // Notes may be damaged: nothing else is removed.
  if (!ownTemporaryPrefix.test(name)) return;
  const entries = await disk.list(folder).catch(() => undefined);
  for (const entry of entries ?? []) {
    if (entry.kind !== "file" || !entry.name.startsWith(name)) continue;
    await disk.remove(join(folder, entry.name)).catch(() => {});
  }
}
