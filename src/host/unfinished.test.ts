import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { mkdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { utf8 } from "../base/bytes.ts";
import { createDisk } from "./disk.ts";
import { createUnfinished } from "./unfinished.ts";

let dir: string;
let data: string;
let user: string;
let notes: string;

beforeEach(async () => {
  dir = mkdtempSync(join(tmpdir(), "mesh-unfinished-"));
  [data, user] = [join(dir, "data"), join(dir, "a project")];
  notes = join(data, "unfinished.log");
  await Promise.all([mkdir(data), mkdir(user)]);
});

afterEach(() => rm(dir, { recursive: true, force: true }));

/** What a node that starts on this data directory does. */
async function nextLife(): Promise<void> {
  const disk = createDisk();
  const unfinished = createUnfinished(notes, data);
  await unfinished.begin(disk);
  await unfinished.end(disk);
}

/** A process that is killed in the middle of writing a large file; its id. */
async function killedInTheMiddle(): Promise<number> {
  const program = `
    import { readdirSync } from "node:fs";
    import { createDisk } from ${JSON.stringify(join(import.meta.dirname, "disk.ts"))};
    import { createUnfinished } from ${JSON.stringify(join(import.meta.dirname, "unfinished.ts"))};
    const unfinished = createUnfinished(${JSON.stringify(notes)}, ${JSON.stringify(data)});
    const disk = createDisk(unfinished.note);
    await unfinished.begin(disk);
    void disk.writeAtomic(${JSON.stringify(join(user, "a.o"))}, new Uint8Array(1e8), { mode: 0o644, sync: true });
    const look = () =>
      readdirSync(${JSON.stringify(user)}).some((name) => name.startsWith(".mesh-tmp-"))
        ? process.kill(process.pid, "SIGKILL")
        : setImmediate(look);
    look();
  `;
  const child = spawn(process.execPath, ["--input-type=module-typescript", "-e", program], {
    stdio: "inherit",
  });
  expect(await once(child, "exit")).toEqual([null, "SIGKILL"]);
  return child.pid ?? 0;
}

test("what a killed process left unfinished in a user's folder, the next one removes, and nothing else", async () => {
  const pid = await killedInTheMiddle();
  const left = readdirSync(user).sort();
  expect(left).toEqual([expect.stringMatching(new RegExp(`^\\.mesh-tmp-${pid}-[0-9a-f]{12}-0$`))]);
  const own = [".mesh-tmp-1-0123456789ab-0", "b.o"];
  for (const name of own) writeFileSync(join(user, name), "another's");
  await nextLife();
  expect(readdirSync(user).sort()).toEqual(own);
  expect(existsSync(notes)).toBe(false);
});

test("each folder is noted once, the data directory never, and after a clean end nothing", async () => {
  const unfinished = createUnfinished(notes, data);
  const disk = createDisk(unfinished.note);
  const write = (path: string) => disk.writeAtomic(path, utf8("x"), { mode: 0o644, sync: false });
  await write(join(user, "early.o"));
  expect(existsSync(notes)).toBe(false);
  await unfinished.begin(disk);
  for (let count = 0; count < 3; count++) await write(join(user, `${count}.o`));
  await write(join(data, "learned.json"));
  const lines = readFileSync(notes, "utf8").trimEnd().split("\n");
  expect(lines.map((line): unknown => JSON.parse(line))).toEqual([
    expect.stringMatching(/a project\/\.mesh-tmp-\d+-[0-9a-f]{12}-$/),
  ]);
  await unfinished.end(disk);
  expect(existsSync(notes)).toBe(false);
});

test("notes that are damaged remove nothing that is not unfinished", async () => {
  for (const name of ["b.o", ".mesh-tmp-7-0123456789ab-3"]) writeFileSync(join(user, name), "x");
  const lines = [user, `${user}/`, `${user}/b`, `${user}/.mesh-tmp-`, `${user}/.mesh-tmp-7-`, 7];
  const torn = JSON.stringify(`${user}/.mesh-tmp-7-0123456789ab-`).slice(0, -3);
  writeFileSync(notes, [...lines.map((line) => JSON.stringify(line)), "\0\0", torn].join("\n"));
  await nextLife();
  expect(readdirSync(user)).toHaveLength(2);
  expect(existsSync(notes)).toBe(false);
});

test("a folder that has gone, and notes that cannot be written, stop nobody", async () => {
  writeFileSync(notes, JSON.stringify(join(dir, "gone/.mesh-tmp-7-0123456789ab-")));
  await nextLife();
  const unfinished = createUnfinished(join(dir, "no folder", "notes"), data);
  const disk = createDisk(unfinished.note);
  await unfinished.begin(disk);
  await disk.writeAtomic(join(user, "a.o"), utf8("x"), { mode: 0o644, sync: false });
  await unfinished.end(disk);
  expect(readdirSync(user)).toEqual(["a.o"]);
});
