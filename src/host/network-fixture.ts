/**
 * What the tests of the network port share: networks that close themselves, and a peer in a
 * process of its own, which can be stopped and killed.
 */
import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { onTestFinished } from "vitest";
import type { Network, Stream, StreamEnd } from "./host.ts";
import { createNetwork, type NetworkOptions } from "./network.ts";
import { generateIdentity } from "./network-identity.ts";

export const never: AbortSignal = new AbortController().signal;
export const meshKey: Uint8Array = new Uint8Array(32).fill(7);

/** A network on loopback that ends with the test. */
export async function startNetwork(options: Partial<NetworkOptions> = {}): Promise<Network> {
  const network = await createNetwork(
    {
      identity: generateIdentity(),
      meshKey,
      listen: ["/ip4/127.0.0.1/tcp/0"],
      bootstrap: [],
      mdns: false,
      name: "test",
      ...options,
    },
    never,
  );
  onTestFinished(() => network.close());
  return network;
}

export function addrOf(network: Network): string {
  const addr = network.listenAddrs()[0];
  assert(addr !== undefined);
  return addr;
}

/** Two networks, the first connected to the second, and both aware of it. */
export async function startPair(): Promise<readonly [Network, Network]> {
  const [a, b] = await Promise.all([startNetwork(), startNetwork()]);
  const seen = until(() => b.peers().includes(a.self));
  await a.connect(addrOf(b), never);
  await seen;
  return [a, b];
}

/** Opens a stream on a fresh pair and hands over both ends. */
export async function startStreams(): Promise<readonly [Stream, Stream]> {
  const [a, b] = await startPair();
  const accepted = new Promise<Stream>((resolve) => {
    b.serve("/test/1", (_peer, stream) => resolve(stream));
  });
  return [await a.open(b.self, "/test/1", never), await accepted];
}

/** Waits for a fact. The test's own time limit is the bound. */
export async function until(fact: () => boolean): Promise<void> {
  while (!fact()) await pause(5);
}

export function pause(durationMs: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, durationMs));
}

/** Sends `totalBytes` as fast as the stream lets it. */
export async function pump(stream: Stream, totalBytes: number): Promise<void> {
  const chunk = 128 * 1024;
  for (let sent = 0; sent < totalBytes; sent += chunk) {
    const more = stream.send(new Uint8Array(Math.min(chunk, totalBytes - sent)));
    if (!more) await stream.drained(never);
  }
}

/** How a stream ended and how much it delivered by then. */
export async function drain(
  stream: Stream,
): Promise<{ readonly end: StreamEnd; readonly sizeBytes: number }> {
  let sizeBytes = 0;
  stream.receive((bytes) => {
    sizeBytes += bytes.byteLength;
  });
  const end = await stream.ended;
  return { end, sizeBytes };
}

export interface RemotePeer {
  readonly process: ChildProcess;
  readonly addr: string;
}

/** A peer in another process. It counts what it gets on /test/count and tells when a stream ends. */
export async function startRemote(): Promise<RemotePeer> {
  const child = spawn(process.execPath, ["--input-type=module", "-e", remoteProgram], {
    stdio: ["pipe", "pipe", "inherit"],
  });
  onTestFinished(async () => {
    if (child.exitCode !== null || child.signalCode !== null) return;
    child.kill("SIGKILL");
    await once(child, "exit");
  });
  const addr = await new Promise<string>((resolve, reject) => {
    child.stdout?.once("data", (bytes: Buffer) => resolve(bytes.toString().trim()));
    child.once("exit", (code) => reject(new Error(`the remote peer exited with ${code}`)));
  });
  return { process: child, addr };
}

const remoteProgram = `
import { createNetwork } from ${JSON.stringify(new URL("./network.ts", import.meta.url).href)};
import { generateIdentity } from ${JSON.stringify(new URL("./network-identity.ts", import.meta.url).href)};
const network = await createNetwork({
  identity: generateIdentity(), meshKey: new Uint8Array(32).fill(7),
  listen: ["/ip4/127.0.0.1/tcp/0"], bootstrap: [], mdns: false, name: "remote",
}, new AbortController().signal);
network.serve("/test/count/1", (peer, stream) => {
  let sizeBytes = 0;
  stream.receive((bytes) => {
    sizeBytes += bytes.byteLength;
    if (bytes.at(-1) === 1) stream.send(new TextEncoder().encode(String(sizeBytes)));
  });
});
process.stdin.on("close", () => process.exit()).resume();
console.log(network.listenAddrs()[0]);
`;
