/**
 * Which libraries a Rust unit loads: its externs and theirs, all the way down.
 *
 * Cargo names only the direct ones; the rest is found by name in the dependency folder. What each
 * unit depends on is remembered as its own invocation passes by. A unit that this node never saw
 * (it was fresh) makes the answer the whole folder, which is more than needed and never less.
 */
import { dirname, join } from "node:path";
import { createRecentMap } from "../base/bounded.ts";
import type { Disk } from "../host/host.ts";
import type { RustUnit } from "./rustc-args.ts";

export interface Dependencies {
  /** Remembers what the unit that writes `<stem>.{rlib,rmeta,so}` was given. */
  learn(stem: string, externs: readonly string[]): void;
  closure(unit: RustUnit): Promise<Closure>;
}

export interface Closure {
  /** Every library file the unit may load, sorted. */
  readonly files: readonly string[];
  /** Whether the unit loads all of them; else some only lie where it looks. */
  readonly exact: boolean;
}

const unitsMax = 20_000;

export function createDependencies(disk: Disk): Dependencies {
  const known = createRecentMap<string, readonly string[]>(unitsMax);
  return {
    learn: (stem, externs) => known.set(stem, externs),
    async closure(unit) {
      const files = new Set<string>(unit.externs);
      const open = [...unit.externs];
      const seen = new Set<string>();
      let exact = true;
      for (;;) {
        const path = open.pop();
        if (path === undefined) break;
        const stem = stemOf(path);
        if (seen.has(stem)) continue;
        seen.add(stem);
        if (!unit.externs.includes(path)) for (const file of libraryOf(disk, stem)) files.add(file);
        // A proc-macro brings all it needs in one file.
        if (path.endsWith(".so")) continue;
        const externs = known.get(stem);
        if (externs !== undefined) open.push(...externs);
        else if (exact) {
          exact = false;
          for (const file of await wholeFolder(disk, unit)) files.add(file);
        }
      }
      return { files: [...files].sort(), exact };
    },
  };
}

function stemOf(path: string): string {
  return path.replace(/\.(rlib|rmeta|so)$/, "");
}

/** Metadata suffices for a dependent that does not link, and it is there first. */
function libraryOf(disk: Disk, stem: string): readonly string[] {
  for (const extension of [".rmeta", ".rlib", ".so"]) {
    if (disk.statFollowNow(stem + extension)?.kind === "file") return [stem + extension];
  }
  return [];
}

async function wholeFolder(disk: Disk, unit: RustUnit): Promise<readonly string[]> {
  const folders = new Set([...unit.dependencyDirs, ...unit.externs.map(dirname)]);
  const found: string[] = [];
  for (const folder of folders) {
    const names = (await disk.list(folder)) ?? [];
    const stems = new Set(
      names.flatMap(({ name }) => (/^lib.*\.(rlib|rmeta|so)$/.test(name) ? [stemOf(name)] : [])),
    );
    for (const stem of stems) {
      // The unit's own output of an earlier build is no input of it.
      if (join(folder, stem) !== unit.stem) found.push(...libraryOf(disk, join(folder, stem)));
    }
  }
  return found;
}
