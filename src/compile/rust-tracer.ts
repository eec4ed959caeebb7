/**
 * The program that watches what a compiler looks at (`rust-trace.c`), built with this machine's
 * own C compiler, once. It travels with the actions that need it, as one of their inputs.
 *
 * It does not know what may be looked at: that is `rustc-policy.ts`.
 */
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { concatBytes, textOf, utf8 } from "../base/bytes.ts";
import { digestOf, hashHexOf } from "../base/digest.ts";
import { isMeshError } from "../base/errors.ts";
import type { TreeEntry } from "../blob/tree.ts";
import type { Facts } from "../exec/facts.ts";
import type { Disk, Processes, Random, RunSpec } from "../host/host.ts";
import type { InputFiles } from "./inputs.ts";

export interface RustTracer {
  /** What the action needs to be traced, at paths of its own. */
  entries(): Promise<{ readonly entries: readonly TreeEntry[]; readonly facts: Facts } | undefined>;
  /**
   * Runs a command on this machine and says what it looked at. Undefined when it cannot be traced
   * or fails.
   */
  watch(
    run: Pick<RunSpec, "argv" | "env" | "cwd">,
    signal: AbortSignal,
  ): Promise<readonly Sight[] | undefined>;
}

/** One thing that a program looked at: a file, a program, or what is not there. */
export interface Sight {
  readonly kind: "file" | "program" | "absent";
  readonly path: string;
}

export interface RustTracerDeps {
  readonly disk: Disk;
  readonly processes: Processes;
  readonly random: Random;
  readonly files: InputFiles;
}

export interface RustTracerOptions {
  /** For what is built, and for logs. */
  readonly folder: string;
}

/** Where an action finds it. */
export const tracerPath: string = "/mesh/trace";
const libraryPath = "/mesh/getenv.so";

/** The exit code that is no compiler's, and the beginning of the line that explains it. */
export const violationExitCode: number = 125;
export const violationMark: string = "rust-trace: ";

/** No folder of the user's: a compiler found there could be one of our own stand-ins. */
const toolPath = "/usr/local/bin:/usr/bin:/bin";
const compilers: readonly string[] = ["cc", "gcc", "clang"];
const runMaxMs = 60_000;

interface Built {
  readonly program: string;
  readonly library: string;
}

export function createRustTracer(deps: RustTracerDeps, options: RustTracerOptions): RustTracer {
  const { disk, processes, random, files } = deps;
  let building: Promise<Built | undefined> | undefined;
  const built = (): Promise<Built | undefined> => {
    building ??= build(deps, options).catch((error: unknown) => {
      if (!isMeshError(error)) throw error;
      return undefined;
    });
    return building;
  };
  return {
    async entries() {
      const paths = await built();
      if (paths === undefined) return undefined;
      const found = await files.find({ files: [paths.program, paths.library] });
      const program = found.nodes.get(paths.program);
      const library = found.nodes.get(paths.library);
      if (program === undefined || library === undefined) {
        // Somebody has cleaned up.
        building = undefined;
        return undefined;
      }
      const entry = { kind: "file", executable: true } as const;
      return {
        entries: [
          { ...entry, path: tracerPath, digest: program.digest },
          { ...entry, path: libraryPath, digest: library.digest },
        ],
        facts: found.facts,
      };
    },
    async watch({ argv, env, cwd }, signal) {
      const paths = await built();
      if (paths === undefined) return undefined;
      const log = join(options.folder, `log-${Buffer.from(random.bytes(8)).toString("hex")}`);
      try {
        const ran = await processes.run(
          {
            argv: [paths.program, "log", log, "--", ...argv],
            ...{ env, cwd, timeoutMs: runMaxMs, outputMaxBytes: 1024 * 1024 },
          },
          signal,
        );
        return ran.exitCode === 0 ? sightsIn(textOf(await disk.read(log))) : undefined;
      } catch (error) {
        if (!isMeshError(error, "io")) throw error;
        return undefined;
      } finally {
        await disk.remove(log);
      }
    },
  };
}

const kinds: Readonly<Record<string, Sight["kind"]>> = {
  f: "file",
  e: "program",
  a: "absent",
};

function sightsIn(log: string): readonly Sight[] {
  return [...new Set(log.split("\0"))].flatMap((line) => {
    const kind = kinds[line.slice(0, 1)];
    return kind === undefined ? [] : { kind, path: line.slice(1) };
  });
}

const sources = [
  { source: "rust-trace.c", output: "trace", flags: ["-static"], instead: [] },
  { source: "rust-getenv.c", output: "getenv.so", flags: ["-shared", "-fPIC", "-nostdlib"] },
] as const;

async function build(
  { disk, processes, random }: RustTracerDeps,
  { folder }: RustTracerOptions,
): Promise<Built | undefined> {
  const home = sources.map(({ source }) => besideThisFile(disk, source));
  const [first] = home;
  const compiler = findCompiler(disk);
  if (first === undefined || home.includes(undefined) || compiler === undefined) return undefined;
  const texts = await Promise.all(home.map((path) => disk.read(path ?? first)));
  const stat = disk.statFollowNow(compiler);
  const made = utf8(`\0${compiler}\0${stat?.sizeBytes} ${stat?.mtimeNs} ${stat?.inode}`);
  const key = hashHexOf(digestOf(concatBytes([...texts, made]))).slice(0, 16);
  const place = join(folder, `tracer-${key}`);
  const done = { program: join(place, "trace"), library: join(place, "getenv.so") };
  if (disk.statNow(done.program)?.kind === "file" && disk.statNow(done.library)?.kind === "file")
    return done;
  const workplace = join(folder, `build-${Buffer.from(random.bytes(6)).toString("hex")}`);
  await disk.makeDirectory(workplace);
  await disk.makeDirectory(place);
  try {
    for (const part of sources) {
      const compile = async (flags: readonly string[]): Promise<boolean> => {
        const { exitCode } = await processes.run(
          {
            argv: [
              ...([compiler, "-std=gnu11", "-O2", "-s", "-Wl,--build-id=none"] as const),
              ...[...flags, "-o", join(workplace, part.output), part.source],
            ],
            env: { PATH: toolPath, LC_ALL: "C", MESH_INSIDE: "1" },
            // Named without their folder, sources leave no trace of it.
            cwd: dirname(first),
            timeoutMs: runMaxMs,
            outputMaxBytes: 64 * 1024,
          },
          new AbortController().signal,
        );
        return exitCode === 0;
      };
      // Many machines have no static libc; rustc's own is an input in any case.
      const isBuilt =
        (await compile(part.flags)) || ("instead" in part && (await compile(part.instead)));
      if (!isBuilt) return undefined;
      await disk.rename(join(workplace, part.output), join(place, part.output));
    }
    return done;
  } finally {
    await disk.remove(workplace);
  }
}

function findCompiler(disk: Disk): string | undefined {
  return compilers
    .flatMap((name) => toolPath.split(":").map((folder) => join(folder, name)))
    .find((path) => disk.statFollowNow(path)?.kind === "file");
}

/** This file is in `src/compile` or in `dist/compile`; the C sources are only in `src`. */
function besideThisFile(disk: Disk, name: string): string | undefined {
  return [`./${name}`, `../../src/compile/${name}`]
    .map((candidate) => fileURLToPath(new URL(candidate, import.meta.url)))
    .find((path) => disk.statFollowNow(path)?.kind === "file");
}
