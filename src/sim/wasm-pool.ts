/**
 * The WebAssembly pool of a simulated host: the module really runs, in this thread and in no time,
 * after the virtual time that its input is worth. V8 gives the same bytes for the same module and
 * input, so a run stays repeatable.
 *
 * An endless module would hang the simulation: only modules that end belong here.
 */
import { createRecentMap } from "../base/bounded.ts";
import { MeshError } from "../base/errors.ts";
import type { Clock } from "../host/host.ts";
import type { WasmCall, WasmPool } from "../host/wasm-pool.ts";
import { runWasm } from "../host/wasm-run.ts";

export interface SimWasmDeps {
  readonly clock: Clock;
  /** How many times longer everything takes here. */
  readonly slowness: () => number;
}

export interface SimWasmOptions {
  readonly callMs: number;
  readonly inputBytesPerMs: number;
}

const modulesMax = 32;

export function createSimWasmPool(
  { clock, slowness }: SimWasmDeps,
  { callMs, inputBytesPerMs }: SimWasmOptions,
): WasmPool {
  const modules = createRecentMap<string, WebAssembly.Module>(modulesMax);
  const stopping = new AbortController();

  async function compile({ key, bytes }: WasmCall): Promise<WebAssembly.Module> {
    const known = modules.get(key);
    if (known !== undefined) return known;
    try {
      const module = new WebAssembly.Module(Uint8Array.from(await bytes()));
      modules.set(key, module);
      return module;
    } catch (error) {
      throw new MeshError("malformed", `not a WebAssembly module: ${String(error)}`, {
        cause: error,
      });
    }
  }

  return {
    call(call, signal) {
      return clock.withDeadline(signal, call.timeoutMs, async (inner) => {
        const module = await compile(call);
        if (stopping.signal.aborted) throw stopping.signal.reason;
        const durationMs = (callMs + call.input.byteLength / inputBytesPerMs) * slowness();
        await clock.sleep(durationMs, inner);
        if (stopping.signal.aborted) throw stopping.signal.reason;
        return runWasm({ module, ...call });
      });
    },
    async close() {
      stopping.abort(new MeshError("cancelled", "the node is stopping"));
    },
  };
}
