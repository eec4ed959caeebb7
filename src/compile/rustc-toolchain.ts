/**
 * The parts of a Rust toolchain that compiling a library needs: rustc, its shared libraries, the
 * standard library's metadata, and the system libraries under all of them.
 *
 * The linker and the standard library's object code are left out: what links stays here.
 */
import { dirname, join } from "node:path";
import { createRecentMap } from "../base/bounded.ts";
import { textOf } from "../base/bytes.ts";
import { MeshError } from "../base/errors.ts";
import type { TreeEntry } from "../blob/tree.ts";
import type { Disk, Processes } from "../host/host.ts";
import { type InputFiles, mergeEntries } from "./inputs.ts";

export interface RustToolchain {
  /** The real compiler, not rustup's stand-in. */
  readonly rustc: string;
  readonly entries: readonly TreeEntry[];
}

export interface RustToolchains {
  /** Code "unsupported" when the compiler does not answer or has no such target. */
  find(
    compiler: string,
    cwd: string,
    env: Readonly<Record<string, string>>,
    target: string | undefined,
    signal: AbortSignal,
  ): Promise<RustToolchain>;
}

export interface RustToolchainDeps {
  readonly disk: Disk;
  readonly processes: Processes;
  readonly files: InputFiles;
  /** Everything that loading these programs and libraries needs from the system. */
  readonly elfClosure: (
    paths: readonly string[],
    signal: AbortSignal,
  ) => Promise<readonly TreeEntry[]>;
}

interface Sysroot {
  readonly path: string;
  readonly host: string;
}

export function createRustToolchains(deps: RustToolchainDeps): RustToolchains {
  const { disk } = deps;
  const sysroots = createRecentMap<string, Promise<Sysroot>>(64);
  const toolchains = createRecentMap<string, Promise<RustToolchain>>(16);
  return {
    async find(compiler, cwd, env, target, signal) {
      // rustup picks the toolchain by these, so its answer holds for the same ones only.
      const asked = [compiler, stampOf(disk, compiler), cwd, env.RUSTUP_TOOLCHAIN ?? ""].join("\0");
      const sysroot = await remember(sysroots, asked, () =>
        askSysroot(deps, compiler, cwd, env, signal),
      );
      const rustc = join(sysroot.path, "bin", "rustc");
      const key = [rustc, stampOf(disk, rustc), target ?? ""].join("\0");
      return remember(toolchains, key, () => gather(deps, rustc, sysroot, target, signal));
    },
  };
}

async function remember<T>(
  map: {
    get(key: string): Promise<T> | undefined;
    set(key: string, value: Promise<T>): void;
    delete(key: string): boolean;
  },
  key: string,
  make: () => Promise<T>,
): Promise<T> {
  const made = map.get(key) ?? make();
  map.set(key, made);
  try {
    return await made;
  } catch (error) {
    map.delete(key);
    throw error;
  }
}

function stampOf(disk: Disk, path: string): string {
  const stat = disk.statFollowNow(path);
  return stat === undefined
    ? ""
    : `${stat.sizeBytes} ${stat.mtimeNs} ${stat.ctimeNs} ${stat.inode}`;
}

async function askSysroot(
  { processes }: RustToolchainDeps,
  compiler: string,
  cwd: string,
  env: Readonly<Record<string, string>>,
  signal: AbortSignal,
): Promise<Sysroot> {
  const ask = async (...args: string[]): Promise<string> => {
    const { exitCode, stdout, stderr } = await processes.run(
      {
        argv: [compiler, ...args],
        env: { ...env, MESH_INSIDE: "1" },
        cwd,
        timeoutMs: 10_000,
        outputMaxBytes: 64 * 1024,
      },
      signal,
    );
    if (exitCode === 0) return textOf(stdout);
    throw new MeshError("unsupported", `${compiler} ${args.join(" ")}: ${textOf(stderr).trim()}`);
  };
  const [path, version] = await Promise.all([ask("--print", "sysroot"), ask("-vV")]);
  const host = /^host: (.+)$/m.exec(version)?.[1];
  if (host === undefined) throw new MeshError("unsupported", `${compiler} -vV names no host`);
  return { path: path.trim(), host };
}

async function gather(
  { disk, files, elfClosure }: RustToolchainDeps,
  rustc: string,
  sysroot: Sysroot,
  target: string | undefined,
  signal: AbortSignal,
): Promise<RustToolchain> {
  const libraries = await sharedLibraries(disk, join(sysroot.path, "lib"));
  const standard: string[] = [];
  for (const triple of new Set([sysroot.host, target ?? sysroot.host])) {
    const folder = join(sysroot.path, "lib", "rustlib", triple, "lib");
    const found = await metadata(disk, folder);
    if (found.length === 0) {
      throw new MeshError("unsupported", `no standard library for ${triple} in ${dirname(folder)}`);
    }
    standard.push(...found);
  }
  const own = await files.entries([rustc, ...libraries, ...standard]);
  const system = await elfClosure([rustc, ...libraries], signal);
  return { rustc, entries: mergeEntries(own.entries, system) };
}

async function sharedLibraries(disk: Disk, folder: string): Promise<readonly string[]> {
  const names = (await disk.list(folder)) ?? [];
  return names.flatMap(({ name, kind }) =>
    kind !== "directory" && /\.so(\.|$)/.test(name) ? [join(folder, name)] : [],
  );
}

/** The standard library as a library's compile sees it: metadata where there is some, else all. */
async function metadata(disk: Disk, folder: string): Promise<readonly string[]> {
  const names = ((await disk.list(folder)) ?? []).map(({ name }) => name);
  const all = new Set(names);
  return names
    .filter(
      (name) =>
        name.endsWith(".rmeta") ||
        name.endsWith(".so") ||
        (name.endsWith(".rlib") && !all.has(name.replace(/rlib$/, "rmeta"))),
    )
    .map((name) => join(folder, name));
}
