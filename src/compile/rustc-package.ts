/**
 * The files that a Rust unit's sources may name: everything in its package and in `OUT_DIR`, less
 * what builds and version control leave there.
 */
import { dirname, join } from "node:path";
import { createRecentMap } from "../base/bounded.ts";
import { textOf } from "../base/bytes.ts";
import type { Disk, FileStat } from "../host/host.ts";

export interface PackageFiles {
  readonly paths: readonly string[];
  /** Names that `env!` or `option_env!` is given in the sources. */
  readonly variables: ReadonlySet<string>;
}

const filesMax = 5000;
const bytesMax = 128 * 1024 * 1024;
const sourceMaxBytes = 1024 * 1024;

/** Folders that hold what is made, not what it is made from. */
const skipped = new Set(["target", ".git", ".hg", ".svn", "node_modules"]);

/** Undefined when there is more than an action should carry. */
export async function readPackage(
  disk: Disk,
  variablesIn: Variables,
  folders: readonly string[],
  source: string,
): Promise<PackageFiles | undefined> {
  const paths = new Set<string>();
  const variables = new Set<string>();
  let room = bytesMax;
  const open = [...(folders.length === 0 ? [dirname(source)] : folders)];
  const roots = new Set(open);
  for (;;) {
    const folder = open.pop();
    if (folder === undefined) break;
    for (const { name, kind } of (await disk.list(folder)) ?? []) {
      const path = join(folder, name);
      if (kind === "directory") {
        if (!skipped.has(name) && !roots.has(path)) open.push(path);
        continue;
      }
      if (kind === "other") continue;
      const stat = disk.statFollowNow(path);
      // A link that leads nowhere, or to a folder, is not followed.
      if (stat?.kind !== "file") continue;
      room -= stat.sizeBytes;
      paths.add(path);
      if (paths.size > filesMax || room < 0) return undefined;
      if (name.endsWith(".rs"))
        for (const variable of variablesIn(path, stat)) variables.add(variable);
    }
  }
  return { paths: [...paths], variables };
}

/** The variables that one source file names. */
export type Variables = (path: string, stat: FileStat) => readonly string[];

/** A hint, not a proof: what it misses is found out by `checkEnvironment` afterwards. */
export function createVariables(disk: Disk): Variables {
  const known = createRecentMap<
    string,
    { readonly stamp: string; readonly names: readonly string[] }
  >(50_000);
  return (path, stat) => {
    if (stat.sizeBytes > sourceMaxBytes) return [];
    const stamp = `${stat.sizeBytes} ${stat.mtimeNs} ${stat.ctimeNs} ${stat.inode}`;
    const before = known.get(path);
    if (before?.stamp === stamp) return before.names;
    const text = textOf(disk.readNow(path));
    const names = [...text.matchAll(/\b(?:option_)?env!\s*[({[]\s*"([^"]+)"/g)].flatMap(
      ([, name]) => name ?? [],
    );
    known.set(path, { stamp, names });
    return names;
  };
}
