/** Where the outputs of a compile really are, and whether a peer's copies can be put there. */
import type { TreeEntry } from "../blob/tree.ts";
import { type Facts, factsOf } from "../exec/facts.ts";
import { createTrail, type Look, trailEntries } from "../exec/file-view.ts";
import type { Disk } from "../host/host.ts";

export type Outputs =
  | {
      readonly at: "anywhere";
      /** Canonical, in the order asked for. */
      readonly paths: readonly string[];
      /** The folders and the symlinks to them. */
      readonly entries: readonly TreeEntry[];
      readonly facts: Facts;
    }
  | { readonly at: "here"; readonly reason: "output-special" | "output-folder" };

export function locateOutputs(
  look: Look,
  disk: Pick<Disk, "statNow">,
  cwd: string,
  names: readonly string[],
): Outputs {
  const trail = createTrail();
  const from = look.find(look.folder("/"), cwd, trail);
  if (from?.kind !== "folder") return { at: "here", reason: "output-folder" };
  const paths: string[] = [];
  for (const name of names) {
    const cut = name.lastIndexOf("/");
    const folder = cut < 0 ? from : look.find(from.folder, name.slice(0, cut + 1), trail);
    const last = name.slice(cut + 1);
    if (folder?.kind !== "folder" || last === "" || last === "." || last === "..")
      return { at: "here", reason: "output-folder" };
    trail.folders.add(folder.folder);
    const path = folder.folder.path === "/" ? `/${last}` : `${folder.folder.path}/${last}`;
    // A compiler writes through a link or into a device; a peer's file would replace it.
    const there = disk.statNow(path);
    if (there !== undefined && there.kind !== "file")
      return { at: "here", reason: "output-special" };
    paths.push(path);
  }
  const facts = factsOf([], trail.asked);
  return { at: "anywhere", paths, entries: trailEntries(trail), facts };
}
