/**
 * Looks at a WebAssembly module before it runs, and gives it a memory maximum it cannot exceed.
 *
 * V8's resource limits do not cover WebAssembly memory (a module under a 32 MB limit grew to
 * 4 GiB), so the maximum is written into the module itself.
 * Format: WebAssembly Core Specification 2.0, chapter 5 (binary format).
 */

import { concatBytes, textOf } from "../base/bytes.ts";
import { MeshError } from "../base/errors.ts";

export const wasmPageBytes: number = 65_536;

const magic = [0x00, 0x61, 0x73, 0x6d, 0x01, 0x00, 0x00, 0x00];

/** Section ids, in the specification's order. */
const section = { custom: 0, import: 2, table: 4, memory: 5, export: 7 } as const;

/**
 * Bounds on all tables of a module together: an entry is a reference of 8 bytes and more, on the
 * heap of the thread. Compilers make one table, of as many entries as functions have their address
 * taken.
 */
const tablesMax = 16;
const tableEntriesMax = 100_000;

/** `funcref` and `externref`. Other types take more than a byte, and nothing here reads them. */
const referenceTypes: ReadonlySet<number> = new Set([0x70, 0x6f]);

export interface ModuleShape {
  /** The module with its memory maximum lowered to the limit. */
  readonly bytes: Uint8Array;
  readonly exports: ReadonlySet<string>;
}

/**
 * Codes: "malformed" when it is no module, "refused" when it imports anything, has not
 * exactly one memory of its own, wants more memory than `memoryMaxBytes` from the start, or has
 * more or larger tables than the bounds above. A start function is allowed: AssemblyScript has one,
 * and it runs under the same deadline.
 */
export function limitModule(bytes: Uint8Array, memoryMaxBytes: number): ModuleShape {
  if (magic.some((byte, index) => bytes[index] !== byte)) {
    throw new MeshError("malformed", "not a WebAssembly module (wrong magic or version)");
  }
  const maxPages = Math.floor(memoryMaxBytes / wasmPageBytes);
  const parts: Uint8Array[] = [bytes.subarray(0, magic.length)];
  let exports: ReadonlySet<string> = new Set();
  const seen = new Set<number>();
  const reader = createReader(bytes, magic.length);
  while (!reader.done()) {
    const start = reader.at();
    const id = reader.byte();
    const body = reader.take(reader.u32());
    let part = bytes.subarray(start, reader.at());
    const inside = createReader(body, 0);
    if (id === section.import && inside.u32() > 0) {
      throw new MeshError("refused", "the module imports something; a job's module must not");
    }
    // Twice the same section would be two chances to stay below a bound on both.
    if (id !== section.custom && seen.has(id)) {
      throw new MeshError("malformed", `the module has section ${id} twice`);
    }
    seen.add(id);
    if (id === section.table) part = limitTables(inside);
    if (id === section.memory) part = limitMemory(inside, maxPages);
    if (id === section.export) exports = readExports(inside);
    if (id !== section.custom) parts.push(part);
  }
  if (!seen.has(section.memory)) throw wrongMemories(0);
  return { bytes: concatBytes(parts), exports };
}

/** Rewrites the memory section so that its one memory has a maximum of at most `maxPages`. */
function limitMemory(reader: Reader, maxPages: number): Uint8Array {
  const count = reader.u32();
  if (count !== 1) throw wrongMemories(count);
  const { least, most } = readLimits(reader);
  atEnd(reader);
  if (least > maxPages) {
    throw new MeshError(
      "refused",
      `the module starts with ${least} memory pages, the limit is ${maxPages}`,
    );
  }
  return sectionOf(section.memory, [1, ...limits(least, Math.min(most, maxPages))]);
}

/** Rewrites the table section: what its tables may grow to, all together, stays in the bound. */
function limitTables(reader: Reader): Uint8Array {
  const count = reader.u32();
  if (count > tablesMax) {
    throw new MeshError("refused", `the module has ${count} tables, the limit is ${tablesMax}`);
  }
  const tables = Array.from({ length: count }, () => {
    const type = reader.byte();
    if (!referenceTypes.has(type)) {
      throw new MeshError("refused", "a table of anything but funcref or externref");
    }
    return { type, ...readLimits(reader) };
  });
  atEnd(reader);
  const entries = tables.reduce((sum, { least }) => sum + least, 0);
  if (entries > tableEntriesMax) {
    throw new MeshError(
      "refused",
      `the module starts with ${entries} table entries, the limit is ${tableEntriesMax}`,
    );
  }
  const spare = Math.floor((tableEntriesMax - entries) / Math.max(count, 1));
  const out = tables.flatMap(({ type, least, most }) => [
    type,
    ...limits(least, Math.min(most, least + spare)),
  ]);
  return sectionOf(section.table, [...leb(count), ...out]);
}

interface Limits {
  readonly least: number;
  /** Infinite where the module sets none. */
  readonly most: number;
}

function readLimits(reader: Reader): Limits {
  const flags = reader.byte();
  if (flags > 1) throw new MeshError("refused", "shared or 64-bit memory is not supported");
  const least = reader.u32();
  return { least, most: flags === 1 ? reader.u32() : Number.POSITIVE_INFINITY };
}

function limits(least: number, most: number): readonly number[] {
  return [1, ...leb(least), ...leb(most)];
}

function sectionOf(id: number, body: readonly number[]): Uint8Array {
  return Uint8Array.from([id, ...leb(body.length), ...body]);
}

/** What follows is read by nobody here, so nobody else shall read it either. */
function atEnd(reader: Reader): void {
  if (!reader.done()) throw new MeshError("malformed", "a section of the module is too long");
}

function wrongMemories(count: number): MeshError {
  return new MeshError(
    "refused",
    `the module has ${count} memories of its own; it must have exactly 1`,
  );
}

function readExports(reader: Reader): ReadonlySet<string> {
  const names = new Set<string>();
  const count = reader.u32();
  for (let index = 0; index < count; index += 1) {
    names.add(textOf(reader.take(reader.u32())));
    reader.byte();
    reader.u32();
  }
  return names;
}

interface Reader {
  done(): boolean;
  at(): number;
  byte(): number;
  /** Unsigned LEB128 of at most 32 bits. */
  u32(): number;
  take(count: number): Uint8Array;
}

function createReader(bytes: Uint8Array, start: number): Reader {
  let at = start;
  const byte = () => {
    const value = bytes[at];
    if (value === undefined) throw new MeshError("malformed", "the module ends too early");
    at += 1;
    return value;
  };
  return {
    done: () => at >= bytes.byteLength,
    at: () => at,
    byte,
    u32() {
      let value = 0;
      for (let shift = 0; shift < 35; shift += 7) {
        const next = byte();
        value += (next & 0x7f) * 2 ** shift;
        if (next < 0x80) return value;
      }
      throw new MeshError("malformed", "a number in the module is too long");
    },
    take(count) {
      if (at + count > bytes.byteLength)
        throw new MeshError("malformed", "the module ends too early");
      at += count;
      return bytes.subarray(at - count, at);
    },
  };
}

function leb(value: number): number[] {
  const out: number[] = [];
  let rest = value;
  do {
    const low = rest % 128;
    rest = Math.floor(rest / 128);
    out.push(rest > 0 ? low + 128 : low);
  } while (rest > 0);
  return out;
}
