/**
 * Holds what a peer did, or a cache gave, against what the real tool then did here.
 */
import type { ActionOutcome } from "../action/action.ts";
import { type Digest, emptyDigest } from "../base/digest.ts";
import type { OutputDifference } from "../base/events.ts";
import type { BlobStore } from "../blob/store.ts";
import type { Disk } from "../host/host.ts";
import type { RunInPlace } from "./course.ts";

export interface Comparison {
  readonly equal: boolean;
  readonly differs: readonly OutputDifference[];
}

export interface CompareDeps {
  readonly disk: Pick<Disk, "statNow" | "read">;
  readonly store: Pick<BlobStore, "read">;
}

/** The run in place has just ended, and its outputs are still as it left them. */
export async function compareOutputs(
  { disk, store }: CompareDeps,
  outputPaths: readonly string[],
  answer: ActionOutcome,
  ran: RunInPlace,
): Promise<Comparison> {
  const blob = (digest: Digest): Promise<Uint8Array> =>
    digest === emptyDigest ? Promise.resolve(new Uint8Array(0)) : store.read(digest);
  const differs: OutputDifference[] = [];
  const compare = (path: string, a: Uint8Array | undefined, b: Uint8Array | undefined): void => {
    const atByte = firstDifference(a, b);
    if (atByte !== undefined) differs.push({ path, atByte });
  };
  if (ran.exitCode !== answer.exitCode) differs.push({ path: "exit code", atByte: 0 });
  for (const path of outputPaths) {
    const there = answer.outputs.find((output) => output.path === path);
    const isHere = disk.statNow(path)?.kind === "file";
    compare(path, there && (await blob(there.digest)), isHere ? await disk.read(path) : undefined);
  }
  if (ran.output !== undefined) {
    compare("stdout", await blob(answer.stdout), ran.output.stdout);
    compare("stderr", await blob(answer.stderr), ran.output.stderr);
  }
  return { equal: differs.length === 0, differs };
}

function firstDifference(a: Uint8Array | undefined, b: Uint8Array | undefined): number | undefined {
  if (a === undefined || b === undefined) return a === b ? undefined : 0;
  if (Buffer.compare(a, b) === 0) return undefined;
  const both = Math.min(a.byteLength, b.byteLength);
  let at = 0;
  while (at < both && a[at] === b[at]) at += 1;
  return at;
}
