/**
 * The folder of compiler names that goes in front of a build's PATH, made anew only when it may have
 * become another: listing every folder of a PATH takes longer than starting a build should.
 */
import { delimiter, join } from "node:path";
import { makeMasquerade, type Shim, shimMarker } from "../compile/shim-build.ts";
import type { Clock, Disk, FileStat } from "../host/host.ts";

export interface MasqueradeDeps {
  readonly disk: Disk;
  readonly clock: Pick<Clock, "wallMs">;
}

/** Makes or finds the folder. Codes: those of the disk. */
export type Masquerade = () => Promise<string>;

/** A folder that has changed this recently may have changed once more without a trace. */
const settleMs = 2000;

interface Made {
  readonly folder: string;
  /** What the folders of the PATH looked like before. */
  readonly looks: string;
  /** The program behind each name, which may go without a trace in any of these folders. */
  readonly programs: readonly string[];
}

export function createMasquerade(
  { disk, clock }: MasqueradeDeps,
  shim: Shim,
  path: string,
): Masquerade {
  const folders = path.split(delimiter).filter((folder) => folder.startsWith("/"));
  let made: Made | undefined;

  /** Undefined when one of them is too young to be known by its time stamps. */
  function looksOf(): string | undefined {
    const oldNs = BigInt(Math.floor(clock.wallMs() - settleMs)) * 1_000_000n;
    const looks: string[] = [];
    for (const folder of folders) {
      const stat = statOf(disk, folder);
      if (stat !== undefined && (stat.mtimeNs > oldNs || stat.ctimeNs > oldNs)) return undefined;
      looks.push(stat === undefined ? "" : `${stat.inode} ${stat.mtimeNs} ${stat.ctimeNs}`);
    }
    return looks.join("\n");
  }

  function isProgram(file: string): boolean {
    const stat = statOf(disk, file);
    return stat?.kind === "file" && (stat.mode & 0o111) !== 0;
  }

  async function programsIn(folder: string): Promise<readonly string[]> {
    const names = ((await disk.list(folder)) ?? []).map(({ name }) => name);
    return names
      .filter((name) => name !== shimMarker)
      .map((name) => folders.map((one) => join(one, name)).find(isProgram) ?? join(folder, name));
  }

  return async () => {
    const looks = looksOf();
    const isThere = made !== undefined && disk.statNow(join(made.folder, shimMarker)) !== undefined;
    if (isThere && made?.looks === looks && made?.programs.every(isProgram)) return made.folder;
    const folder = await makeMasquerade({ disk }, shim, path);
    made = looks === undefined ? undefined : { folder, looks, programs: await programsIn(folder) };
    return folder;
  };
}

/** What cannot be looked at is no place to find a compiler in. */
function statOf(disk: Disk, path: string): FileStat | undefined {
  try {
    return disk.statFollowNow(path);
  } catch {
    return undefined;
  }
}
