/**
 * Asks a compiler where its parts and its headers are. It only reads what the compiler prints;
 * hashing and following links is for `toolchain.ts`.
 */
import { textOf } from "../base/bytes.ts";
import { MeshError } from "../base/errors.ts";
import type { Disk, Processes } from "../host/host.ts";
import { type Look, parentOf } from "./file-view.ts";

export type Family = "gcc" | "clang";

export interface ToolchainQuery {
  /** Absolute; symlinks not resolved. */
  readonly driver: string;
  readonly family: Family;
  readonly language: "c" | "c++";
  /** Options that change tools or standard folders, e.g. --sysroot, -m32. */
  readonly flags: readonly string[];
  readonly cwd: string;
  /** PATH, in which the driver looks for its tools. */
  readonly path: string;
  /** LD_LIBRARY_PATH, or "". */
  readonly libraryPath: string;
  /** The planning step in which this is asked; a new one where there is none. */
  readonly look?: Look;
}

export interface Probed {
  /** Programs besides the driver. */
  readonly programs: readonly string[];
  /** Files whose presence or contents the driver looks at. */
  readonly files: readonly string[];
  /** Folders that must exist where they exist here. */
  readonly folders: readonly string[];
  readonly includeDirs: readonly string[];
  readonly targetTriple: string;
  readonly path: string;
}

interface ProbeDeps {
  readonly disk: Disk;
  readonly processes: Processes;
}

const askMaxMs = 30_000;
const answerMaxBytes = 4 * 1024 * 1024;

export async function probeCompiler(
  deps: ProbeDeps,
  query: ToolchainQuery,
  signal: AbortSignal,
): Promise<Probed> {
  const ask = async (...args: string[]): Promise<string> => {
    const { driver, flags, cwd, path, libraryPath } = query;
    const run = await deps.processes.run(
      {
        argv: [driver, ...flags, ...args],
        env: { PATH: path, LC_ALL: "C", ...(libraryPath && { LD_LIBRARY_PATH: libraryPath }) },
        cwd,
        timeoutMs: askMaxMs,
        outputMaxBytes: answerMaxBytes,
      },
      signal,
    );
    if (run.exitCode !== 0)
      throw new MeshError(
        "unsupported",
        `${driver} ${args.join(" ")} failed: exit ${run.exitCode}`,
      );
    return `${textOf(run.stdout)}\n${textOf(run.stderr)}`;
  };
  const verbose = await ask("-E", "-v", "-x", query.language, "/dev/null");
  const [, list] = verbose.split("#include <...> search starts here:\n");
  if (list === undefined)
    throw new MeshError("unsupported", `${query.driver} does not say where its headers are`);
  const includeDirs = (list.split("End of search list.")[0] ?? "")
    .split("\n")
    .map((line) => line.replace(/^ /, ""))
    .filter((line) => line !== "" && !line.endsWith(" (framework directory)"));
  const common = {
    includeDirs,
    folders: [...includeDirs, ...matches(verbose, /^ignoring [\w -]*directory "(.*)"$/gm)],
    targetTriple: matches(verbose, /^Target: (.*)$/gm)[0] ?? "",
  };
  return query.family === "gcc"
    ? { ...common, ...(await probeGcc(deps, query, verbose, ask)) }
    : { ...common, ...(await probeClang(deps, query, verbose, ask)) };
}

type Ask = (...args: string[]) => Promise<string>;
type Parts = Pick<Probed, "programs" | "files" | "path">;

async function probeGcc(
  { disk }: ProbeDeps,
  query: ToolchainQuery,
  verbose: string,
  ask: Ask,
): Promise<Parts> {
  const names = [query.language === "c" ? "cc1" : "cc1plus", "as"];
  if (query.flags.some((flag) => flag.startsWith("-gsplit-dwarf"))) names.push("objcopy");
  const programs: string[] = [];
  const folders: string[] = [];
  // Places where a program would be found first if it were there.
  const files = matches(verbose, /^Reading specs from (.*)$/gm);
  for (const name of names) {
    const printed = (await ask(`-print-prog-name=${name}`)).trim();
    const places = printed.includes("/") ? [printed] : onPath(query.path, printed);
    const program = places.find((place) => isProgram(disk, place));
    files.push(...places.slice(0, program === undefined ? 0 : places.indexOf(program)));
    if (program === undefined || !program.startsWith("/"))
      throw new MeshError("unsupported", `${query.driver} has no ${name} here`);
    programs.push(program);
    if (!printed.includes("/")) folders.push(parentOf(program));
  }
  return {
    programs,
    files,
    path: folders.length > 0 ? [...new Set(folders)].join(":") : "/usr/bin:/bin",
  };
}

async function probeClang(
  { disk }: ProbeDeps,
  query: ToolchainQuery,
  verbose: string,
  ask: Ask,
): Promise<Parts> {
  // Clang believes in a GCC installation only where it sees its start files.
  const installations = matches(verbose, /^(?:Found candidate|Selected) GCC installation: (.*)$/gm);
  const files = installations.flatMap((folder) =>
    ["", "/32", "/x32", "/64"].map((variant) => `${folder}${variant}/crtbegin.o`),
  );
  files.push(...matches(verbose, /^Configuration file: (.*)$/gm));
  // Some defaults depend on the distribution.
  files.push("/etc/os-release", "/usr/lib/os-release", "/etc/lsb-release", "/etc/debian_version");
  files.push(
    "/etc/redhat-release",
    "/etc/SuSE-release",
    "/etc/alpine-release",
    "/etc/arch-release",
  );
  const resources = (await ask("-print-resource-dir")).trim();
  // Lists that -fsanitize options read without being told.
  for (const { name, kind } of (await disk.list(`${resources}/share`)) ?? [])
    if (kind === "file") files.push(`${resources}/share/${name}`);
  const programs = matches(verbose, /^ "([^"]+)" -cc1 /gm);
  if (programs.length === 0)
    throw new MeshError("unsupported", `${query.driver} does not name its compiler`);
  return { programs, files, path: "/usr/bin:/bin" };
}

function onPath(path: string, name: string): string[] {
  const folders = path.split(":").filter((folder) => folder.startsWith("/"));
  return folders.map((folder) => `${folder}/${name}`);
}

function isProgram(disk: Disk, path: string): boolean {
  const stat = disk.statFollowNow(path);
  return stat?.kind === "file" && (stat.mode & 0o111) !== 0;
}

function matches(text: string, pattern: RegExp): string[] {
  return [...text.matchAll(pattern)].map(([, match = ""]) => match);
}
