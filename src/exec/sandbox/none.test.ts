import * as fs from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { ActionSpec } from "../../action/action.ts";
import type { TreeEntry } from "../../blob/tree.ts";
import { createWorld, fileOf, inputsOf, type World } from "../sandbox-world.contract.ts";

let world: World;
let dir: string;
let source: readonly TreeEntry[];
beforeAll(async () => {
  world = await createWorld("none");
  dir = fs.mkdtempSync(join(tmpdir(), "mesh-open-"));
  fs.writeFileSync(join(dir, "in"), "in\n");
  source = await inputsOf(world.store, [join(dir, "in")]);
});
afterAll(async () => {
  await world.close();
  fs.rmSync(dir, { recursive: true });
});

const spec = (more: Partial<ActionSpec> = {}): ActionSpec => ({
  argv: ["/bin/sh", "-c", "cat in > build/o; echo $A"],
  env: { PATH: "/usr/bin:/bin", A: "b" },
  cwd: dir,
  outputPaths: [join(dir, "build/o")],
  inputs: source,
  platform: {},
  timeoutMs: 10_000,
  ...more,
});

test("a command runs where this machine has its inputs, and leaves nothing behind", async () => {
  const ran = await world.run(spec());
  expect([ran.exitCode, ran.out, ran.outputs.length]).toEqual([0, "b\n", 1]);
  expect(fs.readdirSync(dir)).toEqual(["in"]);
});

test("an input that differs here, or is missing, is a reason not to run", async () => {
  for (const path of [join(dir, "in"), join(dir, "other")]) {
    const inputs = [await fileOf(world.store, path, "other\n")];
    await expect(world.run(spec({ inputs }))).rejects.toMatchObject({ code: "unsupported" });
  }
});

test("a changed input is noticed also when it was right before", async () => {
  fs.writeFileSync(join(dir, "in"), "im\n");
  await expect(world.run(spec())).rejects.toMatchObject({ code: "unsupported" });
  fs.writeFileSync(join(dir, "in"), "in\n");
});

test("a folder that exists here is never written to", async () => {
  fs.mkdirSync(join(dir, "build"));
  fs.writeFileSync(join(dir, "build/o"), "the user's");
  await expect(world.run(spec())).rejects.toMatchObject({ code: "unsupported" });
  expect(fs.readFileSync(join(dir, "build/o"), "utf8")).toBe("the user's");
  fs.rmSync(join(dir, "build"), { recursive: true });
});

test("a folder in which something else appeared stays", async () => {
  const script = "cat in > build/o; echo more > build/other";
  await world.run(spec({ argv: ["/bin/sh", "-c", script] }));
  expect(fs.readdirSync(join(dir, "build"))).toEqual(["other"]);
  fs.rmSync(join(dir, "build"), { recursive: true });
});

test("a command that is not there is the node's failure, not an exit code", async () => {
  await expect(world.run(spec({ argv: [join(dir, "no")] }))).rejects.toMatchObject({ code: "io" });
});
