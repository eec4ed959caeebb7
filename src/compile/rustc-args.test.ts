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

test("the folder of incremental state is taken out, and only that", () => {
  const parsed = parseRustc([...split(library), "-C", "incremental=/ws/inc", "-Cdebuginfo=1"], cwd);
  expect(parsed).toMatchObject({
    unit: { incremental: "/ws/inc", args: [...split(library), "-Cdebuginfo=1"] },
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
  [library.replace("--crate-type lib", "--crate-type bin"), "links"],
  [library.replace("--crate-type lib", "--crate-type proc-macro"), "links"],
  [library.replace("--crate-type lib", "--crate-type lib --crate-type cdylib"), "links"],
  [`${library} --test`, "links"],
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
  const macro = library.replace("--crate-type lib", "--crate-type proc-macro");
  expect(parseRustc(split(macro), cwd)).toMatchObject({
    stem: "/ws/target/debug/deps/libb-a08f",
    externs: ["/ws/target/debug/deps/liba-b699.rmeta"],
  });
});
