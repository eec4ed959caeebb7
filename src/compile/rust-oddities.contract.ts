/**
 * For tests: a Cargo workspace with everything that makes Rust units hard to move: macros that
 * read variables and files, a package outside the workspace, one from a registry, sources outside
 * their package, warnings, spaces in paths.
 */
import { writeFiles } from "./rust-world.contract.ts";

function manifest(name: string, rest = ""): string {
  return `[package]\nname = "${name}"\nversion = "0.1.0"\nedition = "2021"\nauthors = ["A. U. Thor"]\n${rest}`;
}

const procMacro = "[lib]\nproc-macro = true\n";

/** A string literal as the tokens of a macro. */
const literal = `format!("{:?}", value).parse().expect("a literal")`;

const workspace = `
[workspace]
members = ["generic", "reader", "facade", "nosy", "uses-nosy", "uses-all", "hidden", "shared"]
resolver = "2"
[profile.release]
panic = "abort"
lto = "thin"
debug = 2
[profile.fat]
inherits = "release"
lto = "fat"
codegen-units = 1
`;

const generic = `
use std::collections::HashMap;
#[inline] pub fn twice<T: Clone>(x: &T) -> (T, T) { (x.clone(), x.clone()) }
#[inline(always)] pub fn add(a: u64, b: u64) -> u64 { a.checked_add(b).expect("no overflow") }
pub trait Area { fn area(&self) -> f64; fn double(&self) -> f64 { self.area() * 2.0 } }
pub struct Grid<const N: usize>(pub [[f64; N]; N]);
impl<const N: usize> Area for Grid<N> { fn area(&self) -> f64 { self.0.iter().flatten().sum() } }
thread_local!(pub static SEEN: std::cell::RefCell<HashMap<String, usize>> = Default::default());
pub fn see(name: &str) { SEEN.with(|seen| *seen.borrow_mut().entry(name.to_string()).or_insert(0) += 1) }
#[macro_export] macro_rules! hidden { () => { option_env!("ONLY_THE_MACRO_SAYS_SO") } }
`;

const reader = `
use proc_macro::TokenStream;
/// What a variable was, as the macro saw it.
#[proc_macro] pub fn seen(_: TokenStream) -> TokenStream {
    let value = std::env::var("SEEN_BY_A_MACRO").unwrap_or_default();
    ${literal}
}
/// A file of the package and one of the workspace.
#[proc_macro] pub fn data(_: TokenStream) -> TokenStream {
    let package = std::env::var("CARGO_MANIFEST_DIR").expect("set by cargo");
    let mut value = std::fs::read_to_string(format!("{package}/data.txt")).expect("data.txt");
    value += &std::fs::read_to_string("workspace.txt").unwrap_or("none".into());
    ${literal}
}
/// What people keep in a hidden file.
#[proc_macro] pub fn settings(_: TokenStream) -> TokenStream {
    let value = std::fs::read_to_string(".env").unwrap_or_default();
    ${literal}
}
/// The variable that is named.
#[proc_macro] pub fn named(tokens: TokenStream) -> TokenStream {
    let value = std::env::var(tokens.to_string().trim_matches('"')).unwrap_or("unset".into());
    ${literal}
}
`;

const nosy = `
use proc_macro::TokenStream;
#[proc_macro] pub fn count(_: TokenStream) -> TokenStream {
    let value = std::fs::read_dir(".").map(|all| all.count()).unwrap_or(0).to_string();
    ${literal}
}
`;

const usesAll = `
mod deep;
#[path = "../../../elsewhere/shared.rs"] mod elsewhere;
use generic::Area;
pub const AUTHORS: &str = env!("CARGO_PKG_AUTHORS");
pub const STRANGE: &str = env!("STRANGE");
pub const NOT_SET: Option<&str> = option_env!("NOT_SET_AT_ALL");
pub const BUILT: &str = concat!(env!("BUILT_BY"), include_str!(concat!(env!("OUT_DIR"), "/made here.txt")));
pub const SEEN: &str = facade::seen!();
pub const DATA: &str = facade::data!();
pub fn all() -> f64 {
    let unused = 1;
    generic::see(&format!("{:?} {}", generic::twice(&"x"), outside::NAME));
    generic::Grid([[1.0; 4]; 4]).double() + leaf::leaf() as f64 + deep::DEEP as f64 + elsewhere::SHARED as f64
}
`;

const build = `
fn main() {
    let out = std::env::var("OUT_DIR").unwrap();
    std::fs::write(format!("{out}/made here.txt"), "made").unwrap();
    println!("cargo:rustc-env=BUILT_BY=a script = good");
    println!("cargo:rerun-if-changed=build.rs");
}
`;

/** Where Cargo is to be started, below the folder given to `writeOddities`. */
export const oddRoot = "odd ways/ws";

/** The variables that the workspace is built with. */
export const oddEnv: Readonly<Record<string, string>> = {
  STRANGE: "a\nb\\n c\r\\\u2028 # d=e:",
  SEEN_BY_A_MACRO: "it was seen",
  CARGO_INCREMENTAL: "0",
};

export function writeOddities(folder: string): void {
  const paths = (...names: string[]): string =>
    `[dependencies]\n${names.map((name) => `${name} = { path = "../${name}" }\n`).join("")}`;
  writeFiles(`${folder}/${oddRoot}`, {
    "Cargo.toml": workspace,
    "workspace.txt": " and the workspace",
    ".cargo/config.toml":
      '[source.crates-io]\nreplace-with = "vendored"\n[source.vendored]\ndirectory = "../vendor"\n',
    "generic/Cargo.toml": manifest("generic"),
    "generic/src/lib.rs": generic,
    "reader/Cargo.toml": manifest("reader", procMacro),
    "reader/src/lib.rs": reader,
    "facade/Cargo.toml": manifest("facade", paths("reader")),
    "facade/src/lib.rs": "pub use reader::{data, named, seen};\n",
    "nosy/Cargo.toml": manifest("nosy", procMacro),
    "nosy/src/lib.rs": nosy,
    "uses-nosy/Cargo.toml": manifest("uses-nosy", paths("nosy")),
    "uses-nosy/src/lib.rs": "pub const COUNT: &str = nosy::count!();\n",
    "hidden/Cargo.toml": manifest("hidden", paths("generic")),
    "hidden/src/lib.rs": "pub const HIDDEN: Option<&str> = generic::hidden!();\n",
    "shared/Cargo.toml": manifest("shared", paths("facade")),
    "shared/src/lib.rs": 'pub const KEY: &str = facade::named!("DEPLOY_TOKEN");\n',
    "uses-all/Cargo.toml": manifest(
      "uses-all",
      `${paths("generic", "facade")}outside = { path = "../../outside" }\nleaf = "1"\n`,
    ),
    "uses-all/build.rs": build,
    "uses-all/data.txt": 'quotes " and more',
    "uses-all/src/lib.rs": usesAll,
    "uses-all/src/deep/mod.rs": "pub mod target;\npub use target::DEEP;\n",
    "uses-all/src/deep/target/mod.rs": "pub const DEEP: u8 = 3;\n",
    "../elsewhere/shared.rs": "pub const SHARED: u8 = 4;\n",
    "../outside/Cargo.toml": manifest("outside"),
    "../outside/src/lib.rs": `pub const NAME: &str = concat!("outside ", file!());\n`,
    "../vendor/leaf/Cargo.toml": manifest("leaf").replace("0.1.0", "1.0.0"),
    "../vendor/leaf/.cargo-checksum.json": '{"files":{}}',
    "../vendor/leaf/src/lib.rs": "pub fn leaf() -> u8 { let unused = 2; 1 }\n",
  });
}
