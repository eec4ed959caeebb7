/** Which names, paths and targets a tree may hold, and how it is said when one may not be in it. */
import { MeshError } from "../base/errors.ts";

/** Files, symlinks and directories of one tree, counted where they appear. */
export const treeMaxEntries: number = 200_000;
/** Names in a path. */
export const treeMaxDepth: number = 64;
const nameMaxBytes = 255;
const targetMaxBytes = 4096;

export function checkedName(name: string, path: string): string {
  const bad =
    name === "" ||
    name === "." ||
    name === ".." ||
    name.includes("/") ||
    name.includes("\0") ||
    !name.isWellFormed() ||
    (name.length * 3 > nameMaxBytes && Buffer.byteLength(name) > nameMaxBytes);
  if (bad) throw malformed(`${quote(path)} is no absolute and normal path`);
  return name;
}

export function checkTarget({ target }: { readonly target: string }): void {
  const bad =
    target === "" ||
    target.includes("\0") ||
    !target.isWellFormed() ||
    Buffer.byteLength(target) > targetMaxBytes;
  if (bad) throw malformed(`${quote(target)} is no target of a symlink`);
}

export function malformed(what: string): MeshError {
  return new MeshError("malformed", `an input tree is malformed: ${what}`);
}

export function quote(path: string): string {
  return JSON.stringify(path.slice(0, 200));
}
