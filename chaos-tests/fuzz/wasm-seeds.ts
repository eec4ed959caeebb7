/** Small modules, written by hand: a memory, a table, a function and its export. */

const head = [0x00, 0x61, 0x73, 0x6d, 0x01, 0x00, 0x00, 0x00];

function section(id: number, body: readonly number[]): readonly number[] {
  return [id, body.length, ...body];
}

const types = section(1, [1, 0x60, 2, 0x7f, 0x7f, 1, 0x7e]);
const functions = section(3, [1, 0]);
const table = section(4, [1, 0x70, 1, 1, 8]);
const memory = section(5, [1, 1, 1, 4]);
const openMemory = section(5, [1, 0, 1]);
const exports = section(7, [1, 7, ...Buffer.from("execute"), 0, 0]);
const code = section(10, [1, 4, 0, 0x42, 0, 0x0b]);
const name = section(0, [4, ...Buffer.from("name"), 0]);

export const wasmSeeds: readonly [Uint8Array, ...Uint8Array[]] = [
  Uint8Array.from([...head, ...types, ...functions, ...memory, ...exports, ...code]),
  Uint8Array.from([
    ...[...head, ...types, ...functions, ...table, ...openMemory],
    ...[...exports, ...code, ...name],
  ]),
  Uint8Array.from([...head, ...openMemory]),
];
