/** Reads the table of contents of archives: names, places and sizes of members, in order. */
import { MeshError } from "../base/errors.ts";
import type { ReadAt } from "./link-elf.ts";

export interface Member {
  readonly name: string;
  /** Where its bytes begin; nowhere in a thin archive. */
  readonly offset: number;
  readonly sizeBytes: number;
}

export interface Archive {
  /** Members are files of their own, by their names relative to the archive's folder. */
  readonly thin: boolean;
  readonly members: readonly Member[];
}

const magicBytes = 8;
const headerBytes = 60;
const membersMax = 1_000_000;
const namesMaxBytes = 64 * 1024 * 1024;

/** Undefined when this is no archive. Code "malformed" when it is a broken one. */
export async function readArchive(
  readAt: ReadAt,
  totalBytes: number,
): Promise<Archive | undefined> {
  const magic = latin(await readAt(0, magicBytes));
  if (magic !== "!<arch>\n" && magic !== "!<thin>\n") return undefined;
  const thin = magic === "!<thin>\n";
  const members: Member[] = [];
  let names = "";
  let offset = magicBytes;
  while (offset < totalBytes) {
    const header = latin(await readAt(offset, headerBytes));
    const [, raw = "", size = ""] = /^(.{16}).{32}([0-9]+) *`\n$/s.exec(header) ?? [];
    const sizeBytes = Number.parseInt(size, 10);
    if (raw === "") throw new MeshError("malformed", "an archive is broken");
    if (members.length >= membersMax) throw new MeshError("limit", "too many archive members");
    offset += headerBytes;
    const name = raw.trimEnd();
    const special = name === "/" || name === "//" || name === "/SYM64/";
    if (name === "//") {
      if (sizeBytes > namesMaxBytes) throw new MeshError("limit", "too many archive members");
      names = latin(await readAt(offset, sizeBytes));
    }
    if (!special) members.push({ name: utf8In(nameOf(name, names)), offset, sizeBytes });
    if (special || !thin) offset += sizeBytes + (sizeBytes % 2);
  }
  return { thin, members };
}

/** `name/` as it is, or `/123` for a place in the table of long names. */
function nameOf(name: string, names: string): string {
  const at = /^\/(\d+)/.exec(name)?.[1];
  if (at === undefined) return name.endsWith("/") ? name.slice(0, -1) : name;
  const start = Number.parseInt(at, 10);
  const end = names.indexOf("\n", start);
  if (end < 0) throw new MeshError("malformed", "an archive's long names are cut off");
  return names.slice(start, names[end - 1] === "/" ? end - 1 : end);
}

/** One character per byte: places in an archive are counted in bytes. */
function latin(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("latin1");
}

function utf8In(name: string): string {
  return Buffer.from(name, "latin1").toString("utf8");
}
