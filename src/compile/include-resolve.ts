/**
 * Where the mentions of a file lead, by the rules of the compilers' search. It reads no files.
 */

import { MeshError } from "../base/errors.ts";
import type { TreeEntry } from "../blob/tree.ts";
import {
  createTrail,
  type FileNode,
  type FolderNode,
  type Found,
  type Look,
  parentOf,
  type Trail,
} from "../exec/file-view.ts";
import type { Family } from "../exec/toolchain.ts";
import type { Lexical, Mention } from "./scan.ts";
import type { SearchPath } from "./search-path.ts";

export type FoundFile = Extract<Found, { kind: "file" }>;

/** Where the mentions of one file lead under one search path. */
export interface Edges {
  /** The file itself. */
  readonly from: Reached;
  readonly opened: readonly FoundFile[];
  /** Files that are only asked about. */
  readonly probed: readonly FoundFile[];
  readonly links: readonly TreeEntry[];
  readonly folders: readonly FolderNode[];
  readonly asked: readonly FolderNode[];
  /** The version of each folder in `asked` for which all this is true. */
  readonly versions: readonly number[];
}

export interface Reached {
  readonly at: FoundFile;
  readonly node: FileNode;
  readonly lexical: Lexical;
}

export function mustFind(found: Found | undefined, name: string): FoundFile {
  if (found === undefined) throw new MeshError("io", `ENOENT: no file ${name}`);
  if (found.kind !== "file") throw new MeshError("unsupported", `${name} is no regular file`);
  return found;
}

/** A folder or a missing file is passed over, as compilers do; a device is too strange for that. */
export function asFile(found: Found | undefined): FoundFile | undefined {
  if (found?.kind === "other") throw new MeshError("unsupported", "a header is no regular file");
  return found?.kind === "file" ? found : undefined;
}

export function search(
  look: Look,
  chain: readonly FolderNode[],
  from: number,
  name: string,
  trail: Trail,
): FoundFile | undefined {
  for (let i = from; i < chain.length; i++) {
    const folder = chain[i];
    const found = folder && asFile(look.find(folder, name, trail));
    if (found !== undefined) return found;
  }
  return undefined;
}

/** Calls `each` with every place where the compiler may look for `mention`, until it says stop. */
export function forEachPlace(
  look: Look,
  path: SearchPath,
  at: FoundFile,
  mention: Mention,
  family: Family,
  each: (folder: FolderNode) => boolean,
): void {
  const { asking } = mention;
  // The assembler knows nothing of the source's folder; it is asked below for simplicity's sake.
  if ((asking === "incbin" || asking === "assemble") && each(path.cwd)) return;
  if (!mention.angled || mention.name.startsWith("/")) {
    if (each(at.folder)) return;
    if (mention.name.startsWith("/")) return;
    // Clang knows a file by its inode and may look beside its real place instead.
    if (family === "clang" && at.path !== at.apparentPath)
      if (each(look.folder(parentOf(at.path)))) return;
  }
  if (asking === "embed") for (const folder of path.embed) if (each(folder)) return;
  for (let i = mention.angled ? path.bracketStart : 0; i < path.chain.length; i++) {
    const folder = path.chain[i];
    if (folder !== undefined && each(folder)) return;
  }
}

export function resolve(
  look: Look,
  path: SearchPath,
  at: FoundFile,
  mention: Mention,
  family: Family,
  trail: Trail,
): readonly FoundFile[] {
  const found: FoundFile[] = [];
  // Where "next" begins depends on how this file was reached, and what comes first elsewhere on
  // the assembler and its version: any match may be meant.
  const every = mention.asking !== "include" && mention.asking !== "probe";
  forEachPlace(look, path, at, mention, family, (folder) => {
    const file = asFile(look.find(folder, mention.name, trail));
    if (file !== undefined) found.push(file);
    return file !== undefined && !every;
  });
  return found;
}

/** Whether what it says is read for more; what is embedded is not. */
function isOpened({ asking }: Mention): boolean {
  return asking === "include" || asking === "next" || asking === "assemble";
}

export function resolveAll(
  look: Look,
  path: SearchPath,
  from: Reached,
  mentions: readonly Mention[],
  family: Family,
): Edges {
  const { at } = from;
  const trail = createTrail();
  const opened: FoundFile[] = [];
  const probed: FoundFile[] = [];
  for (const mention of mentions) {
    const found = resolve(look, path, at, mention, family, trail);
    if (isOpened(mention)) opened.push(...found);
    else probed.push(...found);
  }
  const asked = [...trail.asked];
  return {
    from,
    opened,
    probed,
    links: [...trail.links.values()],
    folders: [...trail.folders],
    asked,
    versions: asked.map((folder) => folder.version),
  };
}

export function holds(look: Look, edges: Edges): boolean {
  for (let i = 0; i < edges.asked.length; i++) {
    const folder = edges.asked[i];
    if (folder === undefined) return false;
    look.refresh(folder);
    if (folder.version !== edges.versions[i]) return false;
  }
  return true;
}
