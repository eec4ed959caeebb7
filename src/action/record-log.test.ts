import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createClock } from "../host/clock.ts";
import { createDisk } from "../host/disk.ts";
import { createSimulation } from "../sim/simulation.ts";
import { recordLogContract } from "./record-log.contract.ts";

recordLogContract("this machine's disk", async (run) => {
  const directory = mkdtempSync(join(tmpdir(), "mesh-records-"));
  try {
    await run({ disk: createDisk(), clock: createClock(), directory });
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
});

recordLogContract("a simulated disk", async (run) => {
  const simulation = createSimulation("records");
  const { disk, clock } = simulation.addHost("here");
  const story = disk.makeDirectory("/node").then(() => run({ disk, clock, directory: "/node" }));
  await simulation.finish(story, 1e9);
});
