/**
 * The folder for the intermediate files of one nvcc command. Its path is part of the command lines
 * of all steps, so it must be the same in every run and on every node, and yet belong to one run at
 * a time: a link in it that can only be made once is the lock.
 */
import { utf8 } from "../base/bytes.ts";
import { digestOf } from "../base/digest.ts";
import { isMeshError } from "../base/errors.ts";
import type { Clock, Disk } from "../host/host.ts";

export interface Scratch {
  readonly folder: string;
  /** Removes the folder and all in it. */
  close(): Promise<void>;
}

export interface ScratchDeps {
  readonly disk: Pick<Disk, "makeDirectory" | "chmod" | "symlink" | "stat" | "rename" | "remove">;
  readonly clock: Pick<Clock, "wallMs">;
}

/** The first is everybody's; a second user of a machine, who cannot have it, takes the next. */
export const scratchRoots: readonly string[] = ["", "-1", "-2", "-3"].map(
  (end) => `/tmp/mesh-cuda${end}`,
);
/** The same command running twice takes the next name, and finds no results of the first. */
const namesMax = 4;
/** Nobody works on one command for longer: what is older was left by a node that died. */
const abandonedMs = 6 * 60 * 60 * 1000;

/**
 * @param name what the command makes out of what: equal for equal work
 * @returns undefined when every name is taken or cannot be made
 */
export async function openScratch(deps: ScratchDeps, name: string): Promise<Scratch | undefined> {
  for (const root of scratchRoots) {
    if (!(await isOurs(deps, root))) continue;
    for (let i = 0; i < namesMax; i++) {
      const hex = digestOf(utf8(`${i}\0${name}`));
      // Folders that many names come and go in are slow to watch, so there are 256 of them.
      const folder = `${root}/${hex.slice(0, 2)}/${hex.slice(2, 16)}`;
      if (await take(deps, folder)) return { folder, close: () => release(deps, folder) };
    }
    return undefined;
  }
  return undefined;
}

/** Only the owner can set its mode: other users could change what the steps read. */
async function isOurs({ disk }: ScratchDeps, root: string): Promise<boolean> {
  try {
    await disk.makeDirectory(root);
    if ((await disk.stat(root))?.kind !== "directory") return false;
    await disk.chmod(root, 0o700);
    return true;
  } catch (error) {
    if (!isMeshError(error)) throw error;
    return false;
  }
}

async function take({ disk, clock }: ScratchDeps, folder: string): Promise<boolean> {
  const lock = `${folder}/lock`;
  try {
    const held = await disk.stat(lock);
    if (held !== undefined && clock.wallMs() - Number(held.mtimeNs / 1_000_000n) > abandonedMs)
      await release({ disk, clock }, folder);
    await disk.makeDirectory(folder);
    await disk.symlink("held", lock);
    return true;
  } catch (error) {
    if (!isMeshError(error)) throw error;
    return false;
  }
}

/** At once: whoever takes the name next must not have files removed that are its own. */
async function release({ disk }: ScratchDeps, folder: string): Promise<void> {
  const gone = `${folder}.gone`;
  await disk.remove(gone);
  await disk.rename(folder, gone);
  await disk.remove(gone);
}
