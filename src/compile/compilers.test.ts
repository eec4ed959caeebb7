import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { colourArgs, compilerFamilyOf, glance, isMasqueraded } from "./compilers.ts";

test.each([
  ["/usr/bin/gcc", "gcc"],
  ["/usr/bin/x86_64-linux-gnu-g++-12", "gcc"],
  ["/opt/llvm/bin/clang++-14", "gcc"],
  ["/usr/bin/c++", "gcc"],
  ["/usr/bin/c99", "gcc"],
  ["/opt/libstdc++-arm-gcc", "gcc"],
  ["/home/me/.cargo/bin/rustc", "rustc"],
  ["/usr/local/cuda/bin/nvcc", "nvcc"],
  ["/usr/bin/ar", "ar"],
  ["/usr/bin/gcc-ar", "ar"],
  ["/usr/bin/x86_64-linux-gnu-gcc-ar-12", "ar"],
  ["/usr/bin/llvm-ar-14", "ar"],
  ["/usr/bin/ld", "ld"],
  ["/usr/bin/x86_64-linux-gnu-ld.bfd", "ld"],
  ["/usr/bin/ld.lld-14", "ld"],
  ["/usr/bin/ld.gold", "ld"],
  ["/usr/bin/gold", "ld"],
  ["/usr/bin/wasm-ld-14", undefined],
  ["/usr/bin/ranlib", undefined],
  ["/usr/bin/strip", undefined],
  ["/usr/bin/tar", undefined],
  ["/usr/bin/ldd", undefined],
  ["/usr/sbin/ldconfig", undefined],
  ["/usr/bin/gcc-ranlib-12", undefined],
  ["/usr/bin/clang-format", undefined],
  ["/usr/bin/clang-cpp-14", undefined],
  ["/usr/bin/c++filt", undefined],
  ["/usr/bin/ccache", undefined],
  ["/home/me/.cargo/bin/clippy-driver", undefined],
])("%s is of the family %s", (compiler, family) => {
  expect(compilerFamilyOf(compiler)).toBe(family);
  expect(isMasqueraded(compiler.split("/").at(-1) ?? "")).toBe(
    family !== undefined && family !== "rustc",
  );
});

test.each([
  ["/usr/bin/cc", ["-c", "x/a.c"], "c", "x/a.c"],
  ["/usr/bin/cc", ["-c", "a.cpp"], "c++", "a.cpp"],
  ["/usr/bin/g++", ["-O2", "-c", "a.c"], "c++", "a.c"],
  ["/usr/bin/g++", ["a.o", "-o", "a"], "link", "a"],
  ["/usr/bin/g++", ["a.c", "-ob", "--", "-x"], "link", "b"],
  ["/usr/bin/gcc", ["a.c"], "link", "a.c"],
  ["/usr/bin/gcc", ["--version"], "link", "gcc"],
  ["/usr/bin/ld", ["--output=a", "a.o"], "link", "a"],
  ["/usr/bin/ld", ["a.o", "-o"], "link", "ld"],
  ["/usr/bin/ar", ["rcs", "lib/libx.a", "x.o"], "ar", "lib/libx.a"],
  ["/usr/bin/ar", ["--thin", "-rc", "libx.a", "x.o"], "ar", "libx.a"],
  ["/usr/bin/ar", ["rb", "y.o", "libx.a", "x.o"], "ar", "libx.a"],
  ["/usr/bin/ar", ["--version"], "ar", "ar"],
  ["/usr/bin/nvcc", ["-c", "k.cu", "-o", "k.o"], "cuda", "k.cu"],
  ["/usr/bin/nvcc", ["k.o", "-o", "k"], "link", "k"],
  ["/usr/bin/nvcc", ["--version"], "cuda", "nvcc"],
  ["/usr/bin/rustc", ["--crate-name", "serde", "src/lib.rs"], "rustc", "serde"],
  ["/usr/bin/rustc", ["-vV"], "rustc", "rustc"],
  ["/usr/bin/fancycc", ["-c", "a.c"], "other", "a.c"],
])("%s %j is a %s task called %s", (compiler, args, kind, label) => {
  expect(glance(compiler, args)).toEqual({ kind, label });
});

test.each([
  [["-c"], ["-fdiagnostics-color=always"]],
  [["-fno-diagnostics-color"], []],
  [["-fcolor-diagnostics"], []],
  [["-fdiagnostics-color=never"], []],
  [["-frecord-gcc-switches"], []],
  [["-grecord-command-line"], []],
  [["-gno-record-gcc-switches"], ["-fdiagnostics-color=always"]],
])("%j gets the colour arguments %j", (args, expected) => {
  expect(colourArgs(args)).toEqual(expected);
});

test.each(["gcc", "clang"])("asking %s for colours does not change the object", (compiler) => {
  if (spawnSync(compiler, ["--version"]).status !== 0) {
    console.warn(`skipped: there is no ${compiler}`);
    return;
  }
  const folder = mkdtempSync(join(tmpdir(), "mesh-colours-"));
  try {
    writeFileSync(join(folder, "c.c"), "int f(int x) { return x + 1; }\n");
    const objects = [[], colourArgs([])].map((colours) => {
      const args = [...colours, "-g", "-O2", "-c", "c.c"];
      expect(spawnSync(compiler, args, { cwd: folder }).status).toBe(0);
      return readFileSync(join(folder, "c.o"));
    });
    expect(objects[0]).toEqual(objects[1]);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});
