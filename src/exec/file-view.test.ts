import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, expect, test } from "vitest";
import { createClock } from "../host/clock.ts";
import { createDisk } from "../host/disk.ts";
import type { Disk } from "../host/host.ts";
import { createFileView, createTrail, type Look } from "./file-view.ts";

const made: string[] = [];
afterEach(async () => {
  for (const path of made.splice(0)) await rm(path, { recursive: true, force: true });
});

const names = Array.from({ length: 40 }, (_, at) => `n${at}.h`);

/** A folder that has just changed, a view of it, and how often the disk was asked about names. */
async function youngFolder({ oneStamp = false } = {}) {
  const folder = await mkdtemp(join(tmpdir(), "mesh-view-"));
  made.push(folder);
  const disk = createDisk();
  const asked: string[] = [];
  const stamp = disk.statNow(folder);
  const counting: Disk = {
    ...disk,
    statNow(path) {
      asked.push(path);
      return oneStamp && path === folder ? stamp : disk.statNow(path);
    },
  };
  const store = { has: () => true, adopt: () => {} };
  const view = createFileView({ disk: counting, store, clock: createClock() });
  const find = (look: Look, name: string) =>
    look.find(look.folder("/"), join(folder, name), createTrail());
  const findAll = () => {
    const look = view.look();
    return names.filter((name) => find(look, name) !== undefined);
  };
  const askedAbout = (run: () => unknown) => {
    asked.length = 0;
    run();
    return names.filter((name) => asked.includes(join(folder, name))).length;
  };
  return { folder, findAll, askedAbout };
}

test("names that are not in a folder are not asked for again while it holds the same", async () => {
  const { findAll, askedAbout } = await youngFolder();
  expect(askedAbout(findAll)).toBe(names.length);
  // The first answers have no listing before them; from the second look on they do.
  findAll();
  expect(askedAbout(findAll)).toBe(0);
});

test("a file that comes or goes behind the same time stamp is noticed", async () => {
  const { folder, findAll } = await youngFolder({ oneStamp: true });
  for (let times = 0; times < 3; times += 1) expect(findAll()).toEqual([]);
  await writeFile(join(folder, "n7.h"), "");
  expect(findAll()).toEqual(["n7.h"]);
  await rm(join(folder, "n7.h"));
  expect(findAll()).toEqual([]);
});
