/** The hardest headers that are easy to have: what the compiler opens of them has to be an input. */
import { spawnSync } from "node:child_process";
import { existsSync, readdirSync, realpathSync } from "node:fs";
import { join, resolve } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { createGccWorld, findCompilers, type GccWorld } from "./gcc-world.contract.ts";
import { prerequisitesOf } from "./make-rule.ts";

const boost = "/usr/include/boost";
const isHere = existsSync(boost);
if (!isHere) console.warn("Boost is not here (Debian: libboost-dev): its headers are not tried");
const compilers = findCompilers().filter(({ name }) => name.endsWith("++"));

/** A few of each kind; some name headers by macros, which only the compiler can work out. */
const sampleMax = 10;

function sample(): readonly string[] {
  if (!isHere) return [];
  const all = readdirSync(boost).filter((name) => name.endsWith(".hpp"));
  const step = Math.ceil(all.length / sampleMax);
  return all.sort().filter((_, i) => i % step === 0);
}

let world: GccWorld;
beforeAll(() => {
  world = createGccWorld();
});
afterAll(() => world.close());

describe.skipIf(!isHere).each(compilers)(
  "$name opens nothing that is no input with",
  ({ path }) => {
    test.for(sample())("%s", { timeout: 60_000 }, async (header, { skip }) => {
      world.write("a.cpp", `#include <boost/${header}>\n`);
      const asked = world.invocation(path, ["-std=c++17", "-c", "a.cpp"]);
      const { cwd, env } = asked;
      const real = spawnSync(path, ["-std=c++17", "-M", "a.cpp"], {
        ...{ cwd, env, encoding: "utf8", maxBuffer: 1 << 28 },
      });
      // Some need a library, or a newer compiler, that is not here.
      if (real.status !== 0) skip("the compiler rejects it");
      // A source that was written this very moment is not believed.
      await new Promise((later) => setTimeout(later, 30));
      const { spec } = await world.mustPlan(asked);
      const inputs = new Set(spec.inputs.map(({ path }) => path));
      const opened = (prerequisitesOf(real.stdout) ?? []).map((name) =>
        realpathSync(resolve(cwd, name)),
      );
      expect(opened).toContain(join(boost, header));
      expect(opened.filter((name) => !inputs.has(name))).toEqual([]);
    });
  },
);
