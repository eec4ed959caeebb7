/** Paths as entries of an input root: files, folders, and the symlinks that lead to them. */
import type { TreeEntry } from "../blob/tree.ts";
import { type Facts, factsHold, factsOf } from "../exec/facts.ts";
import { createTrail, type FileNode, type FileView, trailEntries } from "../exec/file-view.ts";

/** All paths are absolute. */
export interface WantedInputs {
  /** Of any size. */
  readonly files: Iterable<string>;
  /** Files known to be at most about 1 MiB, which are read faster. */
  readonly smallFiles?: Iterable<string>;
  /** Have to be there even when no file below them is wanted. */
  readonly folders?: Iterable<string>;
  /** Sees the bytes of small files as they are read for the first time. */
  readonly onBytes?: (node: FileNode, bytes: Uint8Array) => void;
}

export interface FoundInputs {
  readonly entries: readonly TreeEntry[];
  /** By the path that was asked for. */
  readonly nodes: ReadonlyMap<string, FileNode>;
  /** Wanted files that lead to no regular file. A folder that is not there is simply left out. */
  readonly missing: readonly string[];
  readonly facts: Facts;
}

export interface InputFiles {
  find(wanted: WantedInputs): Promise<FoundInputs>;
  /** Whether what was found before is still so. */
  hold(facts: Facts): boolean;
}

/** Reads that keep others waiting, in a row; the next one is made in pieces, and lets them pass. */
const readsPerTurn = 64;

export function createInputFiles(view: FileView): InputFiles {
  return {
    hold: (facts) => factsHold(facts, view.look()),
    async find({ files, smallFiles = [], folders = [], onBytes }) {
      const look = view.look();
      const root = look.folder("/");
      const trail = createTrail();
      const nodes = new Map<string, FileNode>();
      const missing: string[] = [];
      let turn = look.filesRead;

      async function add(path: string, small: boolean): Promise<void> {
        const found = look.find(root, path, trail);
        let node: FileNode | undefined;
        if (found?.kind === "file") {
          const now = small && look.filesRead - turn < readsPerTurn;
          if (!now) turn = look.filesRead;
          node = now ? look.file(found.path, onBytes) : await look.largeFile(found.path);
        }
        if (node === undefined) missing.push(path);
        else nodes.set(path, node);
      }

      for (const path of folders) {
        const found = look.find(root, path, trail);
        if (found?.kind === "folder") trail.folders.add(found.folder);
      }
      for (const path of smallFiles) await add(path, true);
      for (const path of files) await add(path, false);
      const found = [...nodes.values()];
      return {
        entries: mergeEntries(
          found.map(({ entry }) => entry),
          trailEntries(trail),
        ),
        nodes,
        missing,
        facts: factsOf(found, trail.asked),
      };
    },
  };
}

/** One list without repetitions; of two entries for one path the first stays. */
export function mergeEntries(...lists: readonly (readonly TreeEntry[])[]): readonly TreeEntry[] {
  const byPath = new Map<string, TreeEntry>();
  for (const list of lists) {
    for (const entry of list) addEntry(byPath, entry);
  }
  return [...byPath.values()];
}

/** A folder named for its own sake yields to whatever else is at its path. */
export function addEntry(byPath: Map<string, TreeEntry>, entry: TreeEntry): void {
  const before = byPath.get(entry.path);
  if (before === undefined || before.kind === "directory") byPath.set(entry.path, entry);
}
