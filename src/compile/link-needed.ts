/**
 * Libraries that shared libraries need: GNU ld opens them too, to see whether every symbol is
 * there. This is where it looks for them, in its order.
 */
import { textOf } from "../base/bytes.ts";
import { type FolderNode, type Found, parentOf, type Trail } from "../exec/file-view.ts";
import type { Disk } from "../host/host.ts";
import type { LinkQuestion, SharedLibrary } from "./link-resolve.ts";

export interface NeededSearch {
  /** Opens what `libraries` need, and what that needs. */
  close(
    libraries: readonly SharedLibrary[],
    open: (found: Found) => Promise<SharedLibrary | undefined>,
  ): Promise<void>;
}

/** @param searched the folders of -l, of which the linker's own are searched here too. */
export function createNeededSearch(
  question: LinkQuestion,
  trail: Trail,
  searched: readonly FolderNode[],
): NeededSearch {
  const { look, cwd, words, libraryPath, runPath, loaderFolders } = question;

  const foldersIn = (names: readonly string[]): FolderNode[] =>
    names.flatMap((name) => {
      const found = name === "" ? undefined : look.find(cwd, name, trail);
      return found?.kind === "folder" ? [found.folder] : [];
    });

  const first = foldersIn([
    ...words.linkPaths,
    ...(words.runPaths.length > 0 ? words.runPaths : runPath.split(":")),
    ...words.symbols,
    ...libraryPath.split(":"),
  ]);
  let last: readonly FolderNode[] | undefined;

  return {
    async close(libraries, open) {
      const sonames = new Set(
        libraries.map(({ path, file }) => file.soname ?? path.slice(path.lastIndexOf("/") + 1)),
      );
      const queue = [...libraries];
      for (let library = queue.shift(); library !== undefined; library = queue.shift()) {
        const own = parentOf(library.path);
        const { needed, runPath: around } = library.file;
        const near = foldersIn(around.map((name) => name.replace(/\$(?:ORIGIN|\{ORIGIN\})/g, own)));
        for (const name of needed) {
          if (sonames.has(name)) continue;
          sonames.add(name);
          last ??= [...foldersIn(loaderFolders), ...searched];
          for (const folder of name.includes("/") ? [cwd] : [...first, ...near, ...last]) {
            const found = look.find(folder, name, trail);
            const opened = found && (await open(found));
            if (opened === undefined) continue;
            queue.push(opened);
            break;
          }
        }
      }
    },
  };
}

export interface LoaderFolders {
  /** The folders in /etc/ld.so.conf and the files that it includes; those files. */
  find(): Promise<LoaderConfiguration>;
}

interface LoaderConfiguration {
  readonly folders: readonly string[];
  readonly files: readonly string[];
}

const configuration = "/etc/ld.so.conf";
const filesMax = 256;

/**
 * They decide only which library is found, and that is an input by itself: so these files are not.
 * Read anew when one of them, or a folder of theirs, has another time stamp.
 */
export function createLoaderFolders(
  disk: Pick<Disk, "statFollowNow" | "list" | "read">,
): LoaderFolders {
  let known: (LoaderConfiguration & { watched: readonly string[]; stamp: string }) | undefined;

  const stampOf = (paths: readonly string[]): string =>
    paths.map((path) => disk.statFollowNow(path)?.mtimeNs ?? "-").join();

  return {
    async find() {
      if (known !== undefined && stampOf(known.watched) === known.stamp) return known;
      const watched = [configuration];
      const folders: string[] = [];
      const files = [configuration];
      for (let at = 0; at < files.length && at < filesMax; at++) {
        const path = files[at] ?? "";
        if (disk.statFollowNow(path)?.kind !== "file") continue;
        for (const line of textOf(await disk.read(path)).split("\n")) {
          const text = line.replace(/#.*/, "").trim();
          const pattern = /^include\s+(.*)$/.exec(text)?.[1];
          if (pattern === undefined) {
            folders.push(...text.split(/[\s:,]+/).filter((word) => word.startsWith("/")));
            continue;
          }
          const folder = parentOf(pattern.startsWith("/") ? pattern : `/etc/${pattern}`);
          watched.push(folder);
          for (const { name } of (await disk.list(folder)) ?? [])
            if (matches(name, pattern.slice(pattern.lastIndexOf("/") + 1)))
              files.push(`${folder}/${name}`);
        }
      }
      watched.push(...files);
      known = { watched, stamp: stampOf(watched), folders, files };
      return known;
    },
  };
}

function matches(name: string, pattern: string): boolean {
  const escaped = pattern.replace(/[.+^${}()|\\]/g, "\\$&");
  return new RegExp(`^${escaped.replaceAll("*", ".*").replaceAll("?", ".")}$`).test(name);
}
