/**
 * Holds the dependency files of a compile against what it was given: they may name nothing else. A
 * peer that compiled other files, or a header that the scan missed, shows here.
 */
import { textOf } from "../base/bytes.ts";
import { MeshError } from "../base/errors.ts";
import type { TreeEntry } from "../blob/tree.ts";
import { createTrail, type FileView, type FolderNode, type Look } from "../exec/file-view.ts";
import { prerequisitesOf } from "./make-rule.ts";
import type { ActionPlan } from "./plan.ts";

/** @param inputs all of the action's */
export function checkDependencies(
  view: FileView,
  paths: readonly string[],
  cwd: string,
  inputs: readonly TreeEntry[],
): NonNullable<ActionPlan["check"]> {
  return async (read) => {
    const files = new Set<string>();
    for (const entry of inputs) if (entry.kind === "file") files.add(entry.path);
    const isInput = createIsInput(view, cwd, files);
    for (const path of paths) {
      const bytes = await read(path);
      const text = bytes && textOf(bytes);
      // Compilers end the last line; whoever was cut off did not.
      const names = text?.endsWith("\n") ? prerequisitesOf(text) : undefined;
      if (names === undefined || names.length === 0)
        throw new MeshError("malformed", `${path} is no dependency file`);
      for (const name of names) {
        if (isInput(name)) continue;
        throw new MeshError("refused", `scanner-miss: ${path} names ${name}, which is no input`);
      }
    }
  };
}

/**
 * Compilers mostly spell an input as it is called here, or as a folder with dots and links in it and
 * a plain name: so each folder is followed once, and only what is left is looked at by itself.
 */
function createIsInput(
  view: FileView,
  cwd: string,
  files: ReadonlySet<string>,
): (name: string) => boolean {
  const folders = new Map<string, FolderNode | undefined>();
  let look: Look | undefined;

  function follow(path: string): FolderNode | undefined {
    look ??= view.look();
    const found = look.find(look.folder("/"), path, createTrail());
    return found?.kind === "folder" ? found.folder : undefined;
  }

  function folderOf(name: string): FolderNode | undefined {
    const text = name.slice(0, name.lastIndexOf("/") + 1);
    if (!folders.has(text))
      folders.set(text, follow(text.startsWith("/") ? text : `${cwd}/${text}`));
    return folders.get(text);
  }

  return (name) => {
    if (files.has(name)) return true;
    const folder = folderOf(name);
    if (folder === undefined) return false;
    const last = name.slice(name.lastIndexOf("/") + 1);
    if (files.has(folder.path === "/" ? `/${last}` : `${folder.path}/${last}`)) return true;
    const found = look?.find(folder, last, createTrail());
    return found?.kind === "file" && files.has(found.path);
  };
}
