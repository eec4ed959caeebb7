/** WebAssembly tasks that do nothing, for what a task costs besides its work. */
import type { ActionSpec } from "../../src/action/action.ts";
import { encodeAction } from "../../src/action/encode.ts";
import type { Digest } from "../../src/base/digest.ts";
import {
  wasmInputPath,
  wasmMemoryProperty,
  wasmModulePath,
  wasmOutputPath,
} from "../../src/exec/wasm.ts";
import type { OpenNode } from "../../src/node/open.ts";
import type { Task } from "../../src/work/task.ts";

/**
 * (module (memory (export "memory") 1)
 *   (func (export "alloc") (param i32) (result i32) (i32.const 1024))
 *   (func (export "execute") (param i32 i32) (result i64) (i64.const 0)))
 */
const sections: readonly (readonly number[])[] = [
  [1, 2, 0x60, 1, 0x7f, 1, 0x7f, 0x60, 2, 0x7f, 0x7f, 1, 0x7e],
  [3, 2, 0, 1],
  [5, 1, 0, 1],
  [7, 3, ...exported("memory", 2, 0), ...exported("alloc", 0, 0), ...exported("execute", 0, 1)],
  [10, 2, 5, 0, 0x41, 0x80, 0x08, 0x0b, 4, 0, 0x42, 0, 0x0b],
];

function exported(name: string, kind: number, index: number): number[] {
  return [name.length, ...Buffer.from(name), kind, index];
}

export const noOpModule: Uint8Array = Uint8Array.from([
  ...[0x00, 0x61, 0x73, 0x6d, 0x01, 0x00, 0x00, 0x00],
  ...sections.flatMap(([id = 0, ...body]) => [id, body.length, ...body]),
]);

/** Makes tasks of one node; each has an input, and so an identity, of its own. */
export async function createNoOps(node: OpenNode): Promise<(index: number) => Promise<Task>> {
  const module = await node.store.put(noOpModule);
  return async (index) => {
    const input = await node.store.put(Buffer.from(`no-op ${index}`));
    return noOp(node, module, input, index, {});
  };
}

/** As `createNoOps`, but with one input for all: no bytes move for them, and none are written. */
export async function createBareNoOps(node: OpenNode): Promise<(index: number) => Task> {
  const module = await node.store.put(noOpModule);
  const input = await node.store.put(Buffer.from("no-op"));
  return (index) => noOp(node, module, input, index, { INDEX: String(index) });
}

function noOp(
  node: OpenNode,
  module: Digest,
  input: Digest,
  index: number,
  env: Readonly<Record<string, string>>,
): Task {
  const spec: ActionSpec = {
    argv: ["execute"],
    env,
    cwd: "/",
    outputPaths: [wasmOutputPath],
    inputs: [
      { kind: "file", path: wasmModulePath, digest: module, executable: false },
      { kind: "file", path: wasmInputPath, digest: input, executable: false },
    ],
    platform: { platform: "wasm", [wasmMemoryProperty]: String(16 * 1024 * 1024) },
    timeoutMs: 10_000,
  };
  return {
    build: "bench",
    kind: "wasm",
    label: `no-op ${index}`,
    action: encodeAction(spec),
    whyHere: undefined,
    async runHere(signal) {
      return (await node.execute(spec, () => {}, signal)).exitCode;
    },
    async commit(outcome, peer, signal) {
      const wanted = outcome.outputs.map(({ digest }) => digest);
      await node.exchange.fetch(wanted, [peer], signal);
    },
  };
}
