import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { createDisk } from "../host/disk.ts";
import { expandResponseFiles, splitWords } from "./response-file.ts";

const disk = createDisk();
let folder = "";
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "mesh-rsp-"));
});
afterAll(() => rmSync(folder, { recursive: true }));

test.each([
  ["-a  b\n\t-c", ["-a", "b", "-c"]],
  [`-DX="a b" 'c d'e`, ["-DX=a b", "c de"]],
  [`-DS=\\"x\\"`, ['-DS="x"']],
  [`"a\\"b" 'it\\'s'`, ['a"b', "it's"]],
  [`a\\ b`, ["a b"]],
  [`"" x`, ["", "x"]],
  ["", []],
])("%j is split as GCC splits it", (text, words) => {
  expect(splitWords(text)).toEqual(words);
});

test("response files are replaced by their words, also inside each other", () => {
  writeFileSync(join(folder, "a.rsp"), "-c x.c @b.rsp");
  writeFileSync(join(folder, "b.rsp"), "-o x.o");
  expect(expandResponseFiles(["-g", "@a.rsp", "-O2"], folder, disk)).toEqual(
    "-g -c x.c -o x.o -O2".split(" "),
  );
});

test("one that is missing, names itself or is no UTF-8 is refused", () => {
  writeFileSync(join(folder, "self.rsp"), "@self.rsp");
  writeFileSync(join(folder, "latin.rsp"), Buffer.from([0x2d, 0x44, 0xe9]));
  const codeOf = (name: string): unknown => {
    try {
      return expandResponseFiles([`@${name}`], folder, disk);
    } catch (error) {
      return error instanceof Error && "code" in error ? error.code : error;
    }
  };
  expect(["none.rsp", "self.rsp", "latin.rsp"].map(codeOf)).toEqual(["io", "limit", "malformed"]);
});
