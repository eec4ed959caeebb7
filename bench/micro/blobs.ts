/**
 * Measures blob exchange between two processes on loopback: many small blobs, one large one, and
 * one small one at a time, against the same bytes over a bare TCP socket in the same run.
 *
 *     node bench/micro/blobs.ts [--blobs 2000] [--large-mb 500] [--directory /dev/shm]
 *
 * Prints a table and, as the last line, the numbers as JSON. Stores lie in `--directory`; a folder
 * in memory shows the protocol, one on a disk shows mostly the disk. Every blob is verified and
 * stored; the bare socket's bytes are only counted.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { connect, createServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { type Digest, parseDigest } from "../../src/base/digest.ts";
import { asPeerId, type PeerId } from "../../src/base/ids.ts";
import { createExchange, type Exchange } from "../../src/blob/exchange.ts";
import { type BlobStore, createBlobStore } from "../../src/blob/store.ts";
import { createClock } from "../../src/host/clock.ts";
import { createDisk } from "../../src/host/disk.ts";
import type { Network } from "../../src/host/host.ts";
import { createNetwork } from "../../src/host/network.ts";
import { generateIdentity } from "../../src/host/network-identity.ts";

const forever = new AbortController().signal;
const meshKey = new Uint8Array(32).fill(7);
const smallMinBytes = 1_000;
const smallMaxBytes = 200_000;
const oneByOne = 200;

const { values } = parseArgs({
  options: {
    blobs: { type: "string", default: "2000" },
    "large-mb": { type: "string", default: "500" },
    directory: { type: "string", default: existsSync("/dev/shm") ? "/dev/shm" : tmpdir() },
    provider: { type: "boolean", default: false },
  },
});
const blobs = Number(values.blobs);
const largeBytes = Number(values["large-mb"]) * 1_000_000;

interface Node {
  readonly network: Network;
  readonly store: BlobStore;
  readonly exchange: Exchange;
  readonly directory: string;
}

async function startNode(): Promise<Node> {
  const directory = mkdtempSync(join(values.directory, "mesh-bench-"));
  process.on("exit", () => rmSync(directory, { recursive: true, force: true }));
  const clock = createClock();
  const store = await createBlobStore(
    { disk: createDisk(), clock },
    { directory, quotaBytes: 20e9, sync: "never" },
    forever,
  );
  const network = await createNetwork(
    {
      identity: generateIdentity(),
      meshKey,
      listen: ["/ip4/127.0.0.1/tcp/0"],
      bootstrap: [],
      mdns: false,
      name: "bench",
    },
    forever,
  );
  const exchange = createExchange(
    { network, store, clock, peers: () => network.peers(), allowed: () => true },
    {},
    forever,
  );
  return { network, store, exchange, directory };
}

/** What the provider tells the requester. */
interface Offer {
  readonly addr: string;
  readonly peer: string;
  readonly tcpPort: number;
  readonly small: readonly string[];
  readonly single: readonly string[];
  readonly large: string;
  readonly smallBytes: number;
}

async function provide(): Promise<void> {
  const { network, store } = await startNode();
  const small: Digest[] = [];
  const single: Digest[] = [];
  let smallBytes = 0;
  for (let at = 0; at < blobs; at += 1) {
    const sizeBytes =
      smallMinBytes + Math.floor(((at * 7919) % blobs) * ((smallMaxBytes - smallMinBytes) / blobs));
    smallBytes += sizeBytes;
    small.push(await store.put(randomBytes(sizeBytes)));
  }
  for (let at = 0; at < oneByOne; at += 1) single.push(await store.put(randomBytes(8_192)));
  const large = await store.put(randomBytes(largeBytes));
  const server = createServer((socket) => {
    socket.once("data", (bytes) => void pour(socket, Number(bytes.toString())));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  const offer: Offer = {
    addr: network.listenAddrs()[0] ?? "",
    peer: network.self,
    tcpPort: typeof address === "object" && address !== null ? address.port : 0,
    small,
    single,
    large,
    smallBytes,
  };
  console.log(JSON.stringify(offer));
  process.stdin.on("end", () => process.exit(0)).resume();
}

/** Sends so many bytes as fast as a socket takes them. */
async function pour(socket: Socket, sizeBytes: number): Promise<void> {
  const chunk = randomBytes(256 * 1024);
  for (let sent = 0; sent < sizeBytes; sent += chunk.byteLength) {
    if (!socket.write(chunk.subarray(0, Math.min(chunk.byteLength, sizeBytes - sent)))) {
      await new Promise<void>((resolve) => socket.once("drain", () => resolve()));
    }
  }
  socket.end();
}

async function overTcp(port: number, sizeBytes: number): Promise<number> {
  const fromMs = performance.now();
  const socket = connect(port, "127.0.0.1", () => socket.write(String(sizeBytes)));
  let gotBytes = 0;
  socket.on("data", (bytes) => {
    gotBytes += bytes.byteLength;
  });
  await new Promise<void>((resolve) => socket.on("close", () => resolve()));
  if (gotBytes !== sizeBytes) throw new Error(`the socket gave ${gotBytes} of ${sizeBytes} bytes`);
  return performance.now() - fromMs;
}

async function startProvider(): Promise<{ readonly child: ChildProcess; readonly offer: Offer }> {
  const child = spawn(
    process.execPath,
    [fileURLToPath(import.meta.url), "--provider", ...process.argv.slice(2)],
    { stdio: ["pipe", "pipe", "inherit"] },
  );
  const lines = createInterface({ input: child.stdout ?? process.stdin });
  for await (const line of lines) {
    return { child, offer: JSON.parse(line) as Offer };
  }
  throw new Error("the provider ended before it was ready");
}

interface Measured {
  readonly wallMs: number;
  readonly cpuMs: number;
}

async function measured(run: () => Promise<void>): Promise<Measured> {
  const cpu = process.cpuUsage();
  const fromMs = performance.now();
  await run();
  const { user, system } = process.cpuUsage(cpu);
  return { wallMs: performance.now() - fromMs, cpuMs: (user + system) / 1000 };
}

const mbPerSecond = (sizeBytes: number, wallMs: number): number => sizeBytes / 1000 / wallMs;

function quantile(values: readonly number[], share: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? 0;
}

async function fetchOneByOne(
  exchange: Exchange,
  peer: PeerId,
  digests: readonly Digest[],
): Promise<readonly number[]> {
  const walls: number[] = [];
  for (const digest of digests) {
    const fromMs = performance.now();
    await exchange.fetch([digest], [peer], forever);
    walls.push(performance.now() - fromMs);
  }
  return walls;
}

async function main(): Promise<void> {
  const { child, offer } = await startProvider();
  try {
    const { network, exchange } = await startNode();
    await network.connect(offer.addr, forever);
    const peer = asPeerId(offer.peer);
    const single = offer.single.map(parseDigest);
    const walls = await fetchOneByOne(exchange, peer, single);
    const many = await measured(() =>
      exchange.fetch(offer.small.map(parseDigest), [peer], forever),
    );
    const one = await measured(() => exchange.fetch([parseDigest(offer.large)], [peer], forever));
    const manyTcpMs = await overTcp(offer.tcpPort, offer.smallBytes);
    const oneTcpMs = await overTcp(offer.tcpPort, largeBytes);
    report({
      directory: values.directory,
      small: {
        blobs,
        bytes: offer.smallBytes,
        wallMs: many.wallMs,
        cpuMs: many.cpuMs,
        blobsPerSecond: (blobs * 1000) / many.wallMs,
        mbPerSecond: mbPerSecond(offer.smallBytes, many.wallMs),
        tcpMbPerSecond: mbPerSecond(offer.smallBytes, manyTcpMs),
      },
      large: {
        bytes: largeBytes,
        wallMs: one.wallMs,
        cpuMs: one.cpuMs,
        mbPerSecond: mbPerSecond(largeBytes, one.wallMs),
        tcpMbPerSecond: mbPerSecond(largeBytes, oneTcpMs),
      },
      single: {
        blobs: oneByOne,
        bytes: 8_192,
        p50Ms: quantile(walls, 0.5),
        p99Ms: quantile(walls, 0.99),
      },
    });
  } finally {
    child.stdin?.end();
  }
  process.exit(0);
}

interface Report {
  readonly directory: string;
  readonly small: Readonly<Record<string, number>>;
  readonly large: Readonly<Record<string, number>>;
  readonly single: Readonly<Record<string, number>>;
}

function report(results: Report): void {
  const { small, large, single } = results;
  const round = (value: number | undefined): string => Math.round(value ?? 0).toLocaleString("en");
  console.log(`stores in ${results.directory}; every blob verified and stored`);
  console.log("                      blobs/s      MB/s  bare TCP MB/s    CPU ms");
  console.log(
    `${blobs} x 1-200 KB`.padEnd(18),
    round(small.blobsPerSecond).padStart(10),
    round(small.mbPerSecond).padStart(9),
    round(small.tcpMbPerSecond).padStart(14),
    round(small.cpuMs).padStart(9),
  );
  console.log(
    `1 x ${values["large-mb"]} MB`.padEnd(18),
    "".padStart(10),
    round(large.mbPerSecond).padStart(9),
    round(large.tcpMbPerSecond).padStart(14),
    round(large.cpuMs).padStart(9),
  );
  console.log(
    `one 8 KB blob: p50 ${single.p50Ms?.toFixed(2)} ms, p99 ${single.p99Ms?.toFixed(2)} ms`,
  );
  console.log(JSON.stringify({ bench: "blobs", ...results }));
}

await (values.provider ? provide() : main());
