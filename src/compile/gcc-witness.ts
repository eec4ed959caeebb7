/**
 * A dependency file of our own, for a compile in place whose command line asks for none: so that a
 * file is noticed which was there only while the compiler looked. By experiment, asking for one
 * changes no byte of any output.
 */
import type { TreeEntry } from "../blob/tree.ts";
import type { FileView } from "../exec/file-view.ts";
import type { Disk } from "../host/host.ts";
import type { ParsedCompile } from "./gcc-args.ts";
import { checkDependencies } from "./gcc-check.ts";
import { createLinkLists } from "./link-check.ts";
import type { ActionPlan } from "./plan.ts";

export interface Witness {
  /** What a plan gets besides: nothing where the compiler is asked already, or cannot be. */
  of(
    parsed: ParsedCompile,
    args: readonly string[],
    cwd: string,
    inputs: readonly TreeEntry[],
  ): Pick<ActionPlan, "hereArgs" | "hereFile" | "checkHere">;
}

/**
 * These write the command line, ours included, into the object. A name with a line break cannot be
 * told from two in such a file.
 */
const recorded = /^-[fg]record-/;

/** @param folder an existing one for such files; undefined: nobody looks after them. */
export function createWitness(disk: Disk, view: FileView, folder: string | undefined): Witness {
  const lists = folder === undefined ? undefined : createLinkLists(disk, folder, "gcc");
  return {
    of({ units, makes, assembler }, args, cwd, inputs) {
      const [unit] = units;
      const isPlain = units.length === 1 && makes === "object" && assembler === "none";
      if (lists === undefined || !isPlain || unit?.dependencyPath !== undefined) return {};
      if ([cwd, ...args].some((word) => recorded.test(word) || word.includes("\n"))) return {};
      const path = lists.next();
      const check = checkDependencies(view, [path], cwd, inputs);
      return {
        hereArgs: ["-MD", "-MF", path],
        hereFile: path,
        async checkHere() {
          try {
            await check(async () => (disk.statNow(path) ? disk.read(path) : undefined));
          } finally {
            await lists.remove(path);
          }
        },
      };
    },
  };
}
