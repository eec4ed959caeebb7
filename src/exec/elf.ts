/**
 * Which shared libraries a program loads, as its own loader says.
 *
 * Only the loader knows run paths, hardware variants and its cache, so it is asked; this file
 * reads no more of a program than which loader that is.
 */
import { textOf } from "../base/bytes.ts";
import { MeshError } from "../base/errors.ts";
import type { Disk, Processes } from "../host/host.ts";

export interface Loaded {
  /** Absolute paths as the loader opens them; the loader itself is among them. */
  readonly paths: readonly string[];
  /** Some library is found only through /etc/ld.so.cache, which must then travel too. */
  readonly needsCache: boolean;
}

const askMaxMs = 30_000;
const answerMaxBytes = 4 * 1024 * 1024;
const headerBytes = 64;
const programHeadersMax = 256;
const interpreterMaxBytes = 4096;
const interpreterType = 3;

/**
 * @param libraryPath LD_LIBRARY_PATH, or "" for none.
 * @param loader for shared libraries, which name none themselves.
 * Codes: "unsupported" for what is no ELF file or lacks a library, "io".
 */
export async function loadedBy(
  { disk, processes }: { readonly disk: Disk; readonly processes: Processes },
  path: string,
  loader: string,
  libraryPath: string,
  signal: AbortSignal,
): Promise<Loaded> {
  const own = await interpreterOf(disk, path);
  const asked = own ?? loader;
  if (asked === "") return { paths: [], needsCache: false };
  const list = async (options: readonly string[]): Promise<readonly string[] | undefined> => {
    const env = libraryPath === "" ? {} : { LD_LIBRARY_PATH: libraryPath };
    const run = await processes.run(
      {
        argv: [asked, ...options, "--list", path],
        env,
        cwd: "/",
        timeoutMs: askMaxMs,
        outputMaxBytes: answerMaxBytes,
      },
      signal,
    );
    return run.exitCode === 0 ? parseList(textOf(run.stdout)) : undefined;
  };
  const paths = await list([]);
  // A static program names a loader nowhere; a static-pie one is refused by it.
  if (paths === undefined) throw new MeshError("unsupported", `${asked} cannot load ${path}`);
  const withoutCache = await list(["--inhibit-cache"]);
  return {
    paths: [...new Set([asked, ...paths])],
    needsCache: withoutCache === undefined || withoutCache.join("\n") !== paths.join("\n"),
  };
}

function parseList(text: string): string[] {
  const paths: string[] = [];
  for (const line of text.split("\n")) {
    if (line.includes("not found")) throw new MeshError("unsupported", line.trim());
    const path = /^\s*(?:\S+ => )?(\/.*) \(0x[0-9a-f]+\)$/.exec(line)?.[1];
    if (path !== undefined) paths.push(path);
  }
  return paths;
}

/** The loader that an ELF program names; undefined for a static program or a shared library. */
export async function interpreterOf(disk: Disk, path: string): Promise<string | undefined> {
  const header = viewOf(await disk.readRange(path, 0, headerBytes));
  if (header.byteLength < 52 || header.getUint32(0) !== 0x7f454c46)
    throw new MeshError("unsupported", `${path} is no ELF program`);
  const wide = header.getUint8(4) === 2;
  const little = header.getUint8(5) === 1;
  if (wide && header.byteLength < headerBytes)
    throw new MeshError("unsupported", `${path} is no ELF program`);
  const word = (view: DataView, offset: number): number =>
    wide ? Number(view.getBigUint64(offset, little)) : view.getUint32(offset, little);
  const tableOffset = word(header, wide ? 32 : 28);
  const entryBytes = header.getUint16(wide ? 54 : 42, little);
  const entries = header.getUint16(wide ? 56 : 44, little);
  if (entries > programHeadersMax || (entries > 0 && entryBytes < (wide ? 56 : 32)))
    throw new MeshError("unsupported", `${path} has a strange ELF header`);
  const table = viewOf(await disk.readRange(path, tableOffset, entries * entryBytes));
  for (let at = 0; at + entryBytes <= table.byteLength; at += entryBytes) {
    if (table.getUint32(at, little) !== interpreterType) continue;
    const offset = word(table, at + (wide ? 8 : 4));
    const sizeBytes = Math.min(word(table, at + (wide ? 32 : 16)), interpreterMaxBytes);
    const name = textOf(await disk.readRange(path, offset, sizeBytes));
    return name.replace(/\0.*$/s, "");
  }
  return undefined;
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
