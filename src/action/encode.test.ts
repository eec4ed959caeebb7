import { expect, test } from "vitest";
import { utf8 } from "../base/bytes.ts";
import { digestOf } from "../base/digest.ts";
import type { TreeEntry } from "../blob/tree.ts";
import type { ActionSpec } from "./action.ts";
import { decodeAction, encodeAction } from "./encode.ts";

const file = (path: string, text: string): TreeEntry => ({
  kind: "file",
  path,
  digest: digestOf(utf8(text)),
  executable: false,
});

const spec: ActionSpec = {
  argv: ["/usr/bin/gcc", "-c", "a.c"],
  env: { LANG: "C", B: "2" },
  cwd: "/home/u",
  outputPaths: ["/home/u/a.o"],
  inputs: [file("/home/u/a.c", "int a;"), file("/home/u/b.h", "int b;")],
  platform: { platform: "linux/x86_64" },
  timeoutMs: 1500,
};

const decode = ({ actionBytes, commandBytes, treeBytes }: ReturnType<typeof encodeAction>) =>
  decodeAction(actionBytes, commandBytes, treeBytes);

test("an action comes back as it was", () => {
  expect(decode(encodeAction(spec))).toEqual(spec);
});

test("the order in which things were said does not matter", () => {
  const other = {
    ...spec,
    env: { B: "2", LANG: "C" },
    inputs: spec.inputs.toReversed(),
  };
  expect(encodeAction(other).digest).toBe(encodeAction(spec).digest);
});

test.each<[string, Partial<ActionSpec>]>([
  ["argument", { argv: ["/usr/bin/gcc", "-c", "a.c", "-g"] }],
  ["environment variable", { env: { LANG: "C", B: "3" } }],
  ["working directory", { cwd: "/home" }],
  ["output", { outputPaths: ["/home/u/b.o"] }],
  ["input's bytes", { inputs: [file("/home/u/a.c", "int c;"), file("/home/u/b.h", "int b;")] }],
  ["input's name", { inputs: [file("/home/u/a.c", "int a;"), file("/home/u/c.h", "int b;")] }],
  [
    "swap of two contents",
    { inputs: [file("/home/u/a.c", "int b;"), file("/home/u/b.h", "int a;")] },
  ],
  ["additional input", { inputs: [...spec.inputs, file("/usr/include/b.h", "")] }],
  ["platform", { platform: { platform: "linux/aarch64" } }],
  ["timeout", { timeoutMs: 1501 }],
])("another %s is another action", (_, change) => {
  expect(encodeAction({ ...spec, ...change }).digest).not.toBe(encodeAction(spec).digest);
});

test("parts of two actions do not make one", () => {
  const a = encodeAction(spec);
  const b = encodeAction({ ...spec, argv: ["/bin/rm"], inputs: [] });
  expect(() => decodeAction(a.actionBytes, b.commandBytes, a.treeBytes)).toThrow(/command/);
  expect(() => decodeAction(a.actionBytes, a.commandBytes, b.treeBytes)).toThrow();
});

test.each(["relative", "/a/../b", "/a//b", "/a/", "/a\0b"])(
  "the output path %j is refused",
  (path) => {
    expect(() => decode(encodeAction({ ...spec, outputPaths: [path] }))).toThrow(/path/);
  },
);
