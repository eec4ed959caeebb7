import { execFileSync, spawnSync } from "node:child_process";
import { chmodSync, existsSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { createFileView } from "../exec/file-view.ts";
import { createToolchains } from "../exec/toolchain.ts";
import { createClock } from "../host/clock.ts";
import { createDisk } from "../host/disk.ts";
import type { RunSpec } from "../host/host.ts";
import { createProcesses } from "../host/processes.ts";
import { createInputFiles } from "./inputs.ts";
import {
  copyToolchain,
  makeFolder,
  missingTools,
  never,
  writeFiles,
} from "./rust-world.contract.ts";
import { createRustToolchains, type RustToolchains } from "./rustc-toolchain.ts";

if (missingTools.length > 0) console.log(`skipped: Rust toolchains: no ${missingTools.join(", ")}`);

describe.skipIf(missingTools.length > 0)("a toolchain", { timeout: 120_000 }, () => {
  const disk = createDisk();
  const processes = createProcesses();
  const started: RunSpec[] = [];
  const adopted: string[] = [];
  let folder = "";
  let sysroot = "";
  let toolchains: RustToolchains;
  beforeAll(() => {
    folder = makeFolder();
    sysroot = execFileSync("rustc", ["--print", "sysroot"], { encoding: "utf8" }).trim();
    const clock = createClock();
    const watched = {
      run: (spec: RunSpec, signal: AbortSignal) => {
        started.push(spec);
        return processes.run(spec, signal);
      },
      vitals: () => processes.vitals(),
      close: () => processes.close(),
    };
    const store = { has: () => true, adopt: (_: string, path: string) => void adopted.push(path) };
    const view = createFileView({ disk, store, clock });
    const { elfClosure } = createToolchains({ disk, processes: watched, store, clock, view });
    const files = createInputFiles(view);
    toolchains = createRustToolchains({ disk, processes: watched, files, elfClosure });
  });
  afterAll(async () => {
    await processes.close();
    rmSync(folder, { recursive: true, force: true });
  });

  const env = { PATH: process.env.PATH ?? "", HOME: process.env.HOME ?? "" };
  const find = (compiler: string, more: Record<string, string> = {}) =>
    toolchains.find(compiler, folder, { ...env, ...more }, undefined, never);

  test("is asked about, and read, once", async () => {
    const rustc = join(sysroot, "bin/rustc");
    const first = await find(rustc);
    const paths = first.entries.map(({ path }) => path);
    expect(first.rustc).toBe(rustc);
    expect(paths.some((path) => /librustc_driver-.*\.so$/.test(path))).toBe(true);
    expect(paths.some((path) => /libcore-.*\.rmeta$/.test(path))).toBe(true);
    expect(paths.some((path) => path.endsWith(".rlib"))).toBe(false);
    const before = { started: started.length, adopted: adopted.length };
    expect(await find(rustc)).toBe(first);
    expect({ started: started.length, adopted: adopted.length }).toEqual(before);
  });

  test("is found behind rustup's stand-in, and again when another one is chosen", async (context) => {
    const standIn = join(env.HOME, ".cargo/bin/rustc");
    const isRustup =
      existsSync(standIn) && spawnSync(standIn, ["+none", "-V"], { stdio: "ignore" }).status !== 0;
    if (!isRustup) return context.skip("no rustup");
    expect((await find(standIn)).rustc).toBe(join(sysroot, "bin/rustc"));
    const asked = started.length;
    await find(standIn);
    expect(started.length).toBe(asked);
    writeFiles(folder, { "rust-toolchain.toml": '[toolchain]\nchannel = "no-such-channel"\n' });
    await expect(
      toolchains.find(standIn, folder, { ...env, RUSTUP_AUTO_INSTALL: "0" }, undefined, never),
    ).rejects.toMatchObject({ code: "unsupported" });
    rmSync(join(folder, "rust-toolchain.toml"));
    expect((await find(standIn)).rustc).toBe(join(sysroot, "bin/rustc"));
  });

  test("behind anything else of that name is not trusted", async () => {
    const script = join(folder, "rustc");
    writeFileSync(script, `#!/bin/sh\nexec '${sysroot}/bin/rustc' --cfg more "$@"\n`);
    chmodSync(script, 0o755);
    await expect(find(script)).rejects.toMatchObject({ code: "unsupported" });
  });

  test("is read anew when one of its files changes, or its sources are installed", async () => {
    const own = join(folder, "own");
    copyToolchain(sysroot, own);
    const rustc = join(own, "bin/rustc");
    const first = await find(rustc);
    const library = "lib/rustlib/src/rust/library/std/src/lib.rs";
    writeFiles(own, { [library]: "" });
    const second = await find(rustc);
    expect(second).not.toBe(first);
    expect(second.entries.some(({ path }) => path === join(own, library))).toBe(true);
    writeFiles(own, { [library]: "// changed" });
    const third = await find(rustc);
    const digests = [second, third].map(({ entries }) =>
      entries.find(({ path }) => path === join(own, library)),
    );
    expect(digests[0]).not.toEqual(digests[1]);
  });
});
