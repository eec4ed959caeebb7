#!/usr/bin/env node
/**
 * Entry of both commands, `mesh` and `mesh-node`.
 *
 * It has to be readable by any Node that has modules at all, so that an old one gets to the line
 * that says it is too old: no imports but the last, and no syntax newer than 2020.
 */

const version = process.versions.node.split(".");
if (Number(version[0]) * 1000 + Number(version[1]) < 22012) {
  process.stderr.write(
    `mesh: Node ${process.versions.node} is too old, mesh-node needs 22.12 or newer: ` +
      "install one from https://nodejs.org, or run: npx -p node@24 -p mesh-node mesh …\n",
  );
  process.exitCode = 2;
} else {
  void start();
}

async function start(): Promise<void> {
  // Compiled code is kept between runs: it halves the time that the network's modules take to load.
  const { enableCompileCache } = await import("node:module");
  enableCompileCache();
  const { main } = await import("./program.ts");
  await main(process.argv.slice(2));
}
