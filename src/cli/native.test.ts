import { expect, test } from "vitest";
import { splitCMakeArgs } from "./cmake.ts";
import type { CMakeProject } from "./detect.ts";
import { argsSayJobs, envSaysJobs, toolOf, withoutLostJobserver } from "./environment.ts";
import { planBuild, planExec } from "./native.ts";
import type { NativeOptions } from "./step.ts";

const mesh = {
  build: "b1",
  shim: "/d/shim/mesh-shim",
  shimDir: "/d/shim/bin",
  shimSocket: "/d/shim.sock",
  slots: 2,
  jobs: 10,
};
const plain: NativeOptions = {
  mesh,
  args: [],
  env: { PATH: "/usr/bin" },
  piped: false,
  color: false,
  jobs: undefined,
  cores: 4,
  hasNinja: true,
  rustcWrapper: undefined,
  exists: () => true,
};
const only = (plan: ReturnType<typeof planBuild>) => {
  expect(plan.steps).toHaveLength(1);
  const [step] = plan.steps;
  if (step === undefined) throw new Error("no step");
  return step;
};
const cargo = (options: Partial<NativeOptions>) =>
  only(planBuild({ tool: "cargo", dir: "/w" }, { ...plain, ...options }));
const make = (options: Partial<NativeOptions>) =>
  only(planBuild({ tool: "make", dir: "/w" }, { ...plain, ...options }));

test("cargo gets the wrapper, the way to the node, the names in PATH and the mesh's jobs", () => {
  const step = cargo({ args: ["--release"] });
  expect(step.argv).toEqual(["cargo", "build", "--release"]);
  expect(step.cwd).toBe("/w");
  expect(step.env).toEqual({
    PATH: "/d/shim/bin:/usr/bin",
    RUSTC_WRAPPER: "/d/shim/mesh-shim",
    CARGO_BUILD_JOBS: "10",
    MESH_SOCKET: "/d/shim.sock",
    MESH_BUILD: "b1",
    MESH_SLOTS: "2",
    MESH_JOBS: "10",
  });
});

test("without a mesh the environment is the user's own, to the last variable", () => {
  expect(cargo({ mesh: undefined }).env).toEqual(plain.env);
  expect(cargo({ mesh: undefined }).argv).toEqual(["cargo", "build"]);
});

test.each([
  { env: { RUSTC_WRAPPER: "sccache" }, rustcWrapper: undefined },
  { env: { CARGO_BUILD_RUSTC_WRAPPER: "sccache" }, rustcWrapper: undefined },
  { env: {}, rustcWrapper: "sccache" },
])("a wrapper that is there already stays, and this is said: %j", ({ env, rustcWrapper }) => {
  const plan = planBuild({ tool: "cargo", dir: "/w" }, { ...plain, env, rustcWrapper });
  expect(only(plan).env.RUSTC_WRAPPER).toBe("RUSTC_WRAPPER" in env ? "sccache" : undefined);
  expect(plan.notes).toEqual([expect.stringContaining("sccache")]);
});

test("jobs the user has named stay: in the arguments, in the environment", () => {
  expect(cargo({ args: ["-j3"] }).env.CARGO_BUILD_JOBS).toBeUndefined();
  expect(cargo({ env: { CARGO_BUILD_JOBS: "3" } }).env.CARGO_BUILD_JOBS).toBe("3");
  expect(make({ args: ["-kj3", "all"] }).argv).toEqual(["make", "-kj3", "all"]);
  expect(make({ env: { MAKEFLAGS: "-j3" } }).argv).toEqual(["make"]);
  expect(make({ args: ["all"] }).argv).toEqual(["make", "-j10", "all"]);
});

test("--jobs is stronger than the environment and weaker than a native argument", () => {
  expect(make({ jobs: 7, env: { MAKEFLAGS: "-j3" } }).argv).toEqual(["make", "-j7"]);
  expect(make({ jobs: 7, args: ["-j3"] }).argv).toEqual(["make", "-j3"]);
  expect(cargo({ jobs: 7, env: { CARGO_BUILD_JOBS: "3" } }).env.CARGO_BUILD_JOBS).toBe("7");
});

test.each([
  ["cargo", ["test", "--", "-j3"], false],
  ["cargo", ["--jobs", "3"], true],
  ["cargo", ["--jobs=3"], true],
  ["make", ["-j"], true],
  ["make", ["--jobs=3"], true],
  ["make", ["job"], false],
  ["make", ["CFLAGS=-jx"], false],
  ["ninja", ["-j", "3"], true],
  ["ninja", ["-kj3"], false],
  ["cmake", ["--parallel"], true],
  ["cmake", ["--", "-j3"], true],
])("%s %j says how many jobs: %s", (tool, args, says) => {
  expect(argsSayJobs(tool, args)).toBe(says);
});

test.each([
  ["-j8", true],
  ["kj8", true],
  ["j", true],
  ["--no-print-directory", false],
  ["w", false],
])("MAKEFLAGS=%s says how many jobs: %s", (flags, says) => {
  expect(envSaysJobs("make", { MAKEFLAGS: flags })).toBe(says);
});

test("a jobserver of open files is lost on the way to the tool; a named pipe is not", () => {
  const lost = withoutLostJobserver({ MAKEFLAGS: "k -j4 --jobserver-auth=3,4", MFLAGS: "-k" });
  expect(lost).toEqual({ env: { MAKEFLAGS: "k", MFLAGS: "-k" }, jobserver: false });
  expect(withoutLostJobserver({ CARGO_MAKEFLAGS: "-j --jobserver-fds=3,4" }).env).toEqual({});
  const pipe = { MAKEFLAGS: " -j4 --jobserver-auth=fifo:/tmp/x" };
  expect(withoutLostJobserver(pipe)).toEqual({ env: pipe, jobserver: true });
  expect(make({ env: pipe }).argv).toEqual(["make"]);
});

test("an absolute CC is put behind the shim, a plain one is found through PATH", () => {
  const { env } = make({ env: { CC: "/opt/gcc", CXX: "g++" } });
  expect(env).toMatchObject({ CC: "/d/shim/mesh-shim /opt/gcc", CXX: "g++" });
  const spaced = make({ mesh: { ...mesh, shim: "/my dir/mesh-shim" }, env: { CC: "/opt/gcc" } });
  expect(spaced.env.CC).toBe("/opt/gcc");
});

test("the folder of names is in PATH once, also inside another mesh build", () => {
  expect(make({ env: { PATH: "/usr/bin:/d/shim/bin:/bin" } }).env.PATH).toBe(
    "/d/shim/bin:/usr/bin:/bin",
  );
});

test("colours are asked for only where our own output has them, and the user's word stands", () => {
  expect(make({ piped: true, color: false }).env.MESH_COLOR).toBeUndefined();
  expect(make({ piped: true, color: true }).env).toMatchObject({
    MESH_COLOR: "1",
    CLICOLOR_FORCE: "1",
  });
  expect(cargo({ piped: true, color: true, env: { CARGO_TERM_COLOR: "never" } }).env).toMatchObject(
    { CARGO_TERM_COLOR: "never", CARGO_TERM_PROGRESS_WHEN: "always" },
  );
});

const cmake = (cache: CMakeProject["cache"]): CMakeProject => ({
  tool: "cmake",
  dir: "/w",
  buildDir: "/w/build",
  cache,
});
const configured = (launcher: string): CMakeProject =>
  cmake({
    launchers: {
      CMAKE_C_COMPILER_LAUNCHER: launcher,
      CMAKE_C_LINKER_LAUNCHER: launcher === "ccache" ? "time" : launcher,
    },
    generator: "Ninja",
  });

test("CMake's first configure gets the launchers from the environment and a plain PATH", () => {
  const { steps } = planBuild(cmake(undefined), { ...plain, args: ["-DX=1", "--target", "all"] });
  expect(steps.map(({ argv }) => argv)).toEqual([
    ["cmake", "-S", "/w", "-B", "/w/build", "-G", "Ninja", "-DX=1"],
    ["cmake", "--build", "/w/build", "--parallel", "10", "--target", "all"],
  ]);
  for (const { env } of steps) {
    expect(env.PATH).toBe("/usr/bin");
    expect(env.CMAKE_CXX_COMPILER_LAUNCHER).toBe("/d/shim/mesh-shim");
    expect(env.CMAKE_CUDA_COMPILER_LAUNCHER).toBe("/d/shim/mesh-shim");
    expect(env.CMAKE_CXX_LINKER_LAUNCHER).toBe("/d/shim/mesh-shim");
  }
});

test("a generator that the user has chosen stays, and without Ninja CMake chooses", () => {
  const first = (options: Partial<NativeOptions>) =>
    planBuild(cmake(undefined), { ...plain, ...options }).steps[0]?.argv.slice(5);
  expect(first({ args: ["-G", "Unix Makefiles"] })).toEqual(["-G", "Unix Makefiles"]);
  expect(first({ env: { CMAKE_GENERATOR: "Unix Makefiles" } })).toEqual([]);
  expect(first({ hasNinja: false })).toEqual([]);
});

test("a build folder without our launcher is configured once more, and this is said", () => {
  const plan = planBuild(configured(""), plain);
  expect(plan.steps.map(({ argv }) => argv.slice(0, 4))).toEqual([
    [
      "cmake",
      "/w/build",
      "-DCMAKE_C_COMPILER_LAUNCHER=/d/shim/mesh-shim",
      "-DCMAKE_C_LINKER_LAUNCHER=/d/shim/mesh-shim",
    ],
    ["cmake", "--build", "/w/build", "--parallel"],
  ]);
  expect(plan.notes).toHaveLength(1);
});

test("one that has our launcher is only built", () => {
  const plan = planBuild(configured("/d/shim/mesh-shim"), plain);
  expect(plan.steps).toHaveLength(1);
  expect(plan.notes).toEqual([]);
});

test("one with the shim of another data directory gets ours", () => {
  const [first] = planBuild(configured("/old/mesh-shim"), plain).steps;
  expect(first?.argv).toContain("-DCMAKE_C_COMPILER_LAUNCHER=/d/shim/mesh-shim");
});

test("a launcher of the user's stays, and this is said", () => {
  const plan = planBuild(configured("ccache"), plain);
  expect(plan.steps).toHaveLength(1);
  expect(plan.notes).toEqual([expect.stringContaining("ccache")]);
  expect(plan.whyNone).toContain("ccache");
});

test("without a mesh a folder whose shim is gone is configured without it, so that it builds", () => {
  const gone = { ...plain, mesh: undefined, exists: () => false };
  const [first] = planBuild(configured("/d/shim/mesh-shim"), gone).steps;
  expect(first?.argv).toEqual([
    "cmake",
    "/w/build",
    "-DCMAKE_C_COMPILER_LAUNCHER=",
    "-DCMAKE_C_LINKER_LAUNCHER=",
  ]);
  const there = { ...plain, mesh: undefined };
  expect(planBuild(configured("/d/shim/mesh-shim"), there).steps).toHaveLength(1);
});

test.each([
  [
    ["-DA=1", "-D", "B=2", "--target", "x"],
    ["-DA=1", "-D", "B=2"],
    ["--target", "x"],
  ],
  [["-Wno-dev", "-v", "-GNinja"], ["-Wno-dev", "-GNinja"], ["-v"]],
  [["-v", "--", "-DX", "-k"], [], ["-v", "--", "-DX", "-k"]],
])("CMake arguments %j: %j configure, %j build", (args, configure, build) => {
  expect(splitCMakeArgs(args)).toEqual({ configure, build });
});

test("exec leaves the command as it is and only adds to the environment", () => {
  const step = only(planExec(["./build.sh", "-x"], "/w", plain));
  expect(step.argv).toEqual(["./build.sh", "-x"]);
  expect(step.env).toMatchObject({
    PATH: "/d/shim/bin:/usr/bin",
    RUSTC_WRAPPER: "/d/shim/mesh-shim",
    CMAKE_BUILD_PARALLEL_LEVEL: "10",
    MESH_JOBS: "10",
  });
  // A script that calls make without -j may count on one job at a time.
  expect(step.env.MAKEFLAGS).toBeUndefined();
});

test("exec knows build tools by name and tells them the jobs", () => {
  expect(only(planExec(["/usr/bin/make", "all"], "/w", plain)).argv).toEqual([
    "/usr/bin/make",
    "-j10",
    "all",
  ]);
  expect(only(planExec(["cargo", "test"], "/w", plain)).env.CARGO_BUILD_JOBS).toBe("10");
  expect(only(planExec(["cmake", "-B", "x"], "/w", plain)).env).toMatchObject({
    PATH: "/usr/bin",
    CMAKE_C_COMPILER_LAUNCHER: "/d/shim/mesh-shim",
  });
  expect(toolOf("/usr/bin/gmake")).toBe("make");
  expect(toolOf("makedepend")).toBeUndefined();
});
