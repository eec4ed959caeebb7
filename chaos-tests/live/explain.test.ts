/** What `mesh why` and `--trace` say of real builds, while the nodes run and when they are gone. */
import { appendFile, mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { has, type MeshBuilt, meshBuild, testMaxMs } from "./builds.ts";
import {
  type CommandResult,
  copyExample,
  createWorld,
  end,
  type LiveNode,
  meet,
  startMesh,
  type World,
} from "./nodes.ts";

const canBuild = has("gcc") && has("make");
let world: World;
let owner: LiveNode;
let peer: LiveNode;
/** A source with a header, and one that has the time in it. */
let source: string;

beforeAll(async () => {
  world = await createWorld();
  source = join(world.folder, "small");
  await mkdir(join(source, "include"), { recursive: true });
  await mkdir(join(source, "other"));
  await writeFile(join(source, "a.c"), '#include "x.h"\nint a = X;\n');
  await writeFile(join(source, "time.c"), "const char *at = __TIME__;\n");
  await writeFile(join(source, "main.c"), "int main(void) { return 0; }\n");
  await writeFile(join(source, "include/x.h"), "#define X 1\n");
  const nodes = await startMesh(world, 2);
  if (nodes[0] === undefined || nodes[1] === undefined) throw new Error("no mesh");
  [owner, peer] = [nodes[0], nodes[1]];
}, testMaxMs);
afterAll(() => world?.close());

interface Told {
  readonly task: string;
  readonly source: string;
  readonly signer?: string;
  readonly signerName?: string;
  readonly whyHere?: string;
  readonly kept?: string;
  readonly miss: {
    readonly at: string;
    readonly differences?: readonly {
      readonly what: string;
      readonly change: string;
      readonly name: string;
    }[];
  };
}

/** On this machine alone, unless told otherwise. */
function compile(
  args: string,
  { node = owner, flags = ["--no-steal"], env = {} as Readonly<Record<string, string>> } = {},
): Promise<MeshBuilt> {
  const command = ["exec", ...flags, "--", "gcc", ...args.split(" ")];
  return meshBuild(world, node, command, { cwd: source, env });
}

const why = (query: string, node: LiveNode | string = owner): Promise<CommandResult> =>
  world.mesh(node, ["why", query], { cwd: source });

async function told(query: string, node = owner): Promise<Told> {
  const { stdout } = await world.mesh(node, ["why", "--json", query], { cwd: source });
  const { tasks } = JSON.parse(stdout) as { tasks: Told[] };
  expect(tasks).toHaveLength(1);
  return tasks[0] as Told;
}

test.skipIf(!canBuild)(
  "why names what has changed since the nearest compile before",
  async () => {
    const plain = "-Iinclude -c a.c";
    await compile(plain);
    expect((await told("a.c")).miss).toEqual({ at: "first" });
    expect((await why("a.c")).stdout).toMatch(/miss +nothing like it is remembered/);

    await writeFile(join(source, "include/x.h"), "#define X 2\n");
    await compile(plain);
    const header = { what: "input", change: "changed", name: join(source, "include/x.h") };
    expect((await told("a.c")).miss).toMatchObject({ at: "differs", differences: [header] });
    expect((await why("a.c")).stdout).toContain(`input changed: ${header.name}`);

    await compile(`-DNDEBUG ${plain}`);
    const flag = { what: "argument", change: "added", name: "-DNDEBUG" };
    expect((await told("a.o")).miss).toMatchObject({ at: "differs", differences: [flag] });
    expect((await why("a.o")).stdout).toContain("argument added: -DNDEBUG");

    await compile(`-DNDEBUG ${plain}`, { env: { CPATH: join(source, "other") } });
    const variable = { what: "variable", change: "added", name: "CPATH" };
    const { miss } = await told("a.c");
    expect(miss.differences).toContainEqual(expect.objectContaining(variable));
    expect((await why("a.c")).stdout).toContain(`variable added: CPATH: ${join(source, "other")}`);

    const known = await compile(plain);
    expect(known.summary.cachedLocal).toBe(1);
    const { task } = await told("a.c");
    expect((await why(task)).stdout).toMatch(/ran +not at all: its result was known here/);
    await compile(plain, { flags: ["--no-steal", "--no-cache-read"] });
    expect((await why("a.c")).stdout).toMatch(/miss +the very same was done .*--no-cache-read/);
    expect((await why(task)).stdout).toMatch(/ran +not at all/);
  },
  testMaxMs,
);

test.skipIf(!canBuild)(
  "why says what stays here, and why nothing of it is remembered",
  async () => {
    await compile("-c time.c");
    expect(await told("time.c")).toMatchObject({ source: "here", whyHere: "time-macro" });
    expect((await why("time.c")).stdout).toMatch(/here +because it uses __DATE__.*\[time-macro\]/);
    await compile("-c main.c");
    await compile("main.o -o main");
    expect(await told("main")).toMatchObject({ source: "here", whyHere: "link" });
    expect((await why("main")).stdout).toMatch(/here +because it links.*\n(.*\n)* +kept +yes/);
    expect((await why("main.c")).stdout).toMatch(/here +because --no-steal .*\[no-steal\]/);
    await compile("main.c -o main");
    expect((await why("main")).stdout).toMatch(/\[compile-and-link\]/);
  },
  testMaxMs,
);

test.skipIf(!canBuild)(
  "why names the peer whose signature a known result has, and needs no running node",
  async () => {
    await compile("-c -g main.c");
    for (let tries = 0; tries < 20; tries += 1) {
      // A home that is slow to answer counts as one that does not know.
      const flags = ["--no-steal", "--no-cache-write"];
      const { summary } = await compile("-c -g main.c", { node: peer, flags });
      if (summary.cachedMesh === 1) break;
    }
    const signed = { source: "cached-mesh", signer: owner.peerId, signerName: "node-0" };
    expect(await told("main.c", peer)).toMatchObject(signed);
    await end(peer);
    const { stdout, exitCode } = await why("main.c", peer);
    expect(exitCode).toBe(0);
    expect(stdout).toContain(`known in the mesh, signed by node-0 (${owner.peerId})`);
    expect(await why("no-such.c", peer)).toMatchObject({ exitCode: 1, stdout: "" });
    expect((await why("no-such.c", owner)).stderr).toContain("no compile of no-such.c");
    expect(await why("a.c", join(world.folder, "nobody"))).toMatchObject({ exitCode: 1 });
  },
  testMaxMs,
);

interface Drawn {
  readonly name: string;
  readonly ph: string;
  readonly cat?: string;
  readonly pid: number;
  readonly tid: number;
  readonly ts: number;
  readonly dur: number;
  readonly args: { readonly task?: string; readonly name?: string };
}

async function tracedBuild(node: LiveNode, project: string, ...flags: string[]) {
  await rm(join(project, "build"), { recursive: true, force: true });
  const path = join(world.folder, "trace.json");
  const args = ["build", ...flags, "--trace", path, project];
  const { summary } = await meshBuild(world, node, args, { cwd: project });
  const { traceEvents } = JSON.parse(await readFile(path, "utf8")) as { traceEvents: Drawn[] };
  const spans = traceEvents.filter(({ ph }) => ph === "X");
  const rows = new Map<string, Drawn[]>();
  for (const span of spans) {
    const row = `${span.pid} ${span.tid}`;
    rows.set(row, [...(rows.get(row) ?? []), span]);
  }
  for (const row of rows.values()) {
    row.sort((a, b) => a.ts - b.ts);
    for (const [at, { ts, dur }] of row.entries())
      expect(row[at + 1]?.ts ?? Number.POSITIVE_INFINITY).toBeGreaterThanOrEqual(ts + dur);
  }
  const names = traceEvents.flatMap(({ name, args: { name: of } }) =>
    name === "process_name" ? [of] : [],
  );
  return { summary, spans, names };
}

test.skipIf(!canBuild)(
  "a trace has a row for each slot of each node, and every task in one of them",
  async () => {
    const project = join(world.folder, "make");
    await copyExample("make", project);
    const other = await world.start({ invite: owner.invite, name: "other" });
    await meet(world, [owner, other]);
    const cold = await tracedBuild(owner, project);
    const taskOf = ({ args }: Drawn) => args.task;
    const done = cold.spans.filter(({ cat }) => cat === "slot" || cat === "known");
    expect(new Set(done.map(taskOf)).size).toBe(cold.summary.tasks);
    expect(done).toHaveLength(cold.summary.tasks);
    const slots = new Set(done.map(({ pid, tid }) => `${pid} ${tid}`));
    expect(slots.size).toBe(cold.summary.stolen > 0 ? 2 : 1);
    expect(cold.names).toEqual(cold.summary.stolen > 0 ? ["node-0", "other"] : ["node-0"]);

    await appendFile(join(project, "main.c"), "int changed;\n");
    const warm = await tracedBuild(owner, project, "--no-steal");
    const cats = warm.spans.filter(({ cat }) => cat === "slot" || cat === "known");
    expect(cats.map(({ cat }) => cat).sort()).toEqual(["known", "known", "known", "slot", "slot"]);
    await end(other);
  },
  testMaxMs,
);
