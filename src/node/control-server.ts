/**
 * The control socket: JSON lines between a node and the commands of the same user.
 *
 * One request line a connection; any number of event lines back; at last one line with `ok`.
 * Whoever can open the socket (mode 0600) is the user; there is no further authentication. This
 * file knows lines and sessions, not what the calls mean.
 */
import { chmodSync, rmSync } from "node:fs";
import { connect, createServer, type Server, type Socket } from "node:net";
import { isMeshError, MeshError, messageOf } from "../base/errors.ts";

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

const lineMaxBytes = 1024 * 1024;
const unsentMaxBytes = 4 * 1024 * 1024;
const sessionsMax = 256;

/**
 * Listens at `path`. Code "in-use" when a live node listens there already; a socket file that
 * nobody answers at is replaced.
 */
export async function serveControl(path: string, answer: Answer): Promise<ControlServer> {
  if (await isAlive(path)) {
    throw new MeshError("in-use", `another node is running with this data directory (${path})`);
  }
  rmSync(path, { force: true });
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on("close", () => sockets.delete(socket));
    if (sockets.size > sessionsMax) socket.destroy();
    else void converse(socket, answer);
  });
  await listen(server, path);
  chmodSync(path, 0o600);
  return {
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        for (const socket of sockets) socket.end();
        rmSync(path, { force: true });
      }),
  };
}

/** Whether somebody accepts connections at a socket path. */
export function isAlive(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(path);
    socket.on("connect", () => {
      socket.destroy();
      resolve(true);
    });
    socket.on("error", () => resolve(false));
  });
}

function listen(server: Server, path: string): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once("error", (error: NodeJS.ErrnoException) => {
      const code = error.code === "EADDRINUSE" ? "in-use" : "io";
      reject(
        new MeshError(code, `cannot listen at ${path}: ${messageOf(error)}`, { cause: error }),
      );
    });
    server.listen(path, () => resolve());
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
  const write = (line: object) => {
    if (!socket.writable) return;
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
    if (text.length > lineMaxBytes) {
      gone.abort(new MeshError("limit", `a request line is over ${lineMaxBytes} bytes`));
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
