/**
 * Answers as they travel from thief to owner.
 *
 * Small outputs ride inside the answer, so that most compiles need no further round trip for
 * their diagnostics; the rest is fetched by digest.
 */
import { create } from "@bufbuild/protobuf";
import type { ActionOutcome, OutputBlob, Progress } from "../action/action.ts";
import { type Digest, digestOf, emptyDigest, sizeBytesOf } from "../base/digest.ts";
import { MeshError } from "../base/errors.ts";
import type { Phases } from "../base/events.ts";
import type { BlobStore } from "../blob/store.ts";
import {
  type ActionResult,
  ActionResultSchema,
  type OutputFile,
  OutputFileSchema,
} from "../wire/gen/build/bazel/remote/execution/v2/remote_execution_pb.ts";
import {
  type TaskDone,
  TaskDoneSchema,
  type TaskProgress,
  TaskProgressSchema,
} from "../wire/gen/mesh/v1/mesh_pb.ts";
import { digestFromProto, digestToProto } from "../wire/messages.ts";

/** A blob up to this size may travel inside an answer. */
const inlineMaxBytes = 16 * 1024;

/** All of them in one answer together. */
const inlineTotalMaxBytes = 64 * 1024;

const outputsMax = 4096;

export interface TaskTimings {
  readonly queueMs: number;
  readonly fetchMs: number;
  readonly runMs: number;
  readonly storeMs: number;
}

export interface Answer {
  readonly outcome: ActionOutcome;
  readonly timings: TaskTimings;
  /** Signed, and of this outcome; empty when there is none. At most 128 KiB. */
  readonly record: Uint8Array;
}

/** Thief's side: outcome, with what is small read from the store and put inside. */
export async function writeDone(
  task: string,
  attempt: number,
  { outcome, timings, record }: Answer,
  store: Pick<BlobStore, "read">,
): Promise<TaskDone> {
  let room = inlineTotalMaxBytes;
  const inline = async (digest: Digest): Promise<Uint8Array> => {
    const sizeBytes = sizeBytesOf(digest);
    if (sizeBytes === 0 || sizeBytes > Math.min(inlineMaxBytes, room)) return new Uint8Array();
    room -= sizeBytes;
    return store.read(digest);
  };
  const stdoutRaw = await inline(outcome.stdout);
  const stderrRaw = await inline(outcome.stderr);
  const outputFiles: OutputFile[] = [];
  for (const output of outcome.outputs) {
    outputFiles.push(toOutputFile(output, await inline(output.digest)));
  }
  const result = create(ActionResultSchema, {
    outputFiles,
    exitCode: outcome.exitCode,
    stdoutRaw,
    stdoutDigest: digestToProto(outcome.stdout),
    stderrRaw,
    stderrDigest: digestToProto(outcome.stderr),
  });
  const rounded = {
    queueMs: Math.round(timings.queueMs),
    fetchMs: Math.round(timings.fetchMs),
    // Zero says that nothing ran.
    runMs: timings.runMs > 0 ? Math.max(1, Math.round(timings.runMs)) : 0,
    storeMs: Math.round(timings.storeMs),
  };
  return create(TaskDoneSchema, { task, attempt, result, timings: rounded, record });
}

/**
 * Owner's side: checks the answer and puts inlined bytes into the store. Code "malformed" when it
 * names an output nobody asked for, one twice, or bytes that are not what their digest says.
 */
export async function readOutcome(
  done: TaskDone,
  outputPaths: readonly string[],
  store: Pick<BlobStore, "put">,
): Promise<ActionOutcome> {
  const { result } = done;
  if (result === undefined) throw new MeshError("malformed", "the answer holds no result");
  if (result.outputFiles.length > outputsMax) {
    throw new MeshError("limit", `the answer names more than ${outputsMax} outputs`);
  }
  const wanted = new Set(outputPaths);
  for (const { contents, digest, path } of result.outputFiles) {
    if (!wanted.delete(path)) {
      throw new MeshError("malformed", `the answer holds an output nobody asked for: ${path}`);
    }
    await keep(contents, digestFromProto(digest), store);
  }
  const stdout = digestFromProto(result.stdoutDigest);
  const stderr = digestFromProto(result.stderrDigest);
  await keep(result.stdoutRaw, stdout, store);
  await keep(result.stderrRaw, stderr, store);
  return { exitCode: result.exitCode, outputs: outputsOf(result), stdout, stderr };
}

/**
 * The thief's clock measures its own phases; what is left over is the way there and back.
 * @param ownMs in the owner's own queue, before the task was given away
 */
export function phasesOf({ timings }: TaskDone, wallMs: number, ownMs: number): Phases {
  // What a peer says of itself cannot be more than there was.
  let leftMs = wallMs;
  const take = (ms: number): number => {
    const takenMs = Math.min(ms, leftMs);
    leftMs -= takenMs;
    return takenMs;
  };
  const waitedMs = take(ownMs + (timings?.queueMs ?? 0));
  const fetchMs = take(timings?.fetchMs ?? 0);
  const runMs = take(timings?.runMs ?? 0);
  const returnMs = leftMs;
  return { queueMs: waitedMs, fetchMs, runMs, returnMs };
}

export function writeProgress(task: string, attempt: number, progress: Progress): TaskProgress {
  const outputs = progress.outputs.map((output) => toOutputFile(output, new Uint8Array()));
  return create(TaskProgressSchema, { task, attempt, stderr: progress.stderr, outputs });
}

/** Code "malformed" when an output has no proper digest. */
export function readProgress(progress: TaskProgress): Progress {
  return { stderr: progress.stderr, outputs: progress.outputs.map(toOutputBlob) };
}

function outputsOf(result: ActionResult): readonly OutputBlob[] {
  return result.outputFiles.map(toOutputBlob);
}

function toOutputBlob({ path, digest, isExecutable }: OutputFile): OutputBlob {
  return { path, digest: digestFromProto(digest), executable: isExecutable };
}

function toOutputFile({ path, digest, executable }: OutputBlob, contents: Uint8Array): OutputFile {
  const isExecutable = executable;
  return create(OutputFileSchema, { path, digest: digestToProto(digest), isExecutable, contents });
}

async function keep(
  bytes: Uint8Array,
  digest: Digest,
  store: Pick<BlobStore, "put">,
): Promise<void> {
  if (bytes.byteLength === 0 || digest === emptyDigest) return;
  if (digestOf(bytes) !== digest) {
    throw new MeshError("malformed", `inlined bytes are not ${digest}`);
  }
  await store.put(bytes);
}
