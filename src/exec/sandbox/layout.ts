/**
 * Turns the inputs of an action into a plan of folders, links and mounts.
 *
 * Pure: it touches no disk. The command may write only into the folders of its outputs (and
 * /tmp). Such a folder can hold inputs too, and inputs are hard links to store inodes, which no
 * command may ever reach through a writable mount. So each such folder is a "bay": a separate,
 * writable folder mounted over its place, in which small inputs are copies, and large inputs and
 * folders of inputs are mounted read-only from the root.
 */
import type { Digest } from "../../base/digest.ts";
import { sizeBytesOf } from "../../base/digest.ts";
import { MeshError } from "../../base/errors.ts";
import type { TreeEntry } from "../../blob/tree.ts";

export interface FileLink {
  readonly path: string;
  readonly digest: Digest;
  readonly executable: boolean;
}

export interface SymbolicLink {
  readonly path: string;
  readonly target: string;
}

/** A folder the command may write to. Paths in it are relative to the bay. */
export interface Bay {
  /** Where it is mounted: absolute, no symlink on the way. */
  readonly path: string;
  /** Folders to make: mount points, and what is empty in the root. Outer before inner. */
  readonly folders: readonly string[];
  readonly copies: readonly FileLink[];
  readonly symlinks: readonly SymbolicLink[];
  /** Files and folders that the root shows here, read-only. */
  readonly shown: readonly { readonly name: string; readonly kind: "file" | "folder" }[];
}

export interface Layout {
  /** All folders of the root, outer before inner. */
  readonly folders: readonly string[];
  /** Files of the root, to be hard-linked. */
  readonly links: readonly FileLink[];
  readonly symlinks: readonly SymbolicLink[];
  /** Outer before inner. */
  readonly bays: readonly Bay[];
  /** Where each output will be: output path to bay and name in it. */
  readonly outputs: ReadonlyMap<string, OutputPlace>;
  readonly memoryTmp: boolean;
}

export interface OutputPlace {
  /** Index into `bays`. */
  readonly bay: number;
  readonly name: string;
  /** An input is at the same path: the command may leave it as it is. */
  readonly isInput: boolean;
}

export interface LayoutOptions {
  /** Inputs up to this size are copied into a bay; larger ones cost a mount each. */
  readonly copyMaxBytes: number;
  /** Mounts of single files at most; inputs beyond are copied whatever their size. */
  readonly fileMountsMax: number;
}

type Node =
  | { readonly kind: "folder"; readonly children: Map<string, Node> }
  | { readonly kind: "file"; readonly digest: Digest; readonly executable: boolean }
  | { readonly kind: "symlink"; readonly target: string };
type Folder = Extract<Node, { kind: "folder" }>;

interface Place {
  readonly path: string;
  readonly folder: Folder;
}

const symlinkHopsMax = 40;
/** Made by the sandbox itself: an input there would be hidden or, worse, believed. */
const reserved: ReadonlySet<string> = new Set(["proc", "dev"]);

/** Codes: "malformed" when the inputs are no folder tree or contradict the outputs. */
export function planLayout(
  spec: {
    readonly inputs: readonly TreeEntry[];
    readonly cwd: string;
    readonly outputPaths: readonly string[];
  },
  options: LayoutOptions,
): Layout {
  const root = newFolder();
  for (const entry of spec.inputs) insert(root, entry);
  for (const name of reserved) requireEmpty(root, name);
  resolveFolder(root, spec.cwd);

  const places = new Map<string, Folder>();
  const located = spec.outputPaths.map((path) => {
    const { parent, name } = splitPath(path);
    const place = resolveFolder(root, parent);
    if (place.path === "/" || reserved.has(firstOf(place.path)))
      throw malformed(`the output ${path} would lie in ${place.path}, which is not writable`);
    if (place.folder.children.get(name)?.kind === "folder")
      throw malformed(`the output ${path} is a folder of the inputs`);
    places.set(place.path, place.folder);
    return { path, place, name };
  });
  const tmp = resolveFolder(root, "/tmp");
  if (tmp.path !== "/tmp") throw malformed("/tmp is a symlink: it must be a folder");
  const memoryTmp = tmp.folder.children.size === 0 && !places.has("/tmp");
  if (!memoryTmp) places.set("/tmp", tmp.folder);

  const outputInputs = new Set<string>();
  for (const { place, name } of located)
    if (place.folder.children.has(name)) outputInputs.add(join(place.path, name));

  const paths = [...places.keys()].sort();
  const planned = planBays(places, paths, outputInputs, options);
  const outputs = new Map<string, OutputPlace>();
  for (const { path, place, name } of located)
    outputs.set(path, {
      bay: paths.indexOf(place.path),
      name,
      isInput: outputInputs.has(join(place.path, name)),
    });
  return { ...planRoot(root, planned.copied), bays: planned.bays, outputs, memoryTmp };
}

function newFolder(): Folder {
  return { kind: "folder", children: new Map() };
}

function insert(root: Folder, entry: TreeEntry): void {
  let folder = root;
  const names = namesOf(entry.path);
  const last = names.length - 1;
  for (let i = 0; i < last; i++) folder = enter(folder, names[i] ?? "", entry.path);
  const name = names[last];
  if (name === undefined) return; // the root itself
  const there = folder.children.get(name);
  if (entry.kind === "directory") {
    if (there === undefined) folder.children.set(name, newFolder());
    else if (there.kind !== "folder") throw malformed(`two inputs are called ${entry.path}`);
    return;
  }
  if (there !== undefined) throw malformed(`two inputs are called ${entry.path}`);
  folder.children.set(
    name,
    entry.kind === "file"
      ? { kind: "file", digest: entry.digest, executable: entry.executable }
      : { kind: "symlink", target: entry.target },
  );
}

/** Inputs below a symlink would be made wherever it points to on this machine: never allowed. */
function enter(folder: Folder, name: string, path: string): Folder {
  const there = folder.children.get(name);
  if (there?.kind === "folder") return there;
  if (there !== undefined)
    throw malformed(`the input ${path} lies below ${name}, which is a ${there.kind}`);
  const made = newFolder();
  folder.children.set(name, made);
  return made;
}

function requireEmpty(root: Folder, name: string): void {
  const there = root.children.get(name);
  if (there !== undefined && !(there.kind === "folder" && there.children.size === 0))
    throw malformed(`inputs in /${name} are not possible`);
}

/** The folder that `path` leads to inside the sandbox, through its symlinks; made if missing. */
function resolveFolder(root: Folder, path: string): Place {
  let at: { name: string; folder: Folder }[] = [];
  let hops = 0;
  const pending = namesOf(path).reverse();
  for (let name = pending.pop(); name !== undefined; name = pending.pop()) {
    if (name === "" || name === ".") continue;
    if (name === "..") {
      at.pop();
      continue;
    }
    const folder = at.at(-1)?.folder ?? root;
    const there = folder.children.get(name);
    if (there?.kind === "file") throw malformed(`${path} leads through ${name}, which is a file`);
    if (there?.kind === "symlink") {
      if (++hops > symlinkHopsMax) throw malformed(`${path} leads through too many symlinks`);
      if (there.target.startsWith("/")) at = [];
      pending.push(...there.target.split("/").reverse());
      continue;
    }
    at.push({ name, folder: there ?? enter(folder, name, path) });
  }
  return { path: `/${at.map(({ name }) => name).join("/")}`, folder: at.at(-1)?.folder ?? root };
}

function planBays(
  places: ReadonlyMap<string, Folder>,
  paths: readonly string[],
  outputInputs: ReadonlySet<string>,
  { copyMaxBytes, fileMountsMax }: LayoutOptions,
): { readonly bays: readonly Bay[]; readonly copied: ReadonlySet<Node> } {
  const copied = new Set<Node>();
  let fileMounts = 0;
  const bays = paths.map((path): Bay => {
    const bay = { folders: [""], copies: [], symlinks: [], shown: [] } as {
      folders: string[];
      copies: FileLink[];
      symlinks: SymbolicLink[];
      shown: { name: string; kind: "file" | "folder" }[];
    };
    for (const [name, node] of places.get(path)?.children ?? []) {
      if (node.kind === "symlink") bay.symlinks.push({ path: name, target: node.target });
      else if (node.kind === "folder") {
        bay.folders.push(name);
        if (places.has(join(path, name))) continue;
        if (holdsInputs(node)) bay.shown.push({ name, kind: "folder" });
        else addSkeleton(node, name, bay.folders);
      } else if (
        sizeBytesOf(node.digest) > copyMaxBytes &&
        fileMounts < fileMountsMax &&
        !outputInputs.has(join(path, name))
      ) {
        fileMounts++;
        bay.shown.push({ name, kind: "file" });
      } else {
        copied.add(node);
        bay.copies.push({ path: name, digest: node.digest, executable: node.executable });
      }
    }
    return { path, ...bay };
  });
  return { bays, copied };
}

function addSkeleton(folder: Folder, path: string, into: string[]): void {
  for (const [name, node] of folder.children) {
    if (node.kind !== "folder") continue;
    into.push(`${path}/${name}`);
    addSkeleton(node, `${path}/${name}`, into);
  }
}

function holdsInputs(folder: Folder): boolean {
  for (const node of folder.children.values())
    if (node.kind !== "folder" || holdsInputs(node)) return true;
  return false;
}

function planRoot(
  root: Folder,
  copied: ReadonlySet<Node>,
): Pick<Layout, "folders" | "links" | "symlinks"> {
  const plan = {
    folders: [] as string[],
    links: [] as FileLink[],
    symlinks: [] as SymbolicLink[],
  };
  const visit = (folder: Folder, path: string): void => {
    plan.folders.push(path);
    for (const [name, node] of folder.children) {
      const at = `${path}/${name}`;
      if (node.kind === "folder") visit(node, at);
      else if (node.kind === "symlink") plan.symlinks.push({ path: at, target: node.target });
      else if (!copied.has(node))
        plan.links.push({ path: at, digest: node.digest, executable: node.executable });
    }
  };
  for (const [name, node] of root.children) {
    // Every root has these anyway.
    if (reserved.has(name)) continue;
    if (node.kind === "folder") visit(node, `/${name}`);
    else if (node.kind === "symlink") plan.symlinks.push({ path: `/${name}`, target: node.target });
    else plan.links.push({ path: `/${name}`, digest: node.digest, executable: node.executable });
  }
  return plan;
}

function namesOf(path: string): string[] {
  return path
    .slice(1)
    .split("/")
    .filter((name) => name !== "");
}

function splitPath(path: string): { readonly parent: string; readonly name: string } {
  const cut = path.lastIndexOf("/");
  return { parent: path.slice(0, cut) || "/", name: path.slice(cut + 1) };
}

function firstOf(path: string): string {
  return namesOf(path)[0] ?? "";
}

function join(folder: string, name: string): string {
  return folder === "/" ? `/${name}` : `${folder}/${name}`;
}

function malformed(message: string): MeshError {
  return new MeshError("malformed", message);
}
