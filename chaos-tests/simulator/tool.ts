/**
 * The tool that simulated tasks run: it takes as long as it is told to, and what it writes follows
 * from its command line and the files it reads alone, as with a compiler. What it does to a
 * machine's files is `programs.ts`.
 */
import { createRecentMap } from "../../src/base/bounded.ts";
import { concatBytes, utf8 } from "../../src/base/bytes.ts";
import { digestOf } from "../../src/base/digest.ts";

/** Lies at the same path on every host, as an installed compiler does. */
export const toolPath: string = "/usr/bin/cc";
export const toolBytes: Uint8Array = utf8("the tool ".repeat(500));

export interface ToolOrder {
  readonly label: string;
  readonly durationMs: number;
  readonly exitCode: number;
  readonly outputBytes: number;
  readonly outputPath: string;
  readonly inputPaths: readonly string[];
}

export function argvOf(order: ToolOrder): readonly [string, ...string[]] {
  const { label, durationMs, exitCode, outputBytes, outputPath, inputPaths } = order;
  const numbers = [`${durationMs}`, `${exitCode}`, `${outputBytes}`];
  return [toolPath, label, ...numbers, outputPath, ...inputPaths];
}

/** What `argvOf` wrote; undefined when it is none of its. */
export function orderOf(argv: readonly string[]): ToolOrder | undefined {
  const [program, label, durationMs, exitCode, outputBytes, outputPath, ...inputPaths] = argv;
  if (program !== toolPath || label === undefined || outputPath === undefined) return undefined;
  return {
    label,
    durationMs: Number(durationMs),
    exitCode: Number(exitCode),
    outputBytes: Number(outputBytes),
    outputPath,
    inputPaths,
  };
}

/** Written by owner, thief and checker alike: the last few are kept. Nobody changes them. */
const written = createRecentMap<string, Uint8Array>(64);

/** What the tool writes for this command line and the bytes of its inputs, in their order. */
export function outputOf(argv: readonly string[], inputs: readonly Uint8Array[]): Uint8Array {
  const seed = digestOf(concatBytes([utf8(argv.join("\0")), ...inputs]));
  const sizeBytes = Number(argv[4]);
  const key = `${seed} ${sizeBytes}`;
  const known = written.get(key);
  if (known !== undefined) return known;
  const bytes = utf8(seed.repeat(Math.ceil(sizeBytes / seed.length))).subarray(0, sizeBytes);
  written.set(key, bytes);
  return bytes;
}
