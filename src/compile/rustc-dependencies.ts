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
  learn(stem: string, needs: Needs): void;
  closure(unit: RustUnit): Promise<Closure>;
}

export interface Needs {
  readonly externs: readonly string[];
  /** System libraries that whoever links it has to be given. */
  readonly nativeNames: readonly string[];
}

export interface Closure {
  /** Every library file the unit may load, sorted. */
  readonly files: readonly string[];
  /** Whether the unit loads all of them; else some only lie where it looks. */
  readonly exact: boolean;
  /** System libraries that the unit and those below it name. */
  readonly nativeNames: readonly string[];
}

const unitsMax = 20_000;

export function createDependencies(disk: Disk): Dependencies {
  const known = createRecentMap<string, Needs>(unitsMax);
  return {
    learn: (stem, needs) => known.set(stem, needs),
    async closure(unit) {
      const files = new Set<string>(unit.externs);
      const nativeNames = new Set<string>(unit.nativeNames);
      const libraryOf = unit.linking || unit.packs ? allOf : metadataOf;
      const open = [...unit.externs];
      const seen = new Set<string>();
      let exact = true;
      for (;;) {
        const path = open.pop();
        if (path === undefined) break;
        const stem = stemOf(path);
        if (seen.has(stem)) continue;
        seen.add(stem);
        // What links takes code from one file, and may take metadata from another.
        if (unit.linking || !unit.externs.includes(path))
          for (const file of libraryOf(disk, stem)) files.add(file);
        // A proc-macro brings all it needs in one file.
        if (path.endsWith(".so")) continue;
        const needs = known.get(stem);
        if (needs !== undefined) {
          open.push(...needs.externs);
          for (const name of needs.nativeNames) nativeNames.add(name);
        } else if (exact) {
          exact = false;
          for (const file of await wholeFolder(disk, unit, libraryOf)) files.add(file);
        }
      }
      return { files: [...files].sort(), exact, nativeNames: [...nativeNames].sort() };
    },
  };
}

function stemOf(path: string): string {
  return path.replace(/\.(rlib|rmeta|so)$/, "");
}

const extensions: readonly string[] = [".rmeta", ".rlib", ".so"];

type LibraryOf = (disk: Disk, stem: string) => readonly string[];

/** Metadata suffices for a dependent that does not link, and it is there first. */
const metadataOf: LibraryOf = (disk, stem) => allOf(disk, stem).slice(0, 1);

const allOf: LibraryOf = (disk, stem) =>
  extensions.flatMap((extension) => {
    const path = stem + extension;
    return disk.statFollowNow(path)?.kind === "file" ? path : [];
  });

async function wholeFolder(
  disk: Disk,
  unit: RustUnit,
  libraryOf: LibraryOf,
): Promise<readonly string[]> {
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
