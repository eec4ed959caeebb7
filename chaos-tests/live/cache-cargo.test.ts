/** Known results of Rust units on real nodes: on another node, and in another checkout. */
import { rm } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { drawAll, expectSame, has, hits, type MeshBuilt, meshBuild, testMaxMs } from "./builds.ts";
import { snapshot } from "./files.ts";
import { copyExample, createWorld, type LiveNode, meet, type World } from "./nodes.ts";

let world: World;
let first: LiveNode;
beforeAll(async () => {
  world = await createWorld();
});
afterAll(() => world?.close());

/** Libraries, a procedural macro, a build script, and a program. */
const outputs = /\.(rlib|rmeta|so)$|^app-[0-9a-f]+$|^app$|^build-script-build$/;
const env = { CARGO_INCREMENTAL: "0", CARGO_TERM_COLOR: "never" };

describe.skipIf(!has("cargo"))("a Cargo workspace", () => {
  const madeIn = (folder: string) => snapshot(join(folder, "target/release"), outputs);
  const clean = (folder: string) => rm(join(folder, "target"), { recursive: true, force: true });
  /** Two checkouts of it, and what cargo makes of each by itself. */
  const checkouts: { readonly folder: string; readonly made: Map<string, Buffer> }[] = [];
  let cold: MeshBuilt;

  /** Rebuilds one of them from nothing, and holds it against what cargo makes. */
  async function rebuild(at: number, node: LiveNode, ...flags: string[]): Promise<MeshBuilt> {
    const { folder = "", made = new Map() } = checkouts[at] ?? {};
    await clean(folder);
    const args = ["build", "--no-steal", ...flags, folder, "--", "--release"];
    const built = await meshBuild(world, node, args, { cwd: folder, env });
    expectSame(await madeIn(folder), made);
    return built;
  }

  beforeAll(async () => {
    for (const name of ["one", "elsewhere/another"]) {
      const folder = join(world.folder, name);
      await copyExample("cargo", folder);
      const built = await world.run(["cargo", "build", "--release"], folder, env);
      expect(built).toMatchObject({ exitCode: 0 });
      const made = await madeIn(folder);
      expect(made.size).toBeGreaterThan(10);
      checkouts.push({ folder, made });
    }
    first = await world.start();
    cold = await rebuild(0, first);
  }, testMaxMs);

  /** All but questions to rustc, which are no compiles. */
  const units = () => {
    const asked = cold.summary.fallback.find(({ reason }) => reason === "rustc-query");
    return cold.summary.tasks - (asked?.count ?? 0);
  };

  test(
    "is known where it was built: libraries, the procedural macro, the build script, the program",
    async () => {
      expect(hits(cold.summary)).toBe(0);
      // Six crates and a build script, at the least.
      expect(units()).toBeGreaterThan(6);
      const { summary } = await rebuild(0, first);
      expect(summary).toMatchObject({ cachedLocal: units(), cachedMesh: 0 });
    },
    testMaxMs,
  );

  test(
    "is known to a node that has just joined, and comes out the same there",
    async () => {
      const second = await world.start({ invite: first.invite });
      await meet(world, [first, second]);
      const { fromMesh } = await drawAll((...flags) => rebuild(0, second, ...flags), units());
      expect(fromMesh).toBe(units());
      const { summary } = await rebuild(0, second, "--compare");
      expect(summary).toMatchObject({ cachedLocal: units(), compared: units(), differing: 0 });
    },
    testMaxMs,
  );

  test(
    "is known in another checkout where its bytes do not depend on the place, and right everywhere",
    async () => {
      const { summary } = await rebuild(1, first);
      // Cargo has the place of a path dependency in its metadata, and so in all that is made of it.
      expect(hits(summary)).toBeGreaterThan(0);
      expect((await rebuild(1, first)).summary.cachedLocal).toBe(units());
      expect((await rebuild(0, first)).summary.cachedLocal).toBe(units());
    },
    testMaxMs,
  );
});
