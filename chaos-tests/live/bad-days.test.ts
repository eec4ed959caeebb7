/** Known results on bad days: damaged files, full disks, killed nodes, sources that never rest. */
import { execFileSync, spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdir, readdir, readFile, rm, truncate, writeFile } from "node:fs/promises";
import { basename, join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { expectSame, has, type MeshBuilt, meshBuild, testMaxMs } from "./builds.ts";
import { leftovers, snapshot } from "./files.ts";
import {
  cacheStats,
  copyExample,
  createWorld,
  end,
  type LiveNode,
  program,
  storedFiles,
  until,
  type World,
} from "./nodes.ts";

const canBuild = has("gcc") && has("make");
/** Four compiles and the link. */
const tasks = 5;
const outputs = /\.o$|^primes$/;
/** Compiles of the larger project. */
const unitsCount = 60;

let world: World;
let source: string;
let made: Map<string, Buffer>;
/** Many small units, and a last step that waits until somebody stops it when the file `wait` is there. */
let many: string;
let manyMade: Map<string, Buffer>;

beforeAll(async () => {
  world = await createWorld();
  if (!canBuild) return;
  source = join(world.folder, "make");
  await copyExample("make", source);
  expect(await world.run(["make"], source)).toMatchObject({ exitCode: 0 });
  made = await outputsNow();
  many = join(world.folder, "many");
  await mkdir(many);
  const units = Array.from({ length: unitsCount }, (_, index) => `u${index}`);
  for (const name of units) await writeFile(join(many, `${name}.c`), `int ${name} = 1;\n`);
  const objects = units.map((name) => `${name}.o`).join(" ");
  const last = "\tif [ -f wait ]; then sleep 60; fi\n";
  await writeFile(join(many, "Makefile"), `all: ${objects}\n${last}clean:\n\trm -f *.o\n`);
  expect(await world.run(["make"], many)).toMatchObject({ exitCode: 0 });
  manyMade = await snapshot(many, /\.o$/);
}, testMaxMs);
afterAll(() => world?.close());

const outputsNow = () => snapshot(join(source, "build"), outputs);

async function build(node: LiveNode | string, ...flags: string[]): Promise<MeshBuilt> {
  await rm(join(source, "build"), { recursive: true, force: true });
  const built = await meshBuild(world, node, ["build", ...flags, source], { cwd: source });
  expectSame(await outputsNow(), made);
  expect(await leftovers(source)).toEqual([]);
  return built;
}

/** A node that knows everything about the small project, stopped. */
async function stoppedNode(name: string): Promise<LiveNode> {
  const node = await world.start({ name });
  await build(node);
  await end(node);
  const rooms = await readdir(join(node.dataDir, "tmp"));
  expect(rooms.filter((one) => one.startsWith("exec-"))).toEqual([]);
  return node;
}

const startAgain = ({ dataDir }: LiveNode, name: string) => world.start({ dataDir, name });

test.skipIf(!canBuild)(
  "a node whose records are damaged starts, says so, and builds right",
  async () => {
    const stopped = await stoppedNode("records");
    const log = join(stopped.dataDir, "results/log");
    const bytes = await readFile(log);
    // The second entry in its middle, and a last one that was cut short.
    const at = Math.floor((bytes.byteLength * 3) / 10);
    bytes[at] = (bytes[at] ?? 0) ^ 0x10;
    await writeFile(log, bytes);
    await truncate(log, bytes.byteLength - 20);
    const node = await startAgain(stopped, "records");
    await until("it says so", () =>
      node.events.some(
        ({ event, message }) => event === "log" && /cut short or damaged/.test(String(message)),
      ),
    );
    const { summary } = await build(node);
    expect(summary).toMatchObject({ tasks, cachedLocal: tasks - 2, local: 2 });
    expect((await build(node)).summary.cachedLocal).toBe(tasks);
    await end(node);

    // Nothing but noise: it starts with an empty memory.
    await writeFile(log, Buffer.alloc(5000, 0xa5));
    const empty = await startAgain(stopped, "records");
    expect((await build(empty)).summary.local).toBe(tasks);
    await end(empty);
  },
  testMaxMs,
);

test.skipIf(!canBuild)(
  "a node that has lost half of its files does what they held anew",
  async () => {
    const stopped = await stoppedNode("blobs");
    const files = (await storedFiles(stopped)).sort();
    const lost = files.filter((_, index) => index % 2 === 0);
    for (const path of lost) await rm(path);
    const node = await startAgain(stopped, "blobs");
    const { summary } = await build(node);
    expect(summary).toMatchObject({ local: lost.length, cachedLocal: files.length - lost.length });
    expect((await cacheStats(world, node)).refused["blob-missing"]).toBe(lost.length);
    const { stdout } = await world.mesh(node, ["status", "--json"]);
    expect(JSON.parse(stdout).counters).toMatchObject({ refusedResults: lost.length });

    // And under a node that runs, which believes to have them.
    for (const path of (await storedFiles(node)).sort().slice(0, 3)) await rm(path);
    expect((await build(node)).summary.local).toBeGreaterThan(0);
    expect((await build(node)).summary.cachedLocal).toBe(tasks);
    await end(node);
  },
  testMaxMs,
);

/** A small disk of its own; undefined where nobody may mount one. */
function smallDisk(name: string, sizeKiB: number): string | undefined {
  const at = join(world.folder, name);
  try {
    execFileSync("mkdir", [at]);
    execFileSync("mount", ["-t", "tmpfs", "-o", `size=${sizeKiB}k`, "tmpfs", at], {
      stdio: "pipe",
    });
    return at;
  } catch (error) {
    console.warn(`skipped: cannot mount a small tmpfs here: ${String(error).split("\n")[0]}`);
    return undefined;
  }
}

test.skipIf(!canBuild)(
  "a full disk keeps nobody from building, and leaves nothing half-written",
  async () => {
    const disk = smallDisk("small", 16 * 1024);
    if (disk === undefined) return;
    try {
      const dataDir = join(disk, "node");
      const node = await world.start({ dataDir, name: "small" });
      // What is left of the disk.
      execFileSync("sh", ["-c", `dd if=/dev/zero of=${disk}/fill bs=1024 2>/dev/null || true`]);
      expect((await build(node)).summary).toMatchObject({ tasks, local: tasks });
      expect((await build(node)).summary).toMatchObject({ tasks, local: tasks });
      expect((await cacheStats(world, node)).records).toBe(0);
      for (const folder of ["blobs", "tmp"]) {
        const names = await readdir(join(dataDir, folder), {
          recursive: true,
          withFileTypes: true,
        });
        expect(names.filter((one) => one.isFile()).map(({ name }) => name)).toEqual([]);
      }
      await rm(join(disk, "fill"));
      await build(node);
      expect((await build(node)).summary.cachedLocal).toBe(tasks);
      await end(node);
    } finally {
      execFileSync("umount", ["-l", disk]);
    }
  },
  testMaxMs,
);

async function buildMany(node: LiveNode | string): Promise<MeshBuilt> {
  await world.run(["make", "clean"], many);
  return await meshBuild(world, node, ["build", many], { cwd: many });
}

/** Resolves once some of a warm build's results are in place. */
function recalled(node: LiveNode, before: number): Promise<void> {
  const count = () => node.events.filter(({ source: from }) => from === "cached-here").length;
  return until("hits", () => count() > before + 3, 60_000);
}

test.skipIf(!canBuild)(
  "a node that is killed in the middle of hits costs nothing but time",
  async () => {
    const node = await world.start({ name: "killed" });
    expect((await buildMany(node)).summary.local).toBe(unitsCount);
    const building = buildMany(node);
    await recalled(node, 0);
    node.child.kill("SIGKILL");
    const { stderr } = await building;
    expect(stderr).toContain("the node is gone");
    expectSame(await snapshot(many, /\.o$/), manyMade);
    // At most the one file that the killed node was at, under no object's name; until its next start.
    const left = await leftovers(many);
    expect(left.length).toBeLessThan(2);
    for (const name of left) expect(name).toMatch(new RegExp(`^\\.mesh-tmp-${node.child.pid}-`));
    // However far it came, the next node of its directory removes what it may have left.
    const notes = await readFile(join(node.dataDir, "unfinished.log"), "utf8");
    const prefixes = notes
      .trimEnd()
      .split("\n")
      .map((line): string => JSON.parse(line));
    for (const prefix of prefixes) await writeFile(`${prefix}999`, "");
    await writeFile(join(node.dataDir, `${basename(prefixes[0] ?? "")}999`), "");
    expect(await leftovers(many)).not.toEqual([]);
    await end(await world.start({ dataDir: node.dataDir, name: "killed" }));
    expect(await leftovers(many)).toEqual([]);
    const own = await leftovers(node.dataDir);
    expect(own.filter((name) => name.includes(".mesh-tmp-"))).toEqual([]);
    const why = await world.mesh(node, ["why", "u1.c"], { cwd: many });
    expect(why).toMatchObject({ exitCode: 0, stdout: expect.stringContaining("u1.c") });
  },
  testMaxMs,
);

test.skipIf(!canBuild)(
  "a Ctrl-C in the middle of hits leaves whole files or none",
  async () => {
    const node = await world.start({ name: "interrupted" });
    await buildMany(node);
    await world.run(["make", "clean"], many);
    // However quick it is, it does not end before it is stopped.
    await writeFile(join(many, "wait"), "");
    const child = spawn(process.execPath, [program, "build", many], {
      env: { ...process.env, MESH_DIR: node.dataDir },
      stdio: "ignore",
    });
    const exited = new Promise<number | null>((finish) => child.once("exit", finish));
    await recalled(node, 0);
    child.kill("SIGINT");
    expect(await exited).toBe(130);
    await rm(join(many, "wait"));
    await until("idle", async () => {
      const { stdout } = await world.mesh(node, ["status", "--json"]);
      const { busy, queued } = JSON.parse(stdout) as { busy: number; queued: number };
      return busy === 0 && queued === 0;
    });
    expect(await leftovers(many)).toEqual([]);
    for (const [name, bytes] of await snapshot(many, /\.o$/)) {
      expect(manyMade.get(name)?.equals(bytes), name).toBe(true);
    }
    const { summary } = await meshBuild(world, node, ["build", many], { cwd: many });
    expect(summary.local).toBe(0);
    expectSame(await snapshot(many, /\.o$/), manyMade);
    await end(node);
  },
  testMaxMs,
);

test.skipIf(!canBuild)(
  "a source that changes while it is compiled never has another one's object",
  async () => {
    const racing = join(world.folder, "racing");
    await mkdir(racing);
    const variants = Array.from({ length: 6 }, (_, index) => index);
    const write = (index: number) =>
      Promise.all([
        writeFile(join(racing, "a.c"), `#include "a.h"\nint a = ${index};\nint b = B;\n`),
        writeFile(join(racing, "a.h"), `#define B ${index}\n`),
      ]);
    const object = () => readFile(join(racing, "a.o"));
    const makefile = `all: a.o c.o\n%.o: %.c FORCE\n\tgcc -g -O1 -c $< -o $@\nFORCE:\n`;
    await writeFile(join(racing, "Makefile"), makefile);
    await writeFile(join(racing, "c.c"), '#include "a.h"\nint c = B;\n');
    const plain: Buffer[] = [];
    for (const index of variants) {
      await write(index);
      expect(await world.run(["gcc", "-g", "-O1", "-c", "a.c"], racing)).toMatchObject({
        exitCode: 0,
      });
      plain.push(await object());
    }
    const node = await world.start({ name: "racing-node", slots: 2 });
    let isRacing = true;
    const race = (async () => {
      for (let turn = 0; isRacing; turn += 1) {
        await write(turn % variants.length);
        await new Promise((wake) => setTimeout(wake, turn % 7));
      }
    })();
    // Half-written sources do not compile, which is as it should be.
    const rounds = "for i in $(seq 12); do make -s -k -j2 all || true; done";
    const raced = meshBuild(world, node, ["exec", "--", "sh", "-c", rounds], { cwd: racing });
    const { summary } = await raced.finally(() => {
      isRacing = false;
      return race;
    });
    expect(summary.tasks).toBe(24);
    for (const index of variants) {
      await write(index);
      for (let again = 0; again < 2; again += 1) {
        await meshBuild(world, node, ["build", racing], { cwd: racing });
        expect((await object()).equals(plain[index] ?? Buffer.alloc(0)), `${index}`).toBe(true);
      }
    }
    expect(existsSync(join(racing, "a.o"))).toBe(true);
    await end(node);
  },
  testMaxMs,
);
