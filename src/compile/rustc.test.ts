import { execFileSync } from "node:child_process";
import { cpSync, readdirSync, readFileSync, renameSync, rmSync, symlinkSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { whyNoTier } from "../exec/sandbox-world.contract.ts";
import { oddEnv, oddRoot, writeOddities } from "./rust-oddities.contract.ts";
import {
  type Call,
  copyToolchain,
  createPeer,
  makeFolder,
  missingTools,
  never,
  type Peer,
  record,
  type There,
  writeFiles,
} from "./rust-world.contract.ts";

const why = missingTools.length > 0 ? `no ${missingTools.join(", ")}` : await whyNoTier("bwrap");
if (why !== undefined) console.log(`skipped: Rust units in the sandbox: ${why}`);

let peer: Peer | undefined;
const folders: string[] = [];
function newFolder(): string {
  const folder = makeFolder();
  folders.push(folder);
  return folder;
}
beforeAll(async () => {
  if (why === undefined) peer = await createPeer();
});
afterAll(async () => {
  await peer?.close();
  for (const folder of folders) rmSync(folder, { recursive: true, force: true });
});

/** What a peer makes of a call; a text is the reason to stay here. */
async function there(call: Call | undefined): Promise<There | string> {
  if (peer === undefined || call === undefined) throw new Error("nothing to run");
  const plan = await peer.plan(call, never);
  return plan.at === "here" ? plan.reason : peer.run(plan);
}

function expectSame(answer: There, call: Call, differing = ""): void {
  expect({ ...answer, crate: call.crate }).toMatchObject({
    ...{ crate: call.crate, stdout: "", stderr: call.stderr },
    exitCode: 0,
    refusal: undefined,
  });
  expect(answer.outputs.size).toBeGreaterThan(1);
  for (const [path, bytes] of answer.outputs)
    if (!path.endsWith(differing || ".none"))
      expect(bytes.equals(readFileSync(path)), path).toBe(true);
}

/** Runs all calls there: those that went, and the reasons of the others. */
async function runAll(calls: readonly Call[], differing?: string): Promise<Map<string, string>> {
  const fates = new Map<string, string>();
  for (const call of calls) {
    const answer = await there(call);
    if (typeof answer !== "string") expectSame(answer, call, differing);
    if (call.crate !== "___") fates.set(call.crate, typeof answer === "string" ? answer : "there");
  }
  return fates;
}

describe.skipIf(why !== undefined)("the units of a workspace", { timeout: 300_000 }, () => {
  let folder = "";
  beforeAll(() => {
    folder = newFolder();
    const left = (path: string) => !path.includes("/target");
    cpSync("examples/cargo", folder, { recursive: true, filter: left });
  });
  const libraries = { numbers: "there", shapes: "there", tables: "there", text: "there" };

  test.each([
    ["a release build", ["build", "--release"]],
    ["a debug build", ["build"]],
    ["a check", ["check"]],
  ] as const)("%s gives the same bytes there as here", async (_, args) => {
    const calls = record(["cargo", ...args], folder, { CARGO_INCREMENTAL: "0" });
    const fates = await runAll(calls);
    expect(Object.fromEntries(fates)).toMatchObject({ ...libraries, macros: "there" });
  });

  test("metadata is told before the end, after the dependency file that allows to check it", async () => {
    const env = { CARGO_INCREMENTAL: "0", CARGO_TARGET_DIR: newFolder() };
    const calls = record(["cargo", "build"], folder, env);
    const call = calls.find(({ crate }) => crate === "shapes");
    const answer = await there(call);
    if (typeof answer === "string") throw new Error(answer);
    const early = answer.early.map(({ path }) => path.replace(/.*\./, ""));
    expect(early).toEqual(["d", "rmeta", "rlib"]);
    for (const { path, bytes } of answer.early)
      expect(bytes.equals(readFileSync(path)), path).toBe(true);
  });

  test("a unit with incremental state stays here", async () => {
    const calls = record(["cargo", "build"], folder, { CARGO_INCREMENTAL: "1" });
    expect(await there(calls.find(({ crate }) => crate === "shapes"))).toBe("incremental");
  });
});

describe.skipIf(why !== undefined)("hard units", { timeout: 300_000 }, () => {
  let root = "";
  beforeAll(() => {
    const folder = newFolder();
    writeOddities(folder);
    root = join(folder, oddRoot);
    symlinkSync("odd ways", join(folder, "way in"));
  });

  const everything = {
    generic: "there",
    facade: "there",
    outside: "there",
    leaf: "there",
    hidden: "there",
    shared: "there",
    uses_all: "there",
    reader: "there",
    nosy: "there",
    build_script_build: "there",
    uses_nosy: "macro-looks-around",
  };

  test.each([
    ["release, optimised at link time", ["--release"]],
    ["release, all in one", ["--profile", "fat"]],
    ["debug", []],
  ] as const)("%s: same bytes and warnings", async (_, args) => {
    const calls = record(["cargo", "build", ...args], root, oddEnv);
    expect(Object.fromEntries(await runAll(calls))).toMatchObject(everything);
  });

  test.each([
    ["through a symlink", ["--manifest-path", "../../way in/ws/Cargo.toml"]],
    ["for a named target", ["--target", "x86_64-unknown-linux-gnu"]],
  ] as const)("%s: same bytes and warnings", async (_, args) => {
    const calls = record(["cargo", "build", "-p", "uses-all", ...args], root, oddEnv);
    expect(Object.fromEntries(await runAll(calls))).toMatchObject({ uses_all: "there" });
  });

  test("with the standard library's sources installed: same bytes", async () => {
    const sysroot = execFileSync("rustc", ["--print", "sysroot"], { encoding: "utf8" }).trim();
    const toolchain = newFolder();
    copyToolchain(sysroot, toolchain);
    writeFiles(toolchain, { "lib/rustlib/src/rust/library/std/src/lib.rs": "" });
    const target = newFolder();
    // Not rustup's cargo, which puts its own libraries before those of the compiler.
    const cargo = join(sysroot, "bin/cargo");
    const calls = record([cargo, "build", "--release", "-p", "generic"], root, {
      ...{ ...oddEnv, RUSTC: join(toolchain, "bin/rustc"), CARGO_TARGET_DIR: target },
    });
    expect(Object.fromEntries(await runAll(calls))).toMatchObject({ generic: "there" });
    const deps = join(target, "release/deps");
    const library = readdirSync(deps).find((name) => name.endsWith(".rlib")) ?? "";
    expect(readFileSync(join(deps, library)).includes("rustlib/src/rust/library")).toBe(true);
  });

  test("a variable that only a macro of another crate names is found out about", async () => {
    const calls = record(["cargo", "build", "-p", "hidden"], root, {
      ...{ ...oddEnv, CARGO_TARGET_DIR: newFolder() },
      ...{ ONLY_THE_MACRO_SAYS_SO: "here" },
    });
    const answer = await there(calls.find(({ crate }) => crate === "hidden"));
    expect(answer).toMatchObject({ exitCode: 0, refusal: { code: "refused" } });
  });

  test("a macro is not run where a secret that it is given the name of is not", async () => {
    const calls = record(["cargo", "build", "-p", "shared"], root, {
      ...{ ...oddEnv, CARGO_TARGET_DIR: newFolder() },
      ...{ DEPLOY_TOKEN: "only here" },
    });
    expect(await there(calls.find(({ crate }) => crate === "shared"))).toBe("reads-secret");
  });

  test("a macro is not run where a hidden file that it names is not", async () => {
    const env = { ...oddEnv, CARGO_TARGET_DIR: newFolder() };
    const calls = record(["cargo", "build", "-p", "shared"], root, env);
    const call = calls.find(({ crate }) => crate === "shared");
    writeFiles(root, { ".env": "SETTING=1" });
    try {
      // Who uses which macro is learned from the units before.
      for (const earlier of calls) await peer?.plan(earlier, never);
      expect(await there(call)).toBe("macro-reads-secret");
    } finally {
      rmSync(join(root, ".env"));
    }
    expect(await there(call)).toMatchObject({ exitCode: 0, refusal: undefined });
  });

  test("a source outside the package is an input where its path is written out", async () => {
    const env = { ...oddEnv, CARGO_TARGET_DIR: newFolder() };
    const calls = record(["cargo", "build", "-p", "uses-all"], root, env);
    const call = calls.find(({ crate }) => crate === "uses_all");
    const out = call?.args[call.args.indexOf("--out-dir") + 1] ?? "";
    const depInfo = readdirSync(out).find((name) => /^uses_all-.*\.d$/.test(name)) ?? "";
    // It also says what was read last time.
    renameSync(join(out, depInfo), join(out, "kept"));
    expect(await there(call)).toMatchObject({ exitCode: 0, refusal: undefined });
  });

  test("a planner that has not seen the dependencies offers what lies around, but no nosy macro", async () => {
    const calls = record(["cargo", "build"], root, { ...oddEnv, CARGO_TARGET_DIR: newFolder() });
    const [nosy, shared] = ["uses_nosy", "shared"].map((name) =>
      calls.find(({ crate }) => crate === name),
    );
    const newcomer = await createPeer();
    try {
      if (nosy === undefined || shared === undefined) throw new Error("not built");
      expect(await newcomer.plan(nosy, never)).toMatchObject({ reason: "macro-looks-around" });
      const plan = await newcomer.plan(shared, never);
      if (plan.at === "here") throw new Error(plan.reason);
      const inputs = plan.spec.inputs.map(({ path }) => path);
      expect(inputs.some((path) => /libgeneric-.*\.rmeta$/.test(path))).toBe(true);
      expect(inputs.some((path) => /libreader-.*\.so$/.test(path))).toBe(true);
      expect(inputs.some((path) => /libnosy-.*\.so$/.test(path))).toBe(false);
      expectSame(await newcomer.run(plan), shared);
    } finally {
      await newcomer.close();
    }
  });
});
