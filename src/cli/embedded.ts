/**
 * A node for the duration of one command, in a process of its own.
 *
 * Its stdin is a pipe that only we hold: when we end, however we end, the pipe closes and the node
 * goes. It is not in our process group, so that a Ctrl-C reaches the build and leaves us to end the
 * node in order.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { fileURLToPath } from "node:url";
import { type FailureCode, MeshError } from "../base/errors.ts";
import { controlLineMaxChars } from "../node/control-api.ts";
import { createLineCutter } from "./lines.ts";

export interface Embedded {
  /** Lets the node go. Resolves when it has ended, or when it stays for another command's build. */
  release(): Promise<void>;
}

/** What an embedded node says on its stdout; everything else there is for `join --json`. */
type Said =
  | { readonly event: "ready" }
  | { readonly event: "failed"; readonly code: FailureCode; readonly message: string }
  /** It has been let go, but other commands still use it. */
  | { readonly event: "staying" };

/** A first start builds the shim and makes the folders; a loaded machine takes its time. */
const readyMaxMs = 20_000;
const releaseMaxMs = 3_000;

/**
 * Rejects with the node's own failure, "in-use" among them: then another one has just started.
 * Aborting `signal` ends the node and rejects with its reason.
 */
export async function startEmbedded(dataDir: string, signal: AbortSignal): Promise<Embedded> {
  signal.throwIfAborted();
  const child = spawn(
    process.execPath,
    [...process.execArgv, mainPath(), "join", "--embedded", "--json", "--data-dir", dataDir],
    { detached: true, stdio: ["pipe", "pipe", "pipe"], cwd: "/" },
  );
  // Writing to a node that has just died is no failure of ours.
  child.stdin.on("error", () => {});
  const said = listen(child);
  const timer = setTimeout(
    () => said.fail(new MeshError("deadline", `it was not ready after ${readyMaxMs / 1000} s`)),
    readyMaxMs,
  );
  const onAbort = () => said.fail(signal.reason);
  signal.addEventListener("abort", onAbort);
  try {
    await said.ready;
  } catch (error) {
    kill(child);
    throw error;
  } finally {
    clearTimeout(timer);
    signal.removeEventListener("abort", onAbort);
  }
  return { release: () => release(child, said.staying) };
}

interface Listening {
  readonly ready: Promise<void>;
  readonly staying: Promise<void>;
  fail(error: unknown): void;
}

function listen(child: ChildProcess): Listening {
  let readied: () => void = () => {};
  let stays: () => void = () => {};
  let fail: (error: unknown) => void = () => {};
  const ready = new Promise<void>((resolve, reject) => {
    readied = resolve;
    fail = reject;
  });
  const staying = new Promise<void>((resolve) => {
    stays = resolve;
  });
  let complaint = "";
  const cut = createLineCutter(controlLineMaxChars, (line) => {
    const said = parseSaid(line);
    if (said?.event === "ready") readied();
    if (said?.event === "staying") stays();
    if (said?.event === "failed") fail(new MeshError(said.code, said.message));
  });
  child.stdout?.on("data", (bytes: Uint8Array) => {
    try {
      cut(bytes);
    } catch (error) {
      fail(error);
    }
  });
  child.stderr?.on("data", (bytes: Uint8Array) => {
    complaint = (complaint + Buffer.from(bytes).toString()).slice(-2_000);
  });
  child.on("error", (error) => fail(new MeshError("io", error.message, { cause: error })));
  child.on("close", (code) => {
    fail(new MeshError("io", lastWords(complaint) ?? `it ended with exit code ${code}`));
  });
  return { ready, staying, fail };
}

/** A line of our own, or the one of a stack that says what went wrong. */
function lastWords(complaint: string): string | undefined {
  const lines = complaint.split("\n");
  const own = lines.findLast((line) => line.startsWith("mesh: "));
  return own?.slice("mesh: ".length) ?? lines.findLast((line) => /^\w*Error\b/.test(line));
}

function parseSaid(line: string): Said | undefined {
  try {
    const value: unknown = JSON.parse(line);
    if (typeof value !== "object" || value === null || !("event" in value)) return undefined;
    if (value.event === "ready" || value.event === "staying") return { event: value.event };
    if (value.event !== "failed" || !("code" in value) || !("message" in value)) return undefined;
    return {
      event: "failed",
      code: String(value.code) as FailureCode,
      message: String(value.message),
    };
  } catch {
    return undefined;
  }
}

async function release(child: ChildProcess, staying: Promise<void>): Promise<void> {
  child.stdin?.end();
  if (child.exitCode !== null || child.signalCode !== null) return;
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<"late">((resolve) => {
    timer = setTimeout(() => resolve("late"), releaseMaxMs);
  });
  const gone = new Promise<void>((resolve) => child.once("exit", () => resolve()));
  const how = await Promise.race([gone, staying, late]);
  clearTimeout(timer);
  if (how === "late") kill(child);
  child.stdout?.destroy();
  child.stderr?.destroy();
  child.unref();
}

/**
 * What the node runs is in sessions of its own, out of this group's reach: the process that starts
 * commands ends them, and itself, when the node's end of their channel closes.
 */
function kill(child: ChildProcess): void {
  if (child.pid === undefined) return;
  try {
    process.kill(-child.pid, "SIGKILL");
  } catch {
    // Gone already.
  }
}

/** The entry beside this file: main.js when compiled, main.ts in a checkout. */
function mainPath(): string {
  const extension = import.meta.url.endsWith(".ts") ? "ts" : "js";
  return fileURLToPath(new URL(`./main.${extension}`, import.meta.url));
}
