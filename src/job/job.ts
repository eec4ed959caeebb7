/**
 * The job door: splits an input, has every chunk executed somewhere, merges what came back.
 *
 * 1. `split(input)` gives a list of chunks.
 * 2. Each chunk is one action, `execute(chunk)`; any node may run it.
 * 3. `merge(list of results, in the order of the chunks)` gives the output.
 *
 * All three are the same kind of action, so the first and the last may be stolen as well
 * (protocols/job.md). What a job may take of its node is bounded: chunks that are tasks at once,
 * the size of one output, and the results of all chunks, which are in memory until they are merged.
 */
import type { ActionOutcome, ActionSpec, Execute } from "../action/action.ts";
import { encodeAction } from "../action/encode.ts";
import { textOf } from "../base/bytes.ts";
import { type Digest, sizeBytesOf } from "../base/digest.ts";
import { isMeshError, MeshError } from "../base/errors.ts";
import type { PeerId } from "../base/ids.ts";
import type { Exchange } from "../blob/exchange.ts";
import type { BlobStore } from "../blob/store.ts";
import {
  wasmInputPath,
  wasmMemoryProperty,
  wasmModuleMaxBytes,
  wasmModulePath,
  wasmOutputPath,
} from "../exec/wasm.ts";
import { limitModule } from "../exec/wasm-module.ts";
import type { Owner } from "../work/task.ts";
import { listedBytes, readChunks, writeChunks } from "./chunks.ts";
import type { JobManifest } from "./manifest.ts";

export interface JobDeps {
  readonly owner: Owner;
  readonly store: Pick<BlobStore, "put" | "read" | "pin">;
  readonly exchange: Pick<Exchange, "fetch">;
  readonly execute: Execute;
}

export interface JobOptions {
  /** Of one job. More is "limit". */
  readonly chunksMax: number;
  /** Of one job, submitted at once: the owner's tasks are for everybody. 4,096 by default. */
  readonly chunksAtOnce?: number;
  /** Of one call. A peer that claims more is not asked for it. 1 GiB by default. */
  readonly outputMaxBytes?: number;
  /**
   * Of all chunks together, as the list that `merge` reads. More is "limit". 1 GiB by default, the
   * most that a call may read; results and list are in memory at once, so a job takes twice that.
   */
  readonly resultsMaxBytes?: number;
}

const GiB = 1024 * 1024 * 1024;
const defaults = { chunksAtOnce: 4096, outputMaxBytes: GiB, resultsMaxBytes: GiB };

export interface Job {
  /** Names the job in events; cancelling aborts the signal. */
  readonly id: string;
  readonly manifest: JobManifest;
  readonly module: Uint8Array;
  readonly input: Uint8Array;
}

export interface JobResult {
  readonly output: Uint8Array;
  readonly chunks: number;
  /** Chunks by the peer that executed them; this node's own under "here". */
  readonly byPeer: Readonly<Record<string, number>>;
}

export interface JobDoor {
  /**
   * Codes: "malformed", "refused" (the module breaks a rule, or trapped), "deadline", "limit". The
   * message names the call. Abort rejects with its reason.
   * `onChunks` is told how many chunks there are as soon as that is known.
   */
  run(job: Job, onChunks: (count: number) => void, signal: AbortSignal): Promise<JobResult>;
}

interface Call {
  readonly job: Job;
  readonly module: Digest;
  readonly entry: "split" | "execute" | "merge";
  readonly input: Uint8Array;
  readonly label: string;
}

interface Result {
  readonly output: Uint8Array;
  /** The peer that ran it, or "here". */
  readonly where: string;
}

type Limits = Required<JobOptions>;

export function createJobDoor(deps: JobDeps, options: JobOptions): JobDoor {
  const limits: Limits = { ...defaults, ...options };
  return {
    async run(job, onChunks, signal) {
      checkModule(job);
      const stop = new AbortController();
      const all = AbortSignal.any([signal, stop.signal]);
      const module = await deps.store.put(job.module);
      const pin = deps.store.pin([module]);
      const name = job.manifest.name ?? "job";
      const ask = (entry: Call["entry"], input: Uint8Array, which: string) =>
        call(deps, limits, { job, module, entry, input, label: `${name} ${which}` }, all);
      try {
        const split = await ask("split", job.input, "split");
        const chunks = readChunks(split.output, limits.chunksMax);
        onChunks(chunks.length);
        const results = await executeAll(limits, chunks, (chunk, index) =>
          ask("execute", chunk, `chunk ${index + 1}/${chunks.length}`),
        );
        const list = writeChunks(results.map(({ output }) => output));
        const { output } = await ask("merge", list, "merge");
        const byPeer: Record<string, number> = {};
        for (const { where } of results) byPeer[where] = (byPeer[where] ?? 0) + 1;
        return { output, chunks: chunks.length, byPeer };
      } catch (error) {
        // One chunk that fails ends the job: nobody computes for an output that will not be.
        stop.abort(new MeshError("cancelled", "another part of the job failed"));
        throw error;
      } finally {
        pin.release();
      }
    },
  };
}

/** The results in the order of the chunks. A chunk is stored and encoded when its turn comes. */
async function executeAll(
  { chunksAtOnce, resultsMaxBytes }: Limits,
  chunks: readonly Uint8Array[],
  execute: (chunk: Uint8Array, index: number) => Promise<Result>,
): Promise<readonly Result[]> {
  const results: Result[] = [];
  const waiting = chunks.entries();
  let sizeBytes = 0;
  const lane = async () => {
    // All lanes draw from the same iterator.
    for (const [index, chunk] of waiting) {
      const result = await execute(chunk, index);
      sizeBytes += listedBytes(result.output);
      if (sizeBytes > resultsMaxBytes) {
        throw new MeshError(
          "limit",
          `the results of the chunks have more than ${resultsMaxBytes} bytes together`,
        );
      }
      results[index] = result;
    }
  };
  await Promise.all(Array.from({ length: Math.min(chunksAtOnce, chunks.length) }, lane));
  return results;
}

/** Before anything is sent anywhere: what a peer would refuse is refused here, once. */
function checkModule({ module, manifest }: Job): void {
  if (module.byteLength > wasmModuleMaxBytes) {
    throw new MeshError(
      "limit",
      `the module has ${module.byteLength} bytes, the limit is ${wasmModuleMaxBytes}`,
    );
  }
  const { exports } = limitModule(module, manifest.memoryMaxBytes);
  const missing = ["memory", "alloc", "split", "execute", "merge"].filter(
    (name) => !exports.has(name),
  );
  if (missing.length > 0) {
    throw new MeshError("refused", `the module does not export ${missing.join(", ")}`);
  }
}

async function call(
  { owner, store, exchange, execute }: JobDeps,
  { outputMaxBytes }: Limits,
  { job, module, entry, input, label }: Call,
  signal: AbortSignal,
): Promise<Result> {
  const digest = await store.put(input);
  const pin = store.pin([digest]);
  const spec = specOf(job, module, entry, digest);
  let output: Uint8Array | undefined;
  let trap = "";
  const outputOf = (outcome: ActionOutcome): Digest => {
    const found = outcome.outputs.find(({ path }) => path === wasmOutputPath);
    if (found === undefined) throw new MeshError("malformed", `${label}: no output`);
    return found.digest;
  };
  const storeAgain = async (): Promise<void> => {
    await store.put(job.module);
    await store.put(input);
  };
  try {
    const outcome = await owner.submit(
      {
        build: job.id,
        kind: `wasm-${entry}`,
        label,
        action: encodeAction(spec),
        whyHere: undefined,
        async runHere(inner) {
          const outcome = await whileDamaged(async () => {
            const ran = await execute(spec, () => {}, inner);
            if (ran.exitCode === 0) output = await store.read(outputOf(ran));
            else trap = textOf(await store.read(ran.stderr)).trim();
            return ran;
          }, storeAgain);
          return outcome.exitCode;
        },
        async commit(outcome: ActionOutcome, peer: PeerId, inner: AbortSignal) {
          const claimed = outputOf(outcome);
          // The digest says how many bytes are to come: a peer cannot fill the disk with them.
          if (sizeBytesOf(claimed) > outputMaxBytes) {
            throw new MeshError(
              "refused",
              `${label}: an output of ${sizeBytesOf(claimed)} bytes, the limit is ${outputMaxBytes}`,
            );
          }
          await exchange.fetch([claimed], [peer], inner);
          output = await store.read(claimed);
        },
      },
      signal,
    );
    if (output === undefined) throw new MeshError("refused", `${label} trapped: ${trap}`);
    return { output, where: outcome.source === "there" ? outcome.peer : "here" };
  } catch (error) {
    throw named(error, label);
  } finally {
    pin.release();
  }
}

/** A disk that has damaged a file of this once may do so again, but not for ever. */
const damagedMax = 3;

/** What a disk has lost is still in memory here: it is stored again, and the run begins anew. */
async function whileDamaged<T>(run: () => Promise<T>, storeAgain: () => Promise<void>): Promise<T> {
  for (let times = 1; ; times += 1) {
    try {
      return await run();
    } catch (error) {
      const isDamaged = isMeshError(error, "blob-corrupt") || isMeshError(error, "blob-missing");
      if (!isDamaged || times > damagedMax) throw error;
      await storeAgain();
    }
  }
}

function specOf(
  { manifest }: Job,
  module: Digest,
  entry: Call["entry"],
  input: Digest,
): ActionSpec {
  return {
    argv: [entry],
    env: {},
    cwd: "/",
    outputPaths: [wasmOutputPath],
    inputs: [
      { kind: "file", path: wasmModulePath, digest: module, executable: false },
      { kind: "file", path: wasmInputPath, digest: input, executable: false },
    ],
    platform: { platform: "wasm", [wasmMemoryProperty]: String(manifest.memoryMaxBytes) },
    timeoutMs: manifest.timeoutMs,
  };
}

/** Which of many calls it was; a cancelled job needs no name. */
function named(error: unknown, label: string): unknown {
  if (!isMeshError(error) || error.code === "cancelled" || error.message.startsWith(label)) {
    return error;
  }
  return new MeshError(error.code, `${label}: ${error.message}`, { cause: error });
}
