/**
 * What a file is to a linker, found out once per content: an object, a library, a script. It does
 * not know where files lie, or what a link makes of them.
 */
import { textOf } from "../base/bytes.ts";
import { type Digest, digestOf } from "../base/digest.ts";
import { MeshError } from "../base/errors.ts";
import type { FileNode, FileView, Look } from "../exec/file-view.ts";
import { createTwoAgeMap } from "../exec/two-age-map.ts";
import type { Disk } from "../host/host.ts";
import { readArchive } from "./ar-members.ts";
import { type Elf, type ReadAt, readElf } from "./link-elf.ts";
import { readLinkerScript, type ScriptWishes } from "./link-script.ts";

export type LinkFile =
  | Elf
  | { readonly kind: "archive"; readonly machine: string | undefined; readonly lto: boolean }
  /** The names of its members, relative to its folder. */
  | { readonly kind: "thin"; readonly members: readonly string[] }
  | { readonly kind: "bitcode" }
  | { readonly kind: "script"; readonly wishes: ScriptWishes }
  | { readonly kind: "other" };

export interface LinkFiles {
  /**
   * The file at a canonical path; undefined when it is gone. What it is should be asked only where
   * that matters: it may mean reading the file.
   */
  find(look: Look, path: string): Promise<FoundFile | undefined>;
}

export interface FoundFile {
  readonly node: FileNode;
  readonly is: () => Promise<LinkFile>;
}

/** What is read while others wait. */
const atOnceMaxBytes = 256 * 1024;
const readsPerTurn = 32;
/** Larger ones are read piece by piece, as far as needed. */
const wholeMaxBytes = 64 * 1024 * 1024;
const scriptMaxBytes = 1024 * 1024;
const knownMax = 65_536;

export function createLinkFiles(disk: Disk, view: FileView): LinkFiles {
  const known = createTwoAgeMap<Digest, LinkFile>(knownMax);
  let reads = 0;

  async function classify(node: FileNode, seen: Uint8Array | undefined): Promise<LinkFile> {
    const { path, digest, sizeBytes } = node;
    const before = known.get(digest);
    if (before !== undefined) return before;
    const whole = seen ?? (sizeBytes <= wholeMaxBytes ? await disk.read(path) : undefined);
    const read = whole
      ? readerOf(whole)
      : (at: number, length: number) => disk.readRange(path, at, length);
    const found = await fileIn(read, sizeBytes);
    // It was read once for its digest and once for this, and may have changed in between.
    const same = whole
      ? seen !== undefined || digestOf(whole) === digest
      : view.look().unchanged(node);
    if (!same) throw new MeshError("io", `${path} changed while it was read`);
    known.set(digest, found);
    return found;
  }

  return {
    async find(look, path) {
      const sizeBytes = disk.statNow(path)?.sizeBytes ?? 0;
      let seen: Uint8Array | undefined;
      const atOnce = sizeBytes <= atOnceMaxBytes && ++reads % readsPerTurn !== 0;
      const node = atOnce
        ? look.file(path, (_, bytes) => {
            seen = bytes;
          })
        : await look.largeFile(path);
      if (node === undefined) return undefined;
      if (seen !== undefined) await classify(node, seen);
      return { node, is: () => classify(node, undefined) };
    },
  };
}

function readerOf(bytes: Uint8Array): ReadAt {
  return async (offset, lengthBytes) => bytes.subarray(offset, offset + lengthBytes);
}

/** @throws MeshError "malformed" when it is broken, so that nobody can say what is in it. */
async function fileIn(readAt: ReadAt, sizeBytes: number): Promise<LinkFile> {
  if (isBitcode(await readAt(0, 4))) return { kind: "bitcode" };
  const elf = await readElf(readAt);
  if (elf !== undefined) return elf;
  const archive = await readArchive(readAt, sizeBytes);
  if (archive?.thin) return { kind: "thin", members: archive.members.map(({ name }) => name) };
  if (archive === undefined) return otherFile(await readAt(0, scriptMaxBytes + 1));
  let machine: string | undefined;
  for (const member of archive.members) {
    const readMember: ReadAt = (offset, length) =>
      offset >= member.sizeBytes
        ? Promise.resolve(new Uint8Array(0))
        : readAt(member.offset + offset, Math.min(length, member.sizeBytes - offset));
    if (isBitcode(await readMember(0, 4))) return { kind: "archive", machine, lto: true };
    const object = await readElf(readMember);
    machine ??= object?.machine;
    if (object?.kind === "object" && object.lto) return { kind: "archive", machine, lto: true };
  }
  return { kind: "archive", machine, lto: false };
}

function otherFile(bytes: Uint8Array): LinkFile {
  if (bytes.byteLength > scriptMaxBytes || bytes.includes(0)) return { kind: "other" };
  return { kind: "script", wishes: readLinkerScript(textOf(bytes)) };
}

/** Raw LLVM bitcode, or its wrapper. */
function isBitcode(bytes: Uint8Array): boolean {
  const start = Buffer.from(bytes.subarray(0, 4)).toString("hex");
  return start === "4243c0de" || start === "dec0170b";
}
