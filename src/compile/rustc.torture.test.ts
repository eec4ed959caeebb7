import { execFileSync, spawnSync } from "node:child_process";
import { mkdirSync, renameSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { whyNoTier } from "../exec/sandbox-world.contract.ts";
import type { Invocation } from "./plan.ts";
import { createRustCourse, plainly, type RustCourse } from "./rust-course.contract.ts";
import {
  createPeer,
  makeFolder,
  missingTools,
  type Peer,
  writeFiles,
} from "./rust-world.contract.ts";

const noCc = spawnSync("cc", ["--version"], { stdio: "ignore" }).status !== 0;
const missing = [...missingTools, ...(noCc ? ["cc"] : [])];
const why = missing.length > 0 ? `no ${missing.join(", ")}` : await whyNoTier("bwrap");
if (why !== undefined) console.log(`skipped: Rust units that read in secret: ${why}`);

/** A string literal as the tokens of a macro. */
const literal = `format!("{:?}", value).parse().expect("a literal")`;
const reading = (path: string): string =>
  `let value = std::fs::read_to_string(${path}).unwrap_or("none".into()); ${literal}`;

const macros = `
extern crate proc_macro;
use proc_macro::TokenStream;
fn text(tokens: TokenStream) -> String { tokens.to_string().trim_matches('"').to_string() }
#[proc_macro] pub fn plain(_: TokenStream) -> TokenStream {
  let value = "nothing looked at"; ${literal} }
#[proc_macro] pub fn variable(_: TokenStream) -> TokenStream {
  let value = std::env::var("SEEN_BY_A_MACRO").unwrap_or("unset".into()); ${literal} }
#[proc_macro] pub fn named(tokens: TokenStream) -> TokenStream {
  let value = std::env::var(text(tokens)).unwrap_or("unset".into()); ${literal} }
#[proc_macro] pub fn computed(tokens: TokenStream) -> TokenStream {
  let value = std::env::var(text(tokens).to_uppercase()).unwrap_or("unset".into()); ${literal} }
#[proc_macro] pub fn package(tokens: TokenStream) -> TokenStream {
  let folder = std::env::var("CARGO_MANIFEST_DIR").expect("set");
  ${reading(`format!("{folder}/{}", text(tokens))`)} }
#[proc_macro] pub fn file(tokens: TokenStream) -> TokenStream { ${reading("text(tokens)")} }
#[proc_macro] pub fn exists(tokens: TokenStream) -> TokenStream {
  let value = std::path::Path::new(&text(tokens)).exists(); ${literal} }
#[proc_macro] pub fn leaves(tokens: TokenStream) -> TokenStream {
  let value = std::fs::write(text(tokens), "left").is_ok(); ${literal} }
`;

let peer: Peer | undefined;
let course: RustCourse | undefined;
let root = "";
const make = async (call: Invocation) => {
  if (course === undefined) throw new Error("no course");
  return course.make(call);
};

describe.skipIf(why !== undefined)("a unit that reads in secret", { timeout: 120_000 }, () => {
  let compiler = "";
  beforeAll(async () => {
    peer = await createPeer();
    course = createRustCourse(peer);
    root = makeFolder();
    const sysroot = execFileSync("rustc", ["--print", "sysroot"], { encoding: "utf8" }).trim();
    compiler = join(sysroot, "bin/rustc");
    writeFiles(root, {
      "ws/Cargo.toml": "[workspace]\n",
      "ws/settings.txt": "workspace",
      "ws/user/Cargo.toml": "",
      "ws/user/data.txt": "package",
      "macros.rs": macros,
      "out/keep": "",
      "native/keep": "",
      "earlier/keep": "",
      "elsewhere/keep": "",
    });
    const macro = unit("macros", "proc-macro", ["-C", "prefer-dynamic", join(root, "macros.rs")]);
    expect(await make(macro)).toBe("kept");
  });
  afterAll(async () => {
    await peer?.close();
    rmSync(root, { recursive: true, force: true });
  });
  afterEach(() => rmSync(join(root, "secret"), { recursive: true, force: true }));

  function unit(
    name: string,
    type: string,
    more: readonly string[],
    env: Readonly<Record<string, string>> = {},
  ): Invocation {
    const { PATH = "", HOME = "" } = process.env;
    const shown = ["--error-format=json", "--json=artifacts", "--edition", "2021"];
    return {
      args: [
        ...["--crate-name", name, "--crate-type", type, "--emit=dep-info,link", ...shown],
        ...["-C", "metadata=1", "-C", "extra-filename=-1", "--out-dir", join(root, "out")],
        ...more,
      ],
      compiler,
      cwd: join(root, "ws"),
      env: { PATH, HOME, CARGO_MANIFEST_DIR: join(root, "ws/user"), ...env },
      umask: 0o022,
    };
  }

  let units = 0;
  /** A library with one constant, made by a macro; as a function of the environment. */
  function user(
    constant: string,
    type = "lib",
  ): (env?: Readonly<Record<string, string>>) => Invocation {
    const name = `user${++units}`;
    const source = join(root, "ws/user", `${name}.rs`);
    const main = type === "bin" ? 'fn main() { println!("{}", VALUE); }\n' : "";
    writeFileSync(source, `pub const VALUE: &str = ${constant};\n${main}`);
    const args = ["--extern", `macros=${join(root, "out/libmacros-1.so")}`, source];
    return (env) => unit(name, type, args, env);
  }

  test("a macro that looks at nothing: known from the first time", async () => {
    const call = user("macros::plain!()");
    expect(await make(call())).toBe("kept");
    expect(await make(call())).toBe("hit");
    expect(await make(call({ TERM: "other", SHLVL: "9", SOMETHING: "else" }))).toBe("hit");
  });

  test("a program with macros, linked in the sandbox", async () => {
    const call = user("macros::plain!()", "bin");
    expect(await make(call())).toBe("kept");
    expect(await make(call())).toBe("hit");
  });

  test("proc-macro that reads an environment variable", async () => {
    const call = user("macros::variable!()");
    expect(await make(call())).toBe("kept");
    expect(await make(call({ SEEN_BY_A_MACRO: "a" }))).toBe("kept");
    expect(await make(call({ SEEN_BY_A_MACRO: "b" }))).toBe("kept");
    expect(await make(call({ SEEN_BY_A_MACRO: "a" }))).toBe("hit");
    expect(await make(call())).toBe("hit");
  });

  test("proc-macro that reads a variable named in the source", async () => {
    const call = user('macros::named!("NAMED_IN_THE_SOURCE")');
    expect(await make(call())).toBe("kept");
    expect(await make(call({ NAMED_IN_THE_SOURCE: "a" }))).toBe("kept");
    expect(await make(call())).toBe("hit");
    expect(await make(call({ NAMED_IN_THE_SOURCE: "a" }))).toBe("hit");
  });

  test("proc-macro that reads a variable whose name nobody can see", async () => {
    const call = user("macros::computed!(hidden_name)");
    expect(await make(call())).toBe("not kept: exit code 125");
    expect(await make(call())).toBe("kept");
    expect(await make(call({ HIDDEN_NAME: "a" }))).toBe("kept");
    expect(await make(call({ HIDDEN_NAME: "b" }))).toBe("kept");
    expect(await make(call())).toBe("hit");
    expect(await make(call({ HIDDEN_NAME: "a" }))).toBe("hit");
  });

  test("proc-macro that reads a variable that is another one every time", async () => {
    const call = user('macros::named!("TMPDIR")');
    expect(await make(call({ TMPDIR: "/tmp" }))).toBe("not kept: exit code 125");
    expect(await make(call({ TMPDIR: "/tmp" }))).toBe("kept");
    expect(await make(call({ TMPDIR: "/var/tmp" }))).toBe("kept");
    expect(await make(call())).toBe("kept");
  });

  test("proc-macro that reads a secret", async () => {
    const call = user('macros::named!("DEPLOY_TOKEN")');
    expect(await make(call())).toBe("kept");
    expect(await make(call({ DEPLOY_TOKEN: "x" }))).toBe("local: reads-secret");
    expect(await make(call())).toBe("hit");
  });

  test("proc-macro that reads a file: of the package", async () => {
    const call = user('macros::package!("data.txt")');
    expect(await make(call())).toBe("kept");
    writeFiles(root, { "ws/user/data.txt": "changed" });
    expect(await make(call())).toBe("kept");
    writeFiles(root, { "ws/user/data.txt": "package" });
    expect(await make(call())).toBe("hit");
  });

  test("proc-macro that reads a file: of the package, and not there at first", async () => {
    const call = user('macros::package!("late.txt")');
    expect(await make(call())).toBe("kept");
    writeFiles(root, { "ws/user/late.txt": "now" });
    expect(await make(call())).toBe("kept");
    rmSync(join(root, "ws/user/late.txt"));
    expect(await make(call())).toBe("hit");
  });

  test("proc-macro that reads a file: of the workspace", async () => {
    const call = user('macros::file!("settings.txt")');
    expect(await make(call())).toBe("kept");
    writeFiles(root, { "ws/settings.txt": "changed" });
    expect(await make(call())).toBe("kept");
    rmSync(join(root, "ws/settings.txt"));
    expect(await make(call())).toBe("kept");
    writeFiles(root, { "ws/settings.txt": "workspace" });
    expect(await make(call())).toBe("hit");
  });

  test("proc-macro that reads a file: anywhere, and it changes", async () => {
    const path = join(root, "secret/x");
    writeFiles(root, { "secret/x": "one" });
    const call = user(`macros::file!("${path}")`);
    expect(await make(call())).toBe("not kept: exit code 125");
    expect(await make(call())).toBe("kept");
    expect(await make(call())).toBe("hit");
    writeFiles(root, { "secret/x": "two" });
    expect(await make(call())).toBe("kept");
    rmSync(path);
    expect(await make(call())).toBe("kept");
    writeFiles(root, { "secret/x": "one" });
    expect(await make(call())).toBe("hit");
  });

  test("proc-macro that reads a file: anywhere, and it comes later", async () => {
    const call = user(`macros::file!("${join(root, "secret/x")}")`);
    expect(await make(call())).toBe("not kept: exit code 125");
    expect(await make(call())).toBe("kept");
    expect(await make(call())).toBe("hit");
    writeFiles(root, { "secret/x": "there" });
    expect(await make(call())).toBe("kept");
    rmSync(join(root, "secret"), { recursive: true });
    expect(await make(call())).toBe("hit");
  });

  test("proc-macro that reads a file, itself found through a symlink", async () => {
    const source = join(root, "ws/user/aliased.rs");
    const file = join(root, "secret/alias");
    symlinkSync(join(root, "out/libmacros-1.so"), join(root, "out/libalias.so"));
    writeFileSync(source, `pub const VALUE: &str = macros::file!("${file}");\n`);
    const args = ["--extern", `macros=${join(root, "out/libalias.so")}`, source];
    const call = unit("aliased", "lib", args);
    expect(await make(call)).toBe("not kept: exit code 125");
    expect(await make(call)).toBe("kept");
    writeFiles(root, { "secret/alias": "there" });
    expect(await make(call)).toBe("kept");
  });

  test("proc-macro that only asks whether there is a folder", async () => {
    const folder = join(root, "secret");
    mkdirSync(folder);
    const call = user(`["no", "yes"][macros::exists!("${folder}") as usize]`);
    expect(await make(call())).toBe("not kept: exit code 125");
    expect(await make(call())).toBe("kept");
    rmSync(folder, { recursive: true });
    expect(await make(call())).toBe("kept");
    mkdirSync(folder);
    expect(await make(call())).toBe("hit");
  });

  test("a planner that knows nothing finds nothing that others kept, and keeps nothing wrong", async () => {
    const newcomer = await createPeer();
    try {
      const call = user(`macros::file!("${join(root, "secret/y")}")`);
      const other = createRustCourse(newcomer);
      expect(await other.make(call())).toBe("not kept: exit code 125");
      writeFiles(root, { "secret/y": "there" });
      expect(await make(call())).toBe("not kept: exit code 125");
      expect(await other.make(call())).toBe("kept");
    } finally {
      await newcomer.close();
    }
  });

  test.each([
    ["writes a file", 'macros::leaves!("/tmp/mesh-left-behind") as usize', "secret/z"],
    ["reads what only this process has", 'macros::exists!("/proc/self/status") as usize', ""],
  ])("proc-macro that %s: never known", async (_, value) => {
    const call = user(`["no", "yes"][${value}]`);
    expect(await make(call())).toBe("not kept: exit code 125");
    expect(await make(call())).toBe("local: macro-looks-around");
    rmSync("/tmp/mesh-left-behind", { force: true });
  });

  test("include_str! outside the package", async () => {
    writeFiles(root, { "secret/t.txt": "one" });
    const call = user('concat!(macros::plain!(), include_str!("../../secret/t.txt"))');
    expect(await make(call())).toBe("kept");
    expect(await make(call())).toBe("hit");
    writeFiles(root, { "secret/t.txt": "two" });
    expect(await make(call())).toBe("kept");
  });

  test("include_str! outside the package, by a path that is put together", async () => {
    writeFiles(root, { "secret/u.txt": "one" });
    const source = join(root, "ws/user/puts.rs");
    const path = 'concat!(env!("CARGO_MANIFEST_DIR"), "/../../secret/u.txt")';
    writeFileSync(source, `pub const VALUE: &str = include_str!(${path});\n`);
    const call = unit("puts", "lib", [source]);
    expect(await make(call)).toBe(`not kept: input-miss: ${root}/secret/u.txt`);
    // As `cargo clean` does: nothing on the disk says what was read.
    rmSync(join(root, "out/puts-1.d"));
    expect(await make(call)).toBe("kept");
    expect(await make(call)).toBe("hit");
    writeFiles(root, { "secret/u.txt": "two" });
    expect(await make(call)).toBe("kept");
  });

  test("env! through a macro of another crate", async () => {
    writeFiles(root, {
      "ws/user/names.rs":
        '#[macro_export] macro_rules! it { () => { option_env!("NOT_IN_THE_USER") } }',
      "ws/user/asks.rs": "pub const VALUE: Option<&str> = names::it!();\n",
    });
    expect(await make(unit("names", "lib", [join(root, "ws/user/names.rs")]))).toBe("kept");
    const args = ["--extern", `names=${join(root, "out/libnames-1.rlib")}`];
    // The package lists its own sources, and this name is in none of them.
    renameSync(join(root, "ws/user/asks.rs"), join(root, "elsewhere/asks.rs"));
    const asks = (env: Readonly<Record<string, string>>) =>
      unit("asks", "lib", [...args, join(root, "elsewhere/asks.rs")], {
        ...{ CARGO_MANIFEST_DIR: join(root, "elsewhere"), ...env },
      });
    expect(await make(asks({}))).toBe("kept");
    expect(await make(asks({ NOT_IN_THE_USER: "a" }))).toBe("not kept: env-miss: NOT_IN_THE_USER");
    expect(await make(asks({ NOT_IN_THE_USER: "a" }))).toBe("kept");
    expect(await make(asks({ NOT_IN_THE_USER: "b" }))).toBe("kept");
    expect(await make(asks({}))).toBe("hit");
  });

  describe("with system libraries", () => {
    function library(folder: string, name: string, value: number, shared = true): void {
      const place = join(root, folder);
      writeFileSync(join(place, "c.c"), `int ${name}(void) { return ${value}; }\n`);
      const flags = shared
        ? ["-shared", "-o", `lib${name}.so`, "c.c"]
        : ["-c", "-o", `${name}.o`, "c.c"];
      execFileSync("cc", flags, { cwd: place });
      if (!shared) execFileSync("ar", ["rcsD", `lib${name}.a`, `${name}.o`], { cwd: place });
      rmSync(join(place, "c.c"));
    }
    function program(name: string, attributes: string, args: readonly string[]): Invocation {
      const source = join(root, "elsewhere", `${name}.rs`);
      writeFiles(root, {
        [`elsewhere/${name}.rs`]: `${attributes} extern "C" { fn ${name}() -> i32; }
          fn main() { println!("{}", unsafe { ${name}() }); }\n`,
      });
      const folders = ["earlier", "native"].flatMap((one) => ["-L", `native=${join(root, one)}`]);
      return unit(name, "bin", [...folders, ...args, source]);
    }

    test("a library that the command names, changed and then hidden by another", async () => {
      library("native", "fromargs", 1);
      const call = program("fromargs", "", ["-l", "fromargs"]);
      expect(await make(call)).toBe("kept");
      expect(await make(call)).toBe("hit");
      library("native", "fromargs", 2);
      expect(await make(call)).toBe("kept");
      library("earlier", "fromargs", 3);
      expect(await make(call)).toBe("kept");
      rmSync(join(root, "earlier/libfromargs.so"));
      expect(await make(call)).toBe("hit");
    });

    test("a library that only the source names is known about the next time", async () => {
      library("native", "fromsource", 1);
      const call = program("fromsource", '#[link(name = "fromsource")]', []);
      const path = join(root, "native/libfromsource.so");
      expect(await make(call)).toBe(`not kept: link-miss: ${path}`);
      expect(await make(call)).toBe("kept");
      expect(await make(call)).toBe("hit");
      library("earlier", "fromsource", 3);
      expect(await make(call)).toBe("kept");
    });

    test("a static library that only the source names is bundled, and nothing is known", async () => {
      library("native", "bundled", 1, false);
      const source = join(root, "elsewhere/bundles.rs");
      const text = '#[link(name = "bundled", kind = "static")] extern "C" { fn bundled() -> i32; }';
      writeFileSync(source, `${text} pub fn b() -> i32 { unsafe { bundled() } }\n`);
      const call = unit("bundles", "lib", ["-L", `native=${join(root, "native")}`, source]);
      expect(await make(call)).toMatch(/^not kept: native-library: .*bundled\.o$/);
      library("native", "bundled", 2, false);
      expect(await make(call)).toBe("local: native-library");
    });
  });

  test("what the linker writes down changes nothing it makes", () => {
    const source = join(root, "elsewhere/notes.rs");
    for (const type of ["bin", "cdylib", "dylib", "proc-macro", "staticlib"]) {
      const name = `notes_${type.replace("-", "_")}`;
      const text = type === "proc-macro" ? "extern crate proc_macro;" : "pub fn main() {}";
      writeFiles(root, { "elsewhere/notes.rs": text });
      const call = unit(name, type, ["-C", "debuginfo=2", "-C", "prefer-dynamic", source]);
      const plain = [plainly(call), readAll(name)];
      const noted = join(root, `${name}.linked`);
      const args = ["-C", `link-arg=-Wl,--dependency-file=${noted}`];
      expect([plainly(call, args), readAll(name)], type).toEqual(plain);
    }
  });

  function readAll(name: string): string {
    const sums = `cat ${join(root, "out")}/*${name}-1* | sha256sum`;
    return execFileSync("sh", ["-c", sums], { encoding: "utf8" });
  }
});
