/** Known results on real nodes: found wherever they are, never wrong, and gone with their holders. */
import { appendFile, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { drawAll, expectSame, has, hits, type MeshBuilt, meshBuild, testMaxMs } from "./builds.ts";
import { leftovers, snapshot } from "./files.ts";
import {
  type CacheStats,
  cacheStats,
  copyExample,
  createWorld,
  damage,
  end,
  type LiveNode,
  meet,
  storedAs,
  until,
  type World,
} from "./nodes.ts";

let world: World;
beforeAll(async () => {
  world = await createWorld();
});
afterAll(() => world?.close());

describe.skipIf(!has("cmake") || !has("g++"))("a CMake project that one node has built", () => {
  /** Nine compiles and the link. */
  const tasks = 10;
  const outputs = /\.o$|\.d$|^textstat$/;
  let source: string;
  let first: LiveNode;
  let second: LiveNode;
  let cold: MeshBuilt;
  let made: Map<string, Buffer>;

  const buildOn =
    (node: LiveNode) =>
    async (...flags: string[]): Promise<MeshBuilt> => {
      await rm(join(source, "build"), { recursive: true, force: true });
      return await meshBuild(
        world,
        node,
        ["build", ...flags, source, "--", "-DCMAKE_BUILD_TYPE=Debug"],
        { cwd: source, env: { CMAKE_GENERATOR: "Unix Makefiles" } },
      );
    };
  const outputsNow = () => snapshot(join(source, "build"), outputs);
  const warnings = ({ stderr }: MeshBuilt) =>
    stderr.split("\n").filter((line) => line.includes("spare"));

  beforeAll(async () => {
    source = join(world.folder, "cpp");
    await copyExample("cpp", source);
    await appendFile(join(source, "src/crc.c"), "static int spare;\n");
    first = await world.start();
    cold = await buildOn(first)();
    made = await outputsNow();
  }, testMaxMs);

  test("is all done here the first time", () => {
    expect(hits(cold.summary)).toBe(0);
    expect(cold.summary.local).toBeGreaterThanOrEqual(tasks);
    expect(made.size).toBeGreaterThan(tasks);
    expect(warnings(cold).length).toBeGreaterThan(1);
  });

  test(
    "is taken from there by a node that has just joined, warnings too, and then known there",
    async () => {
      second = await world.start({ invite: first.invite });
      await meet(world, [first, second]);
      const { fromMesh, built } = await drawAll(buildOn(second), tasks);
      expect(fromMesh).toBe(tasks);
      expectSame(await outputsNow(), made);
      expect(warnings(built)).toEqual(warnings(cold));

      const again = await buildOn(second)();
      expect(again.summary).toMatchObject({ cachedLocal: tasks, cachedMesh: 0, stolen: 0 });
      expectSame(await outputsNow(), made);
      expect(warnings(again)).toEqual(warnings(cold));
    },
    testMaxMs,
  );

  test(
    "is had from the second when the first is gone, and still signed by the first",
    async () => {
      await end(first, "SIGKILL");
      const third = await world.start({ invite: second.invite });
      await meet(world, [second, third]);
      const { fromMesh } = await drawAll(buildOn(third), tasks);
      expect(fromMesh).toBe(tasks);
      expectSame(await outputsNow(), made);
      const asked = await world.mesh(third, ["why", "--json", "crc.c"], { cwd: source });
      expect(JSON.parse(asked.stdout)).toMatchObject({
        tasks: [{ signer: first.peerId, label: expect.stringContaining("crc.c") }],
      });
    },
    testMaxMs,
  );
});

describe.skipIf(!has("gcc") || !has("make"))("a small project", () => {
  /** Four compiles and the link. */
  const tasks = 5;
  const outputs = /\.o$|^primes$/;
  let source: string;
  let made: Map<string, Buffer>;
  let first: LiveNode;

  const buildOn =
    (node: LiveNode) =>
    async (...flags: string[]): Promise<MeshBuilt> => {
      await rm(join(source, "build"), { recursive: true, force: true });
      return await meshBuild(world, node, ["build", ...flags, source], { cwd: source });
    };
  const outputsNow = () => snapshot(join(source, "build"), outputs);
  const object = () => join(source, "build/main.o");

  beforeAll(async () => {
    source = join(world.folder, "make");
    await copyExample("make", source);
    expect(await world.run(["make"], source)).toMatchObject({ exitCode: 0 });
    made = await outputsNow();
    expect(made.size).toBe(tasks);
    first = await world.start();
  }, testMaxMs);

  test(
    "is remembered and recalled as the flags say",
    async () => {
      const build = buildOn(first);
      const done = { local: tasks, cachedLocal: 0, cachedMesh: 0, stolen: 0 };
      const known = { local: 0, cachedLocal: tasks, cachedMesh: 0, stolen: 0 };
      expect((await build("--no-cache")).summary).toMatchObject(done);
      expect((await build("--no-cache-write")).summary).toMatchObject(done);
      expect((await build("--no-cache-read")).summary).toMatchObject(done);
      expect((await build("--no-cache-write")).summary).toMatchObject(known);
      expect((await build("--no-cache-read")).summary).toMatchObject(done);
      expect((await build("--no-cache")).summary).toMatchObject(done);
      expect((await build()).summary).toMatchObject(known);
      expectSame(await outputsNow(), made);
    },
    testMaxMs,
  );

  test(
    "can be compared with what is made here, whoever it came from",
    async () => {
      const second = await world.start({ invite: first.invite });
      await meet(world, [first, second]);
      const { summary, stderr } = await buildOn(second)("--compare");
      expect(summary.cachedMesh).toBeGreaterThan(0);
      expect(summary).toMatchObject({ compared: hits(summary) + summary.stolen, differing: 0 });
      expect(stderr).toContain("all came out the same");
      expectSame(await outputsNow(), made);
      await end(second);
    },
    testMaxMs,
  );

  test(
    "keeps what is known when a build changes an output in place",
    async () => {
      await buildOn(first)();
      await writeFile(object(), "something else", { flag: "r+" });
      expect((await buildOn(first)()).summary.cachedLocal).toBe(tasks);
      expectSame(await outputsNow(), made);
    },
    testMaxMs,
  );

  test(
    "never gets an object that has rotten, here or on a peer, and verify finds it",
    async () => {
      await buildOn(first)();
      const second = await world.start({ invite: first.invite });
      await meet(world, [first, second]);
      await drawAll(buildOn(second), tasks);
      const bytes = await readFile(object());
      for (const node of [first, second]) await damage(await storedAs(node, bytes));
      for (const node of [second, first]) {
        const { summary } = await buildOn(node)("--no-cache-write");
        expectSame(await outputsNow(), made);
        expect(summary.local + summary.stolen).toBeGreaterThan(0);
      }
      expect(await leftovers(source)).toEqual([]);
      for (const node of [first, second]) {
        const other = await storedAs(node, await readFile(join(source, "build/print.o")));
        await damage(other);
        const verified = await world.mesh(node, ["cache", "verify", "--json"]);
        expect(verified.exitCode).toBe(1);
        expect(JSON.parse(verified.stdout).corrupt).toHaveLength(1);
        // What a peer had is not bad because it has to be fetched again.
        expect(JSON.parse(verified.stdout).badRecords.length > 0).toBe(node === first);
        expect((await world.mesh(node, ["cache", "verify"])).exitCode).toBe(0);
        expect((await cacheStats(world, node)).quarantined).toBeGreaterThan(1);
      }
      await end(second);
    },
    testMaxMs,
  );

  test(
    "is built where everybody who had the results is gone",
    async () => {
      const second = await world.start({ invite: first.invite });
      const third = await world.start({ invite: first.invite });
      await meet(world, [first, second, third]);
      await appendFile(join(source, "main.c"), "/* another one */\n");
      const built = await buildOn(second)("--no-steal", "--no-cache-read");
      expect(built.summary.local).toBe(tasks);
      const wanted = await outputsNow();
      await until("the third has been told", async () => {
        const { records }: CacheStats = await cacheStats(world, third);
        return records >= tasks;
      });
      await end(first, "SIGKILL");
      await end(second, "SIGKILL");
      const { summary } = await buildOn(third)();
      expect(hits(summary)).toBe(0);
      expectSame(await outputsNow(), wanted);
      expect(await leftovers(source)).toEqual([]);
      expect((await buildOn(third)()).summary.cachedLocal).toBe(tasks);
    },
    testMaxMs,
  );
});
