/**
 * What this machine's file system looks like, asked thousands of times a second.
 *
 * Paths are followed as the kernel does, symlink by symlink, so that the same path opens the same
 * file in an input root. Answers are kept for as long as the folder that gave them is unchanged:
 * a folder's mtime and ctime tell, unless they are so recent that a second change could hide
 * behind the first. It does not know who asks or what the files mean.
 */
import { type Digest, digestOf } from "../base/digest.ts";
import { MeshError } from "../base/errors.ts";
import type { BlobStore } from "../blob/store.ts";
import type { TreeEntry } from "../blob/tree.ts";
import type { Clock, Disk, FileStat } from "../host/host.ts";
import { createFolderLook, sameStat } from "./folder-look.ts";
import { hashFile } from "./hash-file.ts";
import { createTwoAgeMap } from "./two-age-map.ts";

export { parentOf } from "./folder-look.ts";

/** A regular file as it was when it was last looked at. A changed file is another object. */
export interface FileNode {
  /** Canonical: no symlink on the way. */
  readonly path: string;
  readonly digest: Digest;
  readonly sizeBytes: number;
  readonly entry: TreeEntry;
}

/**
 * A folder, by its canonical path. One object per path for as long as the view keeps it.
 * Everything but `path` and `version` is the view's own.
 */
export interface FolderNode {
  readonly path: string;
  /** Grows when any answer this folder gave before is no longer true. */
  version: number;
  /** The number of the last look that compared it with the disk. */
  lookedAt: number;
  stat: FileStat | undefined;
  settled: boolean;
  /** What was in it when its answers were last taken while it was not settled. */
  listing: string | undefined;
  readonly answers: Map<string, Answer>;
}

export type Answer =
  | { readonly kind: "absent" | "file" | "folder" | "other" }
  | { readonly kind: "symlink"; readonly target: string };

/** What a path needs in an input root besides what it leads to. */
export interface Trail {
  /** Symlinks on the way. */
  readonly links: Map<string, TreeEntry>;
  /** Folders that were left by `..`: they must exist, even empty. */
  readonly folders: Set<FolderNode>;
  /** Folders whose answers decided the outcome. */
  readonly asked: Set<FolderNode>;
}

export function createTrail(): Trail {
  return { links: new Map(), folders: new Set(), asked: new Set() };
}

export type Found =
  | {
      readonly kind: "file";
      /** Canonical path of the file. */
      readonly path: string;
      /** The folder and name under which it was found, before a last symlink was followed. */
      readonly folder: FolderNode;
      readonly apparentPath: string;
    }
  | { readonly kind: "folder"; readonly folder: FolderNode }
  | { readonly kind: "other" };

/** One planning step: every answer is as fresh as its beginning. */
export interface Look {
  /** The folder at a canonical path known to be one, e.g. from an earlier `Found`. */
  folder(path: string): FolderNode;
  /** Follows `path`, absolute or relative to `from`; undefined when it leads nowhere. */
  find(from: FolderNode, path: string, trail: Trail): Found | undefined;
  /**
   * Makes sure that `folder.version` is up to date. It does not grow when a file that was found
   * there goes away: that is noticed when the file is looked at.
   */
  refresh(folder: FolderNode): void;
  /** Says that a file found in `folder` is not there any more: its version grows. */
  distrust(folder: FolderNode): void;
  /**
   * The file at a canonical path, hashed now if need be; undefined when it is gone.
   * @throws MeshError "io" when it cannot be read, "limit" when it is larger than `fileNowMaxBytes`.
   */
  file(path: string, onBytes?: (node: FileNode, bytes: Uint8Array) => void): FileNode | undefined;
  /** Same, for files of any size. */
  largeFile(path: string): Promise<FileNode | undefined>;
  /** Whether the file is still what it was. */
  unchanged(node: FileNode): boolean;
  /** When its bytes or its place were last touched, wall clock; undefined when it has changed. */
  touchedMs(node: FileNode): number | undefined;
  /** Files read during this look: a measure of how long it kept others waiting. */
  readonly filesRead: number;
}

export interface FileView {
  look(): Look;
  /** When a file was last touched, wall clock, as it was when it was last looked at. */
  lastTouchedMs(node: FileNode): number | undefined;
}

export interface FileViewDeps {
  readonly disk: Disk;
  readonly store: Pick<BlobStore, "has" | "adopt">;
  readonly clock: Clock;
}

export interface FileViewOptions {
  readonly filesMax: number;
  readonly foldersMax: number;
  /** Names remembered per folder; at the bound the folder is forgotten and asked anew. */
  readonly answersMax: number;
  /** Larger files are only read by `largeFile`. */
  readonly fileNowMaxBytes: number;
  /** A time stamp younger than this may hide a second change (coarse clocks, network drives). */
  readonly settleMs: number;
}

export const fileViewDefaults: FileViewOptions = {
  filesMax: 65_536,
  foldersMax: 16_384,
  answersMax: 4096,
  fileNowMaxBytes: 16 * 1024 * 1024,
  settleMs: 2000,
};

interface KnownFile {
  node: FileNode;
  stat: FileStat;
  lookedAt: number;
  settled: boolean;
  /** When the store was last seen to know it, on the monotonic clock. */
  offeredMs: number;
}

/** The store forgets files slowly, and asking it costs another look at the disk. */
const offerPauseMs = 2000;

export function createFileView(
  deps: FileViewDeps,
  options: FileViewOptions = fileViewDefaults,
): FileView {
  const { disk, store, clock } = deps;
  const folders = createTwoAgeMap<string, FolderNode>(options.foldersMax);
  const files = createTwoAgeMap<string, KnownFile>(options.filesMax);
  let lastLook = 0;

  function look(): Look {
    const now = ++lastLook;
    const nowMs = clock.nowMs();
    const settledBeforeNs = BigInt(Math.floor(clock.wallMs() - options.settleMs)) * 1_000_000n;
    let filesRead = 0;

    const isSettled = (stat: FileStat): boolean =>
      stat.mtimeNs < settledBeforeNs && stat.ctimeNs < settledBeforeNs;

    const paths = createFolderLook({ disk, folders }, options, { number: now, isSettled });

    function remember(path: string, stat: FileStat, digest: Digest): FileNode {
      const known = files.get(path);
      // The same bytes under a new time stamp are the same file: what was learned stays true.
      const executable = (stat.mode & 0o111) !== 0;
      const node =
        known !== undefined &&
        known.node.digest === digest &&
        known.node.entry.kind === "file" &&
        known.node.entry.executable === executable
          ? known.node
          : {
              path,
              digest,
              sizeBytes: stat.sizeBytes,
              entry: { kind: "file" as const, path, digest, executable },
            };
      files.set(path, { node, stat, lookedAt: now, settled: isSettled(stat), offeredMs: nowMs });
      store.adopt(digest, path);
      return node;
    }

    /** What is known of the file if it still holds, else its present state. */
    function current(path: string): FileNode | FileStat | undefined {
      const known = files.get(path);
      if (known !== undefined && known.lookedAt >= now) return known.node;
      const stat = disk.statNow(path);
      if (stat?.kind !== "file") return undefined;
      if (known === undefined || !known.settled || !sameStat(stat, known.stat)) return stat;
      known.lookedAt = now;
      if (nowMs - known.offeredMs > offerPauseMs) {
        known.offeredMs = nowMs;
        if (!store.has(known.node.digest)) store.adopt(known.node.digest, path);
      }
      return known.node;
    }

    /** A file too young to be trusted by its time stamps is read again. */
    function isStill(node: FileNode): boolean {
      const found = current(node.path);
      if (found === undefined || "digest" in found) return found === node;
      if (found.sizeBytes !== node.sizeBytes || found.sizeBytes > options.fileNowMaxBytes)
        return false;
      filesRead++;
      return remember(node.path, found, digestOf(disk.readNow(node.path))) === node;
    }

    return {
      ...paths,
      unchanged: (node) => isStill(node),
      touchedMs(node) {
        return isStill(node) ? lastTouchedMs(node) : undefined;
      },
      get filesRead() {
        return filesRead;
      },
      file(path, onBytes) {
        const found = current(path);
        if (found === undefined || "digest" in found) return found;
        if (found.sizeBytes > options.fileNowMaxBytes)
          throw new MeshError("limit", `${path} is larger than ${options.fileNowMaxBytes} bytes`);
        const bytes = disk.readNow(path);
        filesRead++;
        const node = remember(path, found, digestOf(bytes));
        onBytes?.(node, bytes);
        return node;
      },
      async largeFile(path) {
        const found = current(path);
        if (found === undefined || "digest" in found) return found;
        filesRead++;
        return remember(path, found, await hashFile(disk, path));
      },
    };
  }

  function lastTouchedMs({ path }: FileNode): number | undefined {
    const stat = files.get(path)?.stat;
    if (stat === undefined) return undefined;
    return Number((stat.mtimeNs > stat.ctimeNs ? stat.mtimeNs : stat.ctimeNs) / 1000n) / 1000;
  }

  return { look, lastTouchedMs };
}

/** The entries of a trail, for an input root. */
export function trailEntries(trail: Trail): TreeEntry[] {
  const entries = [...trail.links.values()];
  for (const { path } of trail.folders) entries.push({ kind: "directory", path });
  return entries;
}
