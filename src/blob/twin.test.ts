import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { type Digest, digestOf, emptyDigest } from "../base/digest.ts";
import { createClock } from "../host/clock.ts";
import { createDisk } from "../host/disk.ts";
import { bytesOf } from "./store.contract.ts";
import { type BlobStore, createBlobStore } from "./store.ts";
import type { TreeEntry } from "./tree.ts";
import { ingestTwins } from "./twin.ts";

const forever = new AbortController().signal;
const disk = createDisk();
let root: string;
let store: BlobStore;

beforeEach(async () => {
  root = mkdtempSync(join(tmpdir(), "mesh-twin-"));
  mkdirSync(join(root, "usr"));
  mkdirSync(join(root, "home"));
  const options = { directory: join(root, "data"), quotaBytes: 1e8, sync: "never" } as const;
  store = await createBlobStore({ disk, clock: createClock() }, options, forever);
});

afterEach(() => rmSync(root, { recursive: true, force: true }));

const entry = (path: string, digest: Digest): TreeEntry => ({
  kind: "file",
  path: join(root, path),
  digest,
  executable: false,
});
const ingest = (entries: readonly TreeEntry[]): Promise<readonly Digest[]> =>
  ingestTwins({ store, disk }, entries, { prefixes: [join(root, "usr")] }, forever);

test("a file with the same bytes at the same path is taken from here", async () => {
  const small = bytesOf(1000, 1);
  const large = bytesOf(2_500_000, 2);
  writeFileSync(join(root, "usr/small"), small);
  writeFileSync(join(root, "usr/large"), large);
  const entries = [entry("usr/small", digestOf(small)), entry("usr/large", digestOf(large))];
  expect(await ingest(entries)).toEqual([]);
  expect(Buffer.compare(await store.read(digestOf(large)), large)).toBe(0);
  rmSync(join(root, "usr"), { recursive: true });
  expect(Buffer.compare(await store.read(digestOf(small)), small)).toBe(0);
});

test("a file with other bytes, another size or none at all stays missing", async () => {
  const wanted = [1, 2, 3].map((seed) => digestOf(bytesOf(1000, seed))) as [Digest, Digest, Digest];
  writeFileSync(join(root, "usr/other"), bytesOf(1000, 9));
  writeFileSync(join(root, "usr/short"), bytesOf(999, 2));
  const entries = [
    entry("usr/other", wanted[0]),
    entry("usr/short", wanted[1]),
    entry("usr/absent", wanted[2]),
    entry("usr/absent-too", wanted[2]),
  ];
  expect([...(await ingest(entries))].sort()).toEqual([...wanted].sort());
  expect(store.stats()).toMatchObject({ blobs: 0, bytes: 0 });
});

test("of one blob at two paths either twin will do", async () => {
  const bytes = bytesOf(1000, 1);
  writeFileSync(join(root, "usr/second"), bytes);
  const digest = digestOf(bytes);
  expect(await ingest([entry("usr/first", digest), entry("usr/second", digest)])).toEqual([]);
});

test("nothing outside the named folders is read, not even the right file", async () => {
  const bytes = bytesOf(1000, 1);
  writeFileSync(join(root, "home/secret"), bytes);
  writeFileSync(join(root, "usrsecret"), bytes);
  const digest = digestOf(bytes);
  expect(await ingest([entry("home/secret", digest), entry("usrsecret", digest)])).toEqual([
    digest,
  ]);
});

test("pipes, folders and devices are left alone", async () => {
  execFileSync("mkfifo", [join(root, "usr/pipe")]);
  symlinkSync("/dev/zero", join(root, "usr/zero"));
  const digest = digestOf(bytesOf(1000, 1));
  const entries = ["usr/pipe", "usr/zero", "usr"].map((path) => entry(path, digest));
  expect(await ingest(entries)).toEqual([digest]);
});

test("what is here already, and what is empty, is not missing", async () => {
  const digest = await store.put(bytesOf(10, 1));
  expect(await ingest([entry("usr/a", digest), entry("usr/b", emptyDigest)])).toEqual([]);
});
