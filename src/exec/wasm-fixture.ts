/** Modules for tests, compiled from AssemblyScript. */
import asc from "assemblyscript/asc";

const common = `
export function alloc(size: i32): usize { return heap.alloc(size); }
function pack(start: usize, size: usize): i64 { return (<i64>start << 32) | <i64>size; }
`;

const whole = `
export function split(start: usize, size: i32): i64 {
  // One chunk a byte.
  const out = heap.alloc(<usize>(size * 5));
  for (let i = 0; i < size; i++) {
    store<u32>(out + i * 5, 1);
    store<u8>(out + i * 5 + 4, load<u8>(start + i));
  }
  return pack(out, size * 5);
}
export function merge(start: usize, size: i32): i64 { return pack(start, size); }
`;

/** A job's module whose `execute` has this body, over `start: usize, size: i32`. */
export async function jobModule(body: string): Promise<Uint8Array> {
  return compile(
    `${common}${whole}export function execute(start: usize, size: i32): i64 { ${body} }`,
  );
}

export async function compile(
  source: string,
  flags: Record<string, unknown> = {},
): Promise<Uint8Array> {
  const options = { optimizeLevel: 3, runtime: "stub", use: ["abort="], ...flags };
  const { binary, stderr } = await asc.compileString(source, options);
  if (binary === null) throw new Error(`asc: ${stderr}`);
  return new Uint8Array(binary);
}
