import * as fs from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { type BlobStore, createBlobStore } from "../../blob/store.ts";
import type { TreeEntry } from "../../blob/tree.ts";
import { createClock } from "../../host/clock.ts";
import { createDisk } from "../../host/disk.ts";
import { createProcesses } from "../../host/processes.ts";
import { fileOf, never } from "../sandbox-world.contract.ts";
import { planLayout } from "./layout.ts";
import { cleanLeftovers, createRoots, type Roots } from "./root.ts";

const disk = createDisk();
let dir: string;
let store: BlobStore;
let roots: Roots;
let removed: string[];
let count = 0;

beforeEach(async () => {
  dir = fs.mkdtempSync(join(tmpdir(), "mesh-roots-"));
  store = await createBlobStore(
    { disk, clock: createClock() },
    { directory: dir, quotaBytes: 1e9, sync: "never" },
    never,
  );
  removed = [];
  roots = makeRoots(8, 1e6);
});
afterEach(() => fs.rmSync(dir, { recursive: true, force: true }));

function makeRoots(idleMax: number, idleMaxBytes: number): Roots {
  return createRoots(
    { disk, store },
    {
      nextDir: () => join(dir, `tmp/exec-root-${count++}`),
      remove: (path) => void removed.push(path),
      ...{ idleMax, idleMaxBytes },
    },
  );
}

const layoutOf = (inputs: readonly TreeEntry[]) =>
  planLayout({ inputs, cwd: "/", outputPaths: [] }, { copyMaxBytes: 1, fileMountsMax: 1 });
const take = (inputs: readonly TreeEntry[], signal = never) => roots.take(layoutOf(inputs), signal);

/** Everything in a root: paths, with targets of symlinks and texts of files. */
function shown(root: string, at = ""): readonly string[] {
  return fs.readdirSync(root + at, { withFileTypes: true }).flatMap((entry) => {
    const path = `${at}/${entry.name}`;
    if (path === "/dev" || path === "/proc" || path === "/tmp") return [];
    if (entry.isSymbolicLink()) return [`${path} -> ${fs.readlinkSync(root + path)}`];
    if (entry.isFile()) return [`${path}: ${fs.readFileSync(root + path, "utf8")}`];
    return [`${path}/`, ...shown(root, path)];
  });
}

test("a root that is used again shows exactly the next action's inputs", async () => {
  const one = [
    await fileOf(store, "/p/a/x.h", "x"),
    await fileOf(store, "/p/a/same.h", "same"),
    await fileOf(store, "/p/changed.h", "old"),
    await fileOf(store, "/p/becomes-folder", "f"),
    await fileOf(store, "/p/gone/deep/g.h", "g"),
    await fileOf(store, "/p/becomes-link/f", "f"),
    { kind: "symlink", path: "/p/link", target: "a" } as const,
    { kind: "symlink", path: "/p/turns", target: "here" } as const,
  ];
  const two: TreeEntry[] = [
    await fileOf(store, "/p/a/same.h", "same"),
    await fileOf(store, "/p/changed.h", "new"),
    await fileOf(store, "/p/becomes-folder/f", "inside"),
    await fileOf(store, "/p/link/now/a/folder.h", "h"),
    { kind: "symlink", path: "/p/becomes-link", target: "/etc" },
    { kind: "symlink", path: "/p/turns", target: "there" },
    { kind: "directory", path: "/p/empty" },
  ];
  const first = await take(one);
  const kept = fs.statSync(`${first.dir}/p/a/same.h`).ctimeMs;
  roots.giveBack(first);
  const second = await take(two);
  expect(second.dir).toBe(first.dir);
  // What is still wanted was not touched: a new link would show in the time of change.
  expect(fs.statSync(`${second.dir}/p/a/same.h`).ctimeMs).toBe(kept);
  const fresh = makeRoots(0, 0);
  expect(shown(second.dir)).toEqual(shown((await fresh.take(layoutOf(two), never)).dir));
  expect(shown(second.dir)).toContain("/p/a/same.h: same");
  expect(fs.existsSync("/etc/f")).toBe(false);
});

test("inputs are links to blobs, not copies", async () => {
  const root = await take([await fileOf(store, "/p/a", "text")]);
  expect(fs.statSync(`${root.dir}/p/a`).nlink).toBe(2);
});

test("two actions at a time have two roots", async () => {
  const inputs = [await fileOf(store, "/p/a", "text")];
  const [one, two] = await Promise.all([take(inputs), take(inputs)]);
  expect(one?.dir).not.toBe(two?.dir);
});

test("a file that somebody wrote to is not shown again", async () => {
  const inputs = [await fileOf(store, "/p/a", "right")];
  const root = await take(inputs);
  roots.giveBack(root);
  fs.chmodSync(`${root.dir}/p/a`, 0o755);
  fs.writeFileSync(`${root.dir}/p/a`, "wrong");
  fs.utimesSync(`${root.dir}/p/a`, 1, 1);
  // The blob is the same file, so the store has nothing better: it must say so, not show it.
  await expect(take(inputs)).rejects.toMatchObject({ code: expect.stringMatching(/^blob-/) });
  await store.put(new TextEncoder().encode("right"));
  const again = await take(inputs);
  expect(shown(again.dir)).toContain("/p/a: right");
});

test("no root outlives the discovery of a corrupt blob", async () => {
  const a = await fileOf(store, "/p/a", "a");
  const b = await fileOf(store, "/p/b", "b");
  const [first, held] = await Promise.all([take([a]), take([b])]);
  roots.giveBack(first);
  const hex = b.kind === "file" ? b.digest.slice(0, 64) : "";
  const path = join(dir, "blobs", hex.slice(0, 2), hex.slice(2, 4), hex);
  fs.chmodSync(path, 0o755);
  fs.writeFileSync(path, "c");
  await store.verify(never);
  expect(store.stats().quarantined).toBe(1);
  roots.giveBack(held);
  expect(removed).toContain(held.dir);
  const next = await take([a]);
  expect(next.dir).not.toBe(first.dir);
});

test("an idle root keeps its blobs from eviction, and lets go of them when it goes", async () => {
  const inputs = [await fileOf(store, "/p/a", "a")];
  const root = await take(inputs);
  roots.giveBack(root);
  expect(store.stats().pinned).toBe(1);
  roots.close();
  expect(store.stats().pinned).toBe(0);
  expect(removed).toEqual([root.dir]);
});

test("idle roots are bounded in number and in bytes", async () => {
  roots = makeRoots(2, 1e6);
  const one = await fileOf(store, "/p/a", "1");
  const all = await Promise.all([take([one]), take([one]), take([one])]);
  for (const root of all) roots.giveBack(root);
  expect(removed).toEqual([all[0]?.dir]);
  roots = makeRoots(8, 3);
  roots.giveBack(await take([await fileOf(store, "/p/b", "four")]));
  expect(removed).toHaveLength(2);
});

test("a root that cannot be completed is not used again", async () => {
  const good = [await fileOf(store, "/p/a", "a")];
  const root = await take(good);
  roots.giveBack(root);
  const missing = { ...(good[0] as TreeEntry), path: "/p/b", digest: `${"0".repeat(64)}-3` };
  await expect(take([...good, missing as TreeEntry])).rejects.toMatchObject({
    code: "blob-missing",
  });
  expect(removed).toEqual([root.dir]);
  expect(store.stats().pinned).toBe(0);
});

test("an abort stops the building and rejects with its reason", async () => {
  const reason = new Error("stop");
  const inputs = [await fileOf(store, "/p/a", "a")];
  await expect(take(inputs, AbortSignal.abort(reason))).rejects.toBe(reason);
});

test("what an earlier process left is removed at start, and nothing else", async () => {
  const processes = createProcesses();
  try {
    const tmp = join(dir, "leftovers");
    fs.mkdirSync(`${tmp}/exec-0/bay-0/deep`, { recursive: true });
    fs.mkdirSync(`${tmp}/exec-root-1/p`, { recursive: true });
    fs.writeFileSync(`${tmp}/.mesh-tmp-1`, "");
    expect(await cleanLeftovers({ disk, processes }, tmp, never)).toBe(2);
    expect(fs.readdirSync(tmp)).toEqual([".mesh-tmp-1"]);
    expect(await cleanLeftovers({ disk, processes }, join(dir, "none"), never)).toBe(0);
  } finally {
    await processes.close();
  }
});
