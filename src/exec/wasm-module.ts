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

/** A table's entries are references of 8 bytes and more; no honest job needs a million. */
const tableMaxEntries = 100_000;

export interface ModuleShape {
  /** The module with its memory maximum lowered to the limit. */
  readonly bytes: Uint8Array;
  readonly exports: ReadonlySet<string>;
}

/**
 * Codes: "malformed" when it is no module, "refused" when it imports anything, has not
 * exactly one memory of its own, or wants more memory than `memoryMaxBytes` from the start. A start
 * function is allowed: AssemblyScript has one, and it runs under the same deadline.
 */
export function limitModule(bytes: Uint8Array, memoryMaxBytes: number): ModuleShape {
  if (magic.some((byte, index) => bytes[index] !== byte)) {
    throw new MeshError("malformed", "not a WebAssembly module (wrong magic or version)");
  }
  const maxPages = Math.floor(memoryMaxBytes / wasmPageBytes);
  const parts: Uint8Array[] = [bytes.subarray(0, magic.length)];
  let exports: ReadonlySet<string> = new Set();
  let memories = 0;
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
    if (id === section.table) part = limitLimits(id, body, tableMaxEntries, "table entries", true);
    if (id === section.memory) {
      memories = inside.u32();
      part = limitLimits(id, body, maxPages, "memory pages", false);
    }
    if (id === section.export) exports = readExports(inside);
    if (id !== section.custom) parts.push(part);
  }
  if (memories !== 1) {
    throw new MeshError(
      "refused",
      `the module has ${memories} memories of its own; it must have 1`,
    );
  }
  return { bytes: concatBytes(parts), exports };
}

/** Rewrites every `limits` in a table or memory section so that its maximum is at most `max`. */
function limitLimits(
  id: number,
  body: Uint8Array,
  max: number,
  what: string,
  typed: boolean,
): Uint8Array {
  const reader = createReader(body, 0);
  const count = reader.u32();
  const out: number[] = [...leb(count)];
  for (let index = 0; index < count; index += 1) {
    if (typed) out.push(reader.byte());
    const flags = reader.byte();
    if (flags > 1) throw new MeshError("refused", "shared or 64-bit memory is not supported");
    const least = reader.u32();
    const most = flags === 1 ? reader.u32() : max;
    if (least > max) {
      throw new MeshError(
        "refused",
        `the module starts with ${least} ${what}, the limit is ${max}`,
      );
    }
    out.push(1, ...leb(least), ...leb(Math.min(most, max)));
  }
  return Uint8Array.from([id, ...leb(out.length), ...out]);
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
