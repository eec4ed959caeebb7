/**
 * Holds the list of files that a linker says it has read against what its plan said it would read.
 * The list is a file in a scratch folder, which is taken away whatever became of the link.
 */
import { textOf } from "../base/bytes.ts";
import { isMeshError, MeshError } from "../base/errors.ts";
import { createTrail, type FileView } from "../exec/file-view.ts";
import type { Disk } from "../host/host.ts";

export interface LinkLists {
  /** A path for one link's list, in the scratch folder. */
  next(): string;
  /** Takes a list away. */
  remove(path: string): Promise<void>;
}

/** Lists that were handed out and not taken away by a check: links that failed or never ran. */
const pendingMax = 64;

/** @param prefix of the files' names: nobody else in this folder may use it. */
export function createLinkLists(
  disk: Pick<Disk, "list" | "remove">,
  folder: string,
  prefix: string,
): LinkLists {
  const pending = new Set<string>();
  let last = 0;

  async function remove(path: string): Promise<void> {
    pending.delete(path);
    try {
      await disk.remove(path);
    } catch (error) {
      // It lies in a scratch folder: the next start tries again.
      if (!isMeshError(error)) throw error;
    }
  }

  /** Of an earlier process. */
  async function sweep(): Promise<void> {
    const entries = await disk.list(folder).catch(() => undefined);
    for (const entry of entries ?? []) {
      const path = `${folder}/${entry.name}`;
      const own = entry.name.startsWith(`${prefix}-`) && /-\d+\.d$/.test(entry.name);
      if (own && !pending.has(path)) await remove(path);
    }
  }

  return {
    next() {
      if (last === 0) void sweep(); // never rejects
      const path = `${folder}/${prefix}-${++last}.d`;
      pending.add(path);
      const [oldest] = pending;
      // A link that still runs then has no list at its end, and is not kept.
      if (pending.size > pendingMax && oldest !== undefined) void remove(oldest);
      return path;
    },
    remove,
  };
}

/**
 * Code "refused" when the list names a file that is no input, or there is no list.
 * @param inputs canonical paths
 */
export async function checkLinkList(
  { disk, view }: { readonly disk: Pick<Disk, "read">; readonly view: FileView },
  path: string,
  cwd: string,
  inputs: { has(path: string): boolean },
): Promise<void> {
  const bytes = await disk.read(path).catch((error: unknown) => {
    if (!isMeshError(error)) throw error;
    throw new MeshError("refused", `link-unverified: the linker did not say what it read`);
  });
  const look = view.look();
  const from = look.find(look.folder("/"), cwd, createTrail());
  const isInput = (listed: string): boolean => {
    const found = from?.kind === "folder" && look.find(from.folder, listed, createTrail());
    return found && found.kind === "file" ? inputs.has(found.path) : false;
  };
  for (const listed of listedIn(textOf(bytes)))
    if (!isInput(listed) && !isInput(unescaped(listed)))
      throw new MeshError("refused", `link-miss: ${listed}`);
}

/**
 * The files of the first rule, one per line. GNU ld and gold write names as they are, spaces
 * included; lld escapes them.
 */
function listedIn(text: string): string[] {
  const [rule = ""] = text.split("\n\n");
  const [target = "", ...lines] = rule.split("\n");
  if (!target.endsWith(": \\") && !target.endsWith(":"))
    throw new MeshError("refused", "link-unverified: the linker wrote no list of files");
  return lines.map((line) => line.replace(/ \\$/, "").trim()).filter((line) => line !== "");
}

function unescaped(listed: string): string {
  return listed.replace(/\\(.)/g, "$1").replaceAll("$$", "$");
}
