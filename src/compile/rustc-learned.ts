/**
 * What units turned out to read that nobody could know beforehand: files named by a computed path,
 * variables named by a macro of another crate, system libraries named in a source.
 *
 * It is in memory only. Forgetting costs one more run, never a wrong answer: a result is kept only
 * if its inputs were seen to be all, and each thing learned changes the inputs or the command.
 */
import { createRecentMap } from "../base/bounded.ts";
import type { RustUnit } from "./rustc-args.ts";

export interface Learned {
  /** Absolute; whether there is anything at them now is to be seen. */
  readonly paths: ReadonlySet<string>;
  readonly variables: ReadonlySet<string>;
  /** Names of system libraries. */
  readonly libraries: ReadonlySet<string>;
  /** Why what it does cannot be repeated elsewhere at all. */
  readonly never: string | undefined;
}

export interface Lessons {
  of(unit: RustUnit): Learned;
  add(unit: RustUnit, lesson: Lesson): void;
}

export type Lesson =
  | { readonly path: string }
  | { readonly variable: string }
  | { readonly library: string }
  | { readonly never: string };

const unitsMax = 20_000;
/** A unit that reads more is strange: what comes later is not learned. */
const pathsMax = 1024;

interface Notes {
  readonly paths: Set<string>;
  readonly variables: Set<string>;
  readonly libraries: Set<string>;
  never: string | undefined;
}

const nothing: Learned = {
  ...{ paths: new Set<string>(), variables: new Set<string>(), libraries: new Set<string>() },
  never: undefined,
};

export function createLessons(): Lessons {
  const known = createRecentMap<string, Notes>(unitsMax);
  return {
    of: (unit) => known.get(keyOf(unit)) ?? nothing,
    add(unit, lesson) {
      const key = keyOf(unit);
      const notes = known.get(key) ?? {
        ...{ paths: new Set(), variables: new Set(), libraries: new Set(), never: undefined },
      };
      known.set(key, notes);
      if ("path" in lesson) addUpTo(notes.paths, lesson.path);
      else if ("variable" in lesson) addUpTo(notes.variables, lesson.variable);
      else if ("library" in lesson) addUpTo(notes.libraries, lesson.library);
      else notes.never ??= lesson.never;
    },
  };
}

/** The same unit in the next build, wherever its outputs go. */
function keyOf({ crateName, extra, source, outputs }: RustUnit): string {
  return [crateName, extra, source, outputs.length].join("\0");
}

function addUpTo(set: Set<string>, text: string): void {
  if (set.size < pathsMax) set.add(text);
}
