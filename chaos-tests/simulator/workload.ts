/**
 * What a simulated mesh works on: tasks as a door would submit them, and what became of each.
 *
 * A task can be run here (the tool on the owner's own host) or be put in place after a peer ran it
 * (fetch, compare with what the inputs determine, write). Its inputs may be the outputs of earlier
 * tasks. It knows nothing about faults.
 */
import { type ActionOutcome, blobsOf } from "../../src/action/action.ts";
import { encodeAction } from "../../src/action/encode.ts";
import { utf8 } from "../../src/base/bytes.ts";
import { type Digest, digestOf, emptyDigest } from "../../src/base/digest.ts";
import { isMeshError, MeshError, messageOf } from "../../src/base/errors.ts";
import type { PeerId } from "../../src/base/ids.ts";
import type { Outcome, Task } from "../../src/work/task.ts";
import type { SimNode } from "./mesh.ts";
import { argvOf, outputOf, toolBytes, toolPath } from "./tool.ts";

export interface Order {
  readonly durationMs: number;
  /** Of the tool, wherever it runs. Default 0. */
  readonly exitCode?: number;
  /** Default 500. */
  readonly outputBytes?: number;
  /** Of the one source file. Default 200. */
  readonly inputBytes?: number;
  /** Tasks of the same owner whose outputs it reads. They are done. */
  readonly inputs?: readonly Job[];
  /** Empty folders among the inputs, each about 140 bytes of the tree. Default 0. */
  readonly folders?: number;
  /** False: only its owner may run it. */
  readonly stealable?: boolean;
  /**
   * Tasks of one unit are the same action; all else of their orders must be equal. By default
   * every task is a unit of its own.
   */
  readonly unit?: string;
  /** False: its owner does not look for a known result. */
  readonly lookUp?: boolean;
  /** See `Task`. */
  readonly fresh?: boolean;
  readonly forget?: boolean;
  /** Its owner takes no peer's answer. */
  readonly refuse?: boolean;
  /** Tasks of one name are expected to take as long as the last of it did. Default: all differ. */
  readonly label?: string;
}

/** One submitted task and everything that the door saw of it. */
export interface Job {
  readonly node: SimNode;
  readonly label: string;
  readonly order: Order;
  /** What its output must be, and where. */
  readonly expected: Uint8Array;
  readonly expectedDigest: Digest;
  readonly outputPath: string;
  readonly action: Digest;
  /** Settles as `submit` does, or when a known result is in place. */
  readonly settled: Promise<End>;
  outcome: End | undefined;
  /** Why `submit` rejected. */
  failure: unknown;
  runsHere: number;
  /** How often a peer's outputs were put in place. */
  commits: number;
  cancelledAtMs: number | undefined;
  readonly cancel: (reason: unknown) => void;
}

/** How a task ended. */
export type End = Outcome | KnownEnd;

interface KnownEnd {
  readonly source: "known";
  readonly exitCode: 0;
}

/** Hears what the door does before it does it. */
export interface Watcher {
  onSubmit(job: Job): void;
  onCommit(job: Job, peer: PeerId): void;
  onCommitted(job: Job, peer: PeerId): void;
  onRunHere(job: Job): void;
  /** The bytes of a peer are not what the inputs determine. */
  onWrongBytes(job: Job, peer: PeerId): void;
  /** A known result is not what the inputs determine. */
  onWrongResult(job: Job, signer: PeerId): void;
}

export interface Workload {
  submit(node: SimNode, order: Order): Job;
  readonly jobs: readonly Job[];
  /** Jobs of owners that still live and whose fate is open. */
  open(): readonly Job[];
}

const nobody: Watcher = {
  onSubmit() {},
  onCommit() {},
  onCommitted() {},
  onRunHere() {},
  onWrongBytes(job, peer) {
    throw new Error(`${peer} gave wrong bytes for ${job.label}`);
  },
  onWrongResult(job, signer) {
    throw new Error(`${signer} signed a wrong result of ${job.label}`);
  },
};

export function createWorkload(
  alive: (node: SimNode) => boolean,
  watcher: Watcher = nobody,
): Workload {
  const jobs: Job[] = [];
  return {
    jobs,
    open: () => jobs.filter((job) => alive(job.node) && !isSettled(job)),
    submit(node, order) {
      const unit = `${node.name}.${node.life}-${jobs.length}`;
      const { label = unit } = order;
      const job = begin(node, label, { unit, ...order }, watcher);
      jobs.push(job);
      watcher.onSubmit(job);
      return job;
    },
  };
}

export function isSettled({ outcome, failure }: Job): boolean {
  return outcome !== undefined || failure !== undefined;
}

function begin(node: SimNode, label: string, order: Order, watcher: Watcher): Job {
  const { exitCode = 0, outputBytes = 500, inputBytes = 200, folders = 0, durationMs } = order;
  const { unit = label, inputs = [] } = order;
  const source = utf8(`source of ${unit};`.repeat(Math.ceil(inputBytes / 12))).subarray(
    0,
    inputBytes,
  );
  const sourcePath = `/work/${unit}.c`;
  const outputPath = `/work/${unit}.o`;
  const inputPaths = [sourcePath, ...inputs.map((input) => input.outputPath)];
  const argv = argvOf({
    label: unit,
    ...{ durationMs, exitCode, outputBytes, outputPath, inputPaths },
  });
  const action = encodeAction({
    argv,
    env: {},
    cwd: "/work",
    outputPaths: [outputPath],
    inputs: [
      { kind: "file", path: toolPath, digest: digestOf(toolBytes), executable: true },
      { kind: "file", path: sourcePath, digest: digestOf(source), executable: false },
      ...inputs.map((input) => ({
        kind: "file" as const,
        path: input.outputPath,
        digest: input.expectedDigest,
        executable: false,
      })),
      ...Array.from({ length: folders }, (_, index) => ({
        kind: "directory" as const,
        path: `/work/${"folder-".repeat(8)}${index}`,
      })),
    ],
    platform: { platform: "linux/x86_64" },
    timeoutMs: 600_000,
  });
  const { host, store, exchange, owner, results } = node;
  const cancelled = new AbortController();
  // In the order in which the tool reads them.
  const expected = outputOf(argv, [toolBytes, source, ...inputs.map((input) => input.expected)]);
  const expectedDigest = digestOf(expected);

  async function place(bytes: Uint8Array): Promise<void> {
    await host.disk.writeAtomic(outputPath, bytes, { mode: 0o644, sync: false });
  }

  /** What was copied into the store while nobody could change it. */
  async function keepOwn(runMs: number): Promise<void> {
    const digest = await store.putFile(outputPath);
    if (digest !== expectedDigest) watcher.onWrongBytes(job, node.self);
    const outputs = [{ path: outputPath, digest, executable: false }];
    results.keep(
      action.digest,
      { exitCode: 0, outputs, stdout: emptyDigest, stderr: emptyDigest },
      runMs,
    );
  }

  /** False: nothing is known, or it is of no use. */
  async function useKnown(): Promise<boolean> {
    const { signal } = cancelled;
    const known = results.find(action.digest) ?? (await results.findInMesh(action.digest, signal));
    if (known === undefined) return false;
    const pin = store.pin(blobsOf(known.outcome));
    try {
      await exchange.fetch(blobsOf(known.outcome), known.providers, signal);
      const [output] = known.outcome.outputs;
      const bytes = output && (await store.read(output.digest));
      if (output?.path !== outputPath || !bytes || Buffer.compare(bytes, expected) !== 0)
        watcher.onWrongResult(job, known.signer);
      else await place(bytes);
      return true;
    } catch (error) {
      signal.throwIfAborted();
      if (!isMeshError(error)) throw error;
      results.refuse(action.digest, error.code);
      return false;
    } finally {
      pin.release();
    }
  }

  const task: Task = {
    build: `build-${node.name}`,
    kind: "c",
    label,
    action: order.stealable === false ? undefined : action,
    whyHere: order.stealable === false ? "it may not leave" : undefined,
    fresh: order.fresh === true,
    forget: order.forget === true,
    async runHere(signal) {
      job.runsHere += 1;
      watcher.onRunHere(job);
      const run = { argv, env: {}, cwd: "/work", timeoutMs: 600_000, outputMaxBytes: 1e6 };
      const startMs = host.clock.nowMs();
      const ran = await host.processes.run(run, signal);
      if (ran.exitCode === 0) await keepOwn(host.clock.nowMs() - startMs).catch(ifPlanned);
      return ran.exitCode;
    },
    async commit(outcome: ActionOutcome, peer: PeerId, signal: AbortSignal) {
      watcher.onCommit(job, peer);
      if (order.refuse === true) throw new MeshError("refused", "it is not what was asked for");
      const [output] = outcome.outputs;
      if (output === undefined) throw new Error(`${label}: ${peer} gave no output`);
      await exchange.fetch([output.digest], [peer], signal);
      const bytes = await store.read(output.digest);
      if (Buffer.compare(bytes, expected) !== 0) watcher.onWrongBytes(job, peer);
      await place(bytes);
      signal.throwIfAborted();
      job.commits += 1;
      answered = outcome;
      watcher.onCommitted(job, peer);
    },
  };
  let answered: ActionOutcome | undefined;

  async function submit(): Promise<End> {
    await inTurn(node, async () => {
      // Nobody changes a source under a build: what still reads it would have to come back.
      if (sourcesOf(node).has(sourcePath)) return;
      await host.disk.makeDirectory("/work");
      await host.disk.writeAtomic(sourcePath, source, { mode: 0o644, sync: false });
      sourcesOf(node).add(sourcePath);
    });
    store.adopt(digestOf(source), sourcePath);
    store.adopt(digestOf(toolBytes), toolPath);
    for (const input of inputs) store.adopt(input.expectedDigest, input.outputPath);
    if (order.lookUp !== false && (await useKnown())) return { source: "known", exitCode: 0 };
    const outcome = await owner.submit(task, cancelled.signal);
    if (outcome.source === "there" && answered !== undefined && outcome.record.byteLength > 0)
      results.accept(outcome.record, { action: action.digest, outcome: answered });
    return outcome;
  }

  const job: Job = {
    node,
    label,
    order,
    expected,
    expectedDigest,
    outputPath,
    action: action.digest,
    settled: Promise.resolve().then(submit),
    outcome: undefined,
    failure: undefined,
    runsHere: 0,
    commits: 0,
    cancelledAtMs: undefined,
    cancel(reason) {
      job.cancelledAtMs ??= host.clock.nowMs();
      cancelled.abort(reason);
    },
  };
  job.settled.then(
    (outcome) => {
      job.outcome = outcome;
    },
    (error: unknown) => {
      job.failure = error ?? new Error(messageOf(error));
    },
  );
  return job;
}

const turns = new WeakMap<SimNode, Promise<void>>();
/** Written in this life of the node: of what was written before, a crash may have left less. */
const sources = new WeakMap<SimNode, Set<string>>();

function sourcesOf(node: SimNode): Set<string> {
  const known = sources.get(node) ?? new Set();
  sources.set(node, known);
  return known;
}

/** Sources are written one after the other: what is submitted first is first in the queue as well. */
function inTurn(node: SimNode, write: () => Promise<void>): Promise<void> {
  const turn = (turns.get(node) ?? Promise.resolve()).then(write, write);
  turns.set(node, turn);
  return turn;
}

/** What a disk or a store may fail with; a result is then not remembered. */
function ifPlanned(error: unknown): void {
  if (!isMeshError(error)) throw error;
}
