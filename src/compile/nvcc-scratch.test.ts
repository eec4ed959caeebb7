import { existsSync, lutimesSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { createClock } from "../host/clock.ts";
import { createDisk } from "../host/disk.ts";
import { openScratch, type Scratch, scratchRoots } from "./nvcc-scratch.ts";

const deps = { disk: createDisk(), clock: createClock() };
const name = `a test of scratch folders ${process.pid}`;

async function open(): Promise<Scratch> {
  const scratch = await openScratch(deps, name);
  if (scratch === undefined) throw new Error("no scratch folder");
  return scratch;
}

test("the same work has the same folder, which only its user can see, and which goes with it", async () => {
  const first = await open();
  const root = scratchRoots.find((path) => first.folder.startsWith(`${path}/`)) ?? "";
  expect(statSync(root).mode & 0o777).toBe(0o700);
  writeFileSync(join(first.folder, "x"), "");
  await first.close();
  expect(existsSync(first.folder)).toBe(false);
  const second = await open();
  await second.close();
  expect(second.folder).toBe(first.folder);
});

test("work that runs twice at once has two folders, and at the bound none", async () => {
  const all = [await open(), await open(), await open(), await open()];
  expect(new Set(all.map(({ folder }) => folder)).size).toBe(4);
  expect(await openScratch(deps, name)).toBeUndefined();
  for (const scratch of all) await scratch.close();
});

test("a folder that a dead node left is taken over", async () => {
  const left = await open();
  writeFileSync(join(left.folder, "old.ii"), "");
  const yesterday = new Date(Date.now() - 24 * 3600_000);
  lutimesSync(join(left.folder, "lock"), yesterday, yesterday);
  const taken = await open();
  expect(taken.folder).toBe(left.folder);
  expect(existsSync(join(taken.folder, "old.ii"))).toBe(false);
  await taken.close();
});
