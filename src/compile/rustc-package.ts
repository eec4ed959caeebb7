/**
 * The files that a Rust unit's sources may name: everything in its package and in `OUT_DIR`, less
 * other packages, what builds and version control leave there, and what people keep to themselves.
 *
 * It looks at names and sizes only.
 */
import { basename, dirname, join, relative } from "node:path";
import { createRecentMap } from "../base/bounded.ts";
import type { Clock, DirectoryEntry, Disk } from "../host/host.ts";

export interface PackageQuery {
  /** The package's folder and `OUT_DIR`; none for a unit that Cargo did not start. */
  readonly folders: readonly string[];
  readonly source: string;
  /** The workspace's folder, canonical: files in it, and on the way to the package, count too. */
  readonly cwd: string;
  /** Whether a macro may look at such files: see `rustc-macros.ts`. */
  readonly macros: boolean;
}

export interface PackageFiles {
  /** Up to `smallMaxBytes`. */
  readonly small: readonly string[];
  readonly large: readonly string[];
  /** Names of what was left out because it may be a secret, and that a macro could look for. */
  readonly withheld: readonly string[];
  /** Folders all of whose names were looked at ... */
  readonly folders: readonly string[];
  /** ... and what of that was left out for any reason. */
  readonly left: readonly string[];
}

const filesMax = 5000;
const bytesMax = 128 * 1024 * 1024;
const smallMaxBytes = 1024 * 1024;
/** Names of secrets told apart; a package with more is strange, and only macros care. */
const withheldMax = 256;

/** Keys and passwords, by their names. Sources about them are sources. */
const secretFile = /\.(?:pem|key|p12|pfx|jks|keystore)$|^id_(?:rsa|dsa|ecdsa|ed25519)|credentials/i;

/** Whether a file is not to travel even though a macro asks for it. */
export function isSecretFile(name: string): boolean {
  return (secretFile.test(name) && !isRust(name)) || name.startsWith(".env") || name === ".netrc";
}

/** Hidden things that other programs read, and no macro: not worth a look into every macro. */
const ofOthers =
  /^\.(?:git|hg|svn|jj|cargo|circleci|cirrus|travis|appveyor|editorconfig|rustfmt|clippy|pre-commit|vscode|idea|mailmap|DS_Store)/;

/**
 * Whether a file or folder is nobody else's business. What a unit turns out to read all the same
 * costs one run here, and is known from then on.
 */
function isPrivate(name: string, isFile: boolean): boolean {
  return name.startsWith(".") || (isFile && secretFile.test(name) && !isRust(name));
}

/** The names in a folder; none when there is no such folder. */
export type Listing = (folder: string) => Promise<readonly DirectoryEntry[]>;

const foldersMax = 16_384;
/** A younger time stamp may hide a second change. */
const settleMs = 2000;

/** Lists a folder again only when it has changed: looking costs a tenth of listing. */
export function createListing(disk: Disk, clock: Clock): Listing {
  const known = createRecentMap<string, { mtimeNs: bigint; inode: bigint; all: Listed }>(
    foldersMax,
  );
  return async (folder) => {
    const stat = disk.statFollowNow(folder);
    if (stat === undefined) return [];
    const before = known.get(folder);
    if (before?.mtimeNs === stat.mtimeNs && before.inode === stat.inode) return before.all;
    const all = (await disk.list(folder)) ?? [];
    const settledNs = BigInt(Math.floor(clock.wallMs() - settleMs)) * 1_000_000n;
    if (stat.mtimeNs < settledNs) known.set(folder, { ...stat, all });
    else known.delete(folder);
    return all;
  };
}

type Listed = readonly DirectoryEntry[];

/** Undefined when there is more than an action should carry. */
export async function readPackage(
  { disk, list }: { readonly disk: Disk; readonly list: Listing },
  { folders, source, cwd, macros }: PackageQuery,
): Promise<PackageFiles | undefined> {
  const found = { small: [] as string[], large: [] as string[] };
  const withheld = new Set<string>();
  const listed = new Set<string>();
  const left = new Set<string>();
  const open = [...(folders.length === 0 ? [dirname(source)] : folders)];
  const roots = new Set(open);
  const seen = new Set<string>();
  let room = { files: filesMax, bytes: bytesMax };

  function add(path: string, sizeBytes: number): void {
    room = { files: room.files - 1, bytes: room.bytes - sizeBytes };
    (sizeBytes <= smallMaxBytes ? found.small : found.large).push(path);
  }
  function withhold(name: string): void {
    if (!ofOthers.test(name) && withheld.size < withheldMax) withheld.add(name);
  }

  for (;;) {
    const folder = open.pop();
    if (folder === undefined) break;
    const children = await list(folder);
    const names = new Set(children.map(({ name }) => name));
    const isOther = names.has("Cargo.toml") && !contains(folder, source);
    // The mark of folders that hold nothing but what can be made again: Cargo's `target`.
    if (!roots.has(folder) && (isOther || names.has("CACHEDIR.TAG"))) {
      left.add(folder);
      continue;
    }
    listed.add(folder);
    for (const { name, kind } of children) {
      const path = join(folder, name);
      // Sockets and the like; and a link may lead anywhere, also nowhere.
      const stat = kind === "other" ? undefined : disk.statFollowNow(path);
      if (roots.has(path)) continue;
      if (stat === undefined || name === "node_modules") {
        left.add(path);
        continue;
      }
      const real = kind === "symlink" ? ((await disk.realPath(path)) ?? path) : path;
      if ([name, basename(real)].some((one) => isPrivate(one, stat.kind === "file"))) {
        withhold(name);
        left.add(path);
        continue;
      }
      if (stat.kind === "file") add(path, stat.sizeBytes);
      if (room.files < 0 || room.bytes < 0) return undefined;
      if (stat.kind === "other") left.add(path);
      if (stat.kind !== "directory") continue;
      // Links can go round in circles.
      if (kind === "symlink") {
        if (seen.has(real) || contains(real, folder)) {
          left.add(path);
          continue;
        }
        seen.add(real);
      }
      open.push(path);
    }
  }
  if (macros) {
    const [first = cwd] = folders;
    const real = (await disk.realPath(first)) ?? first;
    for (const folder of foldersAbove(real, cwd)) {
      if (listed.has(folder)) continue;
      const plain = addPlain(disk, await list(folder), folder, add, withhold);
      listed.add(folder);
      for (const path of plain) left.add(path);
    }
  }
  if (room.files < 0 || room.bytes < 0) return undefined;
  return { ...found, withheld: [...withheld], folders: [...listed], left: [...left] };
}

/** The folder that the compiler works in, and those between it and the package. */
function foldersAbove(folder: string, cwd: string): readonly string[] {
  const above = [cwd];
  if (!contains(cwd, folder)) return above;
  for (let at = dirname(folder); at.length > cwd.length; at = dirname(at)) above.push(at);
  return above;
}

/** Manifests, lock and settings files. Returns what it leaves out. */
function addPlain(
  disk: Disk,
  children: Listed,
  folder: string,
  add: (path: string, sizeBytes: number) => void,
  withhold: (name: string) => void,
): readonly string[] {
  return children.flatMap(({ name, kind }) => {
    const path = join(folder, name);
    const isHidden = isPrivate(name, kind === "file");
    if (isHidden) withhold(name);
    const sizeBytes = kind === "file" && !isHidden ? disk.statNow(path)?.sizeBytes : undefined;
    if (sizeBytes === undefined || sizeBytes > smallMaxBytes) return [path];
    add(path, sizeBytes);
    return [];
  });
}

function contains(folder: string, path: string): boolean {
  const way = relative(folder, path);
  return way !== ".." && !way.startsWith("../");
}

/** Whether a file holds Rust source text. */
export function isRust(path: string): boolean {
  return basename(path).endsWith(".rs");
}
