import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { utf8 } from "../base/bytes.ts";
import { digestOf, emptyDigest } from "../base/digest.ts";
import { type BlobStore, createBlobStore } from "../blob/store.ts";
import { createClock } from "../host/clock.ts";
import { createDisk } from "../host/disk.ts";
import { placeOutputs, whyNotPlaceable } from "./place.ts";

const never = new AbortController().signal;
const disk = createDisk();
let folder: string;
let data: string;
let store: BlobStore;
beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), "mesh-place-"));
  data = mkdtempSync(join(tmpdir(), "mesh-place-store-"));
  const options = { directory: data, quotaBytes: 1e9, sync: "never" } as const;
  store = await createBlobStore({ disk, clock: createClock() }, options, never);
});
afterEach(() => {
  rmSync(folder, { recursive: true, force: true });
  rmSync(data, { recursive: true, force: true });
});
const deps = () => ({ disk, store });
const blob = async (name: string, text: string, executable = false) => ({
  path: join(folder, name),
  digest: await store.put(utf8(text)),
  executable,
});

test("outputs replace what was there, with the rights that a new file would get", async () => {
  writeFileSync(join(folder, "a"), "old", { mode: 0o600 });
  const outputs = [await blob("a", "new"), await blob("b", "tool", true)];
  const empty = { path: join(folder, "c"), digest: emptyDigest, executable: false };
  await placeOutputs(deps(), [...outputs, empty], 0o022, never);
  expect(readFileSync(join(folder, "a"), "utf8")).toBe("new");
  expect(readFileSync(join(folder, "c"), "utf8")).toBe("");
  const modes = ["a", "b", "c"].map((name) => statSync(join(folder, name)).mode & 0o777);
  expect(modes).toEqual([0o644, 0o755, 0o644]);
});

test("a blob that is missing leaves every file as it was, and nothing beside it", async () => {
  writeFileSync(join(folder, "a"), "old");
  const gone = { path: join(folder, "b"), digest: digestOf(utf8("gone")), executable: false };
  const outputs = [await blob("a", "new"), gone, await blob("c", "new")];
  const placing = placeOutputs(deps(), outputs, 0o022, never);
  await expect(placing).rejects.toMatchObject({ code: "blob-missing" });
  expect(readdirSync(folder)).toEqual(["a"]);
  expect(readFileSync(join(folder, "a"), "utf8")).toBe("old");
});

test("a placing that is called off leaves nothing behind", async () => {
  const stop = new AbortController();
  stop.abort(new Error("enough"));
  const placing = placeOutputs(deps(), [await blob("a", "new")], 0o022, stop.signal);
  await expect(placing).rejects.toThrow("enough");
  expect(readdirSync(folder)).toEqual([]);
});

test("files on their way are among those that the disk tells of, for a killed node leaves them", async () => {
  const told: string[] = [];
  const telling = createDisk((prefix) => void told.push(prefix));
  const ways: string[] = [];
  const watched: Pick<BlobStore, "copyTo"> = {
    copyTo(digest, to, mode) {
      expect(told.some((prefix) => to.startsWith(prefix))).toBe(true);
      ways.push(to);
      return store.copyTo(digest, to, mode);
    },
  };
  const outputs = [await blob("a", "new"), await blob("b", "new")];
  await placeOutputs({ ...deps(), disk: telling, store: watched }, outputs, 0o022, never);
  expect(ways).toHaveLength(2);
  expect(readdirSync(folder)).toEqual(["a", "b"]);
});

test("a rename that fails half-way leaves no temporary file behind", async () => {
  const outputs = [await blob("a", "new"), await blob("b", "new"), await blob("c", "new")];
  // Somebody makes a folder there at the last moment.
  const rename: typeof disk.rename = (from, to) => {
    if (to === join(folder, "b")) mkdirSync(to);
    return disk.rename(from, to);
  };
  const placing = placeOutputs({ ...deps(), disk: { ...disk, rename } }, outputs, 0o022, never);
  await expect(placing).rejects.toMatchObject({ code: "io" });
  expect(readdirSync(folder).sort()).toEqual(["a", "b"]);
});

test.each<[string | undefined, string, (path: string) => void]>([
  [undefined, "a.o", () => {}],
  [undefined, "a.o", (path) => writeFileSync(path, "old")],
  ["output-not-a-file", "a.o", (path) => symlinkSync("elsewhere", path)],
  ["output-not-a-file", "a.o", (path) => void mkdirSync(path)],
  ["output-read-only", "a.o", (path) => writeFileSync(path, "", { mode: 0o444 })],
  ["no-output-folder", "no/a.o", () => {}],
  ["no-output-folder", "file/a.o", () => writeFileSync(join(folder, "file"), "")],
])("what only a compiler can write rightly is told: %s at %s", (reason, name, prepare) => {
  const path = join(folder, name);
  prepare(path);
  expect(whyNotPlaceable(disk, [path])).toBe(reason);
});
