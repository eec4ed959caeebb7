/**
 * Encodes input roots that have nearly everything in common with the ones before them.
 *
 * Every compile has hundreds of inputs, and most folders hold for one what they held for another.
 * So a folder's bytes and digest are kept for the sets of things it was seen with, and the bytes
 * of every file as well: a new set of known files is neither sorted nor encoded anew. What is kept
 * changes how long an answer takes, never the answer.
 */
import { type Digest, digestOf } from "../base/digest.ts";
import { MeshError } from "../base/errors.ts";
import type { EncodedTree, TreeEntry } from "./tree.ts";
import { writeFolder, writeTree } from "./tree-bytes.ts";
import {
  createTreeMemory,
  type Folder,
  type Leaf,
  type LeafEntry,
  type Variant,
} from "./tree-memory.ts";
import { malformed, quote, treeMaxEntries } from "./tree-names.ts";

export interface TreeEncoderOptions {
  /** Files, symlinks and folders remembered; past it everything is forgotten. */
  readonly namesMax: number;
  /** Bytes of folders remembered; past it everything is forgotten. */
  readonly keptMaxBytes: number;
}

export const treeEncoderDefaults: TreeEncoderOptions = {
  namesMax: 100_000,
  keptMaxBytes: 32 * 1024 * 1024,
};

/** See `encodeTree` in tree.ts. */
export type EncodeTree = (entries: readonly TreeEntry[]) => EncodedTree;

export function createTreeEncoder(options: TreeEncoderOptions = treeEncoderDefaults): EncodeTree {
  const memory = createTreeMemory();
  /** Trees are numbered: what carries the number of this one is part of it. */
  let round = 0;
  let folderCount = 0;

  function add(entry: LeafEntry): void {
    const known = memory.leaf(entry.path);
    const isKnown = known !== undefined && isSame(known.entry, entry);
    if (known?.round === round) {
      if (!isKnown) throw malformed(`two things claim ${quote(entry.path)}`);
      return;
    }
    const leaf = isKnown ? known : memory.remember(entry);
    const { folder } = leaf;
    touch(folder);
    leaf.round = round;
    folder.leafCount += 1;
    folder.leafSum += leaf.id;
  }

  /** Makes a folder, and those above it, part of this tree. */
  function touch(folder: Folder): void {
    if (folder.round === round) return;
    folderCount += 1;
    folder.round = round;
    folder.leafCount = 0;
    folder.leafSum = 0;
    folder.folderCount = 0;
    folder.content = undefined;
    if (folder.parent === undefined) return;
    touch(folder.parent);
    folder.parent.folderCount += 1;
  }

  /** What a folder holds first, so that it has its digest already. */
  function encode(folder: Folder, children: Map<Digest, Uint8Array>): Variant {
    if (memory.leaf(folder.path)?.round === round) {
      throw malformed(`${quote(folder.path)} is no folder only`);
    }
    if (folder.folderCount > 0) {
      for (const below of folder.folders.all()) {
        if (below.round !== round) continue;
        const { digest, bytes } = encode(below, children);
        if (!children.has(digest)) children.set(digest, bytes);
      }
    }
    folder.content = folder.variants.findLast((variant) => fits(variant, folder)) ?? learn(folder);
    return folder.content;
  }

  function fits({ leaves, leafSum, folders, folderDigests }: Variant, folder: Folder): boolean {
    return (
      leafSum === folder.leafSum &&
      leaves.length === folder.leafCount &&
      folders.length === folder.folderCount &&
      leaves.every((leaf) => leaf.round === round) &&
      folders.every(
        (below, at) => below.round === round && below.content?.digest === folderDigests[at],
      )
    );
  }

  function learn(folder: Folder): Variant {
    const leaves = folder.leaves.all().filter((leaf) => leaf.round === round);
    const folders = folder.folders.all().filter((below) => below.round === round);
    const contents = folders.flatMap(({ content }) => content ?? []);
    const bytes = Buffer.concat([
      ...fieldsOf(leaves, "file"),
      ...contents.map(({ field }) => field),
      ...fieldsOf(leaves, "symlink"),
    ]);
    const digest = digestOf(bytes);
    const link = { files: [], folders: [{ name: folder.name, digest }], symlinks: [] };
    const variant = {
      bytes,
      digest,
      field: writeFolder(link),
      leaves,
      leafSum: folder.leafSum,
      folders,
      folderDigests: contents.map((content) => content.digest),
    };
    memory.keep(folder, variant);
    return variant;
  }

  return (entries) => {
    if (memory.names() > options.namesMax || memory.keptBytes() > options.keptMaxBytes) {
      memory.forget();
    }
    round += 1;
    folderCount = 0;
    const root = memory.folder("");
    touch(root);
    for (const entry of entries) {
      if (entry.kind !== "directory") add(entry);
      else if (entry.path !== "/") touch(memory.folder(entry.path));
    }
    if (entries.length + folderCount > treeMaxEntries) {
      throw new MeshError("limit", `an input tree has more than ${treeMaxEntries} entries`);
    }
    const children = new Map<Digest, Uint8Array>();
    const { bytes, digest } = encode(root, children);
    return encoded(digest, bytes, [...children.values()]);
  };
}

function fieldsOf(leaves: readonly Leaf[], kind: LeafEntry["kind"]): Uint8Array[] {
  return leaves.filter(({ entry }) => entry.kind === kind).map(({ field }) => field);
}

function isSame(there: LeafEntry, entry: LeafEntry): boolean {
  if (there === entry) return true;
  return there.kind === "file"
    ? entry.kind === "file" &&
        there.digest === entry.digest &&
        there.executable === entry.executable
    : entry.kind === "symlink" && there.target === entry.target;
}

/** Only a task that leaves this node needs the whole tree as bytes. */
function encoded(
  root: Digest,
  rootBytes: Uint8Array,
  children: readonly Uint8Array[],
): EncodedTree {
  let treeBytes: Uint8Array | undefined;
  let tree: Digest | undefined;
  const bytesOf = (): Uint8Array => {
    treeBytes ??= writeTree(rootBytes, children);
    return treeBytes;
  };
  return {
    root,
    get treeBytes() {
      return bytesOf();
    },
    get tree() {
      tree ??= digestOf(bytesOf());
      return tree;
    },
  };
}
