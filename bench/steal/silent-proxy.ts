/**
 * A TCP relay that can fall silent: from then on it takes bytes and connections, and passes nothing
 * on, as a cut cable or a firewall that drops packets would. Loopback only.
 */
import { connect, createServer, type Socket } from "node:net";

export interface SilentProxy {
  readonly port: number;
  silence(): void;
  close(): void;
}

export async function createSilentProxy(targetPort: number): Promise<SilentProxy> {
  const sockets = new Set<Socket>();
  let silent = false;
  const keep = (socket: Socket): Socket => {
    sockets.add(socket);
    socket.setNoDelay(true);
    socket.on("error", () => {});
    return socket;
  };
  const server = createServer((near) => {
    keep(near);
    const far = keep(connect(targetPort, "127.0.0.1"));
    for (const [from, to] of [
      [near, far],
      [far, near],
    ] as const) {
      from.on("data", (bytes) => void (silent || to.write(bytes)));
      // Nor does a silent one tell that a side has hung up.
      from.on("close", () => {
        sockets.delete(from);
        if (!silent) to.destroy();
      });
    }
  });
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(0, "127.0.0.1", resolve);
  });
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("the proxy has no port");
  return {
    port: address.port,
    silence() {
      silent = true;
    },
    close() {
      server.close();
      for (const socket of sockets) socket.destroy();
    },
  };
}
