/** One thread of the WebAssembly pool: instantiates, copies in, calls, copies out. */
import { parentPort } from "node:worker_threads";
import type { WasmAnswer } from "./wasm-pool.ts";

interface Request {
  /** Undefined: the one of the call before. */
  readonly module: WebAssembly.Module | undefined;
  readonly entry: string;
  readonly input: Uint8Array;
  readonly outputMaxBytes: number;
}

let loaded: WebAssembly.Module | undefined;

parentPort?.on("message", (request: Request) => {
  const answer = run(request);
  const transfer = answer.how === "returned" ? [answer.output.buffer as ArrayBuffer] : [];
  parentPort?.postMessage(answer, transfer);
});

function run({ module, entry, input, outputMaxBytes }: Request): WasmAnswer {
  loaded = module ?? loaded;
  if (loaded === undefined) return trapped("no module was sent");
  try {
    const { exports } = new WebAssembly.Instance(loaded, {});
    const { memory, alloc, [entry]: call } = exports;
    if (!(memory instanceof WebAssembly.Memory)) return trapped("exports no memory");
    if (typeof alloc !== "function") return trapped("exports no function alloc");
    if (typeof call !== "function") return trapped(`exports no function ${entry}`);
    const at = Number(alloc(input.byteLength)) >>> 0;
    if (at + input.byteLength > memory.buffer.byteLength) {
      return trapped(`alloc(${input.byteLength}) gave memory that is not there`);
    }
    new Uint8Array(memory.buffer, at, input.byteLength).set(input);
    const packed: unknown = call(at, input.byteLength);
    if (typeof packed !== "bigint") return trapped(`${entry} returned no i64`);
    const bits = BigInt.asUintN(64, packed);
    const [start, size] = [Number(bits >> 32n), Number(bits & 0xffffffffn)];
    if (size > outputMaxBytes)
      return trapped(`output of ${size} bytes, the limit is ${outputMaxBytes}`);
    if (start + size > memory.buffer.byteLength) return trapped("the output lies outside memory");
    return { how: "returned", output: new Uint8Array(memory.buffer.slice(start, start + size)) };
  } catch (error) {
    return trapped(error instanceof Error ? `${error.name}: ${error.message}` : String(error));
  }
}

function trapped(message: string): WasmAnswer {
  return { how: "trapped", message };
}
