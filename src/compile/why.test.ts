import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import type { ActionSpec } from "../action/action.ts";
import { encodeAction } from "../action/encode.ts";
import { utf8 } from "../base/bytes.ts";
import { digestOf } from "../base/digest.ts";
import type { TreeEntry } from "../blob/tree.ts";
import { createClock } from "../host/clock.ts";
import { createDisk } from "../host/disk.ts";
import { createHistory, type TaskRecord } from "./history.ts";
import { type Difference, type Miss, readHistory } from "./why.ts";

let root = "";
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), "mesh-why-"));
});
afterEach(() => rmSync(root, { recursive: true, force: true }));

const file = (path: string, text: string): TreeEntry => ({
  kind: "file",
  path,
  digest: digestOf(utf8(text)),
  executable: false,
});
const sourceFile = file("/w/a.cc", "a");
const header = file("/w/x.h", "x");
const compiler = file("/usr/bin/g++", "g++");
const base: ActionSpec = {
  argv: ["/usr/bin/g++", "-O2", "-c", "a.cc"],
  env: { LANG: "C" },
  cwd: "/w",
  outputPaths: ["/w/a.o"],
  inputs: [sourceFile, header, compiler],
  platform: { platform: "linux/x86_64" },
  timeoutMs: 1,
};

/** The last of several runs of one compile, explained. */
async function explained(
  specs: readonly (ActionSpec | undefined)[],
  last: Partial<TaskRecord> = {},
): Promise<Miss> {
  const folder = join(root, "history");
  const disk = createDisk();
  const history = await createHistory({ disk, clock: createClock() }, { folder, recordsMax: 100 });
  for (const [index, spec] of specs.entries()) {
    const record: TaskRecord = {
      task: `t${index}`,
      build: "b",
      kind: "c++",
      label: "a.cc",
      outputs: spec?.outputPaths ?? [],
      action: spec && encodeAction(spec).digest,
      source: "here",
      peer: undefined,
      signer: undefined,
      exitCode: 0,
      whyHere: spec === undefined ? "link" : undefined,
      fallback: undefined,
      wallMs: 1,
      phases: { queueMs: 0, fetchMs: 0, runMs: 1, returnMs: 0 },
      planMs: 0,
      lookupMs: 0,
      endedWallMs: index,
      kept: undefined,
      ...(index === specs.length - 1 ? last : {}),
    };
    history.add(record, spec);
  }
  await history.close();
  const view = await readHistory(disk, folder);
  const record = view.records.at(-1);
  if (record === undefined) throw new Error("nothing was remembered");
  return view.missOf(record);
}

test.each<[string, Partial<ActionSpec>, Difference]>([
  [
    "an argument that came",
    { argv: [...base.argv, "-g"] },
    { what: "argument", change: "added", name: "-g" },
  ],
  [
    "an argument that went",
    { argv: ["/usr/bin/g++", "-c", "a.cc"] },
    { what: "argument", change: "removed", name: "-O2" },
  ],
  [
    "arguments in another order",
    { argv: ["/usr/bin/g++", "-c", "-O2", "a.cc"] },
    { what: "argument", change: "moved", name: "-c" },
  ],
  [
    "a variable",
    { env: { LANG: "de" } },
    { what: "variable", change: "changed", name: "LANG", before: "C", after: "de" },
  ],
  [
    "the folder",
    { cwd: "/w/b" },
    { what: "folder", change: "changed", name: "working directory", before: "/w", after: "/w/b" },
  ],
  [
    "a header's bytes",
    { inputs: [sourceFile, file("/w/x.h", "y"), compiler] },
    { what: "input", change: "changed", name: "/w/x.h" },
  ],
  [
    "a header that came",
    { inputs: [...base.inputs, file("/w/new.h", "")] },
    { what: "input", change: "added", name: "/w/new.h" },
  ],
  [
    "a header that went",
    { inputs: [sourceFile, compiler] },
    { what: "input", change: "removed", name: "/w/x.h" },
  ],
  [
    "the compiler",
    { inputs: [sourceFile, header, file("/usr/bin/g++", "newer")] },
    { what: "compiler", change: "changed", name: "/usr/bin/g++" },
  ],
  [
    "the platform",
    { platform: { platform: "linux/aarch64" } },
    {
      what: "platform",
      change: "changed",
      name: "platform",
      before: "platform=linux/x86_64",
      after: "platform=linux/aarch64",
    },
  ],
])("%s is named as what made the difference", async (_what, change, difference) => {
  const miss = await explained([base, { ...base, ...change }]);
  expect(miss).toMatchObject({ at: "differs", earlier: { task: "t0" } });
  expect(miss.at === "differs" && miss.differences).toEqual([difference]);
});

test("of several earlier compiles the nearest one is compared with", async () => {
  const near = { ...base, argv: [...base.argv, "-g"] };
  const far = { ...near, env: { LANG: "de" }, inputs: [sourceFile, compiler] };
  const miss = await explained([near, far, { ...near, argv: [...near.argv, "-Wall"] }]);
  expect(miss).toMatchObject({
    at: "differs",
    earlier: { task: "t0" },
    differences: [{ name: "-Wall" }],
  });
});

test("a compile into another folder is near to that of the same source", async () => {
  const moved = { ...base, outputPaths: ["/w/debug/a.o"] };
  expect(await explained([base, moved])).toMatchObject({
    at: "differs",
    differences: [
      { what: "output", change: "added", name: "/w/debug/a.o" },
      { what: "output", change: "removed", name: "/w/a.o" },
    ],
  });
});

test("the same action done again says so, also when others came in between", async () => {
  const other = { ...base, argv: [...base.argv, "-g"] };
  expect(await explained([base, other, base])).toMatchObject({
    at: "same",
    earlier: { task: "t0" },
  });
});

test("a first compile, a hit and a task without an action are what they are", async () => {
  expect(await explained([base])).toEqual({ at: "first" });
  rmSync(join(root, "history"), { recursive: true });
  expect(await explained([base, base], { source: "cached-mesh" })).toEqual({ at: "hit" });
  rmSync(join(root, "history"), { recursive: true });
  expect(await explained([base, undefined])).toEqual({ at: "no-action" });
});

test("when what it was made from is no longer known, that is said", async () => {
  await explained([base, { ...base, argv: [...base.argv, "-g"] }]);
  rmSync(join(root, "history", "planned.ndjson"));
  const view = await readHistory(createDisk(), join(root, "history"));
  const [record] = view.find("t1", "/");
  expect(record && view.missOf(record)).toMatchObject({ at: "forgotten", earlier: { task: "t0" } });
});
