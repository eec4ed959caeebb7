import { expect, test } from "vitest";
import { parseRustc } from "./rustc-args.ts";

const cwd = "/ws";
const library =
  "--crate-name b --edition=2024 b/src/lib.rs --error-format=json --json=artifacts --crate-type lib --emit=dep-info,metadata,link -C embed-bitcode=no -C debuginfo=2 --check-cfg cfg(docsrs,test) -C metadata=84 -C extra-filename=-a08f --out-dir /ws/target/debug/deps -L dependency=/ws/target/debug/deps --extern a=/ws/target/debug/deps/liba-b699.rmeta";
const split = (line: string) => line.split(" ");

test("a library's outputs are those that Cargo waits for", () => {
  const parsed = parseRustc(split(library), cwd);
  expect(parsed).toMatchObject({
    at: "anywhere",
    unit: {
      crateName: "b",
      source: "/ws/b/src/lib.rs",
      outputs: [
        "/ws/target/debug/deps/libb-a08f.rlib",
        "/ws/target/debug/deps/libb-a08f.rmeta",
        "/ws/target/debug/deps/b-a08f.d",
      ],
      depInfo: "/ws/target/debug/deps/b-a08f.d",
      stem: "/ws/target/debug/deps/libb-a08f",
      externs: ["/ws/target/debug/deps/liba-b699.rmeta"],
      dependencyDirs: ["/ws/target/debug/deps"],
      args: split(library),
    },
  });
});

const output = (name: string): string => `/ws/target/debug/deps/${name}`;

test.each([
  ["bin", ["b-a08f"], "bin"],
  ["proc-macro", ["libb-a08f.so"], "proc-macro"],
  ["dylib", ["libb-a08f.so"], "dylib"],
  ["cdylib", ["libb-a08f.so"], "cdylib"],
  ["staticlib", ["libb-a08f.a"], undefined],
  [
    "lib --crate-type cdylib --crate-type staticlib",
    ["libb-a08f.rlib", "libb-a08f.so", "libb-a08f.a"],
    "cdylib",
  ],
  ["lib --test", ["b-a08f"], "bin"],
])("a %s has outputs of known names", (type, names, linked) => {
  const line = library
    .replace("--crate-type lib", `--crate-type ${type}`)
    .replace("dep-info,metadata,link", "dep-info,link");
  const parsed = parseRustc(split(line), cwd);
  if (parsed.at === "here") throw new Error(parsed.reason);
  expect(parsed.unit.outputs).toEqual([...names, "b-a08f.d"].map(output));
  expect(parsed.unit.linking?.type).toBe(linked);
});

test("a program that is only checked needs no linker", () => {
  const check = library
    .replace("dep-info,metadata,link", "dep-info,metadata")
    .replace("--crate-type lib", "--crate-type bin");
  const parsed = parseRustc(split(check), cwd);
  expect(parsed).toMatchObject({ unit: { outputs: ["libb-a08f.rmeta", "b-a08f.d"].map(output) } });
  expect(parsed).toMatchObject({ unit: { linking: undefined } });
});

test("what is said about the linker is told apart by whether it chooses files", () => {
  const line = library
    .replace("--crate-type lib", "--crate-type bin")
    .replace("-C embed-bitcode=no", "-C linker=clang -Clink-arg=-fuse-ld=lld");
  const more = "-L native=/n -L /all -l dylib=z:renamed -lm -C relocation-model=static";
  const parsed = parseRustc([...split(`${line} ${more}`), "-C", "link-args=-T /x.ld"], cwd);
  expect(parsed).toMatchObject({
    unit: {
      nativeDirs: ["/n", "/all"],
      nativeNames: ["z", "m"],
      dependencyDirs: ["/ws/target/debug/deps", "/all"],
      linking: {
        linker: "clang",
        linkArgs: ["-fuse-ld=lld", "-T", "/x.ld"],
        flags: [
          ...["-C", "linker=clang", "-C", "relocation-model=static"],
          ...["-C", "link-arg=-fuse-ld=lld"],
        ],
      },
    },
  });
});

test("a check build emits metadata alone", () => {
  const check = library.replace("dep-info,metadata,link", "dep-info,metadata");
  expect(parseRustc(split(check), cwd)).toMatchObject({
    unit: { outputs: ["/ws/target/debug/deps/libb-a08f.rmeta", "/ws/target/debug/deps/b-a08f.d"] },
  });
});

test.each([
  ["-vV", "rustc-query"],
  ["- --crate-name ___ --print=file-names", "rustc-query"],
  [library.replace("--crate-type lib ", ""), "links"],
  [`${library.replace("--crate-type lib", "--crate-type bin")} --target a-pc-windows-gnu`, "links"],
  [library.replace("--crate-type lib", "--crate-type sdylib"), "unusual-outputs"],
  [`${library} -C incremental=/ws/inc`, "incremental"],
  [library.replace("metadata,link", "metadata,link,asm"), "unusual-outputs"],
  [library.replace("dep-info,", "dep-info=/x.d,"), "unusual-outputs"],
  [library.replace("dep-info,", ""), "no-dep-info"],
  [library.replace("--error-format=json ", ""), "prints-for-people"],
  [`${library} --error-format human`, "prints-for-people"],
  [`${library} -o x.rlib`, "unusual-outputs"],
  [`${library} -C split-debuginfo=unpacked`, "unusual-outputs"],
  [`${library} -l static=z`, "native-library"],
  [`${library} -lstatic:+whole-archive=z`, "native-library"],
  [`${library} --sysroot /x`, "unusual-sysroot"],
  [`${library} --target /x/custom.json`, "unusual-sysroot"],
  [`${library} -C target-cpu=native`, "unknown-option -C target-cpu=native"],
  [`${library} -C profile-use=/x`, "unknown-option -C profile-use"],
  [`${library} -Zself-profile`, "unknown-option -Z self-profile"],
  [`${library} --brand-new`, "unknown-option --brand-new"],
  [`${library} @args`, "unknown-option @args"],
])("%s stays here", (line, reason) => {
  expect(parseRustc(split(line), cwd)).toMatchObject({ at: "here", reason });
});

test("a unit that stays here is still remembered for those that depend on it", () => {
  expect(parseRustc(split(`${library} -C incremental=/ws/inc -lz`), cwd)).toMatchObject({
    ...{ at: "here", nativeNames: ["z"] },
    stem: "/ws/target/debug/deps/libb-a08f",
    externs: ["/ws/target/debug/deps/liba-b699.rmeta"],
  });
});
