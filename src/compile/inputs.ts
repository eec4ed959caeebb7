/** Paths as entries of an input root: the files, and the symlinks that lead to them. */
import type { TreeEntry } from "../blob/tree.ts";
import { createTrail, type FileView, trailEntries } from "../exec/file-view.ts";

export interface InputFiles {
  /** Absolute paths to entries; those that lead to no regular file are named in `missing`. */
  entries(
    paths: Iterable<string>,
  ): Promise<{ readonly entries: readonly TreeEntry[]; readonly missing: readonly string[] }>;
}

export function createInputFiles(view: FileView): InputFiles {
  return {
    async entries(paths) {
      const look = view.look();
      const root = look.folder("/");
      const trail = createTrail();
      const entries: TreeEntry[] = [];
      const missing: string[] = [];
      for (const path of paths) {
        const found = look.find(root, path, trail);
        const node = found?.kind === "file" ? await look.largeFile(found.path) : undefined;
        if (node === undefined) missing.push(path);
        else entries.push(node.entry);
      }
      return { entries: mergeEntries(entries, trailEntries(trail)), missing };
    },
  };
}

/** One list without repetitions; of two entries for one path the first stays. */
export function mergeEntries(...lists: readonly (readonly TreeEntry[])[]): readonly TreeEntry[] {
  const byPath = new Map<string, TreeEntry>();
  for (const list of lists) {
    for (const entry of list) {
      const before = byPath.get(entry.path);
      // A folder named for its own sake yields to nothing and to everything.
      if (before === undefined || before.kind === "directory") byPath.set(entry.path, entry);
    }
  }
  return [...byPath.values()];
}
