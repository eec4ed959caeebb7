/**
 * The control socket: JSON lines between a node and the commands of the same user.
 *
 * One request line a connection; any number of event lines back; at last one line with `ok`.
 * Whoever can open the socket (mode 0600) is the user; there is no further authentication. This
 * file knows lines and sessions, not what the calls mean.
 */
import { type BigIntStats, chmodSync, lstatSync, rmSync } from "node:fs";
import { connect, createServer, type Server, type Socket } from "node:net";
import { isMeshError, MeshError, messageOf } from "../base/errors.ts";
import { controlLineMaxChars } from "./control-api.ts";

/** One connection, from its request to the closing line. */
export interface Session {
  /** Sends a line. A client that does not read loses events, never the closing line. */
  send(line: object): void;
  /** The next line the client sends. Rejects with `signal.reason` when it goes away first. */
  next(): Promise<unknown>;
  /** Aborts when the client goes away. */
  readonly signal: AbortSignal;
}

/** Answers a request: what it resolves to is sent with `"ok": true` in front. */
export type Answer = (request: unknown, session: Session) => Promise<object>;

export interface ControlServer {
  close(): Promise<void>;
}

const unsentMaxBytes = 4 * 1024 * 1024;
const sessionsMax = 256;
/** Each further try means that another process has come or gone in between. */
const listenTries = 3;

/**
 * Listens at `path`. Codes: "in-use" when somebody listens there already, "io". A socket that
 * nobody answers at is replaced; of several processes that come at once, one gets it.
 */
export async function serveControl(path: string, answer: Answer): Promise<ControlServer> {
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on("close", () => sockets.delete(socket));
    if (sockets.size > sessionsMax) socket.destroy();
    else void converse(socket, answer);
  });
  await listenAlone(server, path);
  chmodSync(path, 0o600);
  return {
    close: () =>
      new Promise((resolve) => {
        // Removes the socket file, too; whatever is there afterwards is somebody else's.
        server.close(() => resolve());
        for (const socket of sockets) socket.end();
      }),
  };
}

/**
 * Whether somebody listens at a socket path. Only "refused" and "not there" say that nobody does:
 * a full queue or a missing right is somebody's socket.
 */
export function isAlive(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(path);
    socket.on("connect", () => {
      socket.destroy();
      resolve(true);
    });
    socket.on("error", (error) => {
      resolve(!["ECONNREFUSED", "ENOENT"].includes(`${codeOf(error)}`));
    });
  });
}

async function listenAlone(server: Server, path: string): Promise<void> {
  for (let tries = 0; tries < listenTries; tries += 1) {
    try {
      await listen(server, path);
      return;
    } catch (error) {
      if (codeOf(error) !== "EADDRINUSE") throw cannotListen(path, error);
      const found = socketAt(path);
      if (found !== undefined && !found.isSocket()) throw cannotListen(path, error);
      if (await isAlive(path)) break;
      // Looked at and removed in one turn: it must not be the socket of somebody who came since.
      const still = socketAt(path);
      if (still?.ino === found?.ino && still?.ctimeNs === found?.ctimeNs) {
        rmSync(path, { force: true });
      }
    }
  }
  throw new MeshError(
    "in-use",
    `another node is running with this data directory (${path}); stop it, or choose another directory with --data-dir`,
  );
}

function socketAt(path: string): BigIntStats | undefined {
  return lstatSync(path, { bigint: true, throwIfNoEntry: false });
}

function cannotListen(path: string, error: unknown): MeshError {
  return new MeshError("io", `cannot listen at ${path}: ${messageOf(error)}`, { cause: error });
}

function codeOf(error: unknown): unknown {
  return error instanceof Error && "code" in error ? error.code : undefined;
}

function listen(server: Server, path: string): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen(path, () => {
      server.off("error", reject);
      // Later ones are about single connections that could not be taken; the next one may be.
      server.on("error", () => {});
      resolve();
    });
  });
}

/** Never rejects. */
async function converse(socket: Socket, answer: Answer): Promise<void> {
  const gone = new AbortController();
  const lines = readLines(socket, gone);
  socket.on("error", () => {});
  socket.on("close", () => {
    gone.abort(new MeshError("peer-gone", "the client closed the connection"));
  });
  let corked = false;
  const write = (line: object) => {
    if (!socket.writable) return;
    // A burst of events is one write: the system call costs more than the line.
    if (!corked) {
      corked = true;
      socket.cork();
      setImmediate(() => {
        corked = false;
        socket.uncork();
      });
    }
    socket.write(`${JSON.stringify(line)}\n`);
  };
  try {
    const request = await lines.next();
    const reply = await answer(request, {
      send: (line) => {
        if (socket.writableLength < unsentMaxBytes) write(line);
      },
      next: lines.next,
      signal: gone.signal,
    });
    write({ ok: true, ...reply });
  } catch (error) {
    const code = isMeshError(error) ? error.code : "io";
    write({ ok: false, error: { code, message: messageOf(error) } });
  }
  socket.end();
}

function readLines(socket: Socket, gone: AbortController): { next(): Promise<unknown> } {
  let text = "";
  const ready: unknown[] = [];
  const waiting: { resolve(line: unknown): void; reject(error: unknown): void }[] = [];
  const deliver = (line: string) => {
    let value: unknown;
    try {
      value = JSON.parse(line);
    } catch {
      gone.abort(new MeshError("malformed", "a request line is no JSON"));
      return;
    }
    const reader = waiting.shift();
    if (reader === undefined) ready.push(value);
    else reader.resolve(value);
  };
  socket.setEncoding("utf8");
  socket.on("data", (chunk: string) => {
    text += chunk;
    if (text.length > controlLineMaxChars) {
      const message = `a request line is over ${controlLineMaxChars} characters`;
      gone.abort(new MeshError("limit", message));
      socket.destroy();
      return;
    }
    const parts = text.split("\n");
    text = parts.pop() ?? "";
    for (const part of parts) if (part !== "" && ready.length < 64) deliver(part);
  });
  gone.signal.addEventListener("abort", () => {
    for (const { reject } of waiting.splice(0)) reject(gone.signal.reason);
  });
  return {
    next: () =>
      new Promise((resolve, reject) => {
        const line = ready.shift();
        if (line !== undefined) resolve(line);
        else if (gone.signal.aborted) reject(gone.signal.reason);
        else waiting.push({ resolve, reject });
      }),
  };
}
