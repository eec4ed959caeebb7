import { execFileSync } from "node:child_process";
import * as fs from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { sandboxContract } from "./sandbox.contract.ts";
import { createWorld, programsOf, type World, which, whyNoTier } from "./sandbox-world.contract.ts";

for (const tier of ["bwrap", "unshare"] as const) {
  const why = await whyNoTier(tier);
  if (why !== undefined) {
    test.skip(`the ${tier} sandbox cannot be tested on this machine: ${why}`);
    continue;
  }
  describe(tier, () => sandboxContract(tier));
  describe(`${tier}, loader variables`, () => loaderContract(tier));
}

/** Variables that make programs load code: they are the action's, never for this machine's tools. */
function loaderContract(tier: "bwrap" | "unshare"): void {
  let world: World;
  beforeAll(async () => {
    world = await createWorld(tier);
  });
  afterAll(() => world.close());

  test.skipIf(which("gcc") === undefined)(
    "no library that an action names is loaded outside of the sandbox",
    async () => {
      const library = join(world.dir, "evil.so");
      const trace = join(world.dir, "trace");
      const code = `#include <stdio.h>
        __attribute__((constructor)) void f(void) { fclose(fopen("${trace}", "w")); }`;
      const args = ["-shared", "-fPIC", "-x", "c", "-", "-o", library];
      execFileSync("gcc", args, { input: code });
      execFileSync("true", [], { env: { LD_PRELOAD: library, PATH: "/usr/bin:/bin" } });
      expect(fs.existsSync(trace)).toBe(true);
      fs.rmSync(trace);
      const running = world.run({
        argv: ["/bin/sh", "-c", "echo ran"],
        env: { LD_PRELOAD: library },
        cwd: "/",
        outputPaths: [],
        inputs: await programsOf(world.store, ["/bin/sh"]),
        platform: {},
        timeoutMs: 10_000,
      });
      if (tier === "bwrap") expect((await running).out).toBe("ran\n");
      else await expect(running).rejects.toMatchObject({ code: "unsupported" });
      expect(fs.existsSync(trace)).toBe(false);
    },
  );
}
