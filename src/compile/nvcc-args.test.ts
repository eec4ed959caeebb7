import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { createDisk } from "../host/disk.ts";
import { parseNvccArgs, splitNvccWords } from "./nvcc-args.ts";

const disk = createDisk();
let cwd = "";
beforeAll(() => {
  cwd = mkdtempSync(join(tmpdir(), "mesh-nvcc-args-"));
  writeFileSync(join(cwd, "options.rsp"), '-I"some where"\n-DA=\\"b\\" --options-file=more.rsp\n');
  writeFileSync(join(cwd, "more.rsp"), "-MD -arch=sm_80");
  writeFileSync(join(cwd, "native.rsp"), "-arch=native");
  writeFileSync(join(cwd, "threads.rsp"), "-t 4");
  writeFileSync(join(cwd, "loop.rsp"), "-optf loop.rsp");
});
afterAll(() => rmSync(cwd, { recursive: true, force: true }));

const parse = (line: string, env: Readonly<Record<string, string>> = {}) =>
  parseNvccArgs({ args: line.split(" "), cwd, env }, disk);

describe("one source to one object", () => {
  test.each([
    "-c x.cu -o x.o",
    "-dc x.cu -o=x.o",
    "--device-w x.cu --output-file x.o",
    "--compile x.cu -Iinc -I inc -I=inc,other --include-path=inc -isystem=sys -isystem sys",
    "-c x.cu -DA -D A=1 -D=B -UC -include a.h,b.h",
    "-c x.cu -arch=sm_80 -code=sm_80,compute_80",
    "-c x.cu -arch sm_90a",
    "-c x.cu -arch=all -gencode arch=compute_80,code=sm_80",
    "-c x.cu -arch=all-major --generate-code=arch=compute_80,code=[sm_80,compute_80]",
    "-c x.cu -std=c++20 --std c++17 -O3 -O 2 -g -G -lineinfo --generate-line-info",
    "-c x.cu -Xcompiler -fPIC,-Wall -Xcompiler=-O2 --compiler-options -g -Xptxas -v,-O3",
    "-c x.cu -ccbin /usr/bin/g++ --expt-relaxed-constexpr --expt-extended-lambda -use_fast_math",
    "-c x.cu -maxrregcount 32 -maxrregcount=64 -rdc=true -ftz=true --default-stream per-thread",
    "-c x.cu -frandom-seed=abc -Wno-deprecated-gpu-targets -diag-suppress 177 -w -lcudart -L/x",
    "-forward-unknown-to-host-compiler -c -fvisibility=hidden -Wextra x.cu",
    "-x cu -c kernel.cpp",
    "-c x.cpp",
  ])("%s", (line) => {
    expect(parse(line)).toMatchObject({ at: "anywhere", dependencies: undefined });
  });
});

describe("dependency files", () => {
  test.each([
    ["-MD", { systemHeaders: true, phony: false, target: undefined }],
    ["-MMD -MP", { systemHeaders: false, phony: true, target: undefined }],
    ["-MD -MF x.d -MT t", { systemHeaders: true, phony: false, target: "t" }],
    ["-MD -MF=x.d -MT=t", { systemHeaders: true, phony: false, target: "t" }],
  ])("%s", (line, dependencies) => {
    expect(parse(`-c x.cu ${line}`)).toMatchObject({ at: "anywhere", dependencies });
  });
});

describe("nvcc does all of it", () => {
  test.each([
    ["x.cu -o x", "link"],
    ["-c", "no-source"],
    ["-c x.cu y.cu", "several-sources"],
    ["-c x.ptx", "source-type"],
    ["-c x.cu -o", "bad-arguments"],
    ["-c x.cu --made-up", "unknown-flag"],
    ["-c x.cu -arch=native", "arch-native"],
    ["-c x.cu -code native", "arch-native"],
    ["-c x.cu -dlto", "device-lto"],
    ["-c x.cu -gencode arch=compute_80,code=lto_80", "device-lto"],
    ["--ptx x.cu", "device-only"],
    ["-cubin x.cu", "device-only"],
    ["-fatbin x.cu", "device-only"],
    ["-E x.cu", "preprocess-only"],
    ["-M x.cu", "dependencies-only"],
    ["-MM x.cu", "dependencies-only"],
    ["-dlink a.o", "device-link"],
    ["-link a.o", "link"],
    ["-lib a.o", "link"],
    ["-run x.cu", "run"],
    ["-c x.cu --dryrun", "verbose"],
    ["-c x.cu -v", "verbose"],
    ["-c x.cu --keep", "keep"],
    ["-c x.cu -keep-dir k", "keep"],
    ["-c x.cu -save-temps", "keep"],
    ["-c x.cu -time t.csv", "time-report"],
    ["-c x.cu -fdevice-time-trace t", "time-report"],
    ["-c x.cu -split-compile=0", "host-count"],
    ["-c x.cu -jobserver", "jobserver"],
    ["-c x.cu -fdevice-syntax-only", "syntax-only"],
    ["-c x.cu -noprof", "toolkit-layout"],
    ["--version", "query"],
    ["-c x.cu -optf none.rsp", "response-file"],
    ["-c x.cu -optf loop.rsp", "response-file"],
    ["-c x.cu -optf native.rsp", "arch-native"],
    ["-c x.cu -optf threads.rsp", "host-count"],
  ])("%s: %s", (line, reason) => {
    expect(parse(line)).toMatchObject({ at: "here", reason });
  });
});

test("how many threads it may use is not passed on", () => {
  expect(parse("-c x.cu -t 4 --threads=8 -t=0 -o x.o")).toMatchObject({
    dryArgs: ["-c", "x.cu", "-o", "x.o"],
  });
});

test("response files are followed, and named", () => {
  expect(parse("-c x.cu --options-file options.rsp")).toMatchObject({
    at: "anywhere",
    dependencies: { systemHeaders: true },
    responseFiles: [join(cwd, "options.rsp"), join(cwd, "more.rsp")],
  });
});

test("flags from the environment count", () => {
  expect(parse("x.cu", { NVCC_PREPEND_FLAGS: "-c -MD" })).toMatchObject({
    at: "anywhere",
    dependencies: { systemHeaders: true },
  });
  expect(parse("-c x.cu", { NVCC_APPEND_FLAGS: '--keep -DA="b c"' })).toMatchObject({
    at: "here",
    reason: "keep",
  });
});

test("words are split as nvcc splits them", () => {
  expect(splitNvccWords(`-I"a b" -DX='q' \\"z\\"\n\t-Dn=a\\ b ""`)).toEqual([
    "-Ia b",
    "-DX='q'",
    '"z"',
    "-Dn=a b",
    "",
  ]);
});
