import { mkdirSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { whyNoTier } from "../exec/sandbox-world.contract.ts";
import { createRustCourse } from "./rust-course.contract.ts";
import { writeCheckout, writeRegistry } from "./rust-registry.contract.ts";
import {
  type Call,
  createPeer,
  makeFolder,
  missingTools,
  type Peer,
  record,
  writeFiles,
} from "./rust-world.contract.ts";
import { findRoots } from "./rustc-portable.ts";

const why = missingTools.length > 0 ? `no ${missingTools.join(", ")}` : await whyNoTier("bwrap");
if (why !== undefined) console.log(`skipped: Rust units in several checkouts: ${why}`);

describe.skipIf(why !== undefined)("two checkouts of one workspace", { timeout: 300_000 }, () => {
  let root = "";
  let peer: Peer | undefined;
  beforeAll(async () => {
    root = makeFolder();
    peer = await createPeer();
    writeRegistry(join(root, "registry"));
    writeCheckout(join(root, "one/here"), join(root, "registry"));
    // Paths of another length, with a space in it.
    writeCheckout(join(root, "another place/ws"), join(root, "registry"));
  });
  afterAll(async () => {
    await peer?.close();
    rmSync(root, { recursive: true, force: true });
  });

  test.each([
    ["release", ["--release"]],
    ["debug", []],
  ] as const)("%s: what is the same in both is made once", async (_, flags) => {
    if (peer === undefined) throw new Error("no peer");
    const course = createRustCourse(peer);
    const [first, second] = ["one/here", "another place/ws"].map((name) =>
      record(["cargo", "build", ...flags], join(root, name), { CARGO_INCREMENTAL: "0" }),
    );
    if (first === undefined || second === undefined) throw new Error("not recorded");
    const plain = same(first, second);
    for (const call of first.filter(isUnit)) {
      const fate = await course.make(call);
      expect([nameOf(call), fate]).toEqual([nameOf(call), "kept"]);
    }
    const hits: string[] = [];
    const others: string[] = [];
    for (const call of second.filter(isUnit)) {
      // The course holds every byte against what the compiler makes here.
      const fate = await course.make(call);
      if (fate === "portable hit") hits.push(nameOf(call));
      else if (plain.has(nameOf(call))) others.push(`${nameOf(call)}: ${fate}`);
    }
    expect(others).toEqual([]);
    expect(plain.size).toBeGreaterThan(18);
    expect(hits.filter((name) => !plain.has(name))).toEqual([]);
  });

  /** Units whose outputs, but for dependency files, are the same bytes in both. */
  function same(first: readonly Call[], second: readonly Call[]): ReadonlySet<string> {
    const bytes = new Map(first.filter(isUnit).map((call) => [nameOf(call), bytesOf(call)]));
    const equal = second.filter(isUnit).filter((call) => bytes.get(nameOf(call)) === bytesOf(call));
    return new Set(equal.map(nameOf));
  }
});

const isUnit = ({ crate, args }: Call): boolean => crate !== "___" && args.includes("--out-dir");
const extraOf = ({ args }: Call): string =>
  args.find((arg) => arg.startsWith("extra-filename="))?.slice(15) ?? "";
const nameOf = (call: Call): string => `${call.crate}${extraOf(call)}`;

function bytesOf(call: Call): string {
  const folder = call.args[call.args.indexOf("--out-dir") + 1] ?? "";
  return readdirSync(folder)
    .filter((name) => name.includes(extraOf(call)) && !name.endsWith(".d"))
    .sort()
    .map((name) => `${name} ${readFileSync(join(folder, name), "latin1")}`)
    .join("\n");
}

test("roots are the target folder and the workspace, but no package that Cargo fetched", async () => {
  const { createDisk } = await import("../host/disk.ts");
  const disk = createDisk();
  const folder = makeFolder();
  try {
    writeFiles(folder, {
      "ws/Cargo.toml": "",
      "ws/target/CACHEDIR.TAG": "",
      "far/target/CACHEDIR.TAG": "",
      "registry/a/Cargo.toml": "",
      "registry/a/.cargo-ok": "",
    });
    const rootsOf = (outDir: string, cwd: string) => {
      mkdirSync(join(folder, outDir), { recursive: true });
      const roots = findRoots(disk, join(folder, outDir), join(folder, cwd));
      return roots.map(({ path }) => path.slice(folder.length + 1));
    };
    expect(rootsOf("ws/target/debug/deps", "ws")).toEqual(["ws/target", "ws"]);
    expect(rootsOf("ws/target/debug/deps", "registry/a")).toEqual(["ws/target", "ws"]);
    expect(rootsOf("far/target/x/debug/deps", "ws")).toEqual(["far/target", "ws"]);
    expect(rootsOf("far/target/x/debug/deps", "registry/a")).toEqual(["far/target"]);
    expect(rootsOf("out", "registry/a")).toEqual(["out"]);
  } finally {
    rmSync(folder, { recursive: true });
  }
});
