import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, rmSync, statSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { textOf } from "../base/bytes.ts";
import { createNvccWorld, leftovers, type NvccWorld, nvccPath } from "./nvcc-world.contract.ts";
import { canStage } from "./staged-root.contract.ts";

const here = nvccPath !== "";
if (!here) console.warn("nvcc is not here: compiles of CUDA sources are not tested");
if (!canStage) console.warn("bwrap does not work here: CUDA steps in a sandbox are not tested");

let world: NvccWorld;
let folder = "";
let write: NvccWorld["write"];
let serve: NvccWorld["serve"];
let plain: NvccWorld["plain"];
let objectOf: NvccWorld["objectOf"];

beforeAll(() => {
  world = createNvccWorld();
  ({ folder, write, serve, plain, objectOf } = world);
});
beforeEach(() => {
  world.forget();
  write("kernel.cu", source);
  write("twice.cuh", header);
});
afterAll(() => world.close());

const header =
  "#pragma once\ntemplate <class T> __device__ T twice(T value) { return value + value; }\n";
const source = `#include <cstdio>
#include "twice.cuh"
__device__ int counter;
static __global__ void hidden(int *p) { *p = twice(*p); }
__global__ void add(float *a, const float *b, int n) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) a[i] = twice(b[i]) + sinf(b[i]);
  if (i == 0) atomicAdd(&counter, 1);
}
void run(float *a, const float *b, int n, int *p) {
  add<<<(n + 255) / 256, 256>>>(a, b, n);
  hidden<<<1, 1>>>(p);
}
`;

/** Less what ptxas says of its own speed. */
function timeless(text: string): string {
  return text.replaceAll(/Compile time = [\d.]+ ms/g, "Compile time");
}

const four = ["75", "80", "86", "90"].flatMap((n) => [
  "-gencode",
  `arch=compute_${n},code=sm_${n}`,
]);

describe.skipIf(!here)("a CUDA source", () => {
  test("two plain runs of nvcc differ in nothing but the number of a process", () => {
    for (const name of ["one.o", "two.o"])
      spawnSync(nvccPath, ["-c", "kernel.cu", "-o", name, ...four], { cwd: folder });
    expect(world.numberless("one.o") === world.numberless("two.o")).toBe(true);
  }, 120_000);

  const cases: readonly (readonly [string, readonly string[]])[] = [
    ["for one architecture", ["-arch=sm_80"]],
    ["for four architectures", four],
    ["with relocatable device code", ["-dc", "-arch=sm_90"]],
    ["with line information", ["-lineinfo", "-O3", "-std=c++17", "-arch=sm_80"]],
    ["with several codes of one architecture", ["-gencode=arch=compute_80,code=[sm_80,sm_86]"]],
    ["with options for every tool", ["-Xptxas=-O2,-v", "-use_fast_math", "-Xcompiler=-fPIC,-O1"]],
    ["for a family of its own", ["-gencode", "arch=compute_90a,code=sm_90a", "-rdc=true"]],
    ["with several threads", ["-t", "4", "-arch=sm_80"]],
  ];
  test.each(cases)(
    "%s becomes the object that nvcc makes",
    async (_, args) => {
      const mode = args.includes("-dc") ? [] : ["-c"];
      const { end } = await serve([...mode, "kernel.cu", "-o", "ours.o", ...args]);
      expect(end).toMatchObject({ at: "done", exitCode: 0 });
      const { stderr } = plain([...mode, "kernel.cu", "-o", "plain.o", ...args]);
      expect(objectOf("ours.o")).toBe(objectOf("plain.o"));
      expect(timeless(end.at === "done" ? textOf(end.stderr) : "")).toBe(timeless(stderr));
      expect(statSync(join(folder, "ours.o")).mode & 0o777).toBe(0o644);
      expect(leftovers()).toEqual([]);
    },
    120_000,
  );

  test.skipIf(!canStage).each([
    ["host", ["-g", "-arch=sm_80"]],
    ["device", ["-g", "-G", "-arch=sm_80"]],
    ["all", ["-g", "-lineinfo", "-O2", ...four]],
  ])(
    "with %s debug information it equals a plain run with the same folder for temporary files",
    async (_, more) => {
      const args = ["-c", "kernel.cu", ...more];
      const { end, folders } = await serve([...args, "-o", "ours.o"]);
      expect(end.at).toBe("done");
      const scratch = [...folders].find((path) => path.startsWith("/tmp/mesh-cuda")) ?? "";
      mkdirSync(scratch, { recursive: true });
      expect(plain([...args, "-o", "plain.o"], scratch).status).toBe(0);
      rmSync(scratch, { recursive: true });
      expect(objectOf("ours.o")).toBe(objectOf("plain.o"));
    },
    120_000,
  );

  test.skipIf(!canStage)(
    "every step reads nothing but its inputs",
    async () => {
      const args = ["-c", "kernel.cu", ...four];
      const { end, ran } = await serve([...args, "-o", "ours.o"], { staged: true });
      expect(end).toMatchObject({ at: "done", exitCode: 0 });
      expect(ran).toHaveLength(2 + 4 * 3 + 2);
      plain([...args, "-o", "plain.o"]);
      expect(objectOf("ours.o")).toBe(objectOf("plain.o"));
    },
    120_000,
  );

  test.skipIf(!canStage)(
    "warnings of all tools come through, as a plain run prints them",
    async () => {
      write(
        "warn.cu",
        "__device__ int f() { int unused; return 1; }\n#warning so\n" +
          "__global__ void k(int *p) { *p = f(); }\nstatic void lost() {}\n",
      );
      const args = ["-c", "warn.cu", "-arch=sm_80", "-Xcompiler", "-Wall", "-o", "warn.o"];
      const { end } = await serve(args, { staged: true });
      const { stderr } = plain(args);
      expect(stderr).toContain("never referenced");
      expect(stderr).toContain("#warning so");
      expect(stderr).toContain("| static void lost() {}");
      expect(end.at === "done" && Buffer.from(end.stderr).toString()).toBe(stderr);
    },
    120_000,
  );
});

describe.skipIf(!here)("steps of a CUDA source", () => {
  test("are all known the second time", async () => {
    const args = ["-c", "kernel.cu", "-o", "ours.o", ...four];
    const first = await serve(args);
    expect(first.found).toEqual([]);
    const before = readFileSync(join(folder, "ours.o"));
    const second = await serve(args);
    expect(second.ran).toEqual([]);
    expect([...second.found].sort()).toEqual([...first.ran].sort());
    expect(readFileSync(join(folder, "ours.o")).equals(before)).toBe(true);
  }, 120_000);

  test("are known for the architectures that were there before", async () => {
    await serve(["-c", "kernel.cu", "-o", "ours.o", "-arch=sm_80"]);
    const { ran, found } = await serve(["-c", "kernel.cu", "-o", "ours.o", ...four]);
    expect(found).toEqual(
      expect.arrayContaining(["kernel.cu compute_80 cicc", "kernel.cu sm_80 ptxas"]),
    );
    expect(ran.filter((label) => /compute_80 cicc|sm_80 ptxas/.test(label))).toEqual([]);
    const built = ran.filter((label) => /cicc|ptxas|fatbin|host compile/.test(label));
    expect(built.sort()).toEqual([
      "kernel.cu compute_75 cicc",
      "kernel.cu compute_86 cicc",
      "kernel.cu compute_90 cicc",
      "kernel.cu host compile",
      "kernel.cu host fatbin",
      "kernel.cu sm_75 ptxas",
      "kernel.cu sm_86 ptxas",
      "kernel.cu sm_90 ptxas",
    ]);
    plain(["-c", "kernel.cu", "-o", "plain.o", ...four]);
    expect(objectOf("ours.o")).toBe(objectOf("plain.o"));
  }, 120_000);

  test("run again after a header changed, and no more of them than the change reaches", async () => {
    const args = ["-c", "kernel.cu", "-o", "ours.o", ...four];
    const first = await serve(args);
    write("twice.cuh", header.replace("value + value", "value * 3"));
    const second = await serve(args);
    expect([...second.ran].sort()).toEqual([...first.ran].sort());
    plain([...args.slice(0, 3), "plain.o", ...four]);
    expect(objectOf("ours.o")).toBe(objectOf("plain.o"));
    // Only the preprocessor sees a comment; the host compile may quote it.
    write("twice.cuh", header.replace("value + value", "value * 3").replace("once", "once // x"));
    const third = await serve(args);
    expect(third.ran.filter((label) => !/preprocess|host compile/.test(label))).toEqual([]);
  }, 120_000);

  test("are not even looked at while the whole command is known", async () => {
    const args = ["-c", "kernel.cu", "-o", "ours.o", "-MD", ...four];
    const first = await serve(args, { whole: true });
    expect(first.ran).toHaveLength(2 + 4 * 3 + 2);
    const before = readFileSync(join(folder, "ours.o"));
    rmSync(join(folder, "ours.o"));
    rmSync(join(folder, "ours.d"));
    const second = await serve(args, { whole: true });
    expect(second).toMatchObject({ ran: [], found: ["kernel.cu"] });
    expect(readFileSync(join(folder, "ours.o")).equals(before)).toBe(true);
    expect(existsSync(join(folder, "ours.d"))).toBe(true);
    write("twice.cuh", header.replace("value + value", "value * 5"));
    expect((await serve(args, { whole: true })).ran).toHaveLength(2 + 4 * 3 + 2);
    const other = await serve([...args, "-DX"], { whole: true });
    expect(other.found).not.toContain("kernel.cu");
  }, 120_000);

  test("that see the time of day are made every time", async () => {
    write("time.cu", "#include <cstdio>\n__global__ void k() {}\nconst char *t = __TIME__;\n");
    const args = ["-c", "time.cu", "-o", "time.o", "-arch=sm_80"];
    const { end, ran } = await serve(args, { whole: true });
    expect(end).toMatchObject({ at: "done", exitCode: 0 });
    const again = await serve(args, { whole: true });
    expect(again.ran).toEqual(expect.arrayContaining(["time.cu host preprocess"]));
    expect(again.found).not.toContain("time.cu");
    expect(ran).toContain("time.cu host preprocess");
  }, 120_000);
});

test.skipIf(!here)(
  "a response file that changed is seen, though nvcc was asked before",
  async () => {
    const args = ["-c", "kernel.cu", "-o", "ours.o", "--options-file", "flags.rsp"];
    write("flags.rsp", "-arch=sm_80");
    expect((await serve(args)).ran).toContain("kernel.cu sm_80 ptxas");
    write("flags.rsp", "-arch=sm_90");
    expect((await serve(args)).ran).toContain("kernel.cu sm_90 ptxas");
  },
  60_000,
);

test.skipIf(!here)(
  "a command that is cancelled ends its steps and leaves no folder behind",
  async () => {
    const cancelled = new AbortController();
    const reason = new Error("enough");
    const serving = serve(["-c", "kernel.cu", "-o", "never.o", ...four], {
      onStep(label) {
        if (label.endsWith("cicc")) cancelled.abort(reason);
      },
      signal: cancelled.signal,
    });
    await expect(serving).rejects.toBe(reason);
    expect(leftovers()).toEqual([]);
    expect(existsSync(join(folder, "never.o"))).toBe(false);
  },
  60_000,
);

describe.skipIf(!here)("the dependency file of a CUDA source", () => {
  const rows: readonly (readonly [string, readonly string[]])[] = [
    ["of all headers", ["-MD"]],
    ["of the user's headers", ["-MMD", "-MP"]],
    ["with names of its own", ["-MD", "-MF", "dep.d", "-MT", "some/target.o", "-MP"]],
    ["of several architectures", ["-MMD", ...four]],
  ];
  test.each(rows)(
    "%s is nvcc's own",
    async (_, args) => {
      write("only86.h", "");
      write("a b.h", '#line 7 "no such.h"\n');
      write(
        "dep.cu",
        '#include "twice.cuh"\n#if __CUDA_ARCH__ >= 860\n#include "only86.h"\n#endif\n' +
          '#include "./a b.h"\n__global__ void k(int *p) { *p = twice(*p); }\n',
      );
      const all = ["-c", "dep.cu", "-o", "dep.o", ...args];
      rmSync(join(folder, "dep.d"), { force: true });
      expect((await serve(all)).end.at).toBe("done");
      const ours = readFileSync(join(folder, "dep.d"), "utf8");
      rmSync(join(folder, "dep.d"));
      plain(all);
      expect(ours).toBe(readFileSync(join(folder, "dep.d"), "utf8"));
      expect(ours).toContain("a\\ b.h");
    },
    120_000,
  );
});

describe.skipIf(!here)("an nvcc command stays here as a whole", () => {
  test("when a step fails, and leaves no folder behind", async () => {
    write("broken.cu", "__global__ void k() { this is wrong; }\n");
    const { end } = await serve(["-c", "broken.cu", "-o", "broken.o"]);
    expect(end).toEqual({ at: "here", reason: "step-failed", kind: "cuda", label: "broken.cu" });
    expect(leftovers()).toEqual([]);
  }, 60_000);

  test("when nvcc itself says no", async () => {
    const { end } = await serve(["-c", "kernel.cu", "-arch=sm_1"]);
    expect(end).toMatchObject({ at: "here", reason: "dry-run" });
  });

  test("when a shell would do more than split words", async () => {
    const { end } = await serve(["-c", "kernel.cu", "-DHOME_IS=$HOME"]);
    expect(end).toMatchObject({ at: "here", reason: "dry-run" });
  });

  test("when the environment reaches into its programs", async () => {
    const { end } = await serve(["-c", "kernel.cu"], { env: { LD_PRELOAD: "/lib/none.so" } });
    expect(end).toMatchObject({ at: "here", reason: "environment LD_PRELOAD" });
  });

  test("when it only makes a program", async () => {
    const { end } = await serve(["kernel.cu", "-o", "program"]);
    expect(end).toMatchObject({ at: "here", reason: "link" });
  });
});

test.skipIf(!here)(
  "a plain C++ source given to nvcc is one compile",
  async () => {
    write("plain.cpp", "#include <vector>\nint f(std::vector<int> &v) { return v[0]; }\n");
    const args = ["-c", "plain.cpp", "-o", "ours.o", "-O2"];
    const { end, ran } = await serve(args);
    expect(end).toMatchObject({ at: "done", exitCode: 0 });
    expect(ran).toEqual(["plain.cpp host compile"]);
    plain(["-c", "plain.cpp", "-o", "plain.o", "-O2"]);
    expect(objectOf("ours.o")).toBe(objectOf("plain.o"));
  },
  60_000,
);
