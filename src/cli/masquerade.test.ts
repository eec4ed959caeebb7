import { chmodSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { createClock } from "../host/clock.ts";
import { createDisk } from "../host/disk.ts";
import type { Disk } from "../host/host.ts";
import { createMasquerade, type Masquerade } from "./masquerade.ts";

let folder = "";
let lists = 0;
let masquerade: Masquerade;
/** An hour from now, so that nothing made here is young. */
const clock = { wallMs: () => createClock().wallMs() + 3_600_000 };
const bin = (): string => join(folder, "bin");
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "mesh-masquerade-"));
  mkdirSync(bin());
  mkdirSync(join(folder, "shim"));
  program("gcc");
  lists = 0;
  masquerade = counting(clock);
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

function counting(time: { wallMs(): number }): Masquerade {
  const disk = createDisk();
  const list: Disk["list"] = (path) => {
    if (path === bin()) lists += 1;
    return disk.list(path);
  };
  const shim = { kind: "c", why: undefined, program: join(folder, "shim", "mesh-shim") } as const;
  return createMasquerade({ disk: { ...disk, list }, clock: time }, shim, bin());
}

function program(name: string): void {
  writeFileSync(join(bin(), name), "", { mode: 0o755 });
}

async function names(): Promise<readonly string[]> {
  return readdirSync(await masquerade()).filter((name) => !name.startsWith("."));
}

test("a PATH that has not changed is listed once", async () => {
  expect(await names()).toEqual(["gcc"]);
  expect(await names()).toEqual(["gcc"]);
  expect(lists).toBe(1);
});

test("a compiler that comes or goes is noticed", async () => {
  await names();
  program("clang");
  expect(await names()).toEqual(["clang", "gcc"]);
  rmSync(join(bin(), "gcc"));
  expect(await names()).toEqual(["clang"]);
});

test("a compiler that can no longer be run is noticed without a trace in its folder", async () => {
  program("clang");
  expect(await names()).toEqual(["clang", "gcc"]);
  chmodSync(join(bin(), "clang"), 0o644);
  expect(await names()).toEqual(["gcc"]);
});

test("a folder that has just changed is listed again each time", async () => {
  masquerade = counting(createClock());
  await names();
  await names();
  expect(lists).toBe(2);
});

test("a folder of names that somebody removed is made again", async () => {
  rmSync(await masquerade(), { recursive: true });
  expect(await names()).toEqual(["gcc"]);
});
