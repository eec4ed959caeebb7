/**
 * The folders of one look: follows paths as the kernel does, and asks the disk again only where a
 * folder may have changed. It does not know what the files hold.
 */
import { isMeshError } from "../base/errors.ts";
import type { Disk, FileStat } from "../host/host.ts";
import type { Answer, FolderNode, Found, Look, Trail } from "./file-view.ts";
import type { TwoAgeMap } from "./two-age-map.ts";

export interface FolderLookDeps {
  readonly disk: Pick<Disk, "statNow" | "listNow" | "readLinkNow">;
  readonly folders: TwoAgeMap<string, FolderNode>;
}

export interface FolderLookOptions {
  /** Names remembered per folder; at the bound the folder is forgotten and asked anew. */
  readonly answersMax: number;
}

/** Which look this is, and what it takes for old enough to be trusted by its time stamps. */
export interface Moment {
  readonly number: number;
  readonly isSettled: (stat: FileStat) => boolean;
}

/** As many as the kernel follows before ELOOP. */
const linksMax = 40;

const absent: Answer = { kind: "absent" };
const plainFile: Answer = { kind: "file" };
const plainFolder: Answer = { kind: "folder" };
const otherKind: Answer = { kind: "other" };

/** With so many names to ask for, listing the folder costs less ... */
const listFromNames = 16;
/** ... unless it is a large one: by what file systems say of folders, one of a thousand names. */
const listMaxBytes = 64 * 1024;

export function createFolderLook(
  { disk, folders }: FolderLookDeps,
  options: FolderLookOptions,
  { number: now, isSettled }: Moment,
): Pick<Look, "folder" | "find" | "refresh" | "distrust"> {
  function folderAt(path: string): FolderNode {
    const known = folders.get(path);
    if (known !== undefined) return known;
    const made: FolderNode = {
      path,
      version: 0,
      lookedAt: 0,
      stat: undefined,
      settled: false,
      listing: undefined,
      answers: new Map(),
    };
    folders.set(path, made);
    return made;
  }

  function refresh(folder: FolderNode): void {
    if (folder.lookedAt >= now) return;
    const stat = disk.statNow(folder.path);
    const same = stat !== undefined && sameStat(stat, folder.stat);
    folder.lookedAt = now;
    if (same && folder.settled) return;
    const settled = stat !== undefined && isSettled(stat);
    // Looks taken close together, as at the start of a build that has just made its output folder.
    // Names that came or went behind the same time stamp show in a listing.
    const isWorthListing = !settled && folder.answers.size >= listFromNames && stat !== undefined;
    const listing =
      isWorthListing && stat.sizeBytes <= listMaxBytes ? listingOf(folder.path) : undefined;
    const holds = same && listing !== undefined && listing === folder.listing;
    folder.stat = stat;
    folder.settled = settled;
    folder.listing = listing;
    if (!holds || hasLinks(folder)) askAgain(folder);
  }

  function listingOf(path: string): string | undefined {
    try {
      return disk
        .listNow(path)
        ?.map(({ name, kind }) => `${name}/${kind}`)
        .join("//");
    } catch (error) {
      // A folder may be one to go through and not one to list.
      if (isMeshError(error, "io")) return undefined;
      throw error;
    }
  }

  /** Only a name that somebody asked for matters: object files come and go without effect. */
  function askAgain(folder: FolderNode): void {
    if (folder.answers.size > options.answersMax) {
      folder.answers.clear();
      folder.version++;
      return;
    }
    let changed = false;
    for (const [name, before] of folder.answers) {
      // Whoever relies on a file looks at it anyway, and calls `distrust` when it is gone.
      if (before.kind === "file") {
        folder.answers.delete(name);
        continue;
      }
      const after = askDisk(folder, name);
      if (sameAnswer(before, after)) continue;
      folder.answers.set(name, after);
      changed = true;
    }
    if (changed) folder.version++;
  }

  function askDisk(folder: FolderNode, name: string): Answer {
    const path = below(folder, name);
    const stat = disk.statNow(path);
    switch (stat?.kind) {
      case undefined:
        return absent;
      case "file":
        return plainFile;
      case "directory":
        return plainFolder;
      case "symlink":
        return { kind: "symlink", target: disk.readLinkNow(path) };
      case "other":
        return otherKind;
    }
  }

  function ask(folder: FolderNode, name: string, trail: Trail): Answer {
    refresh(folder);
    trail.asked.add(folder);
    const known = folder.answers.get(name);
    if (known !== undefined) return known;
    const answer = askDisk(folder, name);
    folder.answers.set(name, answer);
    // It is younger than the listing, and might tell of something in between.
    folder.listing = undefined;
    return answer;
  }

  function find(from: FolderNode, path: string, trail: Trail): Found | undefined {
    let folder = path.startsWith("/") ? folderAt("/") : from;
    const left = partsOf(path);
    const mustBeFolder = path.endsWith("/") || path.endsWith("/.");
    // How many of the parts at the end of `left` were typed by a symlink, not by the caller.
    let linked = 0;
    let links = 0;
    let apparent: { readonly folder: FolderNode; readonly path: string } | undefined;
    for (;;) {
      const name = left.pop();
      if (name === undefined) return { kind: "folder", folder };
      const typed = linked === 0;
      if (!typed) linked--;
      if (name === "..") {
        trail.folders.add(folder);
        folder = folderAt(parentOf(folder.path));
        continue;
      }
      const answer = ask(folder, name, trail);
      const here = below(folder, name);
      if (typed && left.length === 0) apparent = { folder, path: here };
      switch (answer.kind) {
        case "absent":
          return undefined;
        case "folder":
          folder = folderAt(here);
          continue;
        case "symlink": {
          if (++links > linksMax) return undefined;
          trail.links.set(here, { kind: "symlink", path: here, target: answer.target });
          if (answer.target.startsWith("/")) folder = folderAt("/");
          const parts = partsOf(answer.target);
          left.push(...parts);
          linked += parts.length;
          continue;
        }
      }
      if (left.length > 0 || mustBeFolder) return undefined; // ENOTDIR
      if (answer.kind === "other" || apparent === undefined) return { kind: "other" };
      return { kind: "file", path: here, folder: apparent.folder, apparentPath: apparent.path };
    }
  }

  return {
    folder: folderAt,
    refresh,
    distrust(folder) {
      folder.answers.clear();
      folder.version++;
    },
    find,
  };
}

/** The parts of a path that mean something, last first. */
function partsOf(path: string): string[] {
  if (!path.includes("/") && path !== "" && path !== ".") return [path];
  return path
    .split("/")
    .filter((part) => part !== "" && part !== ".")
    .reverse();
}

function below(folder: FolderNode, name: string): string {
  return folder.path === "/" ? `/${name}` : `${folder.path}/${name}`;
}

/** A listing does not tell where they lead. */
function hasLinks({ answers }: FolderNode): boolean {
  for (const { kind } of answers.values()) if (kind === "symlink") return true;
  return false;
}

function sameAnswer(a: Answer, b: Answer): boolean {
  if (a.kind !== b.kind) return false;
  return a.kind !== "symlink" || (b.kind === "symlink" && a.target === b.target);
}

export function parentOf(path: string): string {
  const cut = path.lastIndexOf("/");
  return cut <= 0 ? "/" : path.slice(0, cut);
}

export function sameStat(a: FileStat, b: FileStat | undefined): boolean {
  return (
    b !== undefined &&
    a.kind === b.kind &&
    a.inode === b.inode &&
    a.sizeBytes === b.sizeBytes &&
    a.mtimeNs === b.mtimeNs &&
    a.ctimeNs === b.ctimeNs
  );
}
