import { expect, test } from "vitest";
import { type Digest, makeDigest } from "../../base/digest.ts";
import type { TreeEntry } from "../../blob/tree.ts";
import { type Layout, planLayout } from "./layout.ts";

const options = { copyMaxBytes: 100, fileMountsMax: 2 };
const sized = (sizeBytes: number): Digest => makeDigest("ab".repeat(32), sizeBytes);
const file = (path: string, sizeBytes = 1): TreeEntry => ({
  kind: "file",
  path,
  digest: sized(sizeBytes),
  executable: false,
});
const symlink = (path: string, target: string): TreeEntry => ({ kind: "symlink", path, target });

function plan(
  inputs: readonly TreeEntry[],
  outputPaths: readonly string[] = [],
  cwd = "/p",
): Layout {
  return planLayout({ inputs, outputPaths, cwd }, options);
}

test("without outputs there is only a root", () => {
  const layout = plan([file("/usr/bin/cc"), symlink("/bin", "usr/bin")]);
  expect(layout.bays).toEqual([]);
  expect(layout.memoryTmp).toBe(true);
  expect(layout.folders).toEqual(["/usr", "/usr/bin", "/p", "/tmp"]);
  expect(layout.links.map(({ path }) => path)).toEqual(["/usr/bin/cc"]);
});

test("a folder of outputs is a bay; small inputs are copies, large ones and folders are shown", () => {
  const layout = plan(
    [file("/p/o/small"), file("/p/o/large", 101), file("/p/o/inc/a.h"), symlink("/p/o/l", "x")],
    ["/p/o/a.o"],
  );
  expect(layout.bays).toEqual([
    {
      path: "/p/o",
      folders: ["", "inc"],
      copies: [{ path: "small", digest: sized(1), executable: false }],
      symlinks: [{ path: "l", target: "x" }],
      shown: [
        { name: "large", kind: "file" },
        { name: "inc", kind: "folder" },
      ],
    },
  ]);
  // The command can write in a bay, so no link to a blob may be made there: only in the root.
  expect(layout.links.map(({ path }) => path)).toEqual(["/p/o/large", "/p/o/inc/a.h"]);
  expect(layout.outputs.get("/p/o/a.o")).toEqual({ bay: 0, name: "a.o", isInput: false });
});

test("an output that is an input is a copy, whatever its size", () => {
  const layout = plan([file("/p/lib.a", 500)], ["/p/lib.a"]);
  expect(layout.bays[0]?.copies).toHaveLength(1);
  expect(layout.outputs.get("/p/lib.a")?.isInput).toBe(true);
});

test("single files are mounted up to a number, then copied", () => {
  const layout = plan([file("/p/a", 101), file("/p/b", 101), file("/p/c", 101)], ["/p/o"]);
  expect(layout.bays[0]?.shown.map(({ name }) => name)).toEqual(["a", "b"]);
  expect(layout.bays[0]?.copies.map(({ path }) => path)).toEqual(["c"]);
});

test("bays in bays are mounted outer before inner", () => {
  const layout = plan([file("/p/x/in")], ["/p/x/y/o", "/p/o", "/p/z/deep/o"]);
  expect(layout.bays.map(({ path }) => path)).toEqual(["/p", "/p/x/y", "/p/z/deep"]);
  // /p/x has inputs: shown, with /p/x/y in the root to mount on. /p/z has none: made in the bay.
  expect(layout.bays[0]?.shown).toEqual([{ name: "x", kind: "folder" }]);
  expect(layout.bays[0]?.folders).toEqual(["", "x", "z", "z/deep"]);
  expect(layout.folders).toContain("/p/x/y");
});

test("inputs or outputs in /tmp make it a bay", () => {
  expect(plan([file("/tmp/a")]).bays.map(({ path }) => path)).toEqual(["/tmp"]);
  expect(plan([], ["/tmp/o"]).memoryTmp).toBe(false);
  expect(plan([], [], "/tmp/w").bays[0]?.folders).toEqual(["", "w"]);
});

test("outputs and the working folder go through symlinks of the inputs", () => {
  const inputs = [symlink("/build", "/real/./b/../build"), symlink("/real/build/up", "../../q")];
  const layout = plan(inputs, ["/build/o", "/build/up/o"], "/build/w");
  expect(layout.bays.map(({ path }) => path)).toEqual(["/q", "/real/build"]);
  expect(layout.outputs.get("/build/up/o")).toMatchObject({ bay: 0, name: "o" });
});

test("a symlink cannot lead out of the root", () => {
  const layout = plan([symlink("/p/up", "../../../../../../etc")], ["/p/up/o"]);
  expect(layout.bays.map(({ path }) => path)).toEqual(["/etc"]);
});

test.each<[string, readonly TreeEntry[], readonly string[]]>([
  ["two files of one name", [file("/a"), file("/a")], []],
  ["a file that is a folder too", [file("/a"), file("/a/b")], []],
  ["a file below a symlink", [symlink("/a", "/etc"), file("/a/passwd")], []],
  ["a file below a symlink that comes later", [file("/a/passwd"), symlink("/a", "/etc")], []],
  ["an input in /proc", [file("/proc/self/x")], []],
  ["an input in /dev", [file("/dev/null")], []],
  ["/dev as a symlink", [symlink("/dev", "/p")], []],
  ["/tmp as a symlink", [symlink("/tmp", "/p")], []],
  ["an output in /", [], ["/o"]],
  ["an output in /dev", [], ["/dev/shm/o"]],
  ["an output in /proc through a symlink", [symlink("/x", "/proc/self")], ["/x/o"]],
  ["an output below a file", [file("/p/a")], ["/p/a/o"]],
  ["an output that is a folder of inputs", [file("/p/a/b")], ["/p/a"]],
  ["symlinks in a circle", [symlink("/x", "/y"), symlink("/y", "/x")], ["/x/o"]],
])("%s is malformed", (_, inputs, outputPaths) => {
  expect(() => plan(inputs, outputPaths)).toThrow(expect.objectContaining({ code: "malformed" }));
});
