/**
 * Asks drivers and linkers, once each, what they are made of, what a driver adds to a link and
 * where a linker looks for libraries. Answers are kept for as long as what they depend on is
 * unchanged. It does not know any link's inputs.
 */
import { createRecentMap } from "../base/bounded.ts";
import { textOf } from "../base/bytes.ts";
import { MeshError } from "../base/errors.ts";
import type { TreeEntry } from "../blob/tree.ts";
import { interpreterOf, loadedBy } from "../exec/elf.ts";
import { type Facts, factsHold, factsOf } from "../exec/facts.ts";
import {
  createTrail,
  type FileNode,
  type Look,
  parentOf,
  type Trail,
  trailEntries,
} from "../exec/file-view.ts";
import type { Disk, Processes } from "../host/host.ts";
import { splitWords } from "./response-file.ts";
import type { Family } from "./search-path.ts";

export interface LinkToolsDeps {
  readonly disk: Disk;
  readonly processes: Processes;
}

/** The programs of a link, as input-root entries. */
interface Tool {
  readonly entries: readonly TreeEntry[];
  readonly facts: Facts;
}

export interface Linker extends Tool {
  readonly path: string;
  readonly kind: "bfd" | "gold" | "lld" | "unknown";
  /** It can name the files it has read. */
  readonly namesFiles: boolean;
  /** Searched behind every -L; `=` stands for the system root. */
  readonly folders: readonly string[];
  readonly sysroot: string;
}

export interface Driver extends Tool {
  readonly linker: string;
  /** What it puts in front of the user's words, and behind them. */
  readonly before: readonly string[];
  readonly after: readonly string[];
}

export interface LinkerQuery {
  readonly path: string;
  readonly emulation: string | undefined;
  readonly libraryPath: string;
  readonly look: Look;
}

export interface DriverQuery {
  readonly driver: string;
  readonly family: Family;
  readonly flags: readonly string[];
  readonly cwd: string;
  readonly path: string;
  readonly libraryPath: string;
  readonly linkPath: string;
  readonly look: Look;
}

export interface LinkTools {
  /** Codes: "unsupported" when it cannot be taken apart, "io". */
  linker(query: LinkerQuery, signal: AbortSignal): Promise<Linker>;
  driver(query: DriverQuery, signal: AbortSignal): Promise<Driver>;
  /** Any other program: itself and what it loads. */
  program(query: LinkerQuery, signal: AbortSignal): Promise<Program>;
}

export interface Program extends Tool {
  /** What it says of its options. */
  readonly help: string;
}

const rememberedMax = 256;
const askMaxMs = 30_000;
const answerMaxBytes = 4 * 1024 * 1024;
/** Stands for the user's own words in a question to a driver: it exists, and is no source. */
const marker = "/dev/null";

export function createLinkTools(deps: LinkToolsDeps): LinkTools {
  const linkers = createMemory<Linker>();
  const drivers = createMemory<Driver>();
  const programs = createMemory<Program>();
  return {
    linker: (query, signal) => {
      const { path, emulation = "", libraryPath, look } = query;
      const key = [path, emulation, libraryPath].join("\0");
      return linkers(key, look, () => askLinker(deps, query, signal));
    },
    driver: (query, signal) => {
      const { driver, family, flags, cwd, path, libraryPath, linkPath, look } = query;
      const relative =
        linkPath !== "" || flags.some((flag) => /(?:^|=|B)(?:\.|[^-/][^/]*\/)/.test(flag));
      const place = relative ? cwd : "";
      const key = [driver, family, place, path, libraryPath, linkPath, ...flags].join("\0");
      return drivers(key, look, () => askDriver(deps, query, signal));
    },
    program: (query, signal) => {
      const { path, libraryPath, look } = query;
      return programs([path, libraryPath].join("\0"), look, async () => {
        const tool = await gather(deps, look, [path], [], createTrail(), libraryPath, signal);
        return { ...tool, help: (await ask(deps, [path, "--help"], query, signal)).text };
      });
    },
  };
}

type Memory<T> = (key: string, look: Look, make: () => Promise<T>) => Promise<T>;

/** One answer per key, made anew when its facts no longer hold. */
function createMemory<T extends Tool>(): Memory<T> {
  const known = createRecentMap<string, T>(rememberedMax);
  return async (key, look, make) => {
    const before = known.get(key);
    if (before !== undefined && factsHold(before.facts, look)) return before;
    const made = await make();
    known.set(key, made);
    return made;
  };
}

interface Surroundings {
  readonly cwd?: string;
  readonly path?: string;
  readonly libraryPath: string;
  readonly linkPath?: string;
}

async function ask(
  { processes }: LinkToolsDeps,
  argv: readonly [string, ...string[]],
  { cwd = "/", path = "/usr/bin:/bin", libraryPath, linkPath }: Surroundings,
  signal: AbortSignal,
): Promise<{ readonly ok: boolean; readonly text: string }> {
  const env = {
    PATH: path,
    LC_ALL: "C",
    ...(libraryPath && { LD_LIBRARY_PATH: libraryPath }),
    ...(linkPath && { LIBRARY_PATH: linkPath }),
  };
  const limits = { timeoutMs: askMaxMs, outputMaxBytes: answerMaxBytes };
  const run = await processes.run({ argv, env, cwd, ...limits }, signal);
  return { ok: run.exitCode === 0, text: `${textOf(run.stdout)}\n${textOf(run.stderr)}` };
}

/** Programs with the libraries they load, and other files. */
async function gather(
  deps: LinkToolsDeps,
  look: Look,
  programs: readonly string[],
  files: readonly string[],
  trail: Trail,
  libraryPath: string,
  signal: AbortSignal,
): Promise<Tool> {
  const nodes = new Map<string, FileNode>();
  const root = look.folder("/");
  if (look.find(root, "/etc/ld.so.preload", trail) !== undefined)
    throw new MeshError("unsupported", "/etc/ld.so.preload changes every program here");
  const add = async (path: string, to: Map<string, FileNode>): Promise<boolean> => {
    const found = look.find(root, path, trail);
    const node = found?.kind === "file" ? await look.largeFile(found.path) : undefined;
    if (node !== undefined) to.set(node.path, node);
    return node !== undefined;
  };
  // Not inputs: what matters of it is which libraries it leads to.
  const caches = new Map<string, FileNode>();
  await add("/etc/ld.so.cache", caches);
  let loader = "";
  for (const path of programs) {
    if (!(await add(path, nodes))) throw new MeshError("unsupported", `${path} is no regular file`);
    loader ||= (await interpreterOf(deps.disk, path)) ?? "";
    const loaded = await loadedBy(deps, path, loader, libraryPath, signal);
    for (const library of loaded.paths) {
      await add(library, nodes);
      const name = library.slice(library.lastIndexOf("/") + 1);
      for (const folder of libraryPath.split(":"))
        if (folder.startsWith("/")) look.find(root, `${folder}/${name}`, trail);
    }
  }
  for (const path of files) await add(path, nodes);
  const entries = [...nodes.values()].map(({ entry }) => entry);
  return {
    entries: [...entries, ...trailEntries(trail)],
    facts: factsOf([...nodes.values(), ...caches.values()], trail.asked),
  };
}

async function askLinker(
  deps: LinkToolsDeps,
  query: LinkerQuery,
  signal: AbortSignal,
): Promise<Linker> {
  const { path, emulation, libraryPath, look } = query;
  const prefix = parentOf(parentOf(path));
  const plugins: string[] = [];
  for (const folder of [`${prefix}/lib`, "/usr/lib/x86_64-linux-gnu", "/usr/lib"])
    for (const { name } of (await deps.disk.list(`${folder}/bfd-plugins`)) ?? [])
      plugins.push(`${folder}/bfd-plugins/${name}`);
  const tool = await gather(deps, look, [path], plugins, createTrail(), libraryPath, signal);
  const [version = ""] = (await ask(deps, [path, "--version"], query, signal)).text.split("\n");
  const help = (await ask(deps, [path, "--help"], query, signal)).text;
  const kind = kindOf(version);
  const chosen = emulation === undefined ? [] : ["-m", emulation];
  const said =
    kind === "bfd" ? (await ask(deps, [path, ...chosen, "--verbose"], query, signal)).text : "";
  const root =
    kind === "bfd" ? await ask(deps, [path, "--print-sysroot"], query, signal) : undefined;
  return {
    ...tool,
    path,
    kind,
    namesFiles: help.includes("--dependency-file"),
    folders:
      kind === "bfd"
        ? [...said.matchAll(/SEARCH_DIR\("([^"]*)"\)/g)].map(([, folder = ""]) => folder)
        : kind === "gold"
          ? ["=/lib", "=/usr/lib"]
          : [],
    sysroot: root?.ok ? root.text.trim() : "",
  };
}

function kindOf(version: string): Linker["kind"] {
  if (version.startsWith("GNU gold")) return "gold";
  if (version.startsWith("GNU ld")) return "bfd";
  return /\bLLD \d/.test(version) ? "lld" : "unknown";
}

async function askDriver(
  deps: LinkToolsDeps,
  query: DriverQuery,
  signal: AbortSignal,
): Promise<Driver> {
  const { driver, family, flags, look } = query;
  const said = await ask(
    deps,
    [driver, ...flags, "-v", "-###", "-o", "out", marker],
    query,
    signal,
  );
  const call = said.text
    .split("\n")
    .filter((line) => line.startsWith(" "))
    .map((line) => splitWords(line))
    .filter((words) => words.includes(marker));
  const [words] = call;
  const program = words?.[0];
  if (!said.ok || call.length !== 1 || words === undefined || program === undefined)
    throw new MeshError("unsupported", `${driver} does not say how it links`);
  const dirs = (await ask(deps, [driver, ...flags, "-print-search-dirs"], query, signal)).text;
  const cut = words.indexOf(marker);
  const trail = createTrail();
  const parts =
    family === "gcc"
      ? partsOfGcc(deps.disk, query, trail, program, said.text, listIn(dirs, "programs"))
      : partsOfClang(query, trail, program, said.text, listIn(dirs, "programs"));
  const before = words.slice(1, cut);
  const after = words.slice(cut + 1);
  // A start file that appears where the driver looks first would be taken instead.
  for (const word of [...before, ...after])
    if (/^\/.*\.o$/.test(word)) lookUp(look, listIn(dirs, "libraries"), [fileName(word)], trail);
  const plugin = before[before.indexOf("-plugin") + 1];
  const plugins = before.includes("-plugin") && plugin !== undefined ? [plugin] : [];
  const programs = [driver, ...parts.programs, ...plugins];
  // What the plugin would run is only looked for, but lld is told another thing when it is gone.
  const options = before.flatMap((word) => /^-plugin-opt=(\/.*)$/.exec(word)?.[1] ?? []);
  const files = [...parts.files, ...options];
  const tool = await gather(deps, look, programs, files, trail, query.libraryPath, signal);
  return { ...tool, linker: parts.linker, before, after };
}

interface Parts {
  readonly linker: string;
  readonly programs: readonly string[];
  readonly files: readonly string[];
}

/** GCC's `collect2` looks for the linker by itself. */
function partsOfGcc(
  disk: Disk,
  { flags, path, look }: DriverQuery,
  trail: Trail,
  program: string,
  said: string,
  folders: readonly string[],
): Parts {
  if (fileName(program) !== "collect2")
    throw new MeshError("unsupported", `${program} is not known to run a linker`);
  const chosen = flags.findLast((flag) => flag.startsWith("-fuse-ld="))?.slice("-fuse-ld=".length);
  const onPath = path.split(":").filter((folder) => folder.startsWith("/"));
  const places =
    chosen === undefined
      ? [
          ...placesOf(folders, ["real-ld", "collect-ld"]),
          ...placesOf(onPath, ["collect-ld"]),
          ...placesOf(folders, ["ld"]),
          ...placesOf(onPath, ["ld"]),
        ]
      : [...placesOf(folders, [`ld.${chosen}`]), ...placesOf(onPath, [`ld.${chosen}`])];
  const root = look.folder("/");
  const linker = places.find((place) => {
    const found = look.find(root, place, trail);
    return found?.kind === "file" && ((disk.statNow(found.path)?.mode ?? 0) & 0o111) !== 0;
  });
  if (linker === undefined) throw new MeshError("unsupported", "there is no linker here");
  const files = [...said.matchAll(/^Reading specs from (.*)$/gm)].map(([, file = ""]) => file);
  return { linker, programs: [program], files };
}

function partsOfClang(
  { path, look }: DriverQuery,
  trail: Trail,
  program: string,
  said: string,
  folders: readonly string[],
): Parts {
  const name = fileName(program);
  const target = /^Target: (.*)$/m.exec(said)?.[1] ?? "";
  const onPath = path.split(":").filter((folder) => folder.startsWith("/"));
  lookUp(look, [...folders, ...onPath], [`${target}-${name}`, name], trail);
  const files: string[] = [];
  // It believes in a GCC installation only where it sees its start files.
  for (const [, folder] of said.matchAll(/^(?:Found candidate|Selected) GCC installation: (.*)$/gm))
    for (const variant of ["", "/32", "/x32", "/64"]) files.push(`${folder}${variant}/crtbegin.o`);
  for (const [, file = ""] of said.matchAll(/^Configuration file: (.*)$/gm)) files.push(file);
  return { linker: program, programs: [], files };
}

function placesOf(folders: readonly string[], names: readonly string[]): string[] {
  return names.flatMap((name) => folders.map((folder) => `${folder.replace(/\/$/, "")}/${name}`));
}

function lookUp(
  look: Look,
  folders: readonly string[],
  names: readonly string[],
  trail: Trail,
): void {
  for (const place of placesOf(folders, names))
    if (place.startsWith("/")) look.find(look.folder("/"), place, trail);
}

function listIn(text: string, name: string): string[] {
  const list = new RegExp(`^${name}: =?(.*)$`, "m").exec(text)?.[1] ?? "";
  return list.split(":").filter((folder) => folder !== "");
}

function fileName(path: string): string {
  return path.slice(path.lastIndexOf("/") + 1);
}
