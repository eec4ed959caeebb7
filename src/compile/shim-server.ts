/**
 * The node's end of the shims: a Unix socket, one connection per compiler invocation.
 *
 * Turns bytes into invocations and a link to answer on. What becomes of an invocation is the
 * door's business (`door.ts`). A connection that is closed tells the shim to run the compiler
 * itself, so "close it" is the answer to everything that goes wrong here.
 */
import { createServer, type Server, type Socket } from "node:net";
import { MeshError, messageOf } from "../base/errors.ts";
import type { Clock, Disk } from "../host/host.ts";
import { isAlive } from "../node/control-server.ts";
import type { Invocation } from "./plan.ts";
import {
  createShimParser,
  encodeExit,
  encodeRun,
  encodeStop,
  encodeWrite,
  freeFrame,
  pongFrame,
  type ShimFrame,
  type ShimParser,
  type ShimRequest,
  type ShimRun,
  writeMaxBytes,
} from "./shim-protocol.ts";

/** One compiler invocation, and who made it. */
export interface ShimInvocation extends Invocation {
  readonly build: string;
  readonly pid: number;
  readonly stderrIsTty: boolean;
  readonly wantsColour: boolean;
  /** Some argument or path is not UTF-8; only the shim knows the true bytes. */
  readonly inexact: boolean;
}

/** The way back to one shim. Nothing here rejects because of what the compiler did. */
export interface ShimLink {
  /**
   * Has the shim run the real compiler, `extraArgs` before the user's own. The shim then ends as
   * the compiler did. When `signal` aborts, the compiler gets a SIGTERM; once it has ended, this
   * rejects with the signal's reason. It rejects with "peer-gone" when the shim goes away.
   *
   * With `capture` the compiler prints into pipes, and what it printed is told as `output`. If it
   * is there and the exit code is 0, the shim, and with it the build, waits until `release` or the
   * end of the answer, but not longer than 10 s.
   */
  run(extraArgs: readonly string[], capture: boolean, signal: AbortSignal): Promise<ShimRun>;
  /** Lets the shim end after a captured run. Harmless when it does not wait. */
  release(): void;
  /** Shows bytes at once, before the end. A local run afterwards does not show them again. */
  write(fd: 1 | 2, bytes: Uint8Array): void;
  /** Shows the rest of the output and ends the shim. Resolves when it is on its way. */
  exit(code: number, stdout: Uint8Array, stderr: Uint8Array): Promise<void>;
}

export interface ShimServerDeps {
  readonly disk: Disk;
  readonly clock: Clock;
  /** Answers one shim; `signal` aborts when it goes away. A rejection closes the connection. */
  readonly onInvocation: (
    invocation: ShimInvocation,
    link: ShimLink,
    signal: AbortSignal,
  ) => Promise<void>;
  /** Told why a connection was closed without an answer. */
  readonly onTrouble: (reason: string) => void;
}

export interface ShimServerOptions {
  readonly socketPath: string;
  /** Shims served at once; one more is turned away, and compiles by itself. */
  readonly shimsMax?: number;
  /** A connection must have told its request within this time. */
  readonly requestMaxMs?: number;
}

export interface ShimServer {
  /** Shims connected now. */
  readonly shims: number;
  /** Closes every connection (their shims compile by themselves) and removes the socket. */
  close(): Promise<void>;
}

/** Codes: "in-use" when a live process listens there, "io". Ends when `signal` aborts. */
export async function createShimServer(
  deps: ShimServerDeps,
  { socketPath, shimsMax = 4096, requestMaxMs = 10_000 }: ShimServerOptions,
  signal: AbortSignal,
): Promise<ShimServer> {
  signal.throwIfAborted();
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    // An error is always followed by "close", which is where it is dealt with.
    socket.on("error", () => {});
    if (sockets.size >= shimsMax) {
      deps.onTrouble(`more than ${shimsMax} compiler invocations at once`);
      socket.destroy();
      return;
    }
    sockets.add(socket);
    socket.once("close", () => sockets.delete(socket));
    serve(deps, socket, requestMaxMs).then(
      () => socket.end(),
      (error: unknown) => {
        if (!socket.destroyed) deps.onTrouble(messageOf(error));
        socket.destroy();
      },
    );
  });
  await listen(server, deps.disk, socketPath);
  server.on("error", (error) => deps.onTrouble(messageOf(error)));
  await deps.disk.chmod(socketPath, 0o600);

  let closing: Promise<void> | undefined;
  const close = (): Promise<void> => {
    closing ??= new Promise((resolve) => {
      signal.removeEventListener("abort", onAbort);
      server.close(() => resolve());
      for (const socket of sockets) socket.destroy();
    });
    return closing;
  };
  const onAbort = (): void => void close();
  signal.addEventListener("abort", onAbort, { once: true });
  if (signal.aborted) onAbort();
  return {
    get shims() {
      return sockets.size;
    },
    close,
  };
}

/** Listens; a socket file that a dead process left is replaced. */
async function listen(server: Server, disk: Disk, socketPath: string): Promise<void> {
  // Each build waits with as many shims as the mesh has slots, and they come all at once.
  const backlog = 4096;
  const attempt = (): Promise<void> =>
    new Promise((resolve, reject) => {
      server.once("error", reject);
      server.listen({ path: socketPath, backlog }, () => {
        server.off("error", reject);
        resolve();
      });
    });
  try {
    await attempt();
  } catch (error) {
    if (codeOf(error) !== "EADDRINUSE") throw listenFailure(socketPath, error);
    if (await isAlive(socketPath)) {
      throw new MeshError("in-use", `another node listens on ${socketPath}: stop it first`);
    }
    // Sockets are "other": a file that somebody put there is not ours to remove.
    if ((await disk.stat(socketPath))?.kind !== "other") throw listenFailure(socketPath, error);
    await disk.remove(socketPath);
    await attempt().catch((again: unknown) => {
      throw listenFailure(socketPath, again);
    });
  }
}

function listenFailure(socketPath: string, error: unknown): MeshError {
  return new MeshError("io", `cannot listen on ${socketPath}: ${messageOf(error)}`, {
    cause: error,
  });
}

function codeOf(error: unknown): unknown {
  return error instanceof Error && "code" in error ? error.code : undefined;
}

async function serve(deps: ShimServerDeps, socket: Socket, requestMaxMs: number): Promise<void> {
  const gone = new AbortController();
  const parser = createShimParser();
  // The rest of a connection's life: frames, and its end.
  let onFrames: (() => void) | undefined;
  const onData = (bytes: Uint8Array): void => {
    parser.push(bytes);
    onFrames?.();
  };
  socket.on("data", onData);
  socket.once("close", () =>
    gone.abort(new MeshError("peer-gone", "the compiler's caller went away")),
  );
  const request = await deps.clock.withDeadline(gone.signal, requestMaxMs, (inTime) =>
    readRequest(parser, (listener) => (onFrames = listener), inTime),
  );
  const { link, onFrame } = createLink(socket, gone.signal);
  onFrames = () => {
    const trouble = pumpFrames(parser, onFrame);
    if (trouble === undefined) return;
    deps.onTrouble(trouble);
    socket.destroy();
  };
  onFrames();
  await deps.onInvocation(invocationOf(request), link, gone.signal);
}

/** Between the client, the shim and the node; they differ from build to build. */
const ownVariables: ReadonlySet<string> = new Set([
  "MESH_SOCKET",
  "MESH_BUILD",
  "MESH_COLOR",
  "MESH_SLOTS",
  "MESH_JOBS",
  "MESH_CLIENT",
  "MESH_INSIDE",
]);

function invocationOf(request: ShimRequest): ShimInvocation {
  // Any other name may mean something to the program that is compiled: Rust's `env!` reads it.
  const env = Object.fromEntries(
    Object.entries(request.env).filter(([name]) => !ownVariables.has(name)),
  );
  return { ...request, env };
}

function readRequest(
  parser: ShimParser,
  listen: (onBytes: () => void) => void,
  signal: AbortSignal,
): Promise<ShimRequest> {
  return new Promise((resolve, reject) => {
    const look = (): void => {
      const parsed = parser.request();
      if (parsed.at === "more") return;
      signal.removeEventListener("abort", onAbort);
      listen(() => {});
      if (parsed.at === "value") resolve(parsed.value);
      else reject(new MeshError("malformed", `bad request from a shim: ${parsed.reason}`));
    };
    const onAbort = (): void => reject(signal.reason);
    signal.addEventListener("abort", onAbort, { once: true });
    listen(look);
    look();
  });
}

/** Takes every whole frame. @returns what is wrong with one. */
function pumpFrames(
  parser: ShimParser,
  onFrame: (frame: ShimFrame) => string | undefined,
): string | undefined {
  for (;;) {
    const parsed = parser.frame();
    if (parsed.at === "more") return undefined;
    const trouble = parsed.at === "bad" ? parsed.reason : onFrame(parsed.value);
    if (trouble !== undefined) return `bad answer from a shim: ${trouble}`;
  }
}

function createLink(
  socket: Socket,
  gone: AbortSignal,
): {
  readonly link: ShimLink;
  readonly onFrame: (frame: ShimFrame) => string | undefined;
} {
  let onDone: ((run: ShimRun) => void) | undefined;
  let waits = false;
  const send = (bytes: Uint8Array): boolean => (gone.aborted ? true : socket.write(bytes));
  /** Waits until the shim has taken what was sent, so that output of any size costs little memory. */
  const drained = (): Promise<void> =>
    new Promise((resolve, reject) => {
      const settle = (): void => {
        socket.off("drain", settle);
        gone.removeEventListener("abort", settle);
        if (gone.aborted) reject(gone.reason);
        else resolve();
      };
      socket.once("drain", settle);
      gone.addEventListener("abort", settle, { once: true });
      if (gone.aborted) settle();
    });
  const sendAhead = async (fd: 1 | 2, bytes: Uint8Array): Promise<Uint8Array> => {
    let rest = bytes;
    while (rest.byteLength > writeMaxBytes) {
      if (!send(encodeWrite(fd, rest.subarray(0, writeMaxBytes)))) await drained();
      rest = rest.subarray(writeMaxBytes);
    }
    return rest;
  };

  const link: ShimLink = {
    run: (extraArgs, capture, signal) =>
      new Promise((resolve, reject) => {
        const settle = (): void => {
          onDone = undefined;
          signal.removeEventListener("abort", onAbort);
          gone.removeEventListener("abort", onGone);
        };
        const onAbort = (): void => void send(encodeStop(sigterm));
        const onGone = (): void => {
          settle();
          reject(gone.reason);
        };
        if (gone.aborted || signal.aborted) {
          reject(gone.aborted ? gone.reason : signal.reason);
          return;
        }
        signal.addEventListener("abort", onAbort, { once: true });
        gone.addEventListener("abort", onGone, { once: true });
        onDone = (run) => {
          settle();
          if (signal.aborted) reject(signal.reason);
          else resolve(run);
        };
        send(encodeRun(extraArgs, capture));
      }),
    release() {
      if (waits) send(freeFrame);
      waits = false;
    },
    write(fd, bytes) {
      for (let start = 0; start < bytes.byteLength; start += writeMaxBytes) {
        send(encodeWrite(fd, bytes.subarray(start, start + writeMaxBytes)));
      }
    },
    async exit(code, stdout, stderr) {
      const outRest = await sendAhead(1, stdout);
      const errRest = await sendAhead(2, stderr);
      if (!send(encodeExit(code, outRest, errRest))) await drained();
    },
  };
  const onFrame = (frame: ShimFrame): string | undefined => {
    if (frame.type === "ping") {
      send(pongFrame);
    } else if (onDone === undefined) {
      return "the end of a run that was not asked for";
    } else {
      waits = frame.waits;
      onDone(frame.run);
    }
    return undefined;
  };
  return { link, onFrame };
}

const sigterm = 15;
