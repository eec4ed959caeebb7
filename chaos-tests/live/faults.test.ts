/** Bad days on real nodes: whatever is killed in mid-build, the build ends with the same bytes. */
import { spawn } from "node:child_process";
import { readdir, readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import {
  copyExample,
  createWorld,
  type LiveNode,
  program,
  startMesh,
  until,
  type World,
} from "./nodes.ts";

const testMaxMs = 180_000;
let world: World;
let source: string;

let plain: Map<string, Buffer>;

beforeAll(async () => {
  world = await createWorld();
  source = join(world.folder, "cpp");
  await copyExample("cpp", source);
  expect(await world.run(["cmake", "-B", "build"], source)).toMatchObject({ exitCode: 0 });
  expect(await world.run(["cmake", "--build", "build", "-j2"], source)).toMatchObject({
    exitCode: 0,
  });
  plain = await objects();
  expect(plain.size).toBeGreaterThan(8);
}, testMaxMs);

beforeEach(() => rm(join(source, "build"), { recursive: true, force: true }));

afterAll(() => world?.close());

async function objects(): Promise<Map<string, Buffer>> {
  const folder = join(source, "build");
  const found = new Map<string, Buffer>();
  for (const entry of await readdir(folder, { recursive: true, withFileTypes: true })) {
    if (!entry.isFile() || !/\.o$|^textstat$/.test(entry.name)) continue;
    const path = join(entry.parentPath, entry.name);
    found.set(path, await readFile(path));
  }
  return found;
}

/** Resolves when `thief` has begun to run something for somebody else. */
function stealing(thief: LiveNode): Promise<void> {
  return until(
    "a foreign task",
    () => thief.events.some(({ event }) => event === "foreign-started"),
    60_000,
  );
}

test(
  "a peer that is killed in mid-build costs nothing but time",
  async () => {
    const [owner, thief] = await startMesh(world, 2);
    if (owner === undefined || thief === undefined) throw new Error("no mesh");
    const building = world.mesh(owner, ["build", source]);
    await stealing(thief);
    thief.child.kill("SIGKILL");
    expect(await building).toMatchObject({ exitCode: 0 });
    expect(await objects()).toEqual(plain);
  },
  testMaxMs,
);

test(
  "a peer that freezes in mid-build loses its tasks to the owner",
  async () => {
    const [owner, thief] = await startMesh(world, 2);
    if (owner === undefined || thief === undefined) throw new Error("no mesh");
    const building = world.mesh(owner, ["build", source]);
    await stealing(thief);
    thief.child.kill("SIGSTOP");
    const built = await building;
    thief.child.kill("SIGCONT");
    expect(built).toMatchObject({ exitCode: 0 });
    expect(await objects()).toEqual(plain);
  },
  testMaxMs,
);

test(
  "the build's own node can be killed in mid-build, and nothing of the thief's work is left running",
  async () => {
    const [owner, thief] = await startMesh(world, 2);
    if (owner === undefined || thief === undefined) throw new Error("no mesh");
    const building = world.mesh(owner, ["build", source]);
    await stealing(thief);
    owner.child.kill("SIGKILL");
    expect(await building).toMatchObject({ exitCode: 0 });
    expect(await objects()).toEqual(plain);
    await until("the thief lets go", async () => {
      const { stdout } = await world.mesh(thief, ["status", "--json"]);
      const status = JSON.parse(stdout) as { busy: number; counters: { foreignHeld: number } };
      return status.busy === 0 && status.counters.foreignHeld === 0;
    });
  },
  testMaxMs,
);

test(
  "Ctrl-C stops every process everywhere",
  async () => {
    const [owner, thief] = await startMesh(world, 2);
    if (owner === undefined || thief === undefined) throw new Error("no mesh");
    const child = spawn(process.execPath, [program, "build", source], {
      env: { ...process.env, MESH_DIR: owner.dataDir },
      stdio: ["ignore", "ignore", "pipe"],
    });
    let said = "";
    child.stderr.on("data", (chunk: Buffer) => {
      said += chunk.toString();
    });
    const exited = new Promise<number | null>((finish) => child.once("exit", finish));
    await stealing(thief);
    child.kill("SIGINT");
    expect(await exited).toBe(130);
    expect(said).toMatch(/stopped/);
    for (const node of [owner, thief]) {
      await until("idle", async () => {
        const { stdout } = await world.mesh(node, ["status", "--json"]);
        const { busy, queued } = JSON.parse(stdout) as { busy: number; queued: number };
        return busy === 0 && queued === 0;
      });
    }
    const left = await world.run(["pgrep", "-f", `cc1plus.*${source}`], world.folder);
    expect(left.stdout).toBe("");
  },
  testMaxMs,
);

test(
  "a node that restarts finds its mesh again without being told",
  async () => {
    const [first, second] = await startMesh(world, 2);
    if (first === undefined || second === undefined) throw new Error("no mesh");
    second.child.kill("SIGKILL");
    await second.exited;
    const again = await world.start({ dataDir: second.dataDir, name: "again" });
    expect(again.peerId).toBe(second.peerId);
    await until("found again", async () => {
      const { stdout } = await world.mesh(again, ["status", "--json"]);
      return (JSON.parse(stdout) as { peers: { peerId: string }[] }).peers.some(
        ({ peerId }) => peerId === first.peerId,
      );
    });
  },
  testMaxMs,
);

test(
  "a node of another mesh is refused, and says so",
  async () => {
    const node = await world.start({ name: "ours" });
    const other = await world.start({ name: "theirs" });
    const result = await world.mesh(join(world.folder, "ours"), [
      "join",
      other.invite,
      "--no-mdns",
    ]);
    expect(result.exitCode).toBe(1);
    expect(result.stderr.trim().split("\n")).toHaveLength(1);
    const wrong = await world.mesh(join(world.folder, "fresh"), [
      "join",
      `${node.invite.slice(0, -1)}${node.invite.endsWith("a") ? "b" : "a"}`,
      "--no-mdns",
    ]);
    expect(wrong.exitCode).toBe(1);
    expect(wrong.stderr).toMatch(/invite/);
  },
  testMaxMs,
);
