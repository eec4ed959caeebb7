/**
 * The files of one simulated host: folders, inodes and links, in memory and without time.
 *
 * Fails with errno names as the system does. It knows nothing about latency or faults.
 */

interface Meta {
  readonly inode: bigint;
  mode: number;
  mtimeNs: bigint;
  ctimeNs: bigint;
  linkCount: number;
}

export interface FileNode extends Meta {
  readonly kind: "file";
  /** Replaced as a whole, never written into: a reader may still hold the old ones. */
  bytes: Uint8Array;
  /** Whether a loss of power leaves it as it is. */
  isSynced: boolean;
}

export interface FolderNode extends Meta {
  readonly kind: "directory";
  readonly entries: Map<string, FileTreeNode>;
}

export interface LinkNode extends Meta {
  readonly kind: "symlink";
  readonly target: string;
}

export type FileTreeNode = FileNode | FolderNode | LinkNode;

export interface Files {
  /** What the disk has room for; each inode counts once. */
  freeBytes(): number;
  setCapacityBytes(capacityBytes: number): void;
  /** What a path leads to; undefined when it, or something on the way, is missing. */
  find(path: string, followLast: boolean): FileTreeNode | undefined;
  /** The same, failing with the errno. */
  get(path: string, followLast: boolean): FileTreeNode;
  file(path: string): FileNode;
  /** The path without symlinks. */
  real(path: string): string;
  /** Makes an empty file, over nothing. */
  create(path: string, mode: number): FileNode;
  /** @throws ENOSPC when the disk has no room for it. */
  setBytes(file: FileNode, bytes: Uint8Array): void;
  symlink(target: string, path: string): void;
  link(from: string, to: string): void;
  makeFolders(path: string): void;
  rename(from: string, to: string): void;
  remove(path: string): void;
  setMode(path: string, mode: number): void;
  touch(path: string): void;
  /** Every file, in the order of their making. */
  all(): Iterable<FileNode>;
}

/** An error as the file system gives it. */
export function errno(code: string): Error {
  return Object.assign(new Error(code), { code });
}

/** How many symlinks one path may lead through, as in Linux. */
const followMax = 40;

interface Place {
  readonly folder: FolderNode;
  readonly name: string;
  readonly node: FileTreeNode | undefined;
  /** Where the folder is, without symlinks. */
  readonly folderPath: string;
}

export function createFiles(nowNs: () => bigint, capacityBytes: number): Files {
  const files = new Set<FileNode>();
  let lastInode = 1n;
  let usedBytes = 0;
  let limitBytes = capacityBytes;
  const root: FolderNode = { kind: "directory", entries: new Map(), ...newMeta(0o755) };

  function newMeta(mode: number): Meta {
    const now = nowNs();
    return { inode: ++lastInode, mode, mtimeNs: now, ctimeNs: now, linkCount: 1 };
  }

  /** Walks to the folder that holds the last name of `path`. */
  function locate(path: string, followLast: boolean): Place {
    if (path.includes("\0")) throw errno("EINVAL");
    let folders: { readonly name: string; readonly folder: FolderNode }[] = [];
    let rest = path.split("/").filter((name) => name !== "" && name !== ".");
    let followed = 0;
    for (;;) {
      const folder = folders.at(-1)?.folder ?? root;
      const folderPath = folders.map(({ name }) => `/${name}`).join("");
      const [name, ...after] = rest;
      if (name === undefined) return { folder, name: "", node: folder, folderPath };
      rest = after;
      if (name === "..") {
        folders.pop();
        continue;
      }
      const node = folder.entries.get(name);
      const isLast = rest.length === 0;
      if (node?.kind === "symlink" && (followLast || !isLast)) {
        if (++followed > followMax) throw errno("ELOOP");
        if (node.target.startsWith("/")) folders = [];
        rest = [...node.target.split("/").filter((part) => part !== "" && part !== "."), ...rest];
        continue;
      }
      if (isLast) return { folder, name, node, folderPath };
      if (node === undefined) throw errno("ENOENT");
      if (node.kind !== "directory") throw errno("ENOTDIR");
      folders.push({ name, folder: node });
    }
  }

  function changed(node: FileTreeNode): void {
    node.ctimeNs = nowNs();
  }

  function put({ folder, name }: Place, node: FileTreeNode): void {
    folder.entries.set(name, node);
    folder.mtimeNs = nowNs();
    changed(folder);
  }

  function release(node: FileTreeNode): void {
    node.linkCount--;
    changed(node);
    if (node.kind === "directory") for (const entry of node.entries.values()) release(entry);
    if (node.kind !== "file" || node.linkCount > 0) return;
    usedBytes -= node.bytes.byteLength;
    files.delete(node);
  }

  function find(path: string, followLast: boolean): FileTreeNode | undefined {
    try {
      return locate(path, followLast).node;
    } catch (error) {
      if (error instanceof Error && /^(ENOENT|ENOTDIR)$/.test(error.message)) return undefined;
      throw error;
    }
  }

  function get(path: string, followLast: boolean): FileTreeNode {
    const { node } = locate(path, followLast);
    if (node === undefined) throw errno("ENOENT");
    return node;
  }

  function free(path: string): Place {
    const place = locate(path, false);
    if (place.node !== undefined) throw errno("EEXIST");
    return place;
  }

  return {
    freeBytes: () => Math.max(0, limitBytes - usedBytes),
    setCapacityBytes(bytes) {
      limitBytes = bytes;
    },
    find,
    get,
    file(path) {
      const node = get(path, true);
      if (node.kind === "file") return node;
      throw errno("EISDIR");
    },
    real(path) {
      const { folderPath, name, node } = locate(path, true);
      if (node === undefined) throw errno("ENOENT");
      return name === "" ? folderPath || "/" : `${folderPath}/${name}`;
    },
    create(path, mode) {
      const place = free(path);
      const file: FileNode = {
        kind: "file",
        bytes: new Uint8Array(0),
        isSynced: false,
        ...newMeta(mode),
      };
      files.add(file);
      put(place, file);
      return file;
    },
    setBytes(file, bytes) {
      const growth = bytes.byteLength - file.bytes.byteLength;
      if (growth > 0 && usedBytes + growth > limitBytes) throw errno("ENOSPC");
      usedBytes += growth;
      file.bytes = bytes;
      file.isSynced = false;
      file.mtimeNs = nowNs();
      changed(file);
    },
    symlink: (target, path) => put(free(path), { kind: "symlink", target, ...newMeta(0o777) }),
    link(from, to) {
      const node = get(from, false);
      if (node.kind === "directory") throw errno("EPERM");
      put(free(to), node);
      node.linkCount++;
      changed(node);
    },
    makeFolders(path) {
      const names = path.split("/").filter((name) => name !== "");
      names.forEach((_, index) => {
        const place = locate(`/${names.slice(0, index + 1).join("/")}`, true);
        if (place.node === undefined)
          put(place, { kind: "directory", entries: new Map(), ...newMeta(0o755) });
        else if (place.node.kind !== "directory")
          throw errno(index === names.length - 1 ? "EEXIST" : "ENOTDIR");
      });
    },
    rename(from, to) {
      const source = locate(from, false);
      const target = locate(to, false);
      const { node } = source;
      if (node === undefined) throw errno("ENOENT");
      if (target.node === node) return;
      if (target.node?.kind === "directory") {
        if (node.kind !== "directory") throw errno("EISDIR");
        if (target.node.entries.size > 0) throw errno("ENOTEMPTY");
      } else if (target.node !== undefined && node.kind === "directory") throw errno("ENOTDIR");
      const sourcePath = `${source.folderPath}/${source.name}/`;
      if (`${target.folderPath}/${target.name}`.startsWith(sourcePath)) throw errno("EINVAL");
      if (target.node !== undefined) release(target.node);
      source.folder.entries.delete(source.name);
      put(target, node);
      changed(node);
    },
    remove(path) {
      const place = find(path, false) && locate(path, false);
      if (place?.node === undefined) return;
      if (place.name === "") throw errno("EBUSY");
      place.folder.entries.delete(place.name);
      place.folder.mtimeNs = nowNs();
      changed(place.folder);
      release(place.node);
    },
    setMode(path, mode) {
      const node = get(path, true);
      node.mode = mode;
      changed(node);
    },
    touch(path) {
      const node = get(path, true);
      node.mtimeNs = nowNs();
      changed(node);
    },
    all: () => files,
  };
}
