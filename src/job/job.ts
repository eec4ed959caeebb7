/**
 * The job door: splits an input, has every chunk executed somewhere, merges what came back.
 *
 * 1. `split(input)` gives a list of chunks.
 * 2. Each chunk is one action, `execute(chunk)`; any node may run it.
 * 3. `merge(list of results, in the order of the chunks)` gives the output.
 *
 * All three are the same kind of action, so the first and the last may be stolen as well.
 */
import type { ActionOutcome, ActionSpec, Execute } from "../action/action.ts";
import { encodeAction } from "../action/encode.ts";
import { textOf } from "../base/bytes.ts";
import type { Digest } from "../base/digest.ts";
import { MeshError } from "../base/errors.ts";
import type { PeerId } from "../base/ids.ts";
import type { Exchange } from "../blob/exchange.ts";
import type { BlobStore } from "../blob/store.ts";
import { wasmInputPath, wasmMemoryProperty, wasmModulePath, wasmOutputPath } from "../exec/wasm.ts";
import { limitModule } from "../exec/wasm-module.ts";
import type { Owner } from "../work/task.ts";
import { readChunks, writeChunks } from "./chunks.ts";
import type { JobManifest } from "./manifest.ts";

export interface JobDeps {
  readonly owner: Owner;
  readonly store: Pick<BlobStore, "put" | "read" | "pin">;
  readonly exchange: Pick<Exchange, "fetch">;
  readonly execute: Execute;
}

export interface JobOptions {
  readonly chunksMax: number;
}

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
   * Codes: "malformed", "refused" (the module breaks a rule, or trapped), "deadline", "limit".
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

export function createJobDoor(deps: JobDeps, { chunksMax }: JobOptions): JobDoor {
  return {
    async run(job, onChunks, signal) {
      checkModule(job);
      const stop = new AbortController();
      const all = AbortSignal.any([signal, stop.signal]);
      const module = await deps.store.put(job.module);
      const pin = deps.store.pin([module]);
      const name = job.manifest.name ?? "job";
      try {
        const split = await call(
          deps,
          { job, module, entry: "split", input: job.input, label: `${name} split` },
          all,
        );
        const chunks = readChunks(split.output, chunksMax);
        onChunks(chunks.length);
        const results = await Promise.all(
          chunks.map((input, index) => {
            const label = `${name} ${index + 1}/${chunks.length}`;
            return call(deps, { job, module, entry: "execute", input, label }, all);
          }),
        );
        const input = writeChunks(results.map(({ output }) => output));
        const merged = await call(
          deps,
          { job, module, entry: "merge", input, label: `${name} merge` },
          all,
        );
        const byPeer: Record<string, number> = {};
        for (const { where } of results) byPeer[where] = (byPeer[where] ?? 0) + 1;
        return { output: merged.output, chunks: chunks.length, byPeer };
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

/** Before anything is sent anywhere: what a peer would refuse is refused here, once. */
function checkModule({ module, manifest }: Job): void {
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
  { job, module, entry, input, label }: Call,
  signal: AbortSignal,
): Promise<{ readonly output: Uint8Array; readonly where: string }> {
  const digest = await store.put(input);
  const pin = store.pin([digest]);
  const spec: ActionSpec = {
    argv: [entry],
    env: {},
    cwd: "/",
    outputPaths: [wasmOutputPath],
    inputs: [
      { kind: "file", path: wasmModulePath, digest: module, executable: false },
      { kind: "file", path: wasmInputPath, digest, executable: false },
    ],
    platform: { platform: "wasm", [wasmMemoryProperty]: String(job.manifest.memoryMaxBytes) },
    timeoutMs: job.manifest.timeoutMs,
  };
  let output: Uint8Array | undefined;
  let trap = "";
  const take = async (outcome: ActionOutcome): Promise<void> => {
    const found = outcome.outputs.find(({ path }) => path === wasmOutputPath);
    if (found === undefined) throw new MeshError("malformed", `${label}: no output`);
    output = await store.read(found.digest);
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
          const outcome = await execute(spec, () => {}, inner);
          if (outcome.exitCode === 0) await take(outcome);
          else trap = textOf(await store.read(outcome.stderr)).trim();
          return outcome.exitCode;
        },
        async commit(outcome: ActionOutcome, peer: PeerId, inner: AbortSignal) {
          const wanted = outcome.outputs.map((blob) => blob.digest);
          await exchange.fetch(wanted, [peer], inner);
          await take(outcome);
        },
      },
      signal,
    );
    if (output === undefined) throw new MeshError("refused", `${label} trapped: ${trap}`);
    return { output, where: outcome.source === "there" ? outcome.peer : "here" };
  } finally {
    pin.release();
  }
}
