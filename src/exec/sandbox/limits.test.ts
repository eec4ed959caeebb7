import { execFileSync } from "node:child_process";
import * as fs from "node:fs";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { ActionSpec } from "../../action/action.ts";
import { utf8 } from "../../base/bytes.ts";
import { digestOf, hashHexOf } from "../../base/digest.ts";
import type { TreeEntry } from "../../blob/tree.ts";
import { createNativeExecutor, nativeDefaults } from "../native.ts";
import {
  createWorld,
  never,
  programsOf,
  type World,
  whyNoTier,
} from "../sandbox-world.contract.ts";

const mebibyte = 1024 * 1024;
const tiers = ["bwrap", "unshare"] as const;

for (const tier of tiers) {
  const why = await whyNoTier(tier);
  if (why !== undefined) test.skip(`the ${tier} sandbox cannot be tested here: ${why}`);
  else describe(tier, () => limitContract(tier));
}

function limitContract(tier: (typeof tiers)[number]): void {
  let world: World;
  let inputs: readonly TreeEntry[];
  const bounds = {
    memoryMaxBytes: 96 * mebibyte,
    processesMax: 24,
    outputsMaxBytes: 2 * mebibyte,
    printedMaxBytes: 100_000,
  };
  beforeAll(async () => {
    world = await createWorld(tier, bounds);
    inputs = await programsOf(world.store, ["/bin/sh", "head", "tail", "sleep", "cat"]);
  });
  afterAll(() => world.close());

  const scripted = (script: string): ActionSpec => ({
    argv: ["/bin/sh", "-c", script],
    env: { PATH: "/usr/bin:/bin" },
    cwd: "/mesh-work",
    outputPaths: ["/mesh-work/o", "/mesh-work/p"],
    platform: {},
    timeoutMs: 20_000,
    inputs,
  });

  test("a command that wants more memory than it may have fails, one within it does not", async () => {
    const hold = (size: number): ActionSpec =>
      scripted(`head -c ${size * mebibyte} /dev/zero | tail -c ${size * mebibyte} > /dev/null`);
    expect((await world.run(hold(30))).exitCode).toBe(0);
    expect((await world.run(hold(300))).exitCode).not.toBe(0);
    // The node is none the worse for it.
    expect((await world.run(scripted("exit 0"))).exitCode).toBe(0);
  });

  test("processes are bounded where control groups are", async ({ skip }) => {
    await world.run(scripted("exit 0"));
    if (world.native.memoryLimitKind() === "rlimit") skip("no control groups on this machine");
    const many = "i=0; while [ $i -lt 60 ]; do sleep 5 & i=$((i+1)); done; exit 0";
    expect((await world.run(scripted(many))).exitCode).not.toBe(0);
    expect((await world.run(scripted(many.replace("60", "6")))).exitCode).toBe(0);
  });

  test("control groups are gone when the node is, also those of one that was killed", async () => {
    const groups = (): readonly string[] =>
      ["/memory", "/pids", ""]
        .flatMap((controller) =>
          execFileSync("find", [`/sys/fs/cgroup${controller}`, "-name", "mesh-exec-*"], {
            encoding: "utf8",
          }).split("\n"),
        )
        .filter((path) => path.includes(mark));
    const other = await createWorld(tier, bounds);
    const mark = hashHexOf(digestOf(utf8(other.tmpDir))).slice(0, 12);
    const one = { ...scripted("exit 0"), inputs: await programsOf(other.store, ["/bin/sh"]) };
    await other.run(one);
    const [made] = groups();
    if (made !== undefined) fs.mkdirSync(made.replace(/[0-9]+$/, "77"));
    await other.native.close();
    const again = createNativeExecutor(
      { ...other, emit: () => {} },
      { ...nativeDefaults, ...bounds, tmpDir: other.tmpDir },
    );
    await again.execute(one, () => {}, never);
    await again.close();
    await other.close();
    expect(groups()).toEqual([]);
  });

  test("a file can grow to the limit and no further", async () => {
    const ran = await world.run(scripted(`head -c ${4 * mebibyte} /dev/zero > o; exit 0`));
    expect(fs.existsSync(world.dir)).toBe(true);
    expect(ran.outputs[0]?.digest).toMatch(new RegExp(`-${2 * mebibyte}$`));
  });

  test("outputs that are too large together are over the limit", async () => {
    const script = `head -c ${1.5 * mebibyte} /dev/zero > o; cat o > p`;
    await expect(world.run(scripted(script))).rejects.toMatchObject({ code: "limit" });
  });

  test("a command that prints without end is stopped", async () => {
    await expect(
      world.run(scripted("while :; do echo yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy; done")),
    ).rejects.toMatchObject({ code: "limit" });
  });
}
