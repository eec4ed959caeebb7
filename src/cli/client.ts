/**
 * Talks to a running node over its control socket.
 *
 * It knows lines and their order (docs of `node/control-api.ts`), not what the commands do with
 * the answers, and it starts no node.
 */
import { lstatSync, type Stats } from "node:fs";
import { connect, type Socket } from "node:net";
import { dirname } from "node:path";
import { isMeshError, MeshError, messageOf } from "../base/errors.ts";
import {
  type ControlEvent,
  type ControlRequest,
  controlLineMaxChars,
  parseControlLine,
} from "../node/control-api.ts";
import { isSocketFolder, nodePaths, socketsLieElsewhere } from "../node/paths.ts";
import { createLineCutter } from "./lines.ts";

/** How a conversation ended. */
export type CallEnd =
  | { readonly at: "done"; readonly reply: Readonly<Record<string, unknown>> }
  | { readonly at: "failed"; readonly error: MeshError }
  /** The node went away, or talks nonsense. */
  | { readonly at: "lost"; readonly reason: string };

/** One request and its answers. */
export interface Call {
  send(request: ControlRequest): void;
  /** Resolves once; never rejects. */
  readonly ended: Promise<CallEnd>;
  /** Goes away: for the node, a cancel. Harmless when it has ended. */
  close(): void;
}

/**
 * Sends `request` to the node of `dataDir`. Undefined when no node listens there.
 * Code "refused" when the socket belongs to somebody else: its answers name programs to run.
 */
export async function openCall(
  dataDir: string,
  request: ControlRequest,
  onEvent: (event: ControlEvent) => void,
): Promise<Call | undefined> {
  const socket = await connectTo(dataDir);
  if (socket === undefined) return undefined;
  return converse(socket, request, onEvent);
}

export interface AskOptions {
  /** Longest silence from the node before the question is given up. */
  readonly silenceMs: number;
  readonly onEvent?: (event: ControlEvent) => void;
  /** Ends the question: the connection is closed, which the node takes as a cancel. */
  readonly signal?: AbortSignal;
}

/** Asks and waits for the closing answer. Codes: "no-mesh", "deadline", and those of the node. */
export async function ask(
  dataDir: string,
  request: ControlRequest,
  options: AskOptions,
): Promise<Readonly<Record<string, unknown>>> {
  let quiet: NodeJS.Timeout | undefined;
  let timedOut = false;
  const call = await openCall(dataDir, request, (event) => {
    quiet?.refresh();
    options.onEvent?.(event);
  });
  if (call === undefined) throw noNode(dataDir);
  quiet = setTimeout(() => {
    timedOut = true;
    call.close();
  }, options.silenceMs);
  const onAbort = () => call.close();
  options.signal?.addEventListener("abort", onAbort);
  try {
    const end = await call.ended;
    options.signal?.throwIfAborted();
    if (timedOut) throw silent(dataDir, options.silenceMs);
    if (end.at === "failed") throw end.error;
    if (end.at === "lost") throw new MeshError("peer-gone", `the node went away: ${end.reason}`);
    return end.reply;
  } finally {
    clearTimeout(quiet);
    options.signal?.removeEventListener("abort", onAbort);
  }
}

function noNode(dataDir: string): MeshError {
  return new MeshError(
    "no-mesh",
    `no node is running for ${dataDir}: start one with \`mesh-node join\`, ` +
      "or name another with --data-dir or MESH_DIR",
  );
}

function silent(dataDir: string, silenceMs: number): MeshError {
  return new MeshError(
    "deadline",
    `the node of ${dataDir} has not answered for ${Math.round(silenceMs / 1000)} s: ` +
      "it is stopped or overloaded; restart it",
  );
}

async function connectTo(dataDir: string): Promise<Socket | undefined> {
  const paths = nodePaths(dataDir);
  const place = socketsLieElsewhere(paths) ? dirname(paths.controlSocket) : undefined;
  if (place !== undefined && !isSocketFolder(place)) return undefined;
  if (!isOurs(paths.controlSocket)) return undefined;
  return await new Promise((resolve, reject) => {
    const socket = connect(paths.controlSocket);
    socket.once("connect", () => resolve(socket));
    socket.once("error", (error: NodeJS.ErrnoException) => {
      socket.destroy();
      // ECONNREFUSED: the file of a node that died.
      if (["ENOENT", "ECONNREFUSED", "ENOTSOCK"].includes(error.code ?? "")) resolve(undefined);
      else reject(unreachable(paths.controlSocket, error));
    });
  });
}

/** False when there is nothing. @throws MeshError "refused" when it is another user's. */
function isOurs(path: string): boolean {
  const stat = statOf(path);
  if (stat === undefined) return false;
  if (process.getuid === undefined || stat.uid === process.getuid() || stat.uid === 0) return true;
  throw new MeshError(
    "refused",
    `${path} belongs to another user (uid ${stat.uid}): name a data directory of your own ` +
      "with --data-dir or MESH_DIR",
  );
}

function statOf(path: string): Stats | undefined {
  try {
    return lstatSync(path);
  } catch (error) {
    const code = error instanceof Error && "code" in error ? error.code : undefined;
    if (code === "ENOENT" || code === "ENOTDIR") return undefined;
    throw new MeshError("refused", `cannot look for a node at ${path}: ${messageOf(error)}`, {
      cause: error,
    });
  }
}

function unreachable(path: string, error: Error): MeshError {
  return new MeshError("io", `cannot reach the node at ${path}: ${error.message}`, {
    cause: error,
  });
}

function converse(
  socket: Socket,
  request: ControlRequest,
  onEvent: (event: ControlEvent) => void,
): Call {
  let finish: (end: CallEnd) => void = () => {};
  const ended = new Promise<CallEnd>((resolve) => {
    finish = (end) => {
      resolve(end);
      socket.destroy();
    };
  });
  const cut = createLineCutter(controlLineMaxChars, (line) => {
    const said = parseControlLine(line);
    if (said.at === "event") onEvent(said.event);
    if (said.at === "done") finish(said);
    if (said.at === "failed") {
      finish({ at: "failed", error: new MeshError(said.code, said.message) });
    }
  });
  socket.on("data", (bytes: Uint8Array) => {
    try {
      cut(bytes);
    } catch (error) {
      if (!isMeshError(error)) throw error;
      finish({ at: "lost", reason: messageOf(error) });
    }
  });
  socket.on("error", (error) => finish({ at: "lost", reason: error.message }));
  socket.on("close", () => finish({ at: "lost", reason: "the connection was closed" }));
  const send = (message: ControlRequest) => {
    if (socket.writable) socket.write(`${JSON.stringify(message)}\n`);
  };
  send(request);
  return { send, ended, close: () => finish({ at: "lost", reason: "given up" }) };
}
