/**
 * Holds a dependency file made elsewhere against what was sent there: it may name nothing else.
 * A peer that compiled other files, or a header that the scan missed, shows here.
 */
import { textOf } from "../base/bytes.ts";
import { MeshError } from "../base/errors.ts";
import type { TreeEntry } from "../blob/tree.ts";
import { createTrail, type FileView } from "../exec/file-view.ts";
import { prerequisitesOf } from "./make-rule.ts";
import type { ActionPlan } from "./plan.ts";

export function checkDependencies(
  view: FileView,
  path: string,
  cwd: string,
  inputs: ReadonlyMap<string, TreeEntry>,
): NonNullable<ActionPlan["check"]> {
  return async (read) => {
    const bytes = await read(path);
    const names = bytes && prerequisitesOf(textOf(bytes));
    if (names === undefined)
      throw new MeshError("malformed", `the peer's ${path} is no dependency file`);
    const look = view.look();
    const from = look.find(look.folder("/"), cwd, createTrail());
    for (const name of names) {
      const found = from?.kind === "folder" && look.find(from.folder, name, createTrail());
      if (found && found.kind === "file" && inputs.has(found.path)) continue;
      throw new MeshError("malformed", `the peer's ${path} names ${name}, which it was not sent`);
    }
  };
}
