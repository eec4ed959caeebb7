/**
 * What a simulated mesh works on: tasks as a door would submit them, and what became of each.
 *
 * A task can be run here (the tool on the owner's own host) or be put in place after a peer ran it
 * (fetch, compare with what the inputs determine, write). It knows nothing about faults.
 */
import type { ActionOutcome } from "../../src/action/action.ts";
import { encodeAction } from "../../src/action/encode.ts";
import { utf8 } from "../../src/base/bytes.ts";
import { digestOf } from "../../src/base/digest.ts";
import { messageOf } from "../../src/base/errors.ts";
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
  /** Empty folders among the inputs, each about 140 bytes of the tree. Default 0. */
  readonly folders?: number;
  /** False: only its owner may run it. */
  readonly stealable?: boolean;
  /** Tasks of one name are expected to take as long as the last of it did. Default: all differ. */
  readonly label?: string;
}

/** One submitted task and everything that the door saw of it. */
export interface Job {
  readonly node: SimNode;
  readonly label: string;
  readonly order: Order;
  /** What its output must be. */
  readonly expected: Uint8Array;
  /** Settles as `submit` does. */
  readonly settled: Promise<Outcome>;
  outcome: Outcome | undefined;
  /** Why `submit` rejected. */
  failure: unknown;
  runsHere: number;
  /** How often a peer's outputs were put in place. */
  commits: number;
  cancelledAtMs: number | undefined;
  readonly cancel: (reason: unknown) => void;
}

/** Hears what the door does before it does it. */
export interface Watcher {
  onCommit(job: Job, peer: PeerId): void;
  onCommitted(job: Job, peer: PeerId): void;
  onRunHere(job: Job): void;
  /** The bytes of a peer are not what the inputs determine. */
  onWrongBytes(job: Job, peer: PeerId): void;
}

export interface Workload {
  submit(node: SimNode, order: Order): Job;
  readonly jobs: readonly Job[];
  /** Jobs of owners that still live and whose fate is open. */
  open(): readonly Job[];
}

const nobody: Watcher = {
  onCommit() {},
  onCommitted() {},
  onRunHere() {},
  onWrongBytes(job, peer) {
    throw new Error(`${peer} gave wrong bytes for ${job.label}`);
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
      const label = order.label ?? `${node.name}.${node.life}-${jobs.length}`;
      const job = begin(node, label, order, watcher);
      jobs.push(job);
      return job;
    },
  };
}

export function isSettled({ outcome, failure }: Job): boolean {
  return outcome !== undefined || failure !== undefined;
}

function begin(node: SimNode, label: string, order: Order, watcher: Watcher): Job {
  const { exitCode = 0, outputBytes = 500, inputBytes = 200, folders = 0, durationMs } = order;
  const argv = argvOf({ label, durationMs, exitCode, outputBytes });
  const source = utf8(`source of ${label};`.repeat(Math.ceil(inputBytes / 12))).subarray(
    0,
    inputBytes,
  );
  const sourcePath = `/work/${label}.c`;
  const outputPath = `/work/${label}.o`;
  const action = encodeAction({
    argv,
    env: {},
    cwd: "/work",
    outputPaths: [outputPath],
    inputs: [
      { kind: "file", path: toolPath, digest: digestOf(toolBytes), executable: true },
      { kind: "file", path: sourcePath, digest: digestOf(source), executable: false },
      ...Array.from({ length: folders }, (_, index) => ({
        kind: "directory" as const,
        path: `/work/${"folder-".repeat(8)}${index}`,
      })),
    ],
    platform: { platform: "linux/x86_64" },
    timeoutMs: 600_000,
  });
  const { host, store, exchange, owner } = node;
  const cancelled = new AbortController();
  // In order of their paths, as the tool reads them.
  const expected = outputOf(argv, [toolBytes, source]);

  async function place(bytes: Uint8Array): Promise<void> {
    await host.disk.writeAtomic(outputPath, bytes, { mode: 0o644, sync: false });
  }

  const task: Task = {
    build: `build-${node.name}`,
    kind: "c",
    label,
    action: order.stealable === false ? undefined : action,
    whyHere: order.stealable === false ? "it may not leave" : undefined,
    async runHere(signal) {
      job.runsHere += 1;
      watcher.onRunHere(job);
      const run = { argv, env: {}, cwd: "/work", timeoutMs: 600_000, outputMaxBytes: 1e6 };
      await host.processes.run(run, signal);
      if (exitCode === 0) await place(expected);
      return exitCode;
    },
    async commit(outcome: ActionOutcome, peer: PeerId, signal: AbortSignal) {
      watcher.onCommit(job, peer);
      const [output] = outcome.outputs;
      if (output === undefined) throw new Error(`${label}: ${peer} gave no output`);
      await exchange.fetch([output.digest], [peer], signal);
      const bytes = await store.read(output.digest);
      if (Buffer.compare(bytes, expected) !== 0) watcher.onWrongBytes(job, peer);
      await place(bytes);
      signal.throwIfAborted();
      job.commits += 1;
      watcher.onCommitted(job, peer);
    },
  };

  async function submit(): Promise<Outcome> {
    await host.disk.makeDirectory("/work");
    await host.disk.writeAtomic(sourcePath, source, { mode: 0o644, sync: false });
    store.adopt(digestOf(source), sourcePath);
    store.adopt(digestOf(toolBytes), toolPath);
    return owner.submit(task, cancelled.signal);
  }

  const job: Job = {
    node,
    label,
    order,
    expected,
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
