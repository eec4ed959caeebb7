/**
 * Runs WebAssembly exports on worker threads, one fresh instance a call.
 *
 * A call that passes its deadline, or is aborted, loses its whole thread: `terminate` stops even an
 * endless loop within a few milliseconds. Threads are kept warm between calls (a start costs about
 * 20 ms). A thread that dies of what it runs takes nothing else with it: its call is answered, and
 * it is never used again. What a module may do is decided before it comes here: this file trusts
 * the bytes.
 */
import { Worker } from "node:worker_threads";
import { createRecentMap } from "../base/bounded.ts";
import { MeshError } from "../base/errors.ts";
import type { Clock } from "./host.ts";

export interface WasmCall {
  /** Equal keys mean equal bytes: compiled modules are remembered by it. */
  readonly key: string;
  /** Asked for only when no module is remembered. */
  readonly bytes: () => Promise<Uint8Array>;
  /** Export `(ptr, len) -> i64`, the result's `ptr << 32 | len`. */
  readonly entry: string;
  readonly input: Uint8Array;
  readonly outputMaxBytes: number;
  readonly timeoutMs: number;
}

export type WasmAnswer =
  | { readonly how: "returned"; readonly output: Uint8Array }
  /** The module trapped, lacks the export, returned what lies outside its memory, or its thread died. */
  | { readonly how: "trapped"; readonly message: string };

export interface WasmPool {
  /**
   * Codes: "malformed" when the bytes are no module, "deadline" (compiling counts), "cancelled" when
   * the pool closes, and those of `bytes`. Abort rejects with its reason.
   */
  call(call: WasmCall, signal: AbortSignal): Promise<WasmAnswer>;
  close(): Promise<void>;
}

const modulesMax = 32;

export function createWasmPool(clock: Clock, threadsMax: number): WasmPool {
  const modules = createRecentMap<string, Promise<WebAssembly.Module>>(modulesMax);
  const idle: Worker[] = [];
  /** Threads that have not ended yet; the living are those that may still be asked. */
  const all = new Set<Worker>();
  const living = new Set<Worker>();
  /** The module that each holds: sending one takes longer than many a call. */
  const loaded = new WeakMap<Worker, string>();
  let closed = false;

  function compile({ key, bytes }: WasmCall): Promise<WebAssembly.Module> {
    const known = modules.get(key);
    if (known !== undefined) return known;
    const compiled = compileBytes(bytes).catch((error: unknown) => {
      modules.delete(key);
      throw error;
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
    living.add(worker);
    // For good: a thread may run out of heap after its call was given up, and an "error" that
    // nobody listens to would end the whole node.
    worker.on("error", () => retire(worker));
    worker.once("exit", () => {
      retire(worker);
      all.delete(worker);
    });
    return worker;
  }

  function retire(worker: Worker): void {
    living.delete(worker);
    const at = idle.indexOf(worker);
    if (at >= 0) idle.splice(at, 1);
  }

  async function giveBack(worker: Worker): Promise<void> {
    if (living.has(worker) && !closed && idle.length < threadsMax) idle.push(worker);
    else await worker.terminate();
  }

  return {
    call(call, signal) {
      return clock.withDeadline(signal, call.timeoutMs, async (inner) => {
        const module = await compile(call);
        // Nobody waits any more: no thread is started for it.
        inner.throwIfAborted();
        if (closed) throw stopping();
        const worker = take();
        try {
          const isLoaded = loaded.get(worker) === call.key;
          loaded.set(worker, call.key);
          const answer = await ask(worker, call, isLoaded ? undefined : module, inner);
          if (closed) throw stopping();
          await giveBack(worker);
          return answer;
        } catch (error) {
          retire(worker);
          await worker.terminate();
          throw error;
        }
      });
    },
    async close() {
      closed = true;
      await Promise.all([...all].map((worker) => worker.terminate()));
    },
  };
}

async function compileBytes(bytes: () => Promise<Uint8Array>): Promise<WebAssembly.Module> {
  const copy = Buffer.from(await bytes());
  try {
    return await WebAssembly.compile(copy);
  } catch (error) {
    throw new MeshError("malformed", `not a WebAssembly module: ${String(error)}`, {
      cause: error,
    });
  }
}

function stopping(): MeshError {
  return new MeshError("cancelled", "the node is stopping");
}

function ask(
  worker: Worker,
  { entry, input, outputMaxBytes }: WasmCall,
  /** Undefined: the one of the call before. */
  module: WebAssembly.Module | undefined,
  signal: AbortSignal,
): Promise<WasmAnswer> {
  return new Promise((resolve, reject) => {
    // Its own listeners only: those that `take` made stay for as long as the thread lives.
    const release = () => {
      signal.removeEventListener("abort", onAbort);
      worker.off("message", onMessage);
      worker.off("error", onError);
      worker.off("exit", onExit);
    };
    const onMessage = (answer: WasmAnswer) => {
      release();
      resolve(answer);
    };
    // The thread itself died: out of memory in the glue, or a stack that no limit caught.
    const died = (message: string) => {
      release();
      resolve({ how: "trapped", message });
    };
    const onError = (error: unknown) => died(String(error));
    const onExit = (code: number) => died(`its thread ended with code ${code}`);
    const onAbort = () => {
      release();
      reject(signal.reason);
    };
    signal.addEventListener("abort", onAbort, { once: true });
    worker.on("message", onMessage);
    worker.on("error", onError);
    worker.on("exit", onExit);
    worker.postMessage({ module, entry, input, outputMaxBytes });
  });
}
