import { cpSync, readFileSync, rmSync, symlinkSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { whyNoTier } from "../exec/sandbox-world.contract.ts";
import { oddEnv, oddRoot, writeOddities } from "./rust-oddities.contract.ts";
import {
  type Call,
  createPeer,
  makeFolder,
  missingTools,
  never,
  type Peer,
  record,
  type There,
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
    crate: call.crate,
    stderr: call.stderr,
    exitCode: 0,
    refusal: undefined,
  });
  expect([...answer.outputs.keys()].some((path) => path.endsWith(".rmeta"))).toBe(true);
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
    expect(Object.fromEntries(fates)).toMatchObject({ ...libraries, macros: "links" });
  });

  test("metadata is told before the end, after the dependency file that allows to check it", async () => {
    const calls = record(["cargo", "build", "--profile", "test"], folder, {
      CARGO_INCREMENTAL: "0",
    });
    const call = calls.find(({ crate }) => crate === "shapes");
    const answer = await there(call);
    if (typeof answer === "string") throw new Error(answer);
    const early = answer.early.map(({ path }) => path.replace(/.*\./, ""));
    expect(early).toEqual(["d", "rmeta", "rlib"]);
    for (const { path, bytes } of answer.early)
      expect(bytes.equals(readFileSync(path)), path).toBe(true);
  });

  test("an incremental debug build works there and gives the same metadata", async () => {
    const calls = record(["cargo", "build"], folder, { CARGO_INCREMENTAL: "1" });
    expect(await there(calls.find(({ crate }) => crate === "shapes"))).toBe("incremental");
    rmSync(join(folder, "target/debug/incremental"), { recursive: true });
    const fates = await runAll(calls, ".rlib");
    expect(Object.fromEntries(fates)).toMatchObject(libraries);
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
    reader: "links",
    nosy: "links",
    build_script_build: "links",
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
});
