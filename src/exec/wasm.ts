/**
 * Runs actions whose platform is `wasm`: `argv` is the name of the export, `/module.wasm` and
 * `/input` are the inputs, `/output` is the output (protocols/job.md).
 */
import type { ActionSpec, Execute } from "../action/action.ts";
import { utf8 } from "../base/bytes.ts";
import { type Digest, emptyDigest, sizeBytesOf } from "../base/digest.ts";
import { MeshError } from "../base/errors.ts";
import type { BlobStore } from "../blob/store.ts";
import type { WasmAnswer, WasmCall, WasmPool } from "../host/wasm-pool.ts";
import { limitModule } from "./wasm-module.ts";

export const wasmModulePath = "/module.wasm";
export const wasmInputPath = "/input";
export const wasmOutputPath = "/output";

/** Property of the platform that carries the memory maximum, in bytes. */
export const wasmMemoryProperty = "memory-max-bytes";

/** A larger module is refused before it is read. */
export const wasmModuleMaxBytes: number = 64 * 1024 * 1024;

export interface WasmDeps {
  readonly store: Pick<BlobStore, "read" | "put">;
  readonly pool: WasmPool;
}

export interface WasmOptions {
  /** An action that asks for more is refused. */
  readonly memoryMaxBytes: number;
  readonly timeoutMaxMs: number;
  /** Of an output, and of an input: one call's output is another's input. */
  readonly outputMaxBytes: number;
}

/** A trap is exit code 1 with its message on stderr; a passed deadline is `MeshError("deadline")`. Code "limit": module or input too large. */
export function createWasmExecutor({ store, pool }: WasmDeps, options: WasmOptions): Execute {
  return async (spec, _onProgress, signal) => {
    const call = await readCall(store, spec, options);
    const answer: WasmAnswer = await pool.call(call, signal);
    if (answer.how === "trapped") {
      const stderr = await store.put(utf8(`${call.entry}: ${answer.message}\n`));
      return { exitCode: 1, outputs: [], stdout: emptyDigest, stderr };
    }
    const digest = await store.put(answer.output);
    const outputs = [{ path: wasmOutputPath, digest, executable: false }];
    return { exitCode: 0, outputs, stdout: emptyDigest, stderr: emptyDigest };
  };
}

async function readCall(
  store: Pick<BlobStore, "read">,
  spec: ActionSpec,
  options: WasmOptions,
): Promise<WasmCall> {
  const [entry, ...rest] = spec.argv;
  if (entry === undefined || rest.length > 0 || !/^(split|execute|merge)$/.test(entry)) {
    throw new MeshError("refused", "a WebAssembly action calls split, execute or merge");
  }
  const memoryMaxBytes = Number(spec.platform[wasmMemoryProperty] ?? options.memoryMaxBytes);
  if (!(memoryMaxBytes <= options.memoryMaxBytes)) {
    throw new MeshError(
      "refused",
      `it asks for ${memoryMaxBytes} bytes of memory, this node gives ${options.memoryMaxBytes}`,
    );
  }
  const module = inputAt(spec, wasmModulePath, wasmModuleMaxBytes);
  const input = inputAt(spec, wasmInputPath, options.outputMaxBytes);
  return {
    key: `${module} ${memoryMaxBytes}`,
    bytes: async () => limitModule(await store.read(module), memoryMaxBytes).bytes,
    entry,
    input: await store.read(input),
    outputMaxBytes: options.outputMaxBytes,
    timeoutMs: Math.min(spec.timeoutMs, options.timeoutMaxMs),
  };
}

/** The digest carries the size: what is too large is never read. */
function inputAt(spec: ActionSpec, path: string, maxBytes: number): Digest {
  const entry = spec.inputs.find((input) => input.path === path);
  if (entry?.kind !== "file") throw new MeshError("malformed", `the action has no input ${path}`);
  const sizeBytes = sizeBytesOf(entry.digest);
  if (sizeBytes > maxBytes) {
    throw new MeshError("limit", `${path} has ${sizeBytes} bytes, the limit is ${maxBytes}`);
  }
  return entry.digest;
}
