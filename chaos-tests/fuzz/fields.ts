/**
 * A protobuf message as a list of fields, whatever they mean, so that it can be put together again
 * a little wrong.
 */
import { concatBytes } from "../../src/base/bytes.ts";

export interface Field {
  readonly number: number;
  /** 0 is a number, 1 and 5 have a fixed size, 2 has a length in front. */
  readonly wire: number;
  /** Without the length. */
  readonly inner: Uint8Array;
  /** Written in place of the length. */
  readonly lengthLie?: number;
}

/** A number of up to 64 bits in the shortest form; what is not whole or is larger comes out cut. */
export function varint(value: number): Uint8Array {
  const out: number[] = [];
  let rest = Math.min(value, 2 ** 63);
  while (rest >= 128) {
    out.push((rest % 128) | 128);
    rest = Math.floor(rest / 128);
  }
  return Uint8Array.from([...out, rest]);
}

export function tagged(number: number, inner: Uint8Array): Uint8Array {
  return concatBytes([varint(number * 8 + 2), varint(inner.byteLength), inner]);
}

/** As many fields as can be read; what follows them is left out. */
export function fieldsOf(bytes: Uint8Array): readonly Field[] {
  const fields: Field[] = [];
  let at = 0;
  const readVarint = (): number | undefined => {
    let value = 0;
    for (let scale = 1; scale < 2 ** 63 && at < bytes.byteLength; scale *= 128) {
      const byte = bytes[at] ?? 0;
      at += 1;
      value += (byte & 127) * scale;
      if (byte < 128) return value;
    }
    return undefined;
  };
  while (at < bytes.byteLength && fields.length < 1000) {
    const tag = readVarint();
    if (tag === undefined) break;
    const wire = tag % 8;
    const from = at;
    const lengthBytes = wire === 1 ? 8 : wire === 5 ? 4 : readVarint();
    if (lengthBytes === undefined || ![0, 1, 2, 5].includes(wire)) break;
    const start = wire === 2 ? at : from;
    const end = wire === 0 ? at : start + lengthBytes;
    if (end > bytes.byteLength) break;
    fields.push({ number: Math.floor(tag / 8), wire, inner: bytes.subarray(start, end) });
    at = end;
  }
  return fields;
}

export function joinFields(fields: readonly Field[]): Uint8Array {
  return concatBytes(
    fields.flatMap(({ number, wire, inner, lengthLie }) => [
      varint(number * 8 + wire),
      ...(wire === 2 ? [varint(lengthLie ?? inner.byteLength)] : []),
      inner,
    ]),
  );
}
