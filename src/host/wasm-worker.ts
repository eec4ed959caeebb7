/** One thread of the WebAssembly pool: runs what it is sent and sends back what came of it. */
import { parentPort } from "node:worker_threads";
import type { WasmAnswer } from "./wasm-pool.ts";
import { runWasm, type WasmRequest } from "./wasm-run.ts";

/** A module is sent once; undefined: the one of the call before. */
export type WasmOrder = Omit<WasmRequest, "module"> & {
  readonly module: WasmRequest["module"] | undefined;
};

let loaded: WasmRequest["module"] | undefined;

parentPort?.on("message", ({ module, ...rest }: WasmOrder) => {
  loaded = module ?? loaded;
  const answer: WasmAnswer =
    loaded === undefined
      ? { how: "trapped", message: "no module was sent" }
      : runWasm({ ...rest, module: loaded });
  const transfer = answer.how === "returned" ? [answer.output.buffer as ArrayBuffer] : [];
  parentPort?.postMessage(answer, transfer);
});
