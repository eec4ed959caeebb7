/**
 * Roots: folders that show an action's inputs at their absolute paths, as hard links to blobs.
 *
 * The actions of one build differ in a few files out of hundreds, and no command can change a
 * root. So an idle root is not removed but brought up to date for the next action: 500 inputs cost
 * 500 looks instead of 500 links. What is kept is trusted no more than the store trusts its own
 * files: each must look as it did, and none outlives the discovery of a corrupt blob.
 */
import { type Digest, sizeBytesOf } from "../../base/digest.ts";
import type { BlobStore, Pin } from "../../blob/store.ts";
import type { Disk, FileStat, Processes } from "../../host/host.ts";
import type { Layout } from "./layout.ts";
import { inBatches, makeFolders, removeRoom, roomPrefix } from "./room.ts";

export interface RootsDeps {
  readonly disk: Disk;
  readonly store: BlobStore;
}

export interface RootsOptions {
  /** Where the next root goes: a new path with each call. */
  readonly nextDir: () => string;
  /** Removes a folder in its own time. */
  readonly remove: (dir: string) => void;
  /** Idle roots kept. */
  readonly idleMax: number;
  /** Bytes that the blobs of all idle roots keep from eviction; shared ones count repeatedly. */
  readonly idleMaxBytes: number;
}

export interface Root {
  readonly dir: string;
}

export interface Roots {
  /** Rejects with the store's codes; then nothing is left behind. */
  take(layout: Layout, signal: AbortSignal): Promise<Root>;
  /** No process may use it any more. */
  giveBack(root: Root): void;
  /** Removes all idle roots. */
  close(): void;
}

type Entry =
  | { readonly kind: "file"; readonly digest: Digest; readonly stat: FileStat | undefined }
  | { readonly kind: "symlink"; readonly target: string }
  | { readonly kind: "folder" };

interface KeptRoot extends Root {
  readonly entries: Map<string, Entry>;
  /** Keeps the blobs, so that one that serves here all the time does not count as unused. */
  pin: Pin;
  sizeBytes: number;
  /** How many blobs the store had found corrupt when this was brought up to date. */
  quarantined: number;
}

/** Device nodes are mounted over these; the rest of /dev is for every command the same. */
const devicePlaces: readonly string[] = ["null", "zero", "full", "random", "urandom"];
const deviceLinks: readonly (readonly [name: string, target: string])[] = [
  ["fd", "/proc/self/fd"],
  ["stdin", "/proc/self/fd/0"],
  ["stdout", "/proc/self/fd/1"],
  ["stderr", "/proc/self/fd/2"],
];

/** Idle roots that are compared with what is wanted: a build rarely mixes more kinds of action. */
const comparedMax = 4;

export function createRoots(deps: RootsDeps, options: RootsOptions): Roots {
  const { store } = deps;
  const { nextDir, remove, idleMax, idleMaxBytes } = options;
  /** The last one given back is at the end. */
  const idle: KeptRoot[] = [];
  const inUse = new Map<Root, KeptRoot>();
  let idleBytes = 0;

  function unlist(root: KeptRoot): void {
    idle.splice(idle.indexOf(root), 1);
    idleBytes -= root.sizeBytes;
  }

  function drop(root: KeptRoot): void {
    root.pin.release();
    remove(root.dir);
  }

  function takeClosest(wanted: ReadonlyMap<string, Entry>): KeptRoot | undefined {
    let best: KeptRoot | undefined;
    let bestCount = 0;
    for (const root of idle.slice(-comparedMax)) {
      const count = countShared(root.entries, wanted);
      if (count <= bestCount) continue;
      best = root;
      bestCount = count;
    }
    if (best !== undefined) unlist(best);
    return best;
  }

  return {
    async take(layout, signal) {
      const { quarantined } = store.stats();
      for (const root of [...idle])
        if (root.quarantined !== quarantined) {
          unlist(root);
          drop(root);
        }
      const wanted = wantedEntries(layout);
      const kept = takeClosest(wanted);
      const root = kept ?? {
        dir: nextDir(),
        entries: new Map<string, Entry>(),
        pin: store.pin([]),
        sizeBytes: 0,
        quarantined,
      };
      try {
        if (kept === undefined) await makeFixed(deps.disk, root.dir);
        await bringUpToDate(deps, root, layout, wanted, signal);
      } catch (error) {
        drop(root);
        throw error;
      }
      inUse.set(root, root);
      return root;
    },

    giveBack(given) {
      const root = inUse.get(given);
      if (root === undefined) return;
      inUse.delete(given);
      if (root.sizeBytes > idleMaxBytes || root.quarantined !== store.stats().quarantined) {
        drop(root);
        return;
      }
      idle.push(root);
      idleBytes += root.sizeBytes;
      while (idle.length > idleMax || idleBytes > idleMaxBytes) {
        const [oldest] = idle;
        if (oldest === undefined) break;
        unlist(oldest);
        drop(oldest);
      }
    },

    close() {
      for (const root of [...idle]) {
        unlist(root);
        drop(root);
      }
    },
  };
}

function wantedEntries(layout: Layout): ReadonlyMap<string, Entry> {
  const wanted = new Map<string, Entry>();
  for (const path of layout.folders) wanted.set(path, { kind: "folder" });
  for (const { path, digest } of layout.links)
    wanted.set(path, { kind: "file", digest, stat: undefined });
  for (const { path, target } of layout.symlinks) wanted.set(path, { kind: "symlink", target });
  return wanted;
}

function countShared(
  entries: ReadonlyMap<string, Entry>,
  wanted: ReadonlyMap<string, Entry>,
): number {
  let count = 0;
  for (const [path, entry] of wanted) if (isSame(entries.get(path), entry)) count++;
  return count;
}

function isSame(left: Entry | undefined, right: Entry | undefined): boolean {
  if (left === undefined || right === undefined) return false;
  if (left.kind === "file") return right.kind === "file" && left.digest === right.digest;
  if (left.kind === "symlink") return right.kind === "symlink" && left.target === right.target;
  return right.kind === "folder";
}

/** What every root has, and no action can change: places for what the sandbox mounts. */
export async function makeFixed(disk: Disk, dir: string): Promise<void> {
  await Promise.all([
    disk.makeDirectory(`${dir}/proc`),
    disk.makeDirectory(`${dir}/tmp`),
    disk.makeDirectory(`${dir}/dev/shm`),
  ]);
  await Promise.all([
    ...devicePlaces.map((name) => disk.append(`${dir}/dev/${name}`, new Uint8Array())),
    ...deviceLinks.map(([name, target]) => disk.symlink(target, `${dir}/dev/${name}`)),
  ]);
}

/** Makes exactly what is wanted of what is there. When it rejects, the root is of no more use. */
async function bringUpToDate(
  { disk, store }: RootsDeps,
  root: KeptRoot,
  layout: Layout,
  wanted: ReadonlyMap<string, Entry>,
  signal: AbortSignal,
): Promise<void> {
  const { dir, entries } = root;
  await inBatches(findStale(disk, root, wanted), signal, async (path) => {
    await disk.remove(dir + path);
  });
  const folders = layout.folders.filter((path) => !entries.has(path));
  await makeFolders(
    disk,
    folders.map((path) => dir + path),
    signal,
  );
  for (const path of layout.folders) entries.set(path, { kind: "folder" });

  const pin = store.pin(layout.links.map(({ digest }) => digest));
  root.pin.release();
  root.pin = pin;
  const links = layout.links.filter(({ path }) => !entries.has(path));
  await inBatches(links, signal, ({ path, digest }) => store.link(digest, dir + path));
  for (const { path, digest } of links)
    entries.set(path, { kind: "file", digest, stat: disk.statNow(dir + path) });
  // Last, so that nothing above can have been made through one of them, outside the root.
  const symlinks = layout.symlinks.filter(({ path }) => !entries.has(path));
  await inBatches(symlinks, signal, ({ path, target }) => disk.symlink(target, dir + path));
  for (const { path, target } of symlinks) entries.set(path, { kind: "symlink", target });

  root.sizeBytes = 0;
  for (const { digest } of layout.links) root.sizeBytes += sizeBytesOf(digest);
  root.quarantined = store.stats().quarantined;
}

/** Forgets what is not wanted, or not what it was; returns the outermost paths of it. */
function findStale(
  disk: Disk,
  { dir, entries }: KeptRoot,
  wanted: ReadonlyMap<string, Entry>,
): readonly string[] {
  const stale: string[] = [];
  for (const [path, entry] of entries) {
    if (isSame(entry, wanted.get(path)) && !hasChanged(disk, dir + path, entry)) continue;
    entries.delete(path);
    stale.push(path);
  }
  const all = new Set(stale);
  return stale.filter((path) => {
    for (let cut = path.lastIndexOf("/"); cut > 0; cut = path.lastIndexOf("/", cut - 1))
      if (all.has(path.slice(0, cut))) return false;
    return true;
  });
}

/** Somebody wrote into a blob: to be linked anew, which the store will not do with bad bytes. */
function hasChanged(disk: Disk, path: string, entry: Entry): boolean {
  if (entry.kind !== "file") return false;
  const now = disk.statNow(path);
  const was = entry.stat;
  return (
    now === undefined ||
    was === undefined ||
    now.inode !== was.inode ||
    now.sizeBytes !== was.sizeBytes ||
    now.mtimeNs !== was.mtimeNs ||
    now.mode !== was.mode
  );
}

/**
 * Removes what runs of an earlier process of this data folder left: to be called once at start,
 * before the first action. Returns the number of things removed.
 */
export async function cleanLeftovers(
  deps: { readonly disk: Disk; readonly processes: Processes },
  tmpDir: string,
  signal: AbortSignal,
): Promise<number> {
  let removed = 0;
  for (const { name } of (await deps.disk.list(tmpDir)) ?? []) {
    if (!name.startsWith(roomPrefix)) continue;
    signal.throwIfAborted();
    if ((await removeRoom(deps, `${tmpDir}/${name}`, signal)) === undefined) removed++;
  }
  return removed;
}
