import { execFileSync, spawnSync } from "node:child_process";
import { existsSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { digestOf } from "../base/digest.ts";
import type { FileNode } from "../exec/file-view.ts";
import { createDisk } from "../host/disk.ts";
import { makeFolder, missingTools } from "./rust-world.contract.ts";
import { createMacros } from "./rustc-macros.ts";

const noCc = spawnSync("cc", ["--version"], { stdio: "ignore" }).status !== 0;
const missing = [...missingTools, ...(noCc ? ["cc"] : [])];
if (missing.length > 0) console.log(`skipped: what macros can do: no ${missing.join(", ")}`);

const system = new Set(["libc.so.6", "libgcc_s.so.1", "ld-linux-x86-64.so.2"]);

describe.skipIf(missing.length > 0)("a macro", { timeout: 60_000 }, () => {
  let folder = "";
  beforeAll(() => {
    folder = makeFolder();
  });
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  /** A macro whose body is `value`, an expression. */
  function build(name: string, value: string, ...flags: string[]): FileNode {
    const source = join(folder, `${name}.rs`);
    const path = join(folder, `lib${name}.so`);
    const text = `#[proc_macro] pub fn m(_: proc_macro::TokenStream) -> proc_macro::TokenStream {
      let value = { ${value} }; format!("{:?}", value).parse().unwrap() }`;
    writeFileSync(source, `extern crate proc_macro;\n${text}`);
    const args = ["--crate-type", "proc-macro", "--crate-name", name, "--out-dir", folder];
    execFileSync("rustc", [...args, "--edition", "2021", ...flags, source], { stdio: "pipe" });
    return nodeOf(path);
  }
  function nodeOf(path: string): FileNode {
    const digest = digestOf(new TextEncoder().encode(path));
    const entry = { kind: "file" as const, path, digest, executable: true };
    return { path, digest, sizeBytes: 1, entry };
  }
  const macros = createMacros(createDisk());
  const whyHere = (node: FileNode, ...withheld: string[]) => macros.whyHere(node, system, withheld);

  const modest = `std::fs::read_to_string("x").ok().or(std::env::var("ASKED_FOR").ok())`;
  test.each([
    ["modest", modest, undefined],
    ["lists", `std::fs::read_dir(".").is_ok()`, "macro-looks-around"],
    ["starts", `std::process::Command::new("git").output().is_ok()`, "macro-looks-around"],
    ["calls", `std::net::TcpStream::connect("h:1").is_ok()`, "macro-looks-around"],
    ["walks", `std::env::vars().count()`, "macro-looks-around"],
    ["homes", `std::env::home_dir()`, "macro-looks-around"],
  ])("that %s: %s", async (name, value, reason) => {
    const flags = name === "starts" ? ["-Cstrip=symbols"] : [];
    expect(await whyHere(build(name, value, ...flags))).toBe(reason);
  });

  test("that names a variable which stays here", async () => {
    const node = build("named", modest);
    expect(await whyHere(node, "NOT_ASKED_FOR_TOKEN")).toBeUndefined();
    expect(await whyHere(node, "ASKED_FOR")).toBe("macro-reads-secret");
  });

  test("that needs a library which does not travel", async () => {
    const link = "-Clink-args=-Wl,--no-as-needed -lm";
    expect(await whyHere(build("needy", modest, link))).toBe("macro-library");
  });

  test("that cannot be read is trusted with nothing", async () => {
    const path = join(folder, "libodd.so");
    writeFileSync(path, "not a library");
    expect(await whyHere(nodeOf(path))).toBe("macro-looks-around");
    expect(existsSync(join(folder, "libgone.so"))).toBe(false);
    expect(await whyHere(nodeOf(join(folder, "libgone.so")))).toBe("macro-looks-around");
  });
});
