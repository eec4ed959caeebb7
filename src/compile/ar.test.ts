import { copyFileSync, readFileSync, rmSync, utimesSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { encodeAction } from "../action/encode.ts";
import { createArPlanner } from "./ar.ts";
import {
  createLinkWorld,
  expectFaithful,
  expectStaged,
  type LinkWorld,
  mustPlan,
  programAt,
  reasonFor,
} from "./link-world.contract.ts";
import type { Planner } from "./plan.ts";

const archivers = ["ar", "llvm-ar"].flatMap((name) => {
  const path = programAt(name);
  return path === "" ? [] : [{ name, path }];
});
if (archivers.length < 2) console.warn(`only ${archivers.map(({ name }) => name)} are here`);

let world: LinkWorld;
let plan: Planner;

beforeAll(() => {
  world = createLinkWorld();
  plan = createArPlanner(world.deps, { platform: "linux/test", timeoutMs: 60_000 });
  world.write("one.c", "int one(void) { return 1; }\n");
  world.write("two.c", "int two(void) { return 2; }\n");
  world.write("a/x", "");
  for (const name of ["one", "two"]) world.make("gcc", `-c ${name}.c -o ${name}.o`);
  world.make("gcc", "-c two.c -o a/one.o");
  world.make("gcc", "-c two.c -o name_longer_than_a_header.o");
  world.write("objects.rsp", "one.o two.o\n");
});
afterAll(() => world.close());

const at = (name: string): string => join(world.folder, name);

describe.each(archivers)("$name", ({ name, path }) => {
  const asked = (args: string) => world.invocation(path, args.split(" "));

  test.each([
    "rcs lib.a one.o two.o",
    "-rcs lib.a one.o two.o",
    "qc lib.a one.o two.o",
    "cr lib.a one.o",
    "crS lib.a one.o",
    "rcsD lib.a one.o",
    "cru lib.a one.o two.o",
    "rcv lib.a one.o",
    "r lib.a one.o",
    "rcs lib.a name_longer_than_a_header.o one.o",
    "rcs lib.a a/one.o two.o",
    "rcs lib.a one.o a/one.o",
    "rcs a/lib.a one.c",
    "rcs lib.a @objects.rsp",
  ])("%s gives the same bytes anywhere", async (args) => {
    const planned = await expectFaithful(plan, asked(args));
    if (name === "ar") expectStaged(world.stage, asked(args), planned);
    expect(planned.whyHere).toBe("ar");
  });

  test("replacing every member is making the archive anew", async () => {
    const { spec, checkHere } = await mustPlan(plan, asked("rcs lib.a one.o two.o"));
    world.make(path, "rcs lib.a one.o two.o");
    const fresh = readFileSync(at("lib.a"));
    rmSync(at("lib.a"));
    // The same names with other contents.
    world.make("gcc", "-c one.c -g -o a/two.o");
    world.make(path, "rcs lib.a a/one.o a/two.o");
    expect((await mustPlan(plan, asked("rcs lib.a one.o two.o"))).spec).toEqual(spec);
    await expect(checkHere?.()).rejects.toMatchObject({ code: "refused" });
    world.make(path, "rcs lib.a one.o two.o");
    expect(readFileSync(at("lib.a")).equals(fresh)).toBe(true);
    await expect(checkHere?.()).resolves.toBeUndefined();
    rmSync(at("lib.a"));
  });

  test("an archive with other members, or one that is added to, stays here", async () => {
    world.make(path, "rcs lib.a one.o");
    for (const args of [
      "rcs lib.a one.o two.o",
      "rcs lib.a two.o",
      "qc lib.a one.o",
      "rs lib.a one.o",
      "rcv lib.a one.o",
    ])
      expect(await reasonFor(plan, asked(args)), args).toBe("archive-update");
    expect(await reasonFor(plan, asked("rcs lib.a one.o"))).toBe("goes");
    // Only GNU ar says that it does not compare times then.
    expect(await reasonFor(plan, asked("cru lib.a one.o"))).toBe(
      name === "ar" ? "goes" : "archive-update",
    );
    copyFileSync(at("one.o"), at("lib.a"));
    expect(await reasonFor(plan, asked("rcs lib.a one.o"))).toBe("archive-update");
    rmSync(at("lib.a"));
  });

  test.each([
    ["rcsU lib.a one.o", "archive-times"],
    ["rco lib.a one.o", "archive-times"],
    ["rcsT lib.a one.o", "archive-thin"],
    ["--thin rcs lib.a one.o", "archive-thin"],
    ["rb one.o lib.a two.o", "archive-position"],
    ["t lib.a", "archive-operation t"],
    ["x lib.a", "archive-operation x"],
    ["d lib.a one.o", "archive-operation d"],
    ["m lib.a one.o", "archive-operation m"],
    ["p lib.a", "archive-operation p"],
    ["s lib.a", "archive-operation s"],
    ["rcP lib.a one.o", "unknown-flag P"],
    ["rcs lib.a", "no-input"],
    ["rcs --plugin x lib.a one.o", "plugin"],
    ["--version", "unknown-flag --version"],
    ["rq lib.a one.o", "bad-arguments"],
    ["rcs lib.a none.o", "input-missing none.o"],
    ["rcs lib.a lto.o", "lto lto.o"],
    ["rcs /dev/null one.o", "output-special"],
    ["rcs none/lib.a one.o", "output-folder"],
    ["rcs one.o one.o", "archive-update"],
  ])("%s stays here", async (args, reason) => {
    world.make("gcc", "-flto -c one.c -o lto.o");
    expect(await reasonFor(plan, asked(args))).toBe(reason);
  });

  test("the action is named by contents and options", async () => {
    const digest = async (args: string): Promise<string> =>
      encodeAction((await mustPlan(plan, asked(args))).spec).digest;
    const before = await digest("rcs lib.a one.o two.o");
    utimesSync(at("one.o"), 1, 1);
    expect(await digest("rcs lib.a one.o two.o")).toBe(before);
    expect(await digest("rcs lib.a two.o one.o")).not.toBe(before);
    expect(await digest("rcS lib.a one.o two.o")).not.toBe(before);
    const kept = readFileSync(at("one.o"));
    world.make("gcc", "-O2 -g -c one.c -o one.o");
    expect(await digest("rcs lib.a one.o two.o")).not.toBe(before);
    writeFileSync(at("one.o"), kept);
    expect(await digest("rcs lib.a one.o two.o")).toBe(before);
  });
});

test("an archiver that runs another one with a plugin stays here", async () => {
  const wrapper = programAt("gcc-ar");
  if (wrapper === "") return console.warn("gcc-ar is not here");
  const asked = world.invocation(wrapper, ["rcs", "lib.a", "one.o"]);
  expect(await reasonFor(plan, asked)).toBe("ar-wrapper");
});
