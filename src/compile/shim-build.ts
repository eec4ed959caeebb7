/**
 * Makes the program that stands in front of the compilers: built from `shim.c` with the machine's
 * own compiler, once, or a slower one in Node where there is none.
 *
 * It does not know what the shim says to the node; that is protocols/shim.md.
 */
import { delimiter, dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { concatBytes, textOf, utf8 } from "../base/bytes.ts";
import { digestOf, hashHexOf } from "../base/digest.ts";
import { isMeshError, messageOf } from "../base/errors.ts";
import type { Disk, Processes, Random, RunResult } from "../host/host.ts";
import { isMasqueraded } from "./compilers.ts";

export interface ShimDeps {
  readonly disk: Disk;
  readonly processes: Processes;
  readonly random: Random;
}

export interface ShimOptions {
  /** Where built shims are kept: `D/shim`. */
  readonly folder: string;
  /** The PATH in which compilers are looked for. */
  readonly path: string;
  /** The Node program that runs the slower shim. */
  readonly nodePath: string;
}

export interface Shim {
  readonly kind: "c" | "node";
  /** Why it is not the C one. */
  readonly why: string | undefined;
  /** Absolute path of `mesh-shim`. */
  readonly program: string;
}

/** In a folder with this file, every program is a shim: nobody looks there for a real compiler. */
/** A file of this name marks a folder of names that lead to the shim. */
export const shimMarker: string = ".mesh-shim";
const buildMaxMs = 60_000;

/** Finds or builds the shim. Codes: "io", "no-space" when not even a script can be written. */
export async function buildShim(
  deps: ShimDeps,
  options: ShimOptions,
  signal: AbortSignal,
): Promise<Shim> {
  const reasons: string[] = [];
  const sourcePath = besideThisFile(deps.disk, ["./shim.c", "../../src/compile/shim.c"]);
  if (sourcePath === undefined) {
    reasons.push("shim.c is not in this installation");
  } else {
    for (const name of ["cc", "gcc", "clang"]) {
      const compiler = findProgram(deps.disk, name, options.path);
      if (compiler === undefined) {
        reasons.push(`no ${name}`);
        continue;
      }
      const built = await buildWith(deps, options, compiler, sourcePath, signal);
      if ("program" in built) return { kind: "c", why: undefined, program: built.program };
      reasons.push(`${compiler}: ${built.trouble}`);
    }
  }
  const program = await writeNodeShim(deps.disk, options);
  return { kind: "node", why: reasons.join("; "), program };
}

/**
 * A folder with a symlink to the shim for every compiler that `path` offers, to be put in front
 * of it. Programs that are not there are not pretended: `configure` scripts look for them.
 */
export async function makeMasquerade(
  { disk }: Pick<ShimDeps, "disk">,
  shim: Shim,
  path: string,
): Promise<string> {
  const names = new Set<string>();
  for (const folder of path.split(delimiter)) {
    // A relative entry means another folder to each compiler call: those stay as they are.
    if (!folder.startsWith("/") || disk.statNow(join(folder, shimMarker)) !== undefined) continue;
    const entries = await disk.list(folder).catch(() => undefined);
    for (const { name } of entries ?? []) {
      if (!isMasqueraded(name) || names.has(name)) continue;
      if (isProgram(disk, join(folder, name)) && !(await isForwarder(disk, folder, name))) {
        names.add(name);
      }
    }
  }
  const sorted = [...names].sort();
  // Another set of names is another folder, since builds may still be using the old one.
  const tag = hashHexOf(digestOf(utf8(sorted.join("\0")))).slice(0, 8);
  const masquerade = join(dirname(shim.program), `bin-${tag}`);
  await disk.makeDirectory(masquerade);
  await disk.writeAtomic(join(masquerade, shimMarker), new Uint8Array(0), {
    mode: 0o644,
    sync: false,
  });
  for (const name of sorted) {
    const link = join(masquerade, name);
    if (disk.statNow(link) !== undefined) continue;
    await disk.symlink("../mesh-shim", link).catch((error: unknown) => {
      // Somebody else was making the same folder.
      if (disk.statNow(link) === undefined) throw error;
    });
  }
  return masquerade;
}

/** `c89` and `c99` are often scripts around `gcc`, which is caught when they call it. */
async function isForwarder(disk: Disk, folder: string, name: string): Promise<boolean> {
  if (!/^c[89]9/.test(name)) return false;
  const start = await disk.readRange(join(folder, name), 0, 2).catch(() => new Uint8Array(0));
  return textOf(start) === "#!";
}

async function buildWith(
  { disk, processes, random }: ShimDeps,
  { folder, path }: ShimOptions,
  compiler: string,
  sourcePath: string,
  signal: AbortSignal,
): Promise<{ readonly program: string } | { readonly trouble: string }> {
  const run = (argv: readonly [string, ...string[]]): Promise<RunResult> =>
    processes.run(
      {
        argv,
        env: { PATH: path, LC_ALL: "C" },
        cwd: dirname(sourcePath),
        timeoutMs: buildMaxMs,
        outputMaxBytes: 64 * 1024,
      },
      signal,
    );
  try {
    const source = await disk.read(sourcePath);
    // Its file tells one compiler from the next; asking for its version would cost a process at
    // each start of a node.
    const stat = disk.statFollowNow(compiler);
    const made = `\0${compiler}\0${stat?.sizeBytes} ${stat?.mtimeNs} ${stat?.inode}`;
    const key = digestOf(concatBytes([source, utf8(made)]));
    const home = join(folder, hashHexOf(key).slice(0, 16));
    const program = join(home, "mesh-shim");
    if (isProgram(disk, program)) return { program };
    await disk.makeDirectory(home);
    const workplace = join(home, `build-${Buffer.from(random.bytes(6)).toString("hex")}`);
    await disk.makeDirectory(workplace);
    // The last part of its name tells the shim how it is meant.
    const temporary = join(workplace, "mesh-shim");
    try {
      const build = (flags: readonly string[]): Promise<RunResult> =>
        run([compiler, "-std=c99", "-O2", "-s", ...flags, "-o", temporary, sourcePath]);
      // A static program starts in half the time; many machines have no static libc.
      let built = await build(["-static"]);
      if (built.exitCode !== 0) built = await build([]);
      if (built.exitCode !== 0) return { trouble: complaint(built) };
      const said = await run([temporary, "--mesh-shim-version"]);
      if (said.exitCode === 0) {
        await disk.rename(temporary, program);
        return { program };
      }
      return { trouble: `the shim it built does not run: ${complaint(said)}` };
    } finally {
      await disk.remove(workplace);
    }
  } catch (error) {
    if (!isMeshError(error, "io")) throw error;
    return { trouble: messageOf(error) };
  }
}

function complaint({ exitCode, timedOut, stderr }: RunResult): string {
  if (timedOut) return `no answer within ${buildMaxMs} ms`;
  const first = textOf(stderr).trim().split("\n")[0] ?? "";
  return `exit code ${exitCode}${first === "" ? "" : `: ${first.slice(0, 200)}`}`;
}

/** A script that starts Node on `shim-node`, whose first argument is the name it was called by. */
async function writeNodeShim(disk: Disk, { folder, nodePath }: ShimOptions): Promise<string> {
  const code = besideThisFile(disk, ["./shim-node.ts", "./shim-node.js"]) ?? "";
  const text = `#!/bin/sh\nexec ${quoted(nodePath)} ${quoted(code)} "$0" "$@"\n`;
  const home = join(folder, `node-${hashHexOf(digestOf(utf8(text))).slice(0, 16)}`);
  await disk.makeDirectory(home);
  const program = join(home, "mesh-shim");
  await disk.writeAtomic(program, utf8(text), { mode: 0o755, sync: false });
  return program;
}

function quoted(text: string): string {
  return `'${text.replaceAll("'", `'\\''`)}'`;
}

/** This file is in `src/compile` or in `dist/compile`; the C source is only in `src`. */
function besideThisFile(disk: Disk, candidates: readonly string[]): string | undefined {
  return candidates
    .map((candidate) => fileURLToPath(new URL(candidate, import.meta.url)))
    .find((path) => disk.statFollowNow(path)?.kind === "file");
}

function findProgram(disk: Disk, name: string, path: string): string | undefined {
  return path
    .split(delimiter)
    .filter((folder) => folder.startsWith("/"))
    .filter((folder) => disk.statNow(join(folder, shimMarker)) === undefined)
    .map((folder) => join(folder, name))
    .find((candidate) => isProgram(disk, candidate));
}

function isProgram(disk: Disk, path: string): boolean {
  const stat = disk.statFollowNow(path);
  return stat?.kind === "file" && (stat.mode & 0o111) !== 0;
}
