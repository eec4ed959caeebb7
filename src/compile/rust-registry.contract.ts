/**
 * For tests: a small registry in a folder, and checkouts of one workspace that uses it. Among its
 * crates are one with a build script, a macro, a user of that macro, and one that includes what
 * its build script made.
 */
import { writeFiles } from "./rust-world.contract.ts";

const plainCrates = 14;

export function writeRegistry(folder: string): void {
  const put = (name: string, rest: string, files: Readonly<Record<string, string>>): void => {
    const manifest = `[package]\nname = "${name}"\nversion = "1.0.0"\nedition = "2021"\n${rest}`;
    writeFiles(`${folder}/${name}`, {
      "Cargo.toml": manifest,
      ".cargo-checksum.json": '{"files":{}}',
      ...files,
    });
  };
  for (let i = 0; i < plainCrates; i += 1) {
    const below = i === 0 ? "" : `[dependencies]\nplain${i - 1} = "1"\n`;
    const call = i === 0 ? "1" : `plain${i - 1}::value() + ${i}`;
    const text = `pub fn value() -> u64 { let unused = 1; ${call} }\n#[inline] pub fn shown<T: std::fmt::Debug>(x: T) -> String { assert!(value() > 0); format!("{x:?}") }\n`;
    put(`plain${i}`, below, { "src/lib.rs": text });
  }
  const macro = `use proc_macro::TokenStream;
#[proc_macro_derive(Named)] pub fn named(item: TokenStream) -> TokenStream {
  let name = item.into_iter().skip_while(|t| t.to_string() != "struct").nth(1).unwrap();
  format!("impl {name} {{ pub const NAME: &'static str = {:?}; }}", name.to_string()).parse().unwrap()
}\n`;
  put("naming", "[lib]\nproc-macro = true\n", { "src/lib.rs": macro });
  put("named", '[dependencies]\nnaming = "1"\n', {
    "src/lib.rs": "pub use naming::Named;\n#[derive(Named)] pub struct First;\n",
  });
  put("probed", "", {
    "build.rs":
      'fn main() { println!("cargo:rustc-cfg=probed"); println!("cargo:rustc-check-cfg=cfg(probed)"); }\n',
    "src/lib.rs": "#[cfg(probed)] pub const PROBED: bool = true;\n",
  });
  put("generated", "", {
    "build.rs":
      'fn main() { let out = std::env::var("OUT_DIR").unwrap(); std::fs::write(format!("{out}/g.rs"), "pub const G: u8 = 1;").unwrap(); }\n',
    "src/lib.rs": 'include!(concat!(env!("OUT_DIR"), "/g.rs"));\n',
  });
}

export function writeCheckout(folder: string, registry: string): void {
  const uses = ["named", "probed", "generated", `plain${plainCrates - 1}`];
  const manifest = (name: string, dependencies: string): string =>
    `[package]\nname = "${name}"\nversion = "0.1.0"\nedition = "2021"\n[dependencies]\n${dependencies}`;
  writeFiles(folder, {
    "Cargo.toml": '[workspace]\nmembers = ["core", "app"]\nresolver = "2"\n',
    ".cargo/config.toml": `[source.crates-io]\nreplace-with = "here"\n[source.here]\ndirectory = "${registry}"\n`,
    "core/Cargo.toml": manifest("core-part", uses.map((name) => `${name} = "1"\n`).join("")),
    "core/src/lib.rs": `#[derive(named::Named)] pub struct Core;
pub fn all() -> u64 { plain${plainCrates - 1}::value() + generated::G as u64 + probed::PROBED as u64 }\n`,
    "app/Cargo.toml": manifest("app", `plain${plainCrates - 1} = "1"\n`),
    "app/src/main.rs": `fn main() { println!("{}", plain${plainCrates - 1}::value()); }\n`,
  });
}
