import { spawnSync } from "node:child_process";
import {
  chmodSync,
  copyFileSync,
  linkSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  realpathSync,
  renameSync,
  rmSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type Digest, digestOf } from "../base/digest.ts";
import type { TreeEntry } from "../blob/tree.ts";
import { createClock } from "../host/clock.ts";
import { createDisk } from "../host/disk.ts";
import type { RunSpec } from "../host/host.ts";
import { createProcesses } from "../host/processes.ts";
import { interpreterOf } from "./elf.ts";
import { createToolchains, type ToolchainQuery, type Toolchains } from "./toolchain.ts";

const which = (name: string): string =>
  spawnSync("which", [name], { encoding: "utf8" }).stdout.trim();
const gcc = which("gcc");
const compilers = ["gcc", "g++", "clang", "clang++"].filter((name) => which(name) !== "");
const canStage = spawnSync("bwrap", ["--bind", "/", "/", "true"]).status === 0;
if (compilers.length < 4) console.warn(`of four compilers only ${compilers} are here`);
if (!canStage) console.warn("bwrap does not work here: closures are not run");

const { signal } = new AbortController();
const disk = createDisk();
const processes = createProcesses();
const adopted = new Map<Digest, string>();
let asked: RunSpec[] = [];
let toolchains: Toolchains;
let folder = "";

beforeAll(() => {
  folder = realpathSync(mkdtempSync(join(tmpdir(), "mesh-toolchain-")));
  const counting = {
    ...processes,
    run(spec: RunSpec, until: AbortSignal) {
      asked.push(spec);
      return processes.run(spec, until);
    },
  };
  const store = {
    has: (digest: Digest) => adopted.has(digest),
    adopt: (digest: Digest, path: string) => void adopted.set(digest, path),
  };
  toolchains = createToolchains({ disk, processes: counting, store, clock: createClock() });
});
afterAll(async () => {
  rmSync(folder, { recursive: true, force: true });
  await processes.close();
});

function query(driver: string, some: Partial<ToolchainQuery> = {}): ToolchainQuery {
  return {
    driver,
    family: driver.includes("clang") ? "clang" : "gcc",
    language: driver.includes("++") ? "c++" : "c",
    flags: [],
    cwd: "/",
    path: process.env.PATH ?? "",
    libraryPath: "",
    ...some,
  };
}

/** A root that holds these entries and nothing else. */
function lay(name: string, entries: readonly TreeEntry[]): string {
  const root = join(folder, name);
  const order = ["symlink", "directory", "file"];
  const sorted = [...entries].sort((a, b) => order.indexOf(a.kind) - order.indexOf(b.kind));
  for (const entry of sorted) {
    const path = join(root, entry.path);
    mkdirSync(entry.kind === "directory" ? path : dirname(path), { recursive: true });
    if (entry.kind === "symlink") symlinkSync(entry.target, path);
    if (entry.kind !== "file") continue;
    copyFileSync(adopted.get(entry.digest) ?? "", path);
    chmodSync(path, entry.executable ? 0o555 : 0o444);
  }
  mkdirSync(join(root, "tmp"), { recursive: true });
  return root;
}

function runIn(root: string, env: Record<string, string>, ...argv: string[]) {
  const set = Object.entries(env).flatMap(([name, value]) => ["--setenv", name, value]);
  return spawnSync(
    "bwrap",
    [
      ...["--unshare-all", "--die-with-parent", "--bind", root, "/", "--proc", "/proc"],
      ...["--dev", "/dev", "--clearenv", ...set, "--chdir", "/tmp", "--", ...argv],
    ],
    { encoding: "utf8" },
  );
}

describe("the closure of a compiler", () => {
  test.skipIf(!canStage).each(compilers)(
    "%s compiles in a root that holds nothing else",
    async (name) => {
      const driver = which(name);
      const { entries, path } = await toolchains.closure(query(driver), signal);
      const root = lay(`root-${name}`, entries);
      const source = `a.${name.includes("+") ? "cpp" : "c"}`;
      writeFileSync(join(root, "tmp", source), "int f(int x) { return x * 3; }\n");
      const there = runIn(root, { PATH: path }, driver, "-g", "-O2", "-c", source, "-o", "a.o");
      expect({ status: there.status, stderr: there.stderr }).toEqual({ status: 0, stderr: "" });
      const object = readFileSync(join(root, "tmp/a.o"));
      // The same working directory here, as debug information names it.
      const here = spawnSync(
        "bwrap",
        [
          ...["--dev-bind", "/", "/", "--tmpfs", "/tmp", "--bind", join(root, "tmp"), "/tmp"],
          ...["--chdir", "/tmp", "--", driver, "-g", "-O2", "-c", source, "-o", "a.o"],
        ],
        { encoding: "utf8" },
      );
      expect(here.stderr).toBe("");
      expect(digestOf(readFileSync(join(root, "tmp/a.o")))).toBe(digestOf(object));
      rmSync(root, { recursive: true });
    },
  );

  test.skipIf(gcc === "")("is asked for once, and then only looked at", async () => {
    const first = await toolchains.closure(query(gcc), signal);
    asked = [];
    expect(await toolchains.closure(query(gcc), signal)).toBe(first);
    expect(asked).toEqual([]);
    for (const entry of first.entries)
      if (entry.kind === "file") expect(adopted.has(entry.digest)).toBe(true);
  });

  test.skipIf(gcc === "")("is another one with options that change folders or tools", async () => {
    const plain = await toolchains.closure(query(gcc), signal);
    const bare = await toolchains.closure(query(gcc, { flags: ["-nostdinc"] }), signal);
    expect(plain.includeDirs.length).toBeGreaterThan(0);
    expect(bare.includeDirs).toEqual([]);
    const split = await toolchains.closure(query(gcc, { flags: ["-gsplit-dwarf"] }), signal);
    const programs = (entries: readonly TreeEntry[]): readonly string[] =>
      entries.flatMap(({ path }) => (path.endsWith("/objcopy") ? [path] : []));
    expect([programs(plain.entries).length, programs(split.entries).length]).toEqual([0, 1]);
  });

  test.skipIf(gcc === "")("is made anew when the compiler is replaced in place", async () => {
    // A driver finds its parts relative to where it is.
    mkdirSync(join(folder, "prefix/bin"), { recursive: true });
    symlinkSync("/usr/lib", join(folder, "prefix/lib"));
    const driver = join(folder, "prefix/bin/gcc");
    copyFileSync(realpathSync(gcc), driver);
    utimesSync(driver, 1e9, 1e9);
    const before = await toolchains.closure(query(driver), signal);
    // As a package manager does it: a new file under the old name.
    const bytes = Buffer.concat([readFileSync(driver), Buffer.from("newer")]);
    writeFileSync(`${driver}.new`, bytes, { mode: 0o755 });
    renameSync(`${driver}.new`, driver);
    const after = await toolchains.closure(query(driver), signal);
    expect(after.digest).not.toBe(before.digest);
    const entry = after.entries.find(({ path }) => path === driver);
    expect(entry?.kind === "file" && entry.digest).toBe(digestOf(bytes));
  });

  test.skipIf(gcc === "")("is made anew when a tool comes earlier on the path", async () => {
    const tools = join(folder, "tools");
    mkdirSync(tools);
    const path = `${tools}:${process.env.PATH}`;
    const before = await toolchains.closure(query(gcc, { path }), signal);
    linkSync(copyOf(realpathSync(which("as"))), join(tools, "as"));
    const after = await toolchains.closure(query(gcc, { path }), signal);
    expect([before.path.includes(tools), after.path.includes(tools)]).toEqual([false, true]);
  });

  test("of what is no compiler is a clear refusal", async () => {
    const script = join(folder, "script");
    writeFileSync(script, "#!/bin/sh\nexit 0\n", { mode: 0o755 });
    for (const driver of [script, "/bin/true", join(folder, "none")])
      await expect(toolchains.closure(query(driver), signal)).rejects.toMatchObject({
        name: "MeshError",
      });
  });
});

function copyOf(path: string): string {
  const copy = join(folder, "copy");
  copyFileSync(path, copy);
  return copy;
}

describe("the closure of a program", () => {
  test.skipIf(!canStage)("runs in a root that holds nothing else", async () => {
    const root = lay("root-sh", await toolchains.elfClosure(["/bin/sh"], signal));
    const ran = runIn(root, {}, "/bin/sh", "-c", "echo *");
    expect([ran.status, ran.stdout]).toEqual([0, "*\n"]);
  });

  test("needs no more than a valid ELF file, and says so otherwise", async () => {
    expect(await interpreterOf(disk, realpathSync("/bin/sh"))).toMatch(/^\/.*ld.*/);
    const sizes = [0, 4, 20, 63, 64, 200];
    const whole = readFileSync(realpathSync("/bin/sh"));
    for (const size of sizes) {
      const path = join(folder, `cut-${size}`);
      writeFileSync(path, whole.subarray(0, size));
      const found = await interpreterOf(disk, path).catch((error: unknown) => error);
      expect(size < 64 ? found : undefined).toSatisfy(
        (error: unknown) =>
          error === undefined ||
          (error instanceof Error && "code" in error && error.code === "unsupported"),
      );
    }
  });
});
