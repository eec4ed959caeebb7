import { expect, test } from "vitest";
import type { ActionSpec } from "../action/action.ts";
import { utf8 } from "../base/bytes.ts";
import { type Digest, digestOf } from "../base/digest.ts";
import type { TreeEntry } from "../blob/tree.ts";
import { createPlannedTable, plannedName, readPlanned } from "./planned.ts";

const file = (path: string, text: string, executable = false): TreeEntry => ({
  kind: "file",
  path,
  digest: digestOf(utf8(text)),
  executable,
});
const headers = Array.from({ length: 300 }, (_, at) => file(`/usr/include/h${at}.h`, `${at}`));
const specOf = (name: string, more: Partial<ActionSpec> = {}): ActionSpec => ({
  argv: ["/usr/bin/g++", "-c", `${name}.cc`, "-o", `${name}.o`],
  env: { LANG: "C", A: "1=2" },
  cwd: "/w",
  outputPaths: [`/w/${name}.o`],
  inputs: [...headers, file(`/w/${name}.cc`, name), file("/usr/bin/g++", "g++", true)],
  platform: { platform: "linux/x86_64" },
  timeoutMs: 1,
  ...more,
});
const named = (text: string): Digest => digestOf(utf8(text));

test("an action comes back as it was, inputs of every kind included", () => {
  const more: readonly TreeEntry[] = [
    { kind: "symlink", path: "/w/link", target: "../b" },
    { kind: "directory", path: "/w/out" },
    file('/w/odd "name"\n.h', "odd"),
  ];
  const spec = specOf("a", { inputs: [...specOf("a").inputs, ...more] });
  const lines = createPlannedTable("").linesFor(named("a"), spec);
  const read = readPlanned(lines).get(plannedName(named("a")))?.();
  expect(read).toMatchObject({
    argv: spec.argv,
    env: ["A=1=2", "LANG=C"],
    cwd: "/w",
    platform: "platform=linux/x86_64",
    outputs: spec.outputPaths,
  });
  expect(read?.inputs.size).toBe(spec.inputs.length);
  expect(read?.inputs.get("/w/link")).toBe(">../b");
  expect(read?.inputs.get("/w/out")).toBe("/");
  expect(read?.inputs.get('/w/odd "name"\n.h')).toBe(named("odd").slice(0, 16));
  expect(read?.inputs.get("/usr/bin/g++")).toBe(`${named("g++").slice(0, 16)}x`);
});

test("an action that is there is not written again, nor is what two of them share", () => {
  const table = createPlannedTable("");
  const first = table.linesFor(named("a"), specOf("a"));
  expect(table.linesFor(named("a"), specOf("a"))).toBe("");
  const second = table.linesFor(named("b"), specOf("b"));
  expect(second.length).toBeLessThan(first.length / 20);
  expect(second.length).toBeLessThan(1000);
});

test("a table that goes on with a file knows what is in it", () => {
  const first = createPlannedTable("").linesFor(named("a"), specOf("a"));
  const later = createPlannedTable(first);
  expect(later.linesFor(named("a"), specOf("a"))).toBe("");
  const lines = later.linesFor(named("b"), specOf("b"));
  expect(lines.length).toBeLessThan(1000);
  const read = readPlanned(first + lines);
  expect(read.get(plannedName(named("b")))?.().inputs.size).toBe(302);
});

test("a changed header is another input, and both actions keep their own", () => {
  const table = createPlannedTable("");
  const changed = [file("/usr/include/h7.h", "new"), ...specOf("a").inputs.toSpliced(7, 1)];
  const text =
    table.linesFor(named("a"), specOf("a")) +
    table.linesFor(named("a2"), specOf("a", { inputs: changed })) +
    table.linesFor(named("a3"), specOf("a"));
  const read = readPlanned(text);
  const markIn = (name: string) =>
    read
      .get(plannedName(named(name)))?.()
      .inputs.get("/usr/include/h7.h");
  expect(markIn("a")).toBe(named("7").slice(0, 16));
  expect(markIn("a2")).toBe(named("new").slice(0, 16));
  expect(markIn("a3")).toBe(markIn("a"));
});

test.each([
  ["cut off in the middle", (text: string) => text.slice(0, text.length - 20)],
  ["of another kind", (text: string) => `${text}{"x":1}\nhello\n["s","x",7]\n["f",1]\n`],
  [
    "with endless lists",
    (text: string) => `${text}["a","0123456789abcdef",1,1,"1-9e15","","",""]\n`,
  ],
  [
    "that count where counting stands still",
    (text: string) =>
      `${text}["a","0123456789abcdef",1,1,"9007199254740992-9007199254740993","1e999","",""]\n`,
  ],
])("lines %s are passed over", (_what, damage) => {
  const table = createPlannedTable("");
  const a = table.linesFor(named("a"), specOf("a"));
  const damaged = damage(a + table.linesFor(named("b"), specOf("b")));
  const read = readPlanned(damaged);
  expect(read.get(plannedName(named("a")))?.().inputs.size).toBe(302);
  for (const expand of read.values()) expect(expand().argv.length).toBeLessThan(10);
  // Whoever writes on begins a line of its own.
  const more = createPlannedTable(damaged).linesFor(named("c"), specOf("c"));
  const after = readPlanned(`${damaged}\n${more}`).get(plannedName(named("c")))?.();
  expect(after?.argv).toEqual(specOf("c").argv);
});
