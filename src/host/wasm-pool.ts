/**
 * Runs WebAssembly exports on worker threads, one fresh instance a call.
 *
 * A call that passes its deadline, or is aborted, loses its whole thread: `terminate` stops even an
 * endless loop within a few milliseconds. Threads are kept warm between calls (a start costs about
 * 20 ms). What a module may do is decided before it comes here: this file trusts the bytes.
 */
import { Worker } from "node:worker_threads";
import { createRecentMap } from "../base/bounded.ts";
import { MeshError } from "../base/errors.ts";
import type { Clock } from "./host.ts";

export interface WasmCall {
  /** Equal keys mean equal bytes: compiled modules are remembered by it. */
  readonly key: string;
  readonly bytes: Uint8Array;
  /** Export `(ptr, len) -> i64`, the result's `ptr << 32 | len`. */
  readonly entry: string;
  readonly input: Uint8Array;
  readonly outputMaxBytes: number;
  readonly timeoutMs: number;
}

export type WasmAnswer =
  | { readonly how: "returned"; readonly output: Uint8Array }
  /** The module trapped, lacks the export, or returned what lies outside its memory. */
  | { readonly how: "trapped"; readonly message: string };

export interface WasmPool {
  /** Codes: "malformed" when the bytes are no module, "deadline". Abort rejects with its reason. */
  call(call: WasmCall, signal: AbortSignal): Promise<WasmAnswer>;
  close(): Promise<void>;
}

const modulesMax = 32;

export function createWasmPool(clock: Clock, threadsMax: number): WasmPool {
  const modules = createRecentMap<string, Promise<WebAssembly.Module>>(modulesMax);
  const idle: Worker[] = [];
  const all = new Set<Worker>();

  function compile({ key, bytes }: WasmCall): Promise<WebAssembly.Module> {
    const known = modules.get(key);
    if (known !== undefined) return known;
    const compiled = WebAssembly.compile(Buffer.from(bytes)).catch((error: unknown) => {
      modules.delete(key);
      throw new MeshError("malformed", `not a WebAssembly module: ${String(error)}`, {
        cause: error,
      });
    });
    modules.set(key, compiled);
    return compiled;
  }

  function take(): Worker {
    const warm = idle.pop();
    if (warm !== undefined) return warm;
    const extension = import.meta.url.endsWith(".ts") ? "ts" : "js";
    const worker = new Worker(new URL(`./wasm-worker.${extension}`, import.meta.url), {
      // The module's own memory is bounded by the module; this bounds what the glue may use.
      resourceLimits: { maxOldGenerationSizeMb: 256, stackSizeMb: 1 },
    });
    worker.unref();
    all.add(worker);
    worker.once("exit", () => all.delete(worker));
    return worker;
  }

  return {
    async call(call, signal) {
      const module = await compile(call);
      return clock.withDeadline(signal, call.timeoutMs, async (inner) => {
        const worker = take();
        try {
          const answer = await ask(worker, { module, ...call }, inner);
          if (idle.length < threadsMax) idle.push(worker);
          else await worker.terminate();
          return answer;
        } catch (error) {
          await worker.terminate();
          throw error;
        }
      });
    },
    async close() {
      await Promise.all([...all].map((worker) => worker.terminate()));
    },
  };
}

function ask(
  worker: Worker,
  { module, entry, input, outputMaxBytes }: WasmCall & { readonly module: WebAssembly.Module },
  signal: AbortSignal,
): Promise<WasmAnswer> {
  return new Promise((resolve, reject) => {
    const settle = (finish: () => void) => () => {
      signal.removeEventListener("abort", abort);
      worker.removeAllListeners("message");
      worker.removeAllListeners("error");
      finish();
    };
    const abort = settle(() => reject(signal.reason));
    signal.throwIfAborted();
    signal.addEventListener("abort", abort, { once: true });
    worker.once("message", (answer: WasmAnswer) => settle(() => resolve(answer))());
    // The thread itself died: out of memory in the glue, or a stack that no limit caught.
    worker.once("error", (error) =>
      settle(() => resolve({ how: "trapped", message: String(error) }))(),
    );
    worker.postMessage({ module, entry, input, outputMaxBytes });
  });
}
