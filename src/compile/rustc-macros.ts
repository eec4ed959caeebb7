/**
 * What a procedural macro could learn of the machine it runs on.
 *
 * A macro is machine code in a shared library, and runs inside the compiler. What it could do shows
 * in the functions it takes from the system's library: one that can list folders, start programs,
 * open connections, tell the time or walk through the whole environment may give another answer at
 * any time, without failing. Units that use such a macro run where the build is, and nothing is
 * remembered of them. What every macro could do (the standard library's panic messages need it):
 * open a file, or read a variable. That is watched while it happens: see `rustc-policy.ts`.
 */
import { createRecentMap } from "../base/bounded.ts";
import { concatBytes, textOf } from "../base/bytes.ts";
import type { Digest } from "../base/digest.ts";
import type { FileNode } from "../exec/file-view.ts";
import type { Disk } from "../host/host.ts";

export interface Macros {
  /**
   * Why units that use this macro stay here, or undefined.
   * @param libraries names of the system libraries that travel anyway
   * @param withheld names of variables and files that are here and will not be there
   */
  whyHere(
    macro: FileNode,
    libraries: ReadonlySet<string>,
    withheld: readonly string[],
  ): Promise<MacroReason | undefined>;
  /** Those of the names that its constants hold: the tracer lets it ask for them. */
  mentionedBy(macro: FileNode, names: readonly string[]): Promise<readonly string[]>;
}

export type MacroReason = "macro-looks-around" | "macro-reads-secret" | "macro-library";

/** What a shared library wants from others. */
interface Dynamic {
  readonly functions: readonly string[];
  readonly libraries: readonly string[];
}

/** Beginnings of names; 64-bit and reentrant variants have endings of their own. */
const telling = new RegExp(
  [
    ["opendir", "fdopendir", "scandir", "readdir", "getdents", "nftw", "fts_", "glob"],
    ["fork", "vfork", "clone", "exec", "fexecve", "posix_spawn", "system$", "popen"],
    ["socket", "connect", "getaddrinfo", "gethostby", "dlopen", "dlmopen"],
    ["__environ", "_?environ$", "secure_getenv", "gethostname", "uname$", "getlogin"],
    ["getpwuid", "getpwnam", "getmntent", "getifaddrs"],
    ["clock_gettime", "gettimeofday", "time$", "localtime", "gmtime"],
  ]
    .flat()
    .map((name) => `^${name}`)
    .join("|"),
);

const macrosMax = 4096;

export function createMacros(disk: Disk): Macros {
  const dynamics = createRecentMap<Digest, Promise<Dynamic | undefined>>(macrosMax);
  const mentions = createRecentMap<string, Promise<boolean>>(macrosMax);
  const named = createRecentMap<Digest, Map<string, boolean>>(macrosMax);
  return {
    async whyHere({ path, digest }, libraries, withheld) {
      const known = dynamics.get(digest) ?? readDynamic(disk, path).catch(() => undefined);
      dynamics.set(digest, known);
      const dynamic = await known;
      if (dynamic === undefined || dynamic.functions.some((name) => telling.test(name)))
        return "macro-looks-around";
      if (!dynamic.libraries.every((name) => libraries.has(name))) return "macro-library";
      if (withheld.length === 0) return undefined;
      const key = [digest, ...withheld].join("\0");
      const asked = mentions.get(key) ?? mentionsAny(disk, path, withheld).catch(() => true);
      mentions.set(key, asked);
      return (await asked) ? "macro-reads-secret" : undefined;
    },
    async mentionedBy({ path, digest }, names) {
      const known = named.get(digest) ?? new Map<string, boolean>();
      named.set(digest, known);
      const asked = names.filter((name) => !known.has(name));
      if (asked.length > 0) {
        const bytes = Buffer.from(await constantsOf(disk, path));
        for (const name of asked) known.set(name, bytes.includes(name));
      }
      return names.filter((name) => known.get(name));
    },
  };
}

/** The sections that `mentions` in rust-trace.c looks into, or everything that it could. */
async function constantsOf(disk: Disk, path: string): Promise<Uint8Array> {
  const sections = await readSections(disk, path).catch(() => undefined);
  if (sections === undefined) return disk.read(path);
  const parts = sections.filter(
    ({ type, flags }) => type === programType && (flags & constantMask) === constantFlag,
  );
  const ranges = parts.map(({ offset, sizeBytes }) => disk.readRange(path, offset, sizeBytes));
  // A name must not come about where two sections meet.
  const all = (await Promise.all(ranges)).flatMap((bytes) => [bytes, Uint8Array.of(0)]);
  return concatBytes(all);
}

/** A name in the file proves nothing, and its absence not everything: it is the best there is. */
async function mentionsAny(disk: Disk, path: string, names: readonly string[]): Promise<boolean> {
  const bytes = Buffer.from(await disk.read(path));
  return names.some((name) => bytes.includes(name));
}

const headerBytes = 64;
const sectionBytes = 64;
const sectionsMax = 65_536;
const tableMaxBytes = 16 * 1024 * 1024;
const programType = 1;
/** Loaded, and neither written to nor executed. */
const constantMask = 7;
const constantFlag = 2;
const dynamicType = 6;
const dynamicSymbolsType = 11;
const neededTag = 1n;

interface Section {
  readonly type: number;
  readonly flags: number;
  readonly offset: number;
  readonly sizeBytes: number;
  /** Index of the section that holds its names. */
  readonly names: number;
}

/** Undefined for what is no 64-bit little-endian ELF file with a section table. */
async function readSections(disk: Disk, path: string): Promise<readonly Section[] | undefined> {
  const header = await readView(disk, path, 0, headerBytes);
  if (header.byteLength < headerBytes || header.getUint32(0) !== 0x7f454c46) return undefined;
  if (header.getUint8(4) !== 2 || header.getUint8(5) !== 1) return undefined;
  const count = header.getUint16(60, true);
  if (header.getUint16(58, true) !== sectionBytes || count === 0 || count > sectionsMax)
    return undefined;
  return sectionsIn(await readView(disk, path, number64(header, 40), count * sectionBytes));
}

async function readView(
  disk: Disk,
  path: string,
  offset: number,
  sizeBytes: number,
): Promise<DataView> {
  const bytes = await disk.readRange(path, offset, Math.min(sizeBytes, tableMaxBytes));
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

async function readDynamic(disk: Disk, path: string): Promise<Dynamic | undefined> {
  const sections = await readSections(disk, path);
  if (sections === undefined) return undefined;
  const read = ({ offset, sizeBytes }: Section): Promise<DataView> =>
    readView(disk, path, offset, sizeBytes);
  const symbols = sections.find(({ type }) => type === dynamicSymbolsType);
  const dynamic = sections.find(({ type }) => type === dynamicType);
  if (symbols === undefined || dynamic === undefined) return undefined;
  if (symbols.sizeBytes > tableMaxBytes || dynamic.sizeBytes > tableMaxBytes) return undefined;
  const names = sections[symbols.names];
  if (names === undefined || names.sizeBytes > tableMaxBytes || dynamic.names !== symbols.names)
    return undefined;
  const text = await disk.readRange(path, names.offset, names.sizeBytes);
  const nameAt = (offset: number): string => {
    const end = text.indexOf(0, offset);
    return textOf(text.subarray(offset, end < 0 ? undefined : end));
  };
  return {
    functions: undefinedIn(await read(symbols)).map(nameAt),
    libraries: neededIn(await read(dynamic)).map(nameAt),
  };
}

function sectionsIn(table: DataView): readonly Section[] {
  const sections: Section[] = [];
  for (let at = 0; at + sectionBytes <= table.byteLength; at += sectionBytes) {
    sections.push({
      type: table.getUint32(at + 4, true),
      flags: table.getUint32(at + 8, true),
      offset: number64(table, at + 24),
      sizeBytes: number64(table, at + 32),
      names: table.getUint32(at + 40, true),
    });
  }
  return sections;
}

/** Where the names of symbols begin that this library takes from others. */
function undefinedIn(symbols: DataView): readonly number[] {
  const names: number[] = [];
  for (let at = 0; at + 24 <= symbols.byteLength; at += 24)
    if (symbols.getUint16(at + 6, true) === 0) names.push(symbols.getUint32(at, true));
  return names;
}

function neededIn(dynamic: DataView): readonly number[] {
  const names: number[] = [];
  for (let at = 0; at + 16 <= dynamic.byteLength; at += 16)
    if (dynamic.getBigUint64(at, true) === neededTag) names.push(number64(dynamic, at + 8));
  return names;
}

function number64(view: DataView, at: number): number {
  return Number(view.getBigUint64(at, true));
}
