/**
 * Watches a command's stderr for the announcement that one of its outputs is complete.
 *
 * A compiler with JSON messages (rustc) prints `{"artifact":"/path/libx.rmeta",…}` as soon as a
 * file is whole; others wait for exactly that file, not for the rest of the run. No setting is
 * needed: a line counts if its "artifact" is one of the action's outputs, and no other line costs
 * more than a look at its first character.
 */
import { resolve } from "node:path/posix";
import type { OutputBlob, Progress } from "../action/action.ts";
import { concatBytes } from "../base/bytes.ts";

export interface ArtifactWatch {
  /** A piece of stderr, in order. */
  onStderr(bytes: Uint8Array): void;
  /** Resolves when everything announced so far was reported; rejects with what went wrong first. */
  settled(): Promise<void>;
}

/** Announcements are short. A longer line is passed on, but nobody looks into it. */
const lineMaxBytes = 64 * 1024;
const newline = 10;
const brace = 123;

/**
 * Reports through `onProgress`: stderr up to and including the announcing line, without gap or
 * overlap from one call to the next, so what was reported is always a beginning of the whole.
 */
export function createArtifactWatch(
  { cwd, outputPaths }: { readonly cwd: string; readonly outputPaths: readonly string[] },
  capture: (path: string) => Promise<OutputBlob | undefined>,
  onProgress: (progress: Progress) => void,
): ArtifactWatch {
  const waiting = new Set(outputPaths);
  /** Not yet reported; the last `lineBytes` of it are an unfinished line. */
  let unsaid: Uint8Array[] = [];
  let line: Uint8Array[] = [];
  let lineBytes = 0;
  let last: Promise<void> = Promise.resolve();
  let failure: { readonly reason: unknown } | undefined;

  function announce(path: string): void {
    waiting.delete(path);
    const stderr = concatBytes(unsaid);
    unsaid = [];
    last = last.then(async () => {
      if (failure !== undefined) return;
      try {
        const output = await capture(path);
        onProgress({ stderr, outputs: output === undefined ? [] : [output] });
      } catch (reason) {
        failure = { reason };
      }
    });
  }

  function endLine(): void {
    const text = lineBytes <= lineMaxBytes ? concatBytes(line) : undefined;
    line = [];
    lineBytes = 0;
    const path = text && artifactOf(text, cwd);
    if (path !== undefined && waiting.has(path)) announce(path);
  }

  return {
    onStderr(bytes) {
      let start = 0;
      for (let end = bytes.indexOf(newline); end >= 0; end = bytes.indexOf(newline, start)) {
        const piece = bytes.subarray(start, end + 1);
        start = end + 1;
        unsaid.push(piece);
        lineBytes += piece.byteLength;
        if (lineBytes <= lineMaxBytes) line.push(piece);
        endLine();
      }
      if (start === bytes.byteLength) return;
      const rest = bytes.subarray(start);
      unsaid.push(rest);
      lineBytes += rest.byteLength;
      if (lineBytes <= lineMaxBytes) line.push(rest);
    },
    async settled() {
      await last;
      if (failure !== undefined) throw failure.reason;
    },
  };
}

/** The file that a line announces, as an absolute path. */
function artifactOf(line: Uint8Array, cwd: string): string | undefined {
  if (line[0] !== brace) return undefined;
  try {
    const message: unknown = JSON.parse(new TextDecoder().decode(line));
    if (typeof message !== "object" || message === null || !("artifact" in message))
      return undefined;
    const { artifact } = message;
    return typeof artifact === "string" ? resolve(cwd, artifact) : undefined;
  } catch {
    // A diagnostic that happens to start like one.
    return undefined;
  }
}
