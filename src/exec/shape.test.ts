import { expect, test } from "vitest";
import type { ActionSpec } from "../action/action.ts";
import { emptyDigest } from "../base/digest.ts";
import { checkShape, shapeLimits } from "./shape.ts";

const good: ActionSpec = {
  argv: ["/usr/bin/gcc", "-c", "a.c"],
  env: { PATH: "/usr/bin" },
  cwd: "/p",
  outputPaths: ["/p/a.o"],
  inputs: [{ kind: "file", path: "/p/a.c", digest: emptyDigest, executable: false }],
  platform: {},
  timeoutMs: 1000,
};

test("an ordinary action has a good shape", () => {
  expect(() => checkShape(good)).not.toThrow();
});

const file = (path: string): ActionSpec["inputs"] => [
  { kind: "file", path, digest: emptyDigest, executable: false },
];

test.each<[string, Partial<ActionSpec>]>([
  ["no command", { argv: [] }],
  ["a program without a path", { argv: ["gcc"] }],
  ["a NUL in an argument", { argv: ["/bin/sh", "a\0b"] }],
  ["a relative working folder", { cwd: "p" }],
  ["a working folder with ..", { cwd: "/p/../etc" }],
  ["a relative output", { outputPaths: ["a.o"] }],
  ["an output with ..", { outputPaths: ["/p/../../a.o"] }],
  ["an output with .", { outputPaths: ["/p/./a.o"] }],
  ["an output with //", { outputPaths: ["/p//a.o"] }],
  ["an output with / at its end", { outputPaths: ["/p/"] }],
  ["/ as an output", { outputPaths: ["/"] }],
  ["the same output twice", { outputPaths: ["/p/a", "/p/a"] }],
  ["an input with ..", { inputs: file("/p/../../etc/passwd") }],
  ["a relative input", { inputs: file("p/a.c") }],
  ["a NUL in an input", { inputs: file("/p/a\0.c") }],
  ["a name longer than any file system has", { inputs: file(`/${"é".repeat(128)}`) }],
  ["a symlink to nothing", { inputs: [{ kind: "symlink", path: "/l", target: "" }] }],
  ["an option as a variable", { env: { "-S": "x" } }],
  ["a variable without a name", { env: { "": "x" } }],
  ["a variable with = in its name", { env: { "A=B": "x" } }],
  ["a variable with a NUL", { env: { A: "\0" } }],
  ["no time", { timeoutMs: 0 }],
  ["endless time", { timeoutMs: Number.POSITIVE_INFINITY }],
])("%s is malformed", (_, change) => {
  expect(() => checkShape({ ...good, ...change })).toThrow(
    expect.objectContaining({ code: "malformed" }),
  );
});

const many = (count: number): string[] => Array.from({ length: count }, (_, i) => `/p/${i}`);

test.each<[string, Partial<ActionSpec>]>([
  ["outputs", { outputPaths: many(shapeLimits.outputsMax + 1) }],
  ["arguments", { argv: ["/a", ...many(shapeLimits.argsMax)] }],
  ["bytes in an argument", { argv: ["/a", "x".repeat(shapeLimits.argMaxBytes)] }],
  ["bytes in the command", { argv: ["/a", ...Array<string>(10).fill("x".repeat(120_000))] }],
])("too many %s are over the limit, one less is not", (_, change) => {
  expect(() => checkShape({ ...good, ...change })).toThrow(
    expect.objectContaining({ code: "limit" }),
  );
  expect(() => checkShape({ ...good, outputPaths: many(shapeLimits.outputsMax) })).not.toThrow();
});
