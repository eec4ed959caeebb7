/** `mesh run JOB.json`: checks what can be checked here, hands the job to a node, shows progress. */
import {
  accessSync,
  constants,
  createReadStream,
  createWriteStream,
  lstatSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
} from "node:fs";
import { constants as osConstants, tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { pipeline } from "node:stream/promises";
import { MeshError, messageOf } from "../base/errors.ts";
import { parseManifest } from "../job/manifest.ts";
import type { ControlEvent, RunRequest } from "../node/control-api.ts";
import { openCall } from "./client.ts";
import { createInterrupts } from "./interrupts.ts";
import { eraseLine } from "./live-line.ts";
import { withNode } from "./session.ts";
import { countOf, duration } from "./summary.ts";
import { createTally, type Tally } from "./tally.ts";
import type { Terminal } from "./terminal.ts";

export interface RunFlags {
  readonly dataDir: string;
  /** Undefined: stdin, stdout. */
  readonly input: string | undefined;
  readonly output: string | undefined;
}

export async function runCommand(
  jobFile: string,
  flags: RunFlags,
  terminal: Terminal,
): Promise<number> {
  const { module, manifest } = readJob(jobFile);
  const interrupts = createInterrupts();
  const spool = mkdtempSync(join(tmpdir(), "mesh-run-"));
  try {
    const input = await inputFile(flags.input, spool);
    const place = outputPlace(flags.output);
    const output = place.how === "renamed" ? place.path : join(spool, "output");
    const request: RunRequest = { call: "run", module, manifest, input, output };
    await runJob(request, flags.dataDir, terminal, interrupts.signal);
    if (place.how === "stdout") {
      await pipeline(createReadStream(output), process.stdout, { end: false });
    } else if (place.how === "streamed") {
      const { signal } = interrupts;
      await pipeline(createReadStream(output), createWriteStream(place.path), { signal });
    }
    return 0;
  } catch (error) {
    if (interrupts.received === undefined) throw error;
    terminal.err("mesh: the job is stopped, nothing was written\n");
    return 128 + osConstants.signals[interrupts.received];
  } finally {
    rmSync(spool, { recursive: true, force: true });
    interrupts.close();
  }
}

async function runJob(
  request: RunRequest,
  dataDir: string,
  terminal: Terminal,
  signal: AbortSignal,
): Promise<void> {
  const keeper = createTally();
  const startMs = performance.now();
  const show = createProgressLine(terminal, keeper.tally);
  const onEvent = (event: ControlEvent) => {
    keeper.see(event);
    show.see(event);
  };
  const { opened, embedded } = await withNode(
    dataDir,
    () => openCall(dataDir, request, onEvent),
    signal,
  );
  const onAbort = () => opened.close();
  signal.addEventListener("abort", onAbort);
  try {
    if (signal.aborted) opened.close();
    const end = await opened.ended;
    signal.throwIfAborted();
    if (end.at === "failed") throw end.error;
    if (end.at === "lost") throw new MeshError("peer-gone", `the node went away: ${end.reason}`);
    show.close();
    const text = resultText(end.reply.result, keeper.tally.nameOf);
    terminal.err(`mesh: done in ${duration(performance.now() - startMs)}${text}\n`);
  } finally {
    show.close();
    signal.removeEventListener("abort", onAbort);
    await embedded?.release();
  }
}

/** ": 12 chunks (node-b 7, here 5)", as far as the node says. */
export function resultText(result: unknown, nameOf: (peer: string) => string): string {
  if (typeof result !== "object" || result === null) return "";
  const chunks =
    "chunks" in result && typeof result.chunks === "number" ? result.chunks : undefined;
  const byPeer = "byPeer" in result && typeof result.byPeer === "object" ? result.byPeer : {};
  const where = Object.entries(byPeer ?? {}).map(([peer, count]) => `${nameOf(peer)} ${count}`);
  if (chunks === undefined) return "";
  return `: ${countOf(chunks, "chunk")}${where.length > 0 ? ` (${where.join(", ")})` : ""}`;
}

interface ProgressLine {
  see(event: ControlEvent): void;
  close(): void;
}

/** One live line on a terminal; nothing elsewhere, where the closing line says it all. */
function createProgressLine(terminal: Terminal, tally: Tally): ProgressLine {
  let drawnMs = Number.NEGATIVE_INFINITY;
  let done = 0;
  let total: number | undefined;
  return {
    see(event) {
      if (event.event === "progress") {
        done = event.done ?? done;
        total = event.total ?? total;
      }
      const nowMs = performance.now();
      if (!terminal.errTty || nowMs - drawnMs < 100) return;
      drawnMs = nowMs;
      const there = tally.runningThere > 0 ? `, ${tally.runningThere} on peers` : "";
      terminal.err(`${eraseLine}mesh ${done}/${total ?? "?"} chunks${there}`);
    },
    close() {
      if (drawnMs > 0) terminal.err(eraseLine);
      drawnMs = Number.NEGATIVE_INFINITY;
    },
  };
}

function readJob(jobFile: string): Pick<RunRequest, "module" | "manifest"> {
  let text: string;
  try {
    text = readFileSync(jobFile, "utf8");
  } catch (error) {
    throw new MeshError("usage", `cannot read the job ${jobFile}: ${messageOf(error)}`);
  }
  const module = resolve(dirname(jobFile), parseManifest(text, jobFile).module);
  readable("the job's module", module);
  return { module, manifest: JSON.parse(text) as Record<string, unknown> };
}

async function inputFile(flag: string | undefined, spool: string): Promise<string> {
  if (flag !== undefined) {
    readable("--input", resolve(flag));
    return resolve(flag);
  }
  if (process.stdin.isTTY === true) {
    throw new MeshError("usage", "run takes --input FILE, or its input on stdin");
  }
  const path = join(spool, "input");
  await pipeline(process.stdin, createWriteStream(path));
  return path;
}

type OutputPlace =
  /** Written whole or not at all: the node writes beside it and renames. */
  | { readonly how: "renamed"; readonly path: string }
  /** Opened and written: a device, pipe or symlink that a rename would replace. */
  | { readonly how: "streamed"; readonly path: string }
  | { readonly how: "stdout" };

const stdoutNames: ReadonlySet<string> = new Set(["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"]);

/** Found out before a long job and not after it. */
function outputPlace(flag: string | undefined): OutputPlace {
  // By its name: it may be a socket, which cannot be opened again.
  if (flag === undefined || stdoutNames.has(resolve(flag))) return { how: "stdout" };
  const path = resolve(flag);
  const there = statSync(path, { throwIfNoEntry: false });
  if (there?.isDirectory() === true) {
    throw new MeshError("usage", `--output cannot be written: ${path} is a folder`);
  }
  if (there?.isSocket() === true) {
    throw new MeshError("usage", `--output cannot be written: ${path} is a socket`);
  }
  const isRenamed = lstatSync(path, { throwIfNoEntry: false })?.isFile() ?? true;
  const written = isRenamed || there === undefined ? dirname(path) : path;
  try {
    accessSync(written, constants.W_OK);
  } catch (error) {
    throw new MeshError("usage", `--output cannot be written: ${messageOf(error)}`);
  }
  return { how: isRenamed ? "renamed" : "streamed", path };
}

function readable(what: string, path: string): void {
  const stat = statSync(path, { throwIfNoEntry: false });
  if (stat?.isFile() !== true) {
    throw new MeshError("usage", `${what}: ${path} is ${stat ? "no file" : "not there"}`);
  }
}
