import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { isMeshError } from "../base/errors.ts";
import { readArchive } from "./ar-members.ts";
import { type ReadAt, readElf } from "./link-elf.ts";
import { createLinkFiles, type LinkFile } from "./link-files.ts";
import { readLinkerScript } from "./link-script.ts";
import { createLinkWorld, type LinkWorld } from "./link-world.contract.ts";

let world: LinkWorld;
let is: (name: string) => Promise<LinkFile | undefined>;
const at = (name: string): string => join(world.folder, name);

beforeAll(() => {
  world = createLinkWorld();
  const files = createLinkFiles(world.deps.disk, world.deps.view);
  is = async (name) => (await files.find(world.deps.view.look(), at(name)))?.is();
  world.write("a.c", "int a(void) { return 1; }\n");
  world.make("gcc", "-fPIC -c a.c -o a.o");
  world.make("gcc", "-fPIC -m32 -c a.c -o a32.o");
  world.make("gcc", "-flto -fPIC -c a.c -o lto.o");
  world.make("gcc", "-flto -ffat-lto-objects -fPIC -c a.c -o fat.o");
  world.make("gcc", "-shared a.o -o libb.so -Wl,-soname,libb.so.1");
  world.make(
    "gcc",
    "-shared a.o -o liba.so -Wl,--no-as-needed -L. -lb -Wl,-rpath,$ORIGIN/x:/y -nostdlib",
  );
  world.make("ar", "rcs liba.a a.o");
  world.make("gcc-ar", "rcs liblto.a a.o lto.o");
  world.write("ü.c", "");
  world.make("ar", "rcs names.a a.o ü.c");
  world.make("ar", "rcST thin.a a.o ü.c");
  world.write("a_long_name_with_ü_in_it.c", "");
  world.make("ar", "rcs long.a a_long_name_with_ü_in_it.c a.o liba.so");
});
afterAll(() => world.close());

test("files are what a linker takes them for", async () => {
  expect(await is("a.o")).toEqual({ kind: "object", machine: "64-62", lto: false });
  expect(await is("a32.o")).toEqual({ kind: "object", machine: "32-3", lto: false });
  expect(await is("lto.o")).toMatchObject({ kind: "object", lto: true });
  expect(await is("fat.o")).toMatchObject({ kind: "object", lto: true });
  expect(await is("libb.so")).toMatchObject({ kind: "shared", soname: "libb.so.1", runPath: [] });
  expect(await is("liba.so")).toEqual({
    kind: "shared",
    machine: "64-62",
    soname: undefined,
    needed: ["libb.so.1"],
    runPath: ["$ORIGIN/x", "/y"],
  });
  expect(await is("liba.a")).toEqual({ kind: "archive", machine: "64-62", lto: false });
  expect(await is("liblto.a")).toMatchObject({ kind: "archive", lto: true });
  expect(await is("thin.a")).toEqual({ kind: "thin", members: ["a.o", "ü.c"] });
  world.write("s.so", "INPUT(a.o)");
  expect(await is("s.so")).toMatchObject({ kind: "script" });
  world.write("nul", "\0");
  expect(await is("nul")).toEqual({ kind: "other" });
  expect(await is("none")).toBeUndefined();
});

test("names of members are right, long ones and ones that are no ASCII too", async () => {
  const namesIn = async (name: string): Promise<unknown> => {
    const bytes = readFileSync(at(name));
    const found = await readArchive(readerOf(bytes), bytes.length);
    return found?.members.map((member) => member.name);
  };
  expect(await namesIn("names.a")).toEqual(["a.o", "ü.c"]);
  expect(await namesIn("long.a")).toEqual(["a_long_name_with_ü_in_it.c", "a.o", "liba.so"]);
});

test("a file that changed between two readings is not mistaken for what it was", async () => {
  // Large enough to be read twice: once for its digest, once to see what it is.
  const padding = "x".repeat(400_000);
  world.write("big", `INPUT(a.o) /* ${padding} */`);
  const files = createLinkFiles(world.deps.disk, world.deps.view);
  const found = await files.find(world.deps.view.look(), at("big"));
  world.write("big", `INPUT(b.o) /* ${padding} */`);
  await expect(found?.is()).rejects.toMatchObject({ code: "io" });
  world.write("big", `INPUT(a.o) /* ${padding} */`);
  expect(await found?.is()).toMatchObject({ wishes: { inputs: ["a.o"] } });
});

test("a broken file is refused, and nothing else happens", async () => {
  let seed = 1;
  const below = (bound: number): number => {
    seed = (seed * 48_271) % 2_147_483_647;
    return seed % bound;
  };
  for (const name of ["liba.so", "a.o", "lto.o", "liblto.a", "long.a", "thin.a"]) {
    const whole = readFileSync(at(name));
    for (let round = 0; round < 400; round++) {
      const bytes = Buffer.from(whole.subarray(0, round % 2 ? whole.length : below(whole.length)));
      const headers = Math.min(bytes.length, 400);
      for (let i = below(6); i > 0 && headers > 0; i--) bytes[below(headers)] = below(256);
      writeFileSync(at("broken"), bytes);
      await is("broken").catch((error: unknown) => {
        if (!isMeshError(error, "malformed", "limit")) throw error;
      });
      await readElf(readerOf(bytes)).catch((error: unknown) => {
        if (!isMeshError(error, "malformed", "limit")) throw error;
      });
    }
  }
});

test("linker scripts say what they open", () => {
  expect(
    readLinkerScript(
      '/* INPUT(no) */ GROUP ( /lib/a.so.6 -lb, "c d.a" AS_NEEDED ( e.so ) )\nSEARCH_DIR("=/x");INCLUDE more.ld STARTUP(first.o)',
    ),
  ).toEqual({
    inputs: ["/lib/a.so.6", "-lb", "c d.a", "e.so", "first.o"],
    folders: ["=/x"],
    scripts: ["more.ld"],
    strange: false,
  });
  expect(readLinkerScript("OUTPUT(x)").strange).toBe(true);
  expect(readLinkerScript("INPUT(").inputs).toEqual([]);
});

function readerOf(bytes: Buffer): ReadAt {
  return async (offset, lengthBytes) => bytes.subarray(offset, offset + lengthBytes);
}
