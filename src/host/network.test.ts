import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { connect as connectTcp, createServer, type Server } from "node:net";
import { expect, onTestFinished, test } from "vitest";
import type { PeerChange, Stream } from "./host.ts";
import { createNetwork } from "./network.ts";
import {
  addrOf,
  meshKey,
  never,
  pause,
  startNetwork,
  startPair,
  startRemote,
  until,
} from "./network-fixture.ts";
import { generateIdentity } from "./network-identity.ts";

test("both sides see a connection come and go, once, however often they dial", async () => {
  const [a, b] = await Promise.all([startNetwork(), startNetwork()]);
  const seen: Record<"a" | "b", PeerChange[]> = { a: [], b: [] };
  a.onChange((change) => seen.a.push(change));
  b.onChange((change) => seen.b.push(change));
  const [toB, toA] = await Promise.all([
    a.connect(addrOf(b), never),
    b.connect(addrOf(a), never),
    a.connect(addrOf(b), never),
  ]);
  expect([toB, toA]).toEqual([b.self, a.self]);
  await until(() => seen.a.length > 0 && seen.b.length > 0);
  // A dial is over before the other side has finished its part.
  await pause(100);
  expect(a.peers()).toEqual([b.self]);
  expect(addrOf(b)).toContain(`${a.addrOf(b.self)}`.split("/").slice(0, 3).join("/"));

  await a.disconnect(b.self);
  await until(() => b.peers().length === 0);
  expect(seen.a).toEqual([
    { peer: b.self, at: "connected" },
    { peer: b.self, at: "disconnected" },
  ]);
  expect(seen.b.map(({ at }) => at)).toEqual(["connected", "disconnected"]);
  expect(a.peers()).toEqual([]);
  expect(a.addrOf(b.self)).toBeUndefined();
});

test("a peer that is killed is gone at once", async () => {
  const [network, remote] = await Promise.all([startNetwork(), startRemote()]);
  const peer = await network.connect(remote.addr, never);
  const gone = new Promise<PeerChange>((resolve) => {
    network.onChange((change) => change.at === "disconnected" && resolve(change));
  });
  remote.process.kill("SIGKILL");
  expect(await gone).toEqual({ peer, at: "disconnected" });
  await expect(network.open(peer, "/test/count/1", never)).rejects.toMatchObject({
    code: "peer-gone",
  });
});

test("the listener hears of a peer before its first stream comes", async () => {
  const [a, b] = await Promise.all([startNetwork(), startNetwork()]);
  const heard: string[] = [];
  b.onChange(({ at }) => heard.push(at));
  const served = new Promise<void>((resolve) => {
    b.serve("/test/1", (peer, stream) => {
      heard.push(peer === a.self ? "stream" : "stranger");
      stream.receive(() => {});
      resolve();
    });
  });
  await a.open(await a.connect(addrOf(b), never), "/test/1", never);
  await served;
  expect(heard).toEqual(["connected", "stream"]);
});

test("streams carry bytes both ways", async () => {
  const [a, b] = await startPair();
  b.serve("/test/echo/1", (_peer, stream) => stream.receive((bytes) => stream.send(bytes)));
  const stream = await a.open(b.self, "/test/echo/1", never);
  expect(stream.protocol).toBe("/test/echo/1");
  const answer: number[] = [];
  stream.receive((bytes) => answer.push(...bytes));
  stream.send(new Uint8Array([1, 2]));
  stream.send(new Uint8Array([3]));
  await until(() => answer.length === 3);
  expect(answer).toEqual([1, 2, 3]);
});

test("one peer may open many streams at a time, up to a limit", async () => {
  const [a, b] = await startPair();
  const accepted: Stream[] = [];
  b.serve("/test/1", (_peer, stream) => {
    stream.receive(() => {});
    accepted.push(stream);
  });
  const open = (): Promise<Stream> => a.open(b.self, "/test/1", never);
  await Promise.all(Array.from({ length: 256 }, open));
  await until(() => accepted.length === 256);
  await expect(open()).rejects.toMatchObject({ code: "limit" });
  expect(a.peers()).toEqual([b.self]);
});

test("a protocol that the peer does not serve is unsupported", async () => {
  const [a, b] = await startPair();
  await expect(a.open(b.self, "/none/1", never)).rejects.toMatchObject({ code: "unsupported" });
});

test("a stream to somebody who is not connected is refused", async () => {
  const [a, b] = await Promise.all([startNetwork(), startNetwork()]);
  await expect(a.open(b.self, "/test/1", never)).rejects.toMatchObject({ code: "peer-gone" });
});

test("a node with another mesh key cannot connect, and is told why", async () => {
  const [a, stranger] = await Promise.all([
    startNetwork(),
    startNetwork({ meshKey: new Uint8Array(32) }),
  ]);
  const changes: PeerChange[] = [];
  stranger.onChange((change) => changes.push(change));
  await expect(a.connect(addrOf(stranger), never)).rejects.toMatchObject({ code: "wrong-mesh" });
  expect(a.peers()).toEqual([]);
  expect(changes).toEqual([]);
});

test("an address of another peer than it says leads nowhere", async () => {
  const [a, b] = await Promise.all([startNetwork(), startNetwork()]);
  const wrong = addrOf(b).replace(b.self, generateIdentity().peerId);
  await expect(a.connect(wrong, never)).rejects.toMatchObject({
    code: "peer-gone",
    message: expect.stringContaining("another node"),
  });
});

test("an address without a peer id leads to whoever is there", async () => {
  const [a, b] = await Promise.all([startNetwork(), startNetwork()]);
  expect(await a.connect(addrOf(b).split("/p2p/")[0] ?? "", never)).toBe(b.self);
});

test("dialling oneself is refused", async () => {
  const a = await startNetwork();
  for (const addr of [addrOf(a), addrOf(a).split("/p2p/")[0] ?? ""]) {
    await expect(a.connect(addr, never)).rejects.toMatchObject({ code: "refused" });
  }
});

test("an address where nobody listens is a peer that is gone", async () => {
  const [a, b] = await Promise.all([startNetwork(), startNetwork()]);
  const addr = addrOf(b);
  await b.close();
  await expect(a.connect(addr, never)).rejects.toMatchObject({
    code: "peer-gone",
    message: expect.stringContaining("nobody listens"),
  });
});

test("a host that does not answer costs a second, not the whole handshake's time", async () => {
  const program = `
    const server = require("node:net").createServer().listen({ port: 0, host: "127.0.0.1", backlog: 1 }, () => {
      require("node:fs").writeSync(1, String(server.address().port));
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);
    });`;
  const child = spawn(process.execPath, ["-e", program], { stdio: ["ignore", "pipe", "inherit"] });
  onTestFinished(() => void child.kill("SIGKILL"));
  const [port] = await once(child.stdout, "data");
  const a = await startNetwork();
  const attempts = await Promise.all(
    // The kernel completes a few connections for a program that accepts none, and no more.
    Array.from({ length: 6 }, () =>
      a.connect(`/ip4/127.0.0.1/tcp/${port}/p2p/${generateIdentity().peerId}`, never).then(
        () => "connected",
        (error: Error) => error.message,
      ),
    ),
  );
  expect(attempts.filter((message) => message.includes("did not answer")).length).toBeGreaterThan(
    2,
  );
});

test("a program that answers but does not speak costs its time limit", async () => {
  const a = await startNetwork();
  const addr = await listenWith(() => {});
  await expect(a.connect(addr, never)).rejects.toMatchObject({ code: "deadline" });
});

test("a program that hangs up is a peer that is gone", async () => {
  const a = await startNetwork();
  const addr = await listenWith((server) => server.on("connection", (socket) => socket.destroy()));
  await expect(a.connect(addr, never)).rejects.toMatchObject({ code: "peer-gone" });
});

test("connect and open end with the caller's reason", async () => {
  const a = await startNetwork();
  const addr = await listenWith(() => {});
  const stop = new AbortController();
  const connecting = a.connect(addr, stop.signal);
  stop.abort(new Error("changed my mind"));
  await expect(connecting).rejects.toThrow("changed my mind");
  await expect(a.connect(addr, stop.signal)).rejects.toThrow("changed my mind");
});

test.each([
  "",
  "garbage",
  "10.0.0.1:4001",
  "/ip4/10.0.0.1",
  "/ip4/10.0.0.256/tcp/1",
  "/ip4/10.0.0.1/udp/4001/quic-v1",
  "/ip4/10.0.0.1/tcp/4001/ws",
  "/unix/tmp/socket",
])("the address %j is told to be malformed", async (addr) => {
  const a = await startNetwork();
  await expect(a.connect(addr, never)).rejects.toMatchObject({ code: "usage" });
  await expect(startNetwork({ listen: [addr] })).rejects.toMatchObject({ code: "usage" });
  await expect(startNetwork({ bootstrap: [addr] })).rejects.toMatchObject({ code: "usage" });
});

test("a port that is taken is named", async () => {
  const a = await startNetwork();
  const taken = addrOf(a).split("/p2p/")[0] ?? "";
  const port = taken.split("/").at(-1);
  await expect(startNetwork({ listen: [taken] })).rejects.toMatchObject({
    code: "in-use",
    message: expect.stringContaining(`127.0.0.1:${port};`),
  });
});

test("a network that fails to start leaves no port taken", async () => {
  const a = await startNetwork();
  const taken = addrOf(a).split("/p2p/")[0] ?? "";
  const free = await freePort();
  const listen = [`/ip4/127.0.0.1/tcp/${free}`, taken];
  await expect(startNetwork({ listen })).rejects.toMatchObject({ code: "in-use" });
  expect(addrOf(await startNetwork({ listen: listen.slice(0, 1) }))).toContain(`/tcp/${free}/`);
});

test("an address of another machine cannot be listened on", async () => {
  await expect(startNetwork({ listen: ["/ip4/198.51.100.9/tcp/0"] })).rejects.toMatchObject({
    code: "usage",
    message: expect.stringContaining("198.51.100.9"),
  });
});

test("its addresses have a real port and its peer id, the ones for other machines first", async () => {
  const a = await startNetwork({ listen: ["/ip4/0.0.0.0/tcp/0"] });
  const addrs = a.listenAddrs();
  const pattern = new RegExp(`^/ip4/[\\d.]+/tcp/[1-9]\\d*/p2p/${a.self}$`);
  for (const addr of addrs) expect(addr).toMatch(pattern);
  expect(addrs.findIndex((addr) => addr.startsWith("/ip4/127."))).toBe(addrs.length - 1);
});

test("what it announces is all that others are told, and leads to it", async () => {
  const reserved = await startNetwork();
  const own = addrOf(reserved).split("/p2p/")[0] ?? "";
  await reserved.close();
  let passed = 0;
  const forward = createServer((socket) => {
    passed += 1;
    socket.pipe(connectTcp(Number(own.split("/")[4]), "127.0.0.1")).pipe(socket);
  });
  onTestFinished(() => void forward.close());
  await new Promise<void>((resolve) => forward.listen(0, "127.0.0.1", resolve));
  const address = forward.address();
  assert(typeof address === "object" && address !== null);
  const announced = `/ip4/127.0.0.1/tcp/${address.port}`;
  const [a, b] = [
    await startNetwork({ listen: [own], announce: [announced] }),
    await startNetwork(),
  ];
  expect(a.listenAddrs()).toEqual([`${announced}/p2p/${a.self}`]);
  expect(await b.connect(addrOf(a), never)).toBe(a.self);
  expect(passed).toBe(1);
});

test("an announced address has a port that can be dialled", async () => {
  await expect(startNetwork({ announce: ["/ip4/127.0.0.1/tcp/0"] })).rejects.toMatchObject({
    code: "usage",
  });
});

test("a closed network has hung up and freed its port", async () => {
  const [a, b] = await startPair();
  const listen = [addrOf(b).split("/p2p/")[0] ?? ""];
  await Promise.all([b.close(), b.close()]);
  await until(() => a.peers().length === 0);
  await startNetwork({ listen });
});

test("starting ends with the caller's reason", async () => {
  const stop = new AbortController();
  const starting = createNetwork(
    { identity: generateIdentity(), meshKey, bootstrap: [], mdns: false, name: "test" },
    stop.signal,
  );
  stop.abort(new Error("no need any more"));
  await expect(starting).rejects.toThrow("no need any more");
});

async function listenWith(prepare: (server: Server) => void): Promise<string> {
  const server = createServer();
  prepare(server);
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  onTestFinished(() => void server.close());
  const address = server.address();
  const port = typeof address === "object" ? address?.port : undefined;
  return `/ip4/127.0.0.1/tcp/${port}/p2p/${generateIdentity().peerId}`;
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  server.close();
  await once(server, "close");
  return typeof address === "object" ? (address?.port ?? 0) : 0;
}
