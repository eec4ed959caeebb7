/** A program for a test: runs one action in each tier as the user who starts it, and prints JSON. */
import { createWorld, fileOf, programsOf } from "./sandbox-world.contract.ts";

const found: Record<string, unknown> = {};
for (const tier of ["bwrap", "unshare"] as const) {
  const world = await createWorld(tier);
  try {
    const inputs = [
      ...(await programsOf(world.store, ["/bin/sh", "/usr/bin/id", "/usr/bin/chmod"])),
      await fileOf(world.store, "/mesh-work/in", "in"),
    ];
    const script = "id -u; chmod 777 in 2>/dev/null || echo refused; echo o > out/o";
    const ran = await world.run({
      argv: ["/bin/sh", "-c", script],
      env: { PATH: "/usr/bin:/bin" },
      cwd: "/mesh-work",
      outputPaths: ["/mesh-work/out/o"],
      platform: {},
      timeoutMs: 10_000,
      inputs,
    });
    found[tier] = { out: ran.out, outputs: ran.outputs.length };
  } catch (error) {
    found[tier] = String(error);
  } finally {
    await world.close();
  }
}
process.stdout.write(JSON.stringify(found));
