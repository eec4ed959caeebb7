/**
 * No walls at all: the command runs on this machine's own files. Only for nodes that were told so.
 *
 * Nothing can be put at a foreign absolute path without walls, so an action runs here only if this
 * machine has every input already, with the same bytes at the same path. Files that are not inputs
 * are visible too, which can change what a compiler finds; the network is reachable. And nothing
 * that belongs to the user may be touched: every folder of an output must not exist yet. It is
 * made for the run and removed afterwards, if by then it is empty.
 */
import { createRecentMap } from "../../base/bounded.ts";
import { type Digest, digestOf, sizeBytesOf } from "../../base/digest.ts";
import { MeshError } from "../../base/errors.ts";
import type { TreeEntry } from "../../blob/tree.ts";
import type { Disk, FileStat } from "../../host/host.ts";
import type { Job } from "./walls.ts";

export interface OpenGround {
  /** Makes the folders of outputs. Code "unsupported" when this machine is not as the action has it. */
  enter(spec: {
    readonly inputs: readonly TreeEntry[];
    readonly cwd: string;
    readonly outputPaths: readonly string[];
  }): Promise<Visit>;
  command(job: Job): readonly string[];
}

export interface Visit {
  /** Removes the outputs and the folders made for them. */
  leave(): Promise<void>;
}

const knownFilesMax = 65_536;

export function createOpenGround({ disk }: { readonly disk: Disk }): OpenGround {
  const known = createRecentMap<string, { readonly stat: FileStat; readonly digest: Digest }>(
    knownFilesMax,
  );

  async function digestAt(path: string, stat: FileStat): Promise<Digest> {
    const was = known.get(path);
    if (was !== undefined && isUnchanged(was.stat, stat)) return was.digest;
    const digest = digestOf(await disk.read(path));
    known.set(path, { stat, digest });
    return digest;
  }

  async function isHere(entry: TreeEntry): Promise<boolean> {
    const stat = disk.statNow(entry.path);
    switch (entry.kind) {
      case "directory":
        return stat?.kind === "directory";
      case "symlink":
        return stat?.kind === "symlink" && disk.readLinkNow(entry.path) === entry.target;
      case "file":
        return (
          stat?.kind === "file" &&
          stat.sizeBytes === sizeBytesOf(entry.digest) &&
          (await digestAt(entry.path, stat)) === entry.digest
        );
    }
  }

  return {
    async enter({ inputs, cwd, outputPaths }) {
      for (const entry of inputs)
        if (!(await isHere(entry)))
          throw unsupported(`${entry.path} is missing or different on this machine`);
      const folders = [...new Set(outputPaths.map(folderOf))].sort();
      for (const folder of folders)
        if (disk.statNow(folder) !== undefined)
          throw unsupported(`${folder} exists on this machine, and outputs would go there`);
      const made: string[] = [];
      const leave = async (): Promise<void> => {
        for (const path of outputPaths) await disk.remove(path);
        for (const folder of made.reverse())
          if ((await disk.list(folder))?.length === 0) await disk.remove(folder);
      };
      try {
        for (const folder of [cwd, ...folders]) {
          const missing = missingFolders(disk, folder);
          await disk.makeDirectory(folder);
          made.push(...missing);
        }
      } catch (error) {
        await leave();
        throw error;
      }
      return { leave };
    },

    command: ({ argv, env, cwd }) => [
      ...["env", "-i"],
      ...Object.entries({ ...env, PWD: cwd }).map(([name, value]) => `${name}=${value}`),
      ...argv,
    ],
  };
}

/** Outer before inner. */
function missingFolders(disk: Disk, path: string): readonly string[] {
  const missing: string[] = [];
  for (let at = path; at !== "/" && disk.statFollowNow(at) === undefined; at = folderOf(at))
    missing.unshift(at);
  return missing;
}

function folderOf(path: string): string {
  return path.slice(0, path.lastIndexOf("/")) || "/";
}

function isUnchanged(left: FileStat, right: FileStat): boolean {
  return (
    left.inode === right.inode &&
    left.sizeBytes === right.sizeBytes &&
    left.mtimeNs === right.mtimeNs &&
    left.ctimeNs === right.ctimeNs
  );
}

function unsupported(why: string): MeshError {
  return new MeshError("unsupported", `without a sandbox this action cannot run here: ${why}`);
}
