//! Computes a table of squares at build time.

use std::{env, fs, path::Path};

fn main() {
    let squares: Vec<String> = (0..64u32).map(|n| (n * n).to_string()).collect();
    let source = format!("pub const SQUARES: [u32; 64] = [{}];\n", squares.join(", "));
    let path = Path::new(&env::var("OUT_DIR").expect("set by cargo")).join("squares.rs");
    fs::write(path, source).expect("OUT_DIR is writable");
    println!("cargo:rustc-env=TABLES_MADE_BY=build script");
    println!("cargo:rerun-if-changed=build.rs");
}
