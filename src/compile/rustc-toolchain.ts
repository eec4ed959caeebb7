/**
 * The parts of a Rust toolchain that compiling needs: rustc, the shared libraries it is made of,
 * the standard library's metadata, and its code for what links.
 *
 * The linker is not here: see `rustc-link.ts`. A toolchain holds for as long as every one of its
 * files is what it was.
 */
import { basename, dirname, join } from "node:path";
import { createRecentMap } from "../base/bounded.ts";
import { textOf } from "../base/bytes.ts";
import { MeshError } from "../base/errors.ts";
import type { TreeEntry } from "../blob/tree.ts";
import type { Facts } from "../exec/facts.ts";
import type { Disk, Processes } from "../host/host.ts";
import { type FoundInputs, type InputFiles, mergeEntries } from "./inputs.ts";

export interface RustToolchain {
  /** The real compiler, not rustup's stand-in. */
  readonly rustc: string;
  readonly entries: readonly TreeEntry[];
  /** Paths of the shared libraries that rustc loads. */
  readonly libraries: readonly string[];
  readonly facts: Facts;
  /** Its folder: nothing in it is a macro's. */
  readonly sysroot: string;
  /** Changes with the compiler. */
  readonly stamp: string;
  /** The standard library's code. */
  code(): Promise<{ readonly entries: readonly TreeEntry[]; readonly facts: Facts }>;
}

export interface RustToolchains {
  /** Code "unsupported" when the compiler does not answer, is a script or lacks the target. */
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

interface Kept {
  readonly toolchain: RustToolchain;
  readonly inputs: FoundInputs;
  /** Folders whose contents were all taken, and what was not there; how it looked. */
  readonly looks: readonly { readonly path: string; readonly stamp: string }[];
}

type Env = Readonly<Record<string, string>>;

const askMaxMs = 30_000;

/**
 * By this file rustc knows that the standard library's sources are installed, and then names their
 * files by other paths, in debugging information too. It opens them for diagnostics only.
 */
const sourceMark = "lib/rustlib/src/rust/library/std/src/lib.rs";

export function createRustToolchains(deps: RustToolchainDeps): RustToolchains {
  const { disk } = deps;
  const sysroots = createRecentMap<string, Promise<Sysroot>>(64);
  const toolchains = createRecentMap<string, Promise<Kept>>(16);
  const holds = ({ inputs, looks }: Kept): boolean =>
    looks.every(({ path, stamp }) => stampOf(disk, path) === stamp) &&
    deps.files.hold(inputs.facts);
  return {
    async find(compiler, cwd, env, target, signal) {
      signal.throwIfAborted();
      const asked = [
        compiler,
        stampOf(disk, compiler),
        ...(await choice(disk, compiler, cwd, env)),
      ];
      const sysroot = await remember(sysroots, asked.join("\0"), () =>
        askSysroot(deps, compiler, cwd, env),
      );
      const key = [sysroot.path, target ?? ""].join("\0");
      const before = toolchains.get(key);
      const kept = await before?.catch(() => undefined);
      if (kept !== undefined && holds(kept)) return kept.toolchain;
      // Unless somebody else has noticed meanwhile.
      if (toolchains.get(key) === before) toolchains.delete(key);
      return (await remember(toolchains, key, () => gather(deps, sysroot, target))).toolchain;
    },
  };
}

/**
 * Several units ask at once, and the answer is for all of them: no single one cancels it, and a
 * failure is not remembered.
 */
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
    if (map.get(key) === made) map.delete(key);
    throw error;
  }
}

/** Whatever rustup's stand-in for a compiler decides by. Cargo fixes the choice for its children. */
async function choice(
  disk: Disk,
  compiler: string,
  cwd: string,
  env: Env,
): Promise<readonly string[]> {
  const home = env.RUSTUP_HOME ?? join(env.HOME ?? "/", ".rustup");
  const fixed = env.RUSTUP_TOOLCHAIN;
  if (fixed !== undefined) return [home, fixed, stampOf(disk, join(home, "toolchains", fixed))];
  if (!(await isStandIn(disk, compiler))) return [];
  const files = [join(home, "settings.toml")];
  for (let folder = cwd; ; folder = dirname(folder)) {
    files.push(join(folder, "rust-toolchain"), join(folder, "rust-toolchain.toml"));
    if (folder === dirname(folder)) break;
  }
  return [cwd, home, ...files.map((path) => stampOf(disk, path))];
}

async function isStandIn(disk: Disk, compiler: string): Promise<boolean> {
  return basename((await disk.realPath(compiler)) ?? "") === "rustup";
}

function stampOf(disk: Disk, path: string): string {
  const stat = disk.statFollowNow(path);
  return stat === undefined
    ? ""
    : `${stat.sizeBytes} ${stat.mtimeNs} ${stat.ctimeNs} ${stat.inode}`;
}

async function askSysroot(
  { disk, processes }: RustToolchainDeps,
  compiler: string,
  cwd: string,
  env: Env,
): Promise<Sysroot> {
  const ask = async (...args: string[]): Promise<string> => {
    const { exitCode, stdout, stderr } = await processes.run(
      {
        argv: [compiler, ...args],
        env: { ...env, MESH_INSIDE: "1" },
        cwd,
        timeoutMs: askMaxMs,
        outputMaxBytes: 64 * 1024,
      },
      new AbortController().signal,
    );
    if (exitCode === 0) return textOf(stdout);
    throw new MeshError("unsupported", `${compiler} ${args.join(" ")}: ${textOf(stderr).trim()}`);
  };
  const [answer, version] = await Promise.all([ask("--print", "sysroot"), ask("-vV")]);
  const path = answer.trim();
  const host = /^host: (.+)$/m.exec(version)?.[1];
  if (host === undefined) throw new MeshError("unsupported", `${compiler} -vV names no host`);
  const rustc = join(path, "bin", "rustc");
  const isRustc = (await disk.realPath(compiler)) === (await disk.realPath(rustc));
  // Something else of that name may add arguments or variables that nobody here would know of.
  if (!isRustc && !(await isStandIn(disk, compiler)))
    throw new MeshError("unsupported", `${compiler} is not ${rustc}, but stands in for it`);
  return { path, host };
}

async function gather(
  { disk, files, elfClosure }: RustToolchainDeps,
  sysroot: Sysroot,
  target: string | undefined,
): Promise<Kept> {
  const rustc = join(sysroot.path, "bin", "rustc");
  const looks: Kept["looks"][number][] = [];
  const look = (path: string): boolean => {
    const stamp = stampOf(disk, path);
    looks.push({ path, stamp });
    return stamp !== "";
  };
  const standard: string[] = [];
  const code: string[] = [];
  for (const triple of new Set([sysroot.host, target ?? sysroot.host])) {
    const path = join(sysroot.path, "lib", "rustlib", triple, "lib");
    look(path);
    const found = await metadata(disk, path);
    if (found.length === 0)
      throw new MeshError("unsupported", `no standard library for ${triple} in ${path}`);
    standard.push(...found);
    code.push(...(await codeIn(disk, path)));
  }
  const source = join(sysroot.path, sourceMark);
  if (look(source)) standard.push(source);
  const system = await elfClosure([rustc], new AbortController().signal);
  const loaded = system.flatMap(({ kind, path }) => (kind === "file" ? path : []));
  const inputs = await files.find({ files: [rustc, ...standard, ...loaded] });
  if (inputs.missing.length > 0)
    throw new MeshError("io", `${inputs.missing[0]} has gone while it was looked at`);
  const libraries = system.flatMap(({ kind, path }) =>
    kind !== "directory" && /\.so(\.|$)/.test(basename(path)) ? path : [],
  );
  const entries = mergeEntries(inputs.entries, system);
  let found: ReturnType<RustToolchain["code"]> | undefined;
  return {
    toolchain: {
      ...{ rustc, entries, libraries, facts: inputs.facts, sysroot: sysroot.path },
      stamp: stampOf(disk, rustc),
      code: async () => {
        const before = await found?.catch(() => undefined);
        if (before === undefined || !files.hold(before.facts)) found = files.find({ files: code });
        return found ?? files.find({ files: code });
      },
    },
    ...{ inputs, looks },
  };
}

async function codeIn(disk: Disk, folder: string): Promise<readonly string[]> {
  const names = (await disk.list(folder)) ?? [];
  return names.flatMap(({ name }) => (name.endsWith(".rlib") ? join(folder, name) : []));
}

/**
 * The standard library as a library's compile sees it: metadata where there is some, else all.
 * Sanitizer runtimes (`.a`) are for linking.
 */
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
