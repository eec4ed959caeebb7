/**
 * Finds the files that a link opens, by the linker's own rules and without running it: objects,
 * libraries along the search path, what scripts and thin archives name, and the libraries that
 * shared libraries need. Where the rules leave doubt, it takes more files rather than fewer.
 */
import {
  createTrail,
  type FileNode,
  type FolderNode,
  type Found,
  type Look,
  parentOf,
  type Trail,
} from "../exec/file-view.ts";
import type { LinkFile, LinkFiles } from "./link-files.ts";
import { createNeededSearch } from "./link-needed.ts";
import type { Linker } from "./link-tools.ts";
import type { LinkWords } from "./link-words.ts";

export interface LinkQuestion {
  readonly look: Look;
  readonly cwd: FolderNode;
  readonly words: LinkWords;
  /** -L of the driver's own command line, which come first. */
  readonly folders: readonly string[];
  readonly linker: Linker;
  readonly libraryPath: string;
  readonly runPath: string;
  readonly loaderFolders: readonly string[];
}

export type Resolved =
  | {
      readonly at: "anywhere";
      readonly nodes: ReadonlyMap<string, FileNode>;
      readonly trail: Trail;
    }
  | { readonly at: "here"; readonly reason: string };

export interface SharedLibrary {
  readonly path: string;
  readonly file: Extract<LinkFile, { kind: "shared" }>;
}

/** Files one link may name, so that a script that names itself ends. */
const filesMax = 200_000;

export async function resolveLink(files: LinkFiles, question: LinkQuestion): Promise<Resolved> {
  const { look, cwd, words, linker } = question;
  const trail = createTrail();
  const nodes = new Map<string, FileNode>();
  const shared = new Map<string, SharedLibrary>();
  const sysroot = words.sysroot ?? linker.sysroot;
  let machine: string | undefined;
  let reason: string | undefined;

  const folders: FolderNode[] = [];
  const addFolder = (name: string): void => {
    const found = look.find(cwd, inSysroot(name, sysroot), trail);
    if (found?.kind === "folder") folders.push(found.folder);
  };
  for (const name of [...question.folders, ...words.folders]) addFolder(name);
  if (words.defaultFolders) for (const name of linker.folders) addFolder(name);

  const refuse = (why: string): undefined => {
    reason ??= why;
    return undefined;
  };

  /** Makes a file an input and says what it is; undefined when it is none. */
  async function open(found: Found | undefined): Promise<Opened | undefined> {
    if (found?.kind !== "file") return undefined;
    const there = await files.find(look, found.path);
    if (there === undefined) return undefined;
    nodes.set(found.path, there.node);
    if (nodes.size > filesMax) return refuse("too-many-inputs");
    return { path: found.path, apparentPath: found.apparentPath, file: await there.is() };
  }

  /** By name: here, then along the search path. */
  function search(name: string, first: readonly FolderNode[]): Found | undefined {
    const places = name.startsWith("/") ? [cwd] : [...first, ...folders];
    for (const folder of places) {
      const found = look.find(folder, name, trail);
      if (found?.kind === "file") return found;
    }
    return undefined;
  }

  /** Libraries for another machine are skipped, as the linker does. */
  async function openLibrary(name: string, dynamic: boolean): Promise<void> {
    const exact = name.startsWith(":") ? name.slice(1) : undefined;
    const names = exact ? [exact] : [...(dynamic ? [`lib${name}.so`] : []), `lib${name}.a`];
    for (const folder of folders) {
      for (const candidate of names) {
        const opened = await open(look.find(folder, candidate, trail));
        if (opened === undefined) continue;
        if (!fits(opened.file)) continue;
        return follow(opened, `-l${name}`);
      }
    }
    refuse(`input-missing -l${name}`);
  }

  function fits(file: LinkFile): boolean {
    const other = "machine" in file ? file.machine : undefined;
    return machine === undefined || other === undefined || machine === other;
  }

  async function follow(opened: Opened, name: string): Promise<void> {
    const { path, file } = opened;
    switch (file.kind) {
      case "object":
        machine ??= file.machine;
        if (file.lto) refuse(`lto ${name}`);
        return;
      case "bitcode":
        refuse(`lto ${name}`);
        return;
      case "archive":
        if (file.lto) refuse(`lto ${name}`);
        return;
      case "shared":
        shared.set(path, { path, file });
        return;
      case "thin":
        return openMembers(opened, file.members);
      case "script":
        return openWishes(opened, file);
      case "other":
        refuse(`input-unknown ${name}`);
    }
  }

  async function openMembers({ path }: Opened, members: readonly string[]): Promise<void> {
    const folder = look.folder(parentOf(path));
    for (const member of members) {
      const opened = await open(look.find(folder, member, trail));
      if (opened === undefined) refuse(`input-missing ${member}`);
      else if (opened.file.kind === "thin") refuse(`input-unknown ${member}`);
      else await follow(opened, member);
    }
  }

  const scriptsSeen = new Set<string>();
  async function openWishes(
    { path }: Opened,
    { wishes }: Extract<LinkFile, { kind: "script" }>,
  ): Promise<void> {
    if (scriptsSeen.has(path)) return;
    scriptsSeen.add(path);
    if (wishes.strange) refuse("script-output");
    for (const name of wishes.folders) addFolder(name);
    const own = look.folder(parentOf(path));
    for (const name of wishes.scripts) await openNamed(name, [cwd]);
    for (const name of wishes.inputs) {
      if (name.startsWith("-l")) await openLibrary(name.slice(2), true);
      else await openNamed(...placeOf(name, path, own));
    }
  }

  /** A script inside the system root means that root by `/`. */
  function placeOf(name: string, script: string, own: FolderNode): [string, FolderNode[]] {
    const rooted = sysroot !== "" && (name.startsWith("=") || isBelow(script, sysroot));
    const absolute = name.startsWith("/") || name.startsWith("=");
    if (!absolute) return [name, [own, cwd]];
    const inside = inSysroot(name.startsWith("=") ? name : `=${name}`, sysroot);
    if (rooted && look.find(cwd, inside, trail)?.kind === "file") return [inside, []];
    return [name.replace(/^=/, ""), []];
  }

  function isBelow(path: string, folder: string): boolean {
    const found = look.find(cwd, folder, trail);
    return found?.kind === "folder" && path.startsWith(`${found.folder.path}/`);
  }

  async function openNamed(name: string, first: readonly FolderNode[]): Promise<void> {
    const opened = await open(search(name, first));
    if (opened === undefined) refuse(`input-missing ${name}`);
    else await follow(opened, name);
  }

  for (const name of words.scripts) await openNamed(name, [cwd]);
  for (const name of words.files) {
    const found = search(name, [cwd]);
    const node = found?.kind === "file" ? await look.largeFile(found.path) : undefined;
    if (node === undefined) refuse(`input-missing ${name}`);
    else nodes.set(node.path, node);
  }
  for (const name of words.symbols) {
    // A folder is meant for the run path instead.
    if (look.find(cwd, name, trail)?.kind !== "folder") await openNamed(name, [cwd]);
  }
  for (const item of words.items) {
    if (reason !== undefined) break;
    if (item.kind === "library") {
      await openLibrary(item.name, item.dynamic);
      continue;
    }
    const opened = await open(look.find(cwd, item.path, trail));
    if (opened === undefined) refuse(`input-missing ${item.path}`);
    else if (!item.raw) await follow(opened, item.path);
  }
  if (reason === undefined && linker.kind === "bfd" && !words.relocatable) {
    const needed = createNeededSearch(question, trail, folders);
    await needed.close([...shared.values()], async (found) => {
      const opened = await open(found);
      if (opened?.file.kind !== "shared" || !fits(opened.file)) return undefined;
      return { path: opened.path, file: opened.file };
    });
  }
  return reason === undefined ? { at: "anywhere", nodes, trail } : { at: "here", reason };
}

interface Opened {
  readonly path: string;
  readonly apparentPath: string;
  readonly file: LinkFile;
}

function inSysroot(name: string, sysroot: string): string {
  if (name.startsWith("=")) return `${sysroot}${name.slice(1)}` || "/";
  if (name.startsWith("$SYSROOT")) return `${sysroot}${name.slice("$SYSROOT".length)}` || "/";
  return name;
}
