/**
 * A TCP proxy in front of one node, and the weather on it: everything that other nodes send to this
 * one, or get from it over connections they made, passes here.
 *
 * It knows bytes and no protocol. What a black hole swallows comes out when it ends, as TCP would
 * send it again; nothing is ever lost, doubled or changed inside a connection that goes on.
 */
import { connect, createServer, type Server, type Socket } from "node:net";
import type { SeededRandom } from "../../../src/sim/random.ts";

/** `in` is towards the node. */
export type Direction = "in" | "out";

export interface Weather {
  readonly latencyMs: number;
  /** On top of it, up to this much, drawn for each piece; order is kept. */
  readonly jitterMs: number;
  /** Of each connection, each way. */
  readonly bytesPerSecond: number;
  /** Nothing gets through this way, and nobody is told. */
  readonly lost: readonly Direction[];
}

export const fair: Weather = {
  latencyMs: 0,
  jitterMs: 0,
  bytesPerSecond: Number.POSITIVE_INFINITY,
  lost: [],
};

export interface TcpProxy {
  readonly port: number;
  /** From now on, for what is under way as well. */
  set(weather: Weather): void;
  /** Resets every connection. Gives their number. */
  reset(): number;
  /**
   * One end of every connection goes without a word, as if its machine had lost its power; the other
   * is never told until `set` or `reset`. Gives their number.
   */
  halveAll(gone: "node" | "peer"): number;
  close(): Promise<void>;
}

interface Pair {
  readonly peer: Socket;
  readonly node: Socket | undefined;
  readonly pipes: readonly Pipe[];
  end(): void;
}

/** Above this a side is not read from: TCP's own back-pressure does the rest. */
const heldMaxBytes = 256 * 1024;

export async function startProxy(targetPort: number, random: SeededRandom): Promise<TcpProxy> {
  let weather = fair;
  const pairs = new Set<Pair>();
  const halves = new Set<Socket>();
  const current = (): Weather => weather;

  function accept(peer: Socket): void {
    // A connection that begins in a black hole: the system has answered for the node already.
    const node = connect({ port: targetPort, host: "127.0.0.1", allowHalfOpen: true });
    const pipes = [
      createPipe(peer, node, "in", current, random),
      createPipe(node, peer, "out", current, random),
    ];
    const pair: Pair = {
      peer,
      node,
      pipes,
      end() {
        pairs.delete(pair);
        for (const pipe of pipes) pipe.stop();
        peer.resetAndDestroy();
        node.resetAndDestroy();
      },
    };
    pairs.add(pair);
    for (const socket of [peer, node]) {
      socket.setNoDelay(true);
      socket.on("error", () => pair.end());
      socket.on("close", () => {
        if (peer.destroyed && node.destroyed) pairs.delete(pair);
      });
    }
  }

  function dropHalves(): void {
    for (const socket of halves) socket.resetAndDestroy();
    halves.clear();
  }

  const server = createServer({ allowHalfOpen: true }, accept);
  const port = await listen(server);
  return {
    port,
    set(next) {
      weather = next;
      dropHalves();
      for (const { pipes } of pairs) for (const pipe of pipes) pipe.changed();
    },
    reset() {
      const count = pairs.size;
      for (const pair of [...pairs]) pair.end();
      dropHalves();
      return count;
    },
    halveAll(gone) {
      const count = pairs.size;
      for (const { peer, node, pipes } of pairs) {
        for (const pipe of pipes) pipe.stop();
        const [lost, left] = gone === "node" ? [node, peer] : [peer, node];
        lost?.resetAndDestroy();
        if (left === undefined) continue;
        left.removeAllListeners("error");
        left.on("error", () => halves.delete(left));
        left.resume();
        halves.add(left);
      }
      pairs.clear();
      return count;
    },
    async close() {
      for (const pair of [...pairs]) pair.end();
      dropHalves();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

interface Pipe {
  /** The weather is another one. */
  changed(): void;
  stop(): void;
}

interface Piece {
  /** Undefined: the end. */
  readonly bytes: Buffer | undefined;
  readonly dueMs: number;
}

function createPipe(
  from: Socket,
  to: Socket,
  direction: Direction,
  weather: () => Weather,
  random: SeededRandom,
): Pipe {
  const pieces: Piece[] = [];
  let heldBytes = 0;
  let freeAtMs = 0;
  let lastDueMs = 0;
  let timer: NodeJS.Timeout | undefined;
  let stopped = false;

  function take(bytes: Buffer | undefined): void {
    const { latencyMs, jitterMs, bytesPerSecond } = weather();
    const nowMs = performance.now();
    freeAtMs = Math.max(freeAtMs, nowMs) + ((bytes?.byteLength ?? 0) / bytesPerSecond) * 1000;
    lastDueMs = Math.max(lastDueMs, freeAtMs + latencyMs + random.fraction() * jitterMs);
    pieces.push({ bytes, dueMs: lastDueMs });
    heldBytes += bytes?.byteLength ?? 0;
    if (heldBytes > heldMaxBytes) from.pause();
    flush();
  }

  function flush(): void {
    clearTimeout(timer);
    if (stopped || weather().lost.includes(direction)) return;
    for (let piece = pieces[0]; piece !== undefined; piece = pieces[0]) {
      const waitMs = piece.dueMs - performance.now();
      if (waitMs > 0) {
        timer = setTimeout(flush, waitMs);
        return;
      }
      pieces.shift();
      heldBytes -= piece.bytes?.byteLength ?? 0;
      if (piece.bytes === undefined) to.end();
      else if (!to.write(piece.bytes)) {
        to.once("drain", flush);
        break;
      }
    }
    if (heldBytes <= heldMaxBytes) from.resume();
  }

  from.on("data", take);
  from.on("end", () => take(undefined));
  return {
    changed() {
      // What was held back by the old weather need not wait for it any more.
      const { latencyMs } = weather();
      const nowMs = performance.now();
      freeAtMs = nowMs;
      lastDueMs = nowMs + latencyMs;
      for (const [at, piece] of pieces.entries()) {
        pieces[at] = { ...piece, dueMs: Math.min(piece.dueMs, lastDueMs) };
      }
      flush();
    },
    stop() {
      stopped = true;
      clearTimeout(timer);
    },
  };
}

async function listen(server: Server): Promise<number> {
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(0, "127.0.0.1", resolve);
  });
  const address = server.address();
  if (typeof address !== "object" || address === null) throw new Error("no port for a proxy");
  return address.port;
}
