/**
 * The tool that simulated tasks run: it takes as long as it is told to, and what it writes follows
 * from its command line and its inputs alone, as with a compiler.
 */
import type { ActionSpec, Execute } from "../../src/action/action.ts";
import { concatBytes, utf8 } from "../../src/base/bytes.ts";
import { digestOf, emptyDigest } from "../../src/base/digest.ts";
import type { BlobStore } from "../../src/blob/store.ts";
import type { Processes } from "../../src/host/host.ts";

/** Lies at the same path on every host, as an installed compiler does. */
export const toolPath: string = "/usr/bin/cc";
export const toolBytes: Uint8Array = utf8("the tool ".repeat(500));

export interface ToolOrder {
  readonly label: string;
  readonly durationMs: number;
  readonly exitCode: number;
  readonly outputBytes: number;
}

export function argvOf(order: ToolOrder): readonly [string, ...string[]] {
  const { label, durationMs, exitCode, outputBytes } = order;
  return [toolPath, label, `${durationMs}`, `${exitCode}`, `${outputBytes}`];
}

export function durationMsOf(argv: readonly string[]): number {
  return Number(argv[2]);
}

/** What the tool writes for this command line and these inputs, in order of their paths. */
export function outputOf(argv: readonly string[], inputs: readonly Uint8Array[]): Uint8Array {
  const seed = digestOf(concatBytes([utf8(argv.join("\0")), ...inputs]));
  const sizeBytes = Number(argv[4]);
  return utf8(seed.repeat(Math.ceil(sizeBytes / seed.length))).subarray(0, sizeBytes);
}

/** Runs the tool on inputs from the store; outputs go there too. */
export function createToolRun({
  store,
  processes,
}: {
  readonly store: BlobStore;
  readonly processes: Processes;
}): Execute {
  return async (spec, _onProgress, signal) => {
    const inputs = await Promise.all(digestsOf(spec).map((digest) => store.read(digest)));
    const [command = toolPath, ...args] = spec.argv;
    const { timeoutMs, cwd } = spec;
    const run = { argv: [command, ...args] as const, env: {}, cwd, timeoutMs, outputMaxBytes: 1e6 };
    await processes.run(run, signal);
    const exitCode = Number(spec.argv[3]);
    const [path = "/"] = spec.outputPaths;
    const digest = await store.put(outputOf(spec.argv, inputs));
    signal.throwIfAborted();
    return {
      exitCode,
      outputs: exitCode === 0 ? [{ path, digest, executable: false }] : [],
      stdout: emptyDigest,
      stderr: exitCode === 0 ? emptyDigest : await store.put(utf8("error: it does not compile")),
    };
  };
}

function digestsOf({ inputs }: ActionSpec) {
  return inputs
    .toSorted((a, b) => (a.path < b.path ? -1 : 1))
    .flatMap((entry) => (entry.kind === "file" ? [entry.digest] : []));
}
