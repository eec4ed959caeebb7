import {
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { asPeerId } from "../base/ids.ts";
import { joinedBefore, readBounded, writeWhole } from "./daemon-calls.ts";
import { resultText } from "./run.ts";
import { createTally } from "./tally.ts";

const folder = mkdtempSync(join(tmpdir(), "mesh-calls-"));
afterAll(() => rmSync(folder, { recursive: true }));

test("jobs that write into one folder at once do not get into each other's way", async () => {
  const jobs = Array.from({ length: 8 }, (_, at) => `j${at}`);
  await Promise.all(
    jobs.map((job) => writeWhole(join(folder, job), job, Buffer.from(job.repeat(100_000)))),
  );
  expect(readdirSync(folder)).toEqual(jobs);
  for (const job of jobs) {
    expect(readFileSync(join(folder, job), "utf8")).toBe(job.repeat(100_000));
  }
});

test("a peer that was there before the job is called by its name, this node is here", () => {
  const { see, tally } = createTally();
  const id = asPeerId("12D3b");
  for (const event of joinedBefore([{ id, name: "node-b", slots: 2 }])) see(event);
  expect(resultText({ chunks: 5, byPeer: { here: 2, [id]: 3 } }, tally.nameOf)).toBe(
    ": 5 chunks (here 2, node-b 3)",
  );
});

test("a file that no job could take is refused before it is read", async () => {
  const path = join(folder, "huge");
  writeFileSync(path, "");
  truncateSync(path, 2 * 1024 ** 3);
  await expect(readBounded(path)).rejects.toMatchObject({ code: "limit" });
});
