/** Real builds on three real nodes: stolen, byte-identical, and they run. */
import { mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { expectSame, has, meshBuild as meshBuildFrom, type Summary, testMaxMs } from "./builds.ts";
import { snapshot } from "./files.ts";
import { copyExample, createWorld, end, type LiveNode, startMesh, type World } from "./nodes.ts";

const examples = resolve(import.meta.dirname, "../../examples");
let world: World;
let nodes: LiveNode[];

beforeAll(async () => {
  world = await createWorld();
  nodes = await startMesh(world, 3);
}, 90_000);

afterAll(() => world?.close());

/** Builds with the mesh from node 0. */
async function meshBuild(
  args: readonly string[],
  cwd: string,
  env: Record<string, string> = {},
): Promise<Summary> {
  const [node] = nodes;
  if (node === undefined) throw new Error("no node");
  return (await meshBuildFrom(world, node, args, { cwd, env })).summary;
}

/** leveldb, as the npm package classic-level carries it, less the one file that lacks a patch. */
async function unpackLeveldb(): Promise<string | undefined> {
  const folder = join(world.folder, "classic-level");
  await mkdir(folder);
  const packed = await world.run(["npm", "pack", "--silent", "classic-level@3.0.0"], folder);
  if (packed.exitCode !== 0) {
    console.warn(
      `skipped: classic-level cannot be had from the package registry: ${packed.stderr}`,
    );
    return undefined;
  }
  await world.run(["tar", "xzf", packed.stdout.trim()], folder);
  const source = join(folder, "package/deps/leveldb/leveldb-1.20");
  await world.run(["chmod", "+x", "build_detect_platform"], source);
  await rm(join(source, "db/c.cc"));
  await writeFile(
    join(source, "try.cc"),
    `#include <cstdio>
#include <memory>
#include "leveldb/db.h"
int main(int, char** argv) {
  leveldb::DB* opened;
  leveldb::Options options;
  options.create_if_missing = true;
  if (!leveldb::DB::Open(options, argv[1], &opened).ok()) return 1;
  std::unique_ptr<leveldb::DB> db(opened);
  for (int i = 0; i < 1000; i++) db->Put({}, std::to_string(i), std::to_string(i * i));
  std::unique_ptr<leveldb::Iterator> it(db->NewIterator({}));
  long sum = 0;
  for (it->SeekToFirst(); it->Valid(); it->Next()) sum += std::stol(it->value().ToString());
  std::printf("%ld\\n", sum);
}
`,
  );
  return source;
}

test.skipIf(!has("g++") || !has("make"))(
  "leveldb builds with its own Makefile, stolen and byte-identical, and works",
  async () => {
    const source = await unpackLeveldb();
    if (source === undefined) return;
    const target = ["out-static/libleveldb.a"];
    expect(await world.run(["make", "-j2", ...target], source)).toMatchObject({ exitCode: 0 });
    const plain = await snapshot(join(source, "out-static"), /\.(o|a)$/);
    expect(plain.size).toBeGreaterThan(30);
    expect(await world.run(["make", "clean"], source)).toMatchObject({ exitCode: 0 });

    const summary = await meshBuild(["build", source, "--", ...target], source);
    expectSame(await snapshot(join(source, "out-static"), /\.(o|a)$/), plain);
    expect(summary.stolen).toBeGreaterThan(0);
    expect(
      summary.fallback.filter(({ reason }) => /remote exit|malformed|corrupt/.test(reason)),
    ).toEqual([]);

    const link = [
      "g++",
      "-Iinclude",
      "-o",
      "try",
      "try.cc",
      "out-static/libleveldb.a",
      "-lpthread",
    ];
    expect((await world.run(link, source)).exitCode).toBe(0);
    const tried = await world.run([join(source, "try"), join(world.folder, "db")], source);
    expect(tried.stdout.trim()).toBe("332833500");
  },
  testMaxMs,
);

test.skipIf(!has("cmake") || !has("g++"))(
  "a CMake project of C and C++ builds, stolen and byte-identical, and works",
  async () => {
    const source = join(world.folder, "cpp");
    await copyExample("cpp", source);
    const outputs = /\.o$|\.d$|^textstat$/;
    // Make, because ninja takes the dependency files away once it has read them.
    expect(await world.run(["cmake", "-B", "build", "-G", "Unix Makefiles"], source)).toMatchObject(
      { exitCode: 0 },
    );
    expect(await world.run(["cmake", "--build", "build", "-j2"], source)).toMatchObject({
      exitCode: 0,
    });
    const plain = await snapshot(join(source, "build"), outputs);
    expect(plain.size).toBeGreaterThan(8);
    await rm(join(source, "build"), { recursive: true });

    const summary = await meshBuild(["build", source], source, {
      CMAKE_GENERATOR: "Unix Makefiles",
    });
    expectSame(await snapshot(join(source, "build"), outputs), plain);
    expect(summary.stolen).toBeGreaterThan(0);
    const ran = await world.run([join(source, "build/textstat"), "CMakeLists.txt"], source);
    expect(ran.stdout).toMatch(/lines +14/);
  },
  testMaxMs,
);

test.skipIf(!has("cargo"))(
  "a Cargo workspace with a proc-macro, a build script and a binary builds, stolen and byte-identical",
  async () => {
    const source = join(world.folder, "cargo");
    await copyExample("cargo", source);
    const outputs = /\.(rlib|rmeta|so)$|^app-[0-9a-f]+$|^app$/;
    const release = join(source, "target/release");
    expect(await world.run(["cargo", "build", "--release", "-j2"], source)).toMatchObject({
      exitCode: 0,
    });
    const plain = await snapshot(release, outputs);
    expect(plain.size).toBeGreaterThan(8);
    await rm(join(source, "target"), { recursive: true });

    await meshBuild(["build", source, "--", "--release"], source);
    expectSame(await snapshot(release, outputs), plain);
    // While peers still fetched the toolchain, this node's own backups may have been faster, and it
    // has learned so. They have the toolchain now, and who has just joined has learned nothing.
    await rm(join(source, "target"), { recursive: true });
    const again = ["build", source, "--no-cache", "--", "--release"];
    const newcomer = await world.start({
      name: "newcomer",
      invite: nodes[0]?.invite ?? "",
      slots: 1,
    });
    const { summary } = await meshBuildFrom(world, newcomer, again, { cwd: source });
    await end(newcomer);
    expectSame(await snapshot(release, outputs), plain);
    expect(summary.stolen).toBeGreaterThan(0);
    const ran = await world.run([join(release, "app")], source);
    expect(ran.stdout).toContain("144 by build script");
  },
  testMaxMs,
);

test(
  "a WebAssembly job counts the words of a real text on several nodes",
  async () => {
    const license = await readFile(
      resolve(import.meta.dirname, "../../node_modules/typescript/ThirdPartyNoticeText.txt"),
    ).catch(() => readFile(resolve(import.meta.dirname, "../../package-lock.json")));
    const input = join(world.folder, "text.txt");
    const text = Buffer.concat(
      Array.from({ length: Math.ceil(3e6 / license.byteLength) }, () => license),
    );
    await writeFile(input, text);
    const output = join(world.folder, "counts.txt");
    const [node] = nodes;
    if (node === undefined) throw new Error("no node");
    const job = join(examples, "wordcount/job.json");
    const ran = await world.mesh(node, ["run", job, "--input", input, "--output", output]);
    expect(ran).toMatchObject({ exitCode: 0 });

    const counts = new Map<string, number>();
    const words =
      text
        .toString("latin1")
        .toLowerCase()
        .match(/[a-z0-9\x80-\xff]+/g) ?? [];
    for (const word of words) counts.set(word, (counts.get(word) ?? 0) + 1);
    const lines = (await readFile(output, "latin1")).trim().split("\n");
    const counted = new Map(
      lines.map((line) => {
        const [count = "", word = ""] = line.split(" ");
        return [word, Number(count)];
      }),
    );
    expect(counted.get("the")).toBe(counts.get("the"));
    expect([...counted.values()].reduce((a, b) => a + b)).toBe(words.length);
    const stolen = nodes
      .slice(1)
      .flatMap(({ events }) =>
        events.filter(
          ({ event, label }) => event === "foreign-done" && String(label).startsWith("wordcount"),
        ),
      );
    expect(stolen.length).toBeGreaterThan(0);
  },
  testMaxMs,
);
