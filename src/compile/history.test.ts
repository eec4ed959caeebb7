import {
  appendFileSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import type { ActionSpec } from "../action/action.ts";
import { utf8 } from "../base/bytes.ts";
import { digestOf } from "../base/digest.ts";
import type { TreeEntry } from "../blob/tree.ts";
import { createClock } from "../host/clock.ts";
import { createDisk } from "../host/disk.ts";
import { createHistory, type History, matching, type TaskRecord } from "./history.ts";
import { readHistory } from "./why.ts";

const disk = createDisk();
const clock = createClock();
let root = "";
let folder = "";
const opened: History[] = [];

beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), "mesh-history-"));
  folder = join(root, "history");
});

afterEach(async () => {
  for (const history of opened.splice(0)) await history.close();
  rmSync(root, { recursive: true, force: true });
});

async function open(recordsMax = 1000): Promise<History> {
  const history = await createHistory({ disk, clock }, { folder, recordsMax });
  opened.push(history);
  return history;
}

const file = (path: string, text: string): TreeEntry => ({
  kind: "file",
  path,
  digest: digestOf(utf8(text)),
  executable: false,
});

function specOf(name: string, more: Partial<ActionSpec> = {}): ActionSpec {
  return {
    argv: ["/usr/bin/g++", "-c", `${name}.cc`, "-o", `${name}.o`],
    env: { LANG: "C" },
    cwd: "/w/src",
    outputPaths: [`/w/src/${name}.o`],
    inputs: [file(`/w/src/${name}.cc`, name), file("/w/include/x.h", "x")],
    platform: { platform: "linux/x86_64" },
    timeoutMs: 1,
    ...more,
  };
}

function recordOf(task: string, name: string, more: Partial<TaskRecord> = {}): TaskRecord {
  return {
    task,
    build: "b1",
    kind: "c++",
    label: `${name}.cc`,
    outputs: [`/w/src/${name}.o`],
    action: digestOf(utf8(name)),
    source: "here",
    peer: undefined,
    signer: undefined,
    exitCode: 0,
    whyHere: undefined,
    fallback: undefined,
    wallMs: 12,
    phases: { queueMs: 1, fetchMs: 0, runMs: 11, returnMs: 0 },
    planMs: 1,
    lookupMs: 0,
    endedWallMs: 1_700_000_000_000,
    kept: undefined,
    ...more,
  };
}

test("what one node remembered, another finds after it has gone", async () => {
  const history = await open();
  history.add(recordOf("t1", "a"), specOf("a"));
  const link = { whyHere: "link", action: undefined, outputs: [], cwd: "/w/src" };
  history.add(recordOf("t2", "b", link), undefined);
  await history.close();
  const view = await readHistory(disk, folder);
  expect(view.find("a.cc", "/w/src")).toEqual([{ ...recordOf("t1", "a"), path: "/w/src/a.cc" }]);
  expect(view.find("b.cc", "/w/src")).toMatchObject([{ path: "/w/src/b.cc", whyHere: "link" }]);
  expect(history.find("/w/else.cc")).toEqual([]);
  history.add(recordOf("t3", "c", { ...link, label: "/w/else.cc", cwd: undefined }), undefined);
  expect(history.find("/w/else.cc")).toHaveLength(1);
  expect(view.missOf(view.find("t1", "/")[0] as never)).toEqual({ at: "first" });
});

test("a folder that is not there is an empty history", async () => {
  expect((await readHistory(disk, folder)).records).toEqual([]);
});

test("the folder is its user's own: it tells command lines", async () => {
  const history = await open();
  history.add(recordOf("t1", "a"), specOf("a"));
  await history.flush();
  expect(statSync(folder).mode & 0o777).toBe(0o700);
});

test("the newest comes first, in memory as on the disk, and memory is bounded", async () => {
  const history = await open(3);
  for (let at = 1; at <= 20; at += 1) history.add(recordOf(`t${at}`, "a"), specOf("a"));
  expect(history.find("a.cc").map(({ task }) => task)).toEqual(["t20", "t19", "t18"]);
  await history.flush();
  expect((await readHistory(disk, folder)).find("a.cc", "/")[0]?.task).toBe("t20");
});

test("files are bounded: the oldest records go first", async () => {
  const history = await open(40);
  for (let at = 1; at <= 200; at += 1) {
    history.add(recordOf(`t${at}`, "a"), specOf("a"));
    await history.flush();
  }
  const view = await readHistory(disk, folder);
  expect(view.records.length).toBeGreaterThan(20);
  expect(view.records.length).toBeLessThan(120);
  expect(view.records.at(-1)?.task).toBe("t200");
  expect(readdirSync(folder).sort()).toEqual(["planned.ndjson", "tasks.1.ndjson", "tasks.ndjson"]);
});

test("a line that a crash cut off costs that line only", async () => {
  const first = await open();
  first.add(recordOf("t1", "a"), specOf("a"));
  first.add(recordOf("t2", "b"), specOf("b"));
  await first.close();
  for (const name of ["tasks.ndjson", "planned.ndjson"]) {
    const path = join(folder, name);
    const text = readFileSync(path, "utf8");
    writeFileSync(path, text.slice(0, -15));
  }
  appendFileSync(join(folder, "tasks.ndjson"), "");
  const second = await open();
  second.add(recordOf("t3", "b", { action: digestOf(utf8("b3")) }), specOf("b"));
  await second.close();
  const view = await readHistory(disk, folder);
  expect(view.records.map(({ task }) => task)).toEqual(["t1", "t3"]);
});

test("a disk that refuses loses records, not tasks", async () => {
  writeFileSync(folder, "a file where the folder would be");
  const history = await open();
  history.add(recordOf("t1", "a"), specOf("a"));
  await history.flush();
  expect(history.find("a.cc")).toHaveLength(1);
  rmSync(folder);
  history.add(recordOf("t2", "a"), specOf("a"));
  await history.flush();
  expect((await readHistory(disk, folder)).records.map(({ task }) => task)).toEqual(["t2"]);
});

test.each([
  ["a whole path", "/w/src/a.cc", ["t1"]],
  ["a path from here", "a.cc", ["t1"]],
  ["the last parts of a path", "src/a.cc", ["t1"]],
  ["an output", "a.o", ["t1"]],
  ["a task", "t3", ["t3"]],
  ["a label that leads up and down", "lib/c.cc", ["t3"]],
  ["part of a name", "b/a.cc", []],
  ["nothing", "", []],
  ["a crate", "serde", ["t4"]],
])("%s finds what it means", (_what, query, tasks) => {
  const records = [
    { ...recordOf("t1", "a"), path: "/w/src/a.cc" },
    { ...recordOf("t2", "other/ab"), path: "/w/other/ab.cc" },
    { ...recordOf("t3", "x", { label: "../lib/c.cc", outputs: [] }), path: undefined },
    { ...recordOf("t4", "x", { label: "serde", outputs: [] }), path: "/c/serde/src/lib.rs" },
  ];
  expect(matching(records, query, "/w/src").map(({ task }) => task)).toEqual(tasks);
});

test("a path that fits wholly leaves out those that only end alike", () => {
  const records = [
    { ...recordOf("t1", "a"), path: "/w/src/a.cc" },
    { ...recordOf("t2", "a", { outputs: [] }), path: "/v/src/a.cc" },
  ];
  expect(matching(records, "src/a.cc", "/v").map(({ task }) => task)).toEqual(["t2"]);
  expect(matching(records, "src/a.cc", "/").map(({ task }) => task)).toEqual(["t1", "t2"]);
});
