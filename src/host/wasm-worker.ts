/** One thread of the WebAssembly pool: runs what it is sent and sends back what came of it. */
import { parentPort } from "node:worker_threads";
import { runWasm, type WasmRequest } from "./wasm-run.ts";

parentPort?.on("message", (request: WasmRequest) => {
  const answer = runWasm(request);
  const transfer = answer.how === "returned" ? [answer.output.buffer as ArrayBuffer] : [];
  parentPort?.postMessage(answer, transfer);
});
