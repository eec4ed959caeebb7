/**
 * What a plan was made from: files with their bytes, and folders with their answers, "there is no
 * such file" among them. As long as all of it holds, the same question has the same answer.
 */
import type { FileNode, FolderNode, Look } from "./file-view.ts";

export interface Facts {
  readonly files: readonly FileNode[];
  /** Folders that were asked for names ... */
  readonly asked: readonly FolderNode[];
  /** ... and the version of each at which its answers were these. */
  readonly versions: readonly number[];
}

/** Facts as of now: the folders' answers are those that `look` has just given. */
export function factsOf(files: Iterable<FileNode>, asked: Iterable<FolderNode>): Facts {
  const folders = [...asked];
  return { files: [...files], asked: folders, versions: folders.map(({ version }) => version) };
}

/** All facts of several plans. One folder may be among the facts of each, at its own version. */
export function mergeFacts(...all: readonly Facts[]): Facts {
  const folders = new Map<FolderNode, number>();
  for (const { asked, versions } of all) {
    for (const [index, folder] of asked.entries()) {
      const version = versions[index] ?? -1;
      // The older one: where they differ, something has changed in between, and nothing holds.
      folders.set(folder, Math.min(version, folders.get(folder) ?? version));
    }
  }
  return {
    files: [...new Set(all.flatMap(({ files }) => files))],
    asked: [...folders.keys()],
    versions: [...folders.values()],
  };
}

/** Whether everything is as it was. */
export function factsHold({ files, asked, versions }: Facts, look: Look): boolean {
  for (const [index, folder] of asked.entries()) {
    look.refresh(folder);
    if (folder.version !== versions[index]) return false;
  }
  return files.every((node) => look.unchanged(node));
}

/**
 * Whether everything is as it was and no file was touched at or after `sinceMs` on the wall clock:
 * one that was may have had other bytes in between.
 */
export function factsUndisturbed(facts: Facts, look: Look, sinceMs: number): boolean {
  if (!factsHold(facts, look)) return false;
  return facts.files.every((node) => (look.touchedMs(node) ?? Number.POSITIVE_INFINITY) < sinceMs);
}
