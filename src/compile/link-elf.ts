/**
 * The little of an ELF file that decides what else a linker opens: its machine, the libraries it
 * needs, and whether it holds code that is not compiled yet. It trusts no number in the file.
 */
import { textOf } from "../base/bytes.ts";
import { MeshError } from "../base/errors.ts";

/** Bytes of a file; fewer where it ends. */
export type ReadAt = (offset: number, lengthBytes: number) => Promise<Uint8Array>;

export type Elf =
  | {
      readonly kind: "object";
      readonly machine: string;
      /** Sections of an intermediate language: the linker would have a compiler finish them. */
      readonly lto: boolean;
    }
  | {
      readonly kind: "shared";
      readonly machine: string;
      readonly soname: string | undefined;
      readonly needed: readonly string[];
      /** DT_RPATH and DT_RUNPATH, split. */
      readonly runPath: readonly string[];
    };

const headerBytes = 64;
const tableMaxBytes = 16 * 1024 * 1024;
const sharedType = 3;

interface Header {
  readonly wide: boolean;
  readonly little: boolean;
  readonly view: DataView;
}

/** Undefined when this is no ELF file. Code "malformed" when it is a broken one. */
export async function readElf(readAt: ReadAt): Promise<Elf | undefined> {
  const view = viewOf(await readAt(0, headerBytes));
  if (view.byteLength < 52 || view.getUint32(0) !== 0x7f454c46) return undefined;
  const wide = view.getUint8(4) === 2;
  const little = view.getUint8(5) === 1;
  if (wide && view.byteLength < headerBytes) throw broken("its header is cut off");
  const header = { wide, little, view };
  const machine = `${wide ? 64 : 32}${little ? "" : "b"}-${view.getUint16(18, little)}`;
  if (view.getUint16(16, little) !== sharedType)
    return { kind: "object", machine, lto: await hasLto(header, readAt) };
  return { kind: "shared", machine, ...(await dynamicOf(header, readAt)) };
}

function word({ wide, little }: Header, view: DataView, offset: number): number {
  if (offset + (wide ? 8 : 4) > view.byteLength) throw broken("a table of it is cut off");
  const value = wide ? Number(view.getBigUint64(offset, little)) : view.getUint32(offset, little);
  if (!Number.isSafeInteger(value)) throw broken("a place in it is nowhere");
  return value;
}

async function hasLto(header: Header, readAt: ReadAt): Promise<boolean> {
  const { wide, little, view } = header;
  const tableOffset = word(header, view, wide ? 40 : 32);
  const entryBytes = view.getUint16(wide ? 58 : 46, little);
  const namesIndex = view.getUint16(wide ? 62 : 50, little);
  if (tableOffset === 0) return false;
  if (entryBytes < (wide ? 64 : 40)) throw broken("its sections are strange");
  const section = async (index: number): Promise<DataView> => {
    const bytes = viewOf(await readAt(tableOffset + index * entryBytes, entryBytes));
    if (bytes.byteLength < entryBytes) throw broken("its sections are cut off");
    return bytes;
  };
  // With very many sections, the index of their names is in the first one.
  const index =
    namesIndex === 0xffff ? (await section(0)).getUint32(wide ? 40 : 24, little) : namesIndex;
  const names = await section(index);
  const sizeBytes = word(header, names, wide ? 32 : 20);
  if (sizeBytes > tableMaxBytes) throw new MeshError("limit", "too many section names");
  const text = Buffer.from(await readAt(word(header, names, wide ? 24 : 16), sizeBytes));
  return text.includes(".gnu.lto_") || text.includes(".llvm.lto");
}

async function dynamicOf(
  header: Header,
  readAt: ReadAt,
): Promise<{ soname: string | undefined; needed: string[]; runPath: string[] }> {
  const { wide, little, view } = header;
  const entryBytes = view.getUint16(wide ? 54 : 42, little);
  const entries = view.getUint16(wide ? 56 : 44, little);
  if (entries > 0 && entryBytes < (wide ? 56 : 32)) throw broken("its segments are strange");
  const tableBytes = entries * entryBytes;
  if (tableBytes > tableMaxBytes) throw broken("its segments are strange");
  const table = viewOf(await readAt(word(header, view, wide ? 32 : 28), tableBytes));
  const loads: { offset: number; address: number; sizeBytes: number }[] = [];
  let dynamic: { offset: number; sizeBytes: number } | undefined;
  for (let each = 0; each < entries; each++) {
    const at = each * entryBytes;
    if (at + entryBytes > table.byteLength) throw broken("its segments are cut off");
    const type = table.getUint32(at, little);
    const offset = word(header, table, at + (wide ? 8 : 4));
    const address = word(header, table, at + (wide ? 16 : 8));
    const sizeBytes = word(header, table, at + (wide ? 32 : 16));
    if (type === 1) loads.push({ offset, address, sizeBytes });
    if (type === 2) dynamic = { offset, sizeBytes };
  }
  const tags = new Map<number, number[]>();
  if (dynamic !== undefined) {
    const bytes = viewOf(await readAt(dynamic.offset, Math.min(dynamic.sizeBytes, tableMaxBytes)));
    const wordBytes = wide ? 8 : 4;
    for (let at = 0; at + 2 * wordBytes <= bytes.byteLength; at += 2 * wordBytes) {
      const tag = word(header, bytes, at);
      if (tag === 0) break;
      tags.set(tag, [...(tags.get(tag) ?? []), word(header, bytes, at + wordBytes)]);
    }
  }
  const [address = 0] = tags.get(5) ?? [];
  const [sizeBytes = 0] = tags.get(10) ?? [];
  const load = loads.find(
    (each) => each.address <= address && address - each.address < each.sizeBytes,
  );
  if (sizeBytes > tableMaxBytes) throw new MeshError("limit", "too many names of symbols");
  const strings =
    load && Buffer.from(await readAt(load.offset + address - load.address, sizeBytes));
  const texts = (tag: number): string[] =>
    (tags.get(tag) ?? []).map((at) => {
      const end = strings?.indexOf(0, at) ?? -1;
      if (strings === undefined || end < 0) throw broken("the names in it are cut off");
      return textOf(strings.subarray(at, end));
    });
  const [soname] = texts(14);
  const runPath = [...texts(15), ...texts(29)].flatMap((list) => list.split(":"));
  return { soname, needed: texts(1), runPath: runPath.filter((folder) => folder !== "") };
}

function broken(what: string): MeshError {
  return new MeshError("malformed", `an ELF file is broken: ${what}`);
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
