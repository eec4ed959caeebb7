/**
 * What the linker brings into a unit: itself and the programs around it, start files, the system
 * libraries it takes of its own accord and those that the unit names.
 *
 * The first is found out by linking a program of one line under the tracer, which sees everything
 * that is opened, and what is looked for in vain: as soon as one of those is there, it is asked
 * again. Named libraries are looked for in every folder where the linker does; all that are found
 * are inputs, so that it does not matter which one it takes. Whether that was all is seen
 * afterwards, in the dependency file that the linker writes.
 */
import { basename, dirname, join, resolve } from "node:path";
import { createRecentMap } from "../base/bounded.ts";
import { textOf, utf8 } from "../base/bytes.ts";
import { digestOf, hashHexOf } from "../base/digest.ts";
import { isMeshError, MeshError } from "../base/errors.ts";
import type { TreeEntry } from "../blob/tree.ts";
import type { Facts } from "../exec/facts.ts";
import type { Disk, Random } from "../host/host.ts";
import type { InputFiles } from "./inputs.ts";
import { prerequisitesOf } from "./make-rule.ts";
import type { RustTracer, Sight } from "./rust-tracer.ts";
import type { RustUnit } from "./rustc-args.ts";
import type { Linking } from "./rustc-outputs.ts";
import type { RustToolchain } from "./rustc-toolchain.ts";

export interface LinkTools {
  readonly entries: readonly TreeEntry[];
  readonly facts: Facts;
  /** PATH in which the same programs are found. */
  readonly path: string;
  /** Where libraries are looked for, behind the folders that a unit names. */
  readonly folders: readonly string[];
}

export interface LinkQuery {
  readonly unit: RustUnit;
  readonly linking: Linking;
  readonly toolchain: RustToolchain;
  readonly cwd: string;
  readonly env: Readonly<Record<string, string>>;
}

export interface Linkers {
  /** Undefined when nobody can say what the linker reads. */
  find(query: LinkQuery, signal: AbortSignal): Promise<LinkTools | undefined>;
}

export interface LinkerDeps {
  readonly disk: Disk;
  readonly random: Random;
  readonly files: InputFiles;
  readonly tracer: RustTracer;
}

interface Kept {
  readonly tools: LinkTools;
}

/** What is written down of a probe: the next node process need not link again. */
interface Probe {
  readonly files: readonly string[];
  readonly programs: readonly string[];
  readonly absent: readonly string[];
}

const linkersMax = 64;
const sightsMax = 20_000;
/** In a folder with this file, every program is a stand-in of ours. */
const shimMark = ".mesh-shim";

export function createLinkers(deps: LinkerDeps, options: { readonly folder: string }): Linkers {
  const { disk, files } = deps;
  const known = createRecentMap<string, Promise<Kept | undefined>>(linkersMax);
  return {
    async find(query, signal) {
      signal.throwIfAborted();
      const path = realPath(disk, query.env.PATH);
      const key = keyOf(disk, query, path);
      const before = known.get(key);
      const kept = await before;
      if (kept !== undefined && files.hold(kept.tools.facts)) return kept.tools;
      if (known.get(key) === before) {
        // Shared by all who ask meanwhile, so nobody's to cancel.
        const probing = probeOnce(deps, options, query, path, key).catch((error: unknown) => {
          if (!isMeshError(error)) throw error;
          return undefined;
        });
        known.set(key, probing);
      }
      return (await known.get(key))?.tools;
    },
  };
}

/** PATH without our own stand-ins, which a linker is never found through twice. */
function realPath(disk: Disk, path: string | undefined): string {
  const folders = (path ?? "/bin:/usr/bin").split(":");
  return folders
    .filter((folder) => folder.startsWith("/") && !disk.statNow(join(folder, shimMark)))
    .join(":");
}

const readByLinkers: readonly string[] = [
  ...["LIBRARY_PATH", "COMPILER_PATH", "GCC_EXEC_PREFIX", "LD_RUN_PATH", "LDEMULATION"],
  ...["GNUTARGET", "LD_LIBRARY_PATH", "LANG", "LC_ALL"],
];

function keyOf(disk: Disk, { linking, toolchain, env, cwd }: LinkQuery, path: string): string {
  const linker = linking.linker ?? "cc";
  const place = linker.includes("/")
    ? resolve(cwd, linker)
    : path
        .split(":")
        .map((folder) => join(folder, linker))
        .find((file) => disk.statFollowNow(file)?.kind === "file");
  const stat = place === undefined ? undefined : disk.statFollowNow(place);
  const parts = [
    ...[toolchain.rustc, toolchain.stamp, linking.type, ...linking.flags, path, place ?? ""],
    `${stat?.sizeBytes} ${stat?.mtimeNs} ${stat?.inode}`,
    ...readByLinkers.map((name) => (name === "LD_LIBRARY_PATH" ? "" : (env[name] ?? ""))),
  ];
  return hashHexOf(digestOf(utf8(parts.join("\0")))).slice(0, 32);
}

async function probeOnce(
  deps: LinkerDeps,
  { folder }: { readonly folder: string },
  query: LinkQuery,
  path: string,
  key: string,
): Promise<Kept | undefined> {
  const { disk } = deps;
  const note = join(folder, `linker-${key}.json`);
  const noted = parseProbe(await disk.read(note).catch(() => undefined));
  const kept = noted && (await toolsOf(deps, noted, path));
  if (kept !== undefined) return kept;
  const probe = await link(deps, folder, query, path);
  const fresh = probe && (await toolsOf(deps, probe, path));
  if (probe !== undefined && fresh !== undefined) {
    await disk.makeDirectory(folder);
    const bytes = utf8(JSON.stringify(probe));
    await disk.writeAtomic(note, bytes, { mode: 0o600, sync: false });
  }
  return fresh;
}

function parseProbe(bytes: Uint8Array | undefined): Probe | undefined {
  if (bytes === undefined) return undefined;
  try {
    const { files, programs, absent } = JSON.parse(textOf(bytes)) as Record<string, unknown>;
    const lists = [files, programs, absent];
    if (!lists.every(isPaths)) return undefined;
    return { files, programs, absent } as Probe;
  } catch {
    return undefined;
  }
}

function isPaths(list: unknown): boolean {
  return (
    Array.isArray(list) &&
    list.length <= sightsMax &&
    list.every((path) => typeof path === "string" && path.startsWith("/"))
  );
}

/** Undefined when it no longer is as the probe saw it. */
async function toolsOf(
  { files }: LinkerDeps,
  probe: Probe,
  path: string,
): Promise<Kept | undefined> {
  const wanted = [...probe.files, ...probe.programs];
  const found = await files.find({ files: [...wanted, ...probe.absent] });
  const missing = new Set(found.missing);
  if (wanted.some((file) => missing.has(file))) return undefined;
  if (probe.absent.some((file) => !missing.has(file))) return undefined;
  const folders = new Set(
    wanted.flatMap((file) =>
      /^lib[^/]+\.(so|a)$/.test(basename(file)) ? dirname(resolve(file)) : [],
    ),
  );
  for (const file of probe.absent)
    if (/^lib[^/]+\.(so|a)$/.test(basename(file))) folders.add(dirname(resolve(file)));
  const programs = new Set(probe.programs.map((file) => dirname(file)));
  return {
    tools: {
      entries: found.entries,
      facts: found.facts,
      path:
        path
          .split(":")
          .filter((one) => programs.has(one))
          .join(":") || "/usr/bin:/bin",
      folders: [...folders],
    },
  };
}

const sources: Readonly<Record<string, string>> = {
  bin: 'fn main() { println!("") }\n',
  "proc-macro": "extern crate proc_macro;\n",
};

/** Links next to nothing with the unit's own choices, and writes down what that took. */
async function link(
  { disk, random, tracer }: LinkerDeps,
  folder: string,
  { linking, toolchain, env, cwd }: LinkQuery,
  path: string,
): Promise<Probe | undefined> {
  const place = join(folder, `link-${Buffer.from(random.bytes(8)).toString("hex")}`);
  await disk.makeDirectory(place);
  try {
    const source = join(place, "probe.rs");
    const text = utf8(sources[linking.type] ?? "");
    await disk.writeAtomic(source, text, { mode: 0o600, sync: false });
    const { LD_LIBRARY_PATH: _, ...rest } = env;
    const sights = await tracer.watch(
      {
        argv: [
          ...([toolchain.rustc, "--crate-name", "probe", "--crate-type", linking.type] as const),
          ...[
            "--edition",
            "2021",
            "--out-dir",
            place,
            ...linking.flags,
            ...dependencyArgs(join(place, dependencyName)),
          ],
          source,
        ],
        env: { ...rest, PATH: path, MESH_INSIDE: "1", TMPDIR: place },
        cwd,
      },
      new AbortController().signal,
    );
    const written = await disk.read(join(place, dependencyName)).catch(() => undefined);
    if (sights === undefined || written === undefined || sights.length > sightsMax)
      return undefined;
    return probeOf(disk, sights, place);
  } finally {
    await disk.remove(place);
  }
}

function probeOf(disk: Disk, sights: readonly Sight[], place: string): Probe {
  const matters = sights.filter(
    ({ path }) => !/^\/(?:proc|sys|dev)(?:\/|$)/.test(path) && !path.startsWith(`${place}/`),
  );
  const of = (kind: Sight["kind"]): readonly string[] =>
    matters.flatMap((sight) => (sight.kind === kind ? sight.path : []));
  const isFile = (path: string): boolean => disk.statFollowNow(path)?.kind === "file";
  const here = new Set([...of("file"), ...of("program")].filter(isFile));
  return {
    files: of("file").filter((path) => here.has(path)),
    programs: of("program").filter((path) => here.has(path)),
    // Something may have been made after it was looked for.
    absent: of("absent").filter((path) => disk.statFollowNow(path) === undefined),
  };
}

const dependencyName = "linked.d";

/** Options with which a linker writes down what it read; its output stays the same. */
export function dependencyArgs(path: string): readonly string[] {
  return ["-C", `link-arg=-Wl,--dependency-file=${path}`];
}

/** All files that may be meant by these names, in every folder where a linker looks. */
export function librariesNamed(
  names: Iterable<string>,
  folders: readonly string[],
): readonly string[] {
  return [...names].flatMap((name) =>
    folders.flatMap((folder) =>
      name.includes("/") ? [] : [join(folder, `lib${name}.so`), join(folder, `lib${name}.a`)],
    ),
  );
}

/** Files that the linker's own options name, as far as they look like it. */
export function filesInArgs(linkArgs: readonly string[], cwd: string): readonly string[] {
  return linkArgs
    .flatMap((arg) => arg.replace(/^-Wl,/, "").split(","))
    .flatMap((word) => {
      const path = word.replace(/^(?:-T|@|--?[a-z-]+=)/, "");
      return /^-|^$/.test(path) ? [] : resolve(cwd, path);
    });
}

/** The name of the library that a file is, as `-l` would have it. */
export function libraryNameOf(path: string): string | undefined {
  return /^lib(.+?)\.(?:so(?:\..*)?|a)$/.exec(basename(path))?.[1];
}

/**
 * Reads what the linker wrote down and removes it. Rejects with "refused" when it read a file that
 * is no input, and tells about it.
 */
export async function checkLinked(
  disk: Disk,
  path: string,
  {
    unit,
    cwd,
    inputs,
  }: { readonly unit: RustUnit; readonly cwd: string; readonly inputs: ReadonlySet<string> },
  onMiss: (path: string) => void,
): Promise<void> {
  const bytes = await disk.read(path).catch(() => undefined);
  await disk.remove(path);
  const names = bytes && prerequisitesOf(textOf(bytes));
  if (names === undefined)
    throw new MeshError("refused", "link-unknown: the linker did not write down what it read");
  const misses: string[] = [];
  for (const name of new Set(names)) {
    const file = resolve(cwd, name);
    if (inputs.has(file) || isOwn(unit, file)) continue;
    const real = await disk.realPath(file);
    if (real === undefined || !inputs.has(real)) misses.push(file);
  }
  misses.forEach(onMiss);
  if (misses.length > 0) throw new MeshError("refused", `link-miss: ${misses[0]}`);
}

/** What rustc made only to link it, and has removed since. */
function isOwn({ outDir, crateName, extra, outputs }: RustUnit, path: string): boolean {
  if (outputs.includes(path)) return true;
  if (!path.startsWith(`${outDir}/`)) return /^\/tmp\/(?:rustc|cc)[^/]*(?:\/|$)/.test(path);
  const name = path.slice(outDir.length + 1);
  return (
    /^(?:rustc|rmeta)[A-Za-z0-9]{6}\//.test(name) ||
    (name.startsWith(`${crateName}${extra}.`) && name.endsWith(".o"))
  );
}
