/**
 * What the tree encoder remembers of the trees before: names, folders, and the bytes of folders.
 * Knows nothing about which of it is part of a tree now.
 */
import type { Digest } from "../base/digest.ts";
import { MeshError } from "../base/errors.ts";
import type { TreeEntry } from "./tree.ts";
import { compareNames, writeFolder } from "./tree-bytes.ts";
import { checkedName, checkTarget, malformed, quote, treeMaxDepth } from "./tree-names.ts";

export type LeafEntry = Exclude<TreeEntry, { readonly kind: "directory" }>;

/** A file or symlink as it was at its path when it was last part of a tree. */
export interface Leaf {
  readonly entry: LeafEntry;
  readonly name: string;
  readonly folder: Folder;
  /** Its field in the Directory message. */
  readonly field: Uint8Array;
  /** Differs from all others, so that the sum over a set says much about the set. */
  readonly id: number;
  /** The last tree it was part of. */
  round: number;
  /** Something else is at its path now. */
  isReplaced: boolean;
}

export interface Folder {
  readonly path: string;
  readonly name: string;
  readonly parent: Folder | undefined;
  readonly leaves: Sorted<Leaf>;
  readonly folders: Sorted<Folder>;
  /** Its content with every set of things it was seen with, the newest last. */
  readonly variants: Variant[];
  readonly isReplaced: false;
  /** The last tree it was part of; what follows is about that tree. */
  round: number;
  leafCount: number;
  leafSum: number;
  folderCount: number;
  content: Variant | undefined;
}

/** A folder's content: the bytes of its Directory message, and what they were made from. */
export interface Variant {
  readonly bytes: Uint8Array;
  readonly digest: Digest;
  /** The field in the Directory message of the folder above. */
  readonly field: Uint8Array;
  readonly leaves: readonly Leaf[];
  readonly leafSum: number;
  readonly folders: readonly Folder[];
  readonly folderDigests: readonly Digest[];
}

/** Everything that was ever added, sorted by name when it is looked at. */
export interface Sorted<T> {
  add(item: T): void;
  all(): readonly T[];
}

export interface TreeMemory {
  leaf(path: string): Leaf | undefined;
  /**
   * Takes the place of what was at that path.
   * @throws MeshError "malformed" for a path or target that no tree may hold, "limit" for its depth.
   */
  remember(entry: LeafEntry): Leaf;
  /** The folder of that path, made with its parents on first sight. Throws as `remember` does. */
  folder(path: string): Folder;
  keep(folder: Folder, variant: Variant): void;
  forget(): void;
  names(): number;
  keptBytes(): number;
}

/** Contents remembered per folder; at the bound the oldest is forgotten. */
const variantsMax = 64;

const nothing = { files: [], folders: [], symlinks: [] };

export function createTreeMemory(): TreeMemory {
  let leaves = new Map<string, Leaf>();
  let folders = new Map<string, Folder>();
  let keptBytes = 0;
  let lastId = 0;

  function folder(path: string): Folder {
    const known = folders.get(path);
    if (known !== undefined) return known;
    if (path === "") return place(path, "", undefined);
    const slash = path.lastIndexOf("/");
    const name = checkedName(path.slice(slash + 1), path);
    if (slash < 0) throw malformed(`${quote(path)} is not absolute`);
    // Counted before recursing, so that a path of a million slashes costs nothing.
    if (path.length > treeMaxDepth && path.split("/").length - 1 >= treeMaxDepth) {
      throw new MeshError("limit", `${quote(path)} is more than ${treeMaxDepth} folders deep`);
    }
    return place(path, name, folder(path.slice(0, slash)));
  }

  function place(path: string, name: string, parent: Folder | undefined): Folder {
    const made: Folder = {
      path,
      name,
      parent,
      leaves: createSorted(),
      folders: createSorted(),
      variants: [],
      isReplaced: false,
      round: 0,
      leafCount: 0,
      leafSum: 0,
      folderCount: 0,
      content: undefined,
    };
    folders.set(path, made);
    parent?.folders.add(made);
    return made;
  }

  return {
    leaf: (path) => leaves.get(path),
    folder,
    remember(entry) {
      const { path } = entry;
      const slash = path.lastIndexOf("/");
      const name = checkedName(path.slice(slash + 1), path);
      if (slash < 0) throw malformed(`${quote(path)} is not absolute`);
      if (entry.kind === "symlink") checkTarget(entry);
      const parent = folder(path.slice(0, slash));
      lastId += 1;
      const field = fieldOf(entry, name);
      const made = { entry, name, folder: parent, field, id: lastId, round: 0, isReplaced: false };
      const before = leaves.get(path);
      if (before !== undefined) before.isReplaced = true;
      leaves.set(path, made);
      parent.leaves.add(made);
      return made;
    },
    keep({ variants }, variant) {
      variants.push(variant);
      keptBytes += variant.bytes.byteLength;
      if (variants.length > variantsMax) keptBytes -= variants.shift()?.bytes.byteLength ?? 0;
    },
    forget() {
      leaves = new Map();
      folders = new Map();
      keptBytes = 0;
    },
    names: () => leaves.size + folders.size,
    keptBytes: () => keptBytes,
  };
}

function fieldOf(entry: LeafEntry, name: string): Uint8Array {
  return entry.kind === "file"
    ? writeFolder({
        ...nothing,
        files: [{ name, digest: entry.digest, executable: entry.executable }],
      })
    : writeFolder({ ...nothing, symlinks: [{ name, target: entry.target }] });
}

function createSorted<
  T extends { readonly name: string; readonly isReplaced: boolean },
>(): Sorted<T> {
  let sorted: readonly T[] = [];
  let added: T[] = [];
  return {
    add: (item) => void added.push(item),
    all() {
      if (added.length > 0) {
        const present = [...sorted, ...added].filter(({ isReplaced }) => !isReplaced);
        sorted = present.sort((a, b) => compareNames(a.name, b.name));
        added = [];
      }
      return sorted;
    },
  };
}
