/**
 * WebAssembly jobs for a simulated mesh: the real door and the real executor, on the module of
 * `examples/wordcount`. What comes out must be what the module gives when it is called directly.
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { utf8 } from "../../src/base/bytes.ts";
import { limitModule } from "../../src/exec/wasm-module.ts";
import { runWasm } from "../../src/host/wasm-run.ts";
import { readChunks, writeChunks } from "../../src/job/chunks.ts";
import { createJobDoor, type JobResult } from "../../src/job/job.ts";
import type { SeededRandom } from "../../src/sim/random.ts";
import type { SimNode } from "./mesh.ts";

const module = new Uint8Array(
  readFileSync(join(import.meta.dirname, "../../examples/wordcount/wordcount.wasm")),
);
const memoryMaxBytes = 64 * 1024 * 1024;
const outputMaxBytes = 16 * 1024 * 1024;
/** No call on the slowest host takes longer. */
const timeoutMs = 600_000;
const chunksMax = 1000;
const words = ["task", "Mesh", "node", "thief", "owner", "lease", "blob", "seed", "über", "x1"];

export interface WordJob {
  readonly node: SimNode;
  readonly label: string;
  readonly expected: Uint8Array;
  result: JobResult | undefined;
  failure: unknown;
  cancelledAtMs: number | undefined;
  readonly cancel: (reason: unknown) => void;
}

/** Text of about that size, different for every draw. */
export function drawText(random: SeededRandom, sizeBytes: number): Uint8Array {
  const pieces: string[] = [];
  for (let size = 0; size < sizeBytes; size += 600) {
    const word = `${words[random.below(words.length)]}${random.below(50)} `;
    pieces.push(word.repeat(Math.ceil(600 / word.length)));
  }
  return utf8(pieces.join(""));
}

/** Split, execute and merge one after the other, without any mesh. */
export function countDirectly(text: Uint8Array): Uint8Array {
  const compiled = new WebAssembly.Module(
    Uint8Array.from(limitModule(module, memoryMaxBytes).bytes),
  );
  const call = (entry: string, input: Uint8Array): Uint8Array => {
    const answer = runWasm({ module: compiled, entry, input, outputMaxBytes });
    if (answer.how === "trapped") throw new Error(`${entry}: ${answer.message}`);
    return answer.output;
  };
  const chunks = readChunks(call("split", text), chunksMax);
  return call("merge", writeChunks(chunks.map((chunk) => call("execute", chunk))));
}

export function runWordJob(node: SimNode, label: string, text: Uint8Array): WordJob {
  const { owner, store, exchange, execute, host } = node;
  const door = createJobDoor({ owner, store, exchange, execute }, { chunksMax, outputMaxBytes });
  const cancelled = new AbortController();
  const manifest = { module: "wordcount.wasm", name: label, memoryMaxBytes, timeoutMs };
  const job: WordJob = {
    node,
    label,
    expected: countDirectly(text),
    result: undefined,
    failure: undefined,
    cancelledAtMs: undefined,
    cancel(reason) {
      job.cancelledAtMs ??= host.clock.nowMs();
      cancelled.abort(reason);
    },
  };
  door
    .run({ id: label, manifest, module, input: text }, () => {}, cancelled.signal)
    .then(
      (result) => {
        job.result = result;
      },
      (error: unknown) => {
        job.failure = error ?? new Error("no reason");
      },
    );
  return job;
}

export function isOver({ result, failure }: WordJob): boolean {
  return result !== undefined || failure !== undefined;
}
