import { dirname } from "node:path";
import { expect, test } from "vitest";
import { cargoConfigPaths, detect, type Look, parseCMakeCache, rustcWrapperIn } from "./detect.ts";

/** A disk with these files. */
function disk(files: Readonly<Record<string, string>>): Look {
  const paths = Object.keys(files);
  return {
    isFile: (path) => path in files,
    isDirectory: (path) => paths.some((file) => file.startsWith(`${path}/`)),
    list: (path) => paths.filter((file) => dirname(file) === path),
    text: (path) => files[path] ?? "",
  };
}

const cache = `# comment
CMAKE_CXX_COMPILER:FILEPATH=/usr/bin/c++
CMAKE_C_COMPILER:STRING=/usr/bin/cc
CMAKE_CXX_COMPILER_LAUNCHER:STRING=/d/shim/mesh-shim
CMAKE_GENERATOR:INTERNAL=Unix Makefiles
CMAKE_CUDA_COMPILER:FILEPATH=
CMAKE_CACHE_MAJOR_VERSION:INTERNAL=3
CMAKE_CACHE_MINOR_VERSION:INTERNAL=21
`;

test.each([
  ["Cargo.toml", "cargo"],
  ["CMakeLists.txt", "cmake"],
  ["build.ninja", "ninja"],
  ["Makefile", "make"],
  ["makefile", "make"],
  ["GNUmakefile", "make"],
])("a folder with %s is built by %s", (name, tool) => {
  expect(detect("/w", disk({ [`/w/${name}`]: "" }))?.tool).toBe(tool);
});

test("a folder with several is built by the one that generates the others", () => {
  const all = disk({
    "/w/Makefile": "",
    "/w/build.ninja": "",
    "/w/CMakeLists.txt": "",
    "/w/Cargo.toml": "",
  });
  expect(detect("/w", all)?.tool).toBe("cargo");
  const configured = disk({ "/w/Makefile": "", "/w/CMakeCache.txt": cache });
  expect(detect("/w", configured)).toMatchObject({ tool: "cmake", buildDir: "/w" });
});

test("a folder with none of them is not guessed at", () => {
  expect(detect("/w", disk({ "/w/meson.build": "", "/w/sub/Makefile": "" }))).toBeUndefined();
});

test("CMake builds where it has been configured, else in a build folder that is free", () => {
  const lists = { "/w/CMakeLists.txt": "" };
  const at = (files: Readonly<Record<string, string>>) =>
    detect("/w", disk({ ...lists, ...files }));
  expect(at({})).toMatchObject({ buildDir: "/w/build", cache: undefined });
  expect(at({ "/w/build/CMakeCache.txt": cache })).toMatchObject({
    buildDir: "/w/build",
    cache: { generator: "Unix Makefiles" },
  });
  expect(at({ "/w/CMakeCache.txt": cache })).toMatchObject({ buildDir: "/w" });
  expect(at({ "/w/build/scripts.sh": "" })).toMatchObject({ buildDir: "/w/build-mesh" });
  expect(at({ "/w/build/scripts.sh": "", "/w/build-mesh/CMakeCache.txt": cache })).toMatchObject({
    buildDir: "/w/build-mesh",
    cache: { generator: "Unix Makefiles" },
  });
});

test("a CMake cache tells its generator, and the launchers of the languages it has set up", () => {
  expect(parseCMakeCache(cache)).toEqual({
    launchers: {
      CMAKE_C_COMPILER_LAUNCHER: "",
      CMAKE_CXX_COMPILER_LAUNCHER: "/d/shim/mesh-shim",
      CMAKE_C_LINKER_LAUNCHER: "",
      CMAKE_CXX_LINKER_LAUNCHER: "",
    },
    generator: "Unix Makefiles",
  });
});

test.each([
  ["3", "20", false],
  ["2", "30", false],
  ["3", "21", true],
  ["4", "0", true],
])("CMake %s.%s can be told of a launcher for links: %s", (major, minor, can) => {
  const versioned = cache.replace("_VERSION:INTERNAL=3", `_VERSION:INTERNAL=${major}`);
  const { launchers } = parseCMakeCache(versioned.replace("INTERNAL=21", `INTERNAL=${minor}`));
  expect("CMAKE_CXX_LINKER_LAUNCHER" in launchers).toBe(can);
});

test.each([
  ['[build]\nrustc-wrapper = "sccache"\n', "sccache"],
  ['build.rustc-wrapper = "/usr/bin/ccache"', "/usr/bin/ccache"],
  ["[build]\njobs = 4\n[target.x]\nrustc-wrapper = 'no'\n", undefined],
  ['[build]\n# rustc-wrapper = "sccache"\n', undefined],
  ["", undefined],
])("the wrapper in a Cargo configuration: %j is %s", (text, wrapper) => {
  expect(rustcWrapperIn(text)).toBe(wrapper);
});

test("Cargo's configuration is looked for from the folder upwards, then at home", () => {
  expect(cargoConfigPaths("/a/b", "/home/.cargo", ["/a", "/"])).toEqual([
    "/a/b/.cargo/config.toml",
    "/a/b/.cargo/config",
    "/a/.cargo/config.toml",
    "/a/.cargo/config",
    "/.cargo/config.toml",
    "/.cargo/config",
    "/home/.cargo/config.toml",
    "/home/.cargo/config",
  ]);
});
