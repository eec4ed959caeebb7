/**
 * Folders as blobs: Directory messages of the Remote Execution API v2, and one Tree message that
 * carries them all, so that a whole input root is fetched in one go.
 *
 * Canonical form: every list of a Directory is sorted by the UTF-8 bytes of its names, and the
 * Tree lists each distinct directory once, in the order in which a sorted depth-first walk leaves
 * them. So equal inputs give equal bytes. Knows nothing about disks; `twin.ts` does.
 */
import { type Digest, digestOf } from "../base/digest.ts";
import { compareNames, type FolderNode, readFolder, readTree } from "./tree-bytes.ts";
import { createTreeEncoder, type EncodeTree } from "./tree-encoder.ts";
import {
  checkedName,
  checkTarget,
  malformed,
  quote,
  treeMaxDepth,
  treeMaxEntries,
} from "./tree-names.ts";

/** One thing in an input root. Paths are absolute and normal: no `.`, `..`, `//` or trailing `/`. */
export type TreeEntry =
  | {
      readonly kind: "file";
      readonly path: string;
      readonly digest: Digest;
      readonly executable: boolean;
    }
  | { readonly kind: "symlink"; readonly path: string; readonly target: string }
  | { readonly kind: "directory"; readonly path: string };

/** Characters of all folder paths that a Tree may unfold to: bounds the memory, not the use. */
const treeMaxPathChars = 64 * 1024 * 1024;

export interface EncodedTree {
  /** Names the root Directory: the input root of an action. */
  readonly root: Digest;
  /** Names `treeBytes`. */
  readonly tree: Digest;
  /** Made when it is first asked for. */
  readonly treeBytes: Uint8Array;
}

/**
 * Encodes an input root. Folders above an entry are implied; the same entry twice is one entry.
 * Codes: "malformed" when a path is not absolute and normal or two entries claim one path;
 * "limit" past `treeMaxEntries` or `treeMaxDepth`.
 */
export const encodeTree: EncodeTree = createTreeEncoder();

/**
 * Reads a Tree whose root must be `root`. Every directory has been hashed and is the one its parent
 * names; every name is one name; `encodeTree` of the answer gives the same root. Only empty folders
 * are listed as such. Code "malformed", also for trees past the bounds: sharing one directory a
 * thousand times is cheap to send and not to unfold.
 */
export function decodeTree(treeBytes: Uint8Array, root: Digest): readonly TreeEntry[] {
  const parts = readTree(treeBytes, treeMaxEntries);
  if (digestOf(parts.root) !== root) throw malformed("its root is not the one that was asked for");
  const children = new Map<Digest, Uint8Array>();
  for (const bytes of parts.children) children.set(digestOf(bytes), bytes);
  const nodes = new Map<Digest, FolderNode>();
  const entries: TreeEntry[] = [];
  let visited = 0;
  let visitedChars = 0;

  function nodeOf(digest: Digest): FolderNode {
    const known = nodes.get(digest);
    if (known !== undefined) return known;
    const bytes = digest === root ? parts.root : children.get(digest);
    if (bytes === undefined) throw malformed(`directory ${digest} is not in it`);
    const node = readFolder(bytes);
    checkNames(node);
    nodes.set(digest, node);
    return node;
  }

  // A cycle cannot be built without breaking the hash; the depth bound would stop it regardless.
  function unfold(node: FolderNode, path: string, depth: number): void {
    const { files, folders, symlinks } = node;
    visited += files.length + folders.length + symlinks.length;
    if (visited > treeMaxEntries) throw malformed(`more than ${treeMaxEntries} entries`);
    if (folders.length > 0 && depth + 1 >= treeMaxDepth) {
      throw malformed(`more than ${treeMaxDepth} folders deep`);
    }
    for (const { name, digest, executable } of files) {
      entries.push({ kind: "file", path: `${path}/${name}`, digest, executable });
    }
    for (const { name, target } of symlinks) {
      entries.push({ kind: "symlink", path: `${path}/${name}`, target });
    }
    for (const { name, digest } of folders) {
      const child = nodeOf(digest);
      const below = `${path}/${name}`;
      visitedChars += below.length * (1 + child.files.length + child.symlinks.length);
      if (visitedChars > treeMaxPathChars) throw malformed("its paths are too long in all");
      if (isEmpty(child)) entries.push({ kind: "directory", path: below });
      else unfold(child, below, depth + 1);
    }
  }

  unfold(nodeOf(root), "", 0);
  if (nodes.size !== parts.children.length + 1) {
    throw malformed("it holds directories twice, or ones that nothing names");
  }
  return entries;
}

function isEmpty({ files, folders, symlinks }: FolderNode): boolean {
  return files.length + folders.length + symlinks.length === 0;
}

/** Every list sorted, and no name twice in any of them together. */
function checkNames({ files, folders, symlinks }: FolderNode): void {
  for (const list of [files, folders, symlinks]) {
    let last: string | undefined;
    for (const { name } of list) {
      checkedName(name, name);
      if (last !== undefined && compareNames(last, name) >= 0) {
        throw malformed(`${quote(name)} is out of order or stands twice`);
      }
      last = name;
    }
  }
  for (const link of symlinks) checkTarget(link);
  const lists = [files, folders, symlinks].filter((list) => list.length > 0);
  if (lists.length < 2) return;
  const names = new Set<string>();
  for (const list of lists) for (const { name } of list) names.add(name);
  if (names.size !== files.length + folders.length + symlinks.length) {
    throw malformed("a name stands twice in one directory");
  }
}
