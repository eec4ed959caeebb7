/** Behaviour on a LAN full of busy machines, where libp2p's defaults for the internet fail. */
import { spawnSync } from "node:child_process";
import { once } from "node:events";
import { connect, Socket } from "node:net";
import { afterEach, expect, onTestFinished, test, vi } from "vitest";
import { utf8 } from "../base/bytes.ts";
import type { Network } from "./host.ts";
import { addrOf, never, pause, startNetwork, startPair, until } from "./network-fixture.ts";

afterEach(() => {
  vi.useRealTimers();
});

test("a dozen nodes of one machine may connect in the same moment", async () => {
  const hub = await startNetwork();
  const nodes = await Promise.all(Array.from({ length: 12 }, () => startNetwork()));
  const peers = await Promise.all(nodes.map((node) => node.connect(addrOf(hub), never)));
  expect(peers).toEqual(nodes.map(() => hub.self));
  await until(() => hub.peers().length === 12);
});

test("programs that connect and say nothing keep nobody out", async () => {
  const hub = await startNetwork();
  const [, , host, , port] = addrOf(hub).split("/");
  const mutes = Array.from({ length: 30 }, () => connect({ host: host ?? "", port: Number(port) }));
  onTestFinished(() => {
    for (const mute of mutes) mute.destroy();
  });
  await Promise.all(mutes.map((mute) => once(mute, "connect")));
  const node = await startNetwork();
  expect(await node.connect(addrOf(hub), never)).toBe(hub.self);
});

/** An announcement is on its way when `announce` ends; when it has arrived, nobody is told. */
async function expectFound(by: Network, addr: string): Promise<void> {
  await expect.poll(() => findAll(by, "topic"), { timeout: 10_000 }).toEqual([[addr]]);
}

test("a topic that a node announced is found, with an address that can be dialled", async () => {
  const [a, b] = await startPair();
  await a.announce(utf8("topic"), never);
  await expectFound(b, addrOf(a));
  expect(await findAll(b, "another topic")).toEqual([]);
});

test("a node finds members that it was never connected to", async () => {
  const [a, b] = await startPair();
  const c = await startNetwork();
  await a.announce(utf8("topic"), never);
  await c.connect(addrOf(b), never);
  await expectFound(c, addrOf(a));
  const [addr = ""] = (await findAll(c, "topic"))[0] ?? [];
  expect(await c.connect(addr, never)).toBe(a.self);
});

test("a node that announced something hours ago is still found", async () => {
  const [a, b] = await startPair();
  await a.announce(utf8("topic"), never);
  vi.useFakeTimers({ toFake: ["Date"], now: Date.now() + 5 * 3_600_000 });
  const c = await startNetwork();
  await c.connect(addrOf(b), never);
  await expectFound(c, addrOf(a));
});

test("announcing and finding end where nobody else is", async () => {
  const a = await startNetwork();
  await a.announce(utf8("topic"), never);
  expect(await findAll(a, "topic")).toEqual([]);
});

test("a search ends with the caller's reason, and when the caller has enough", async () => {
  const [a, b] = await startPair();
  await a.announce(utf8("topic"), never);
  const gone = AbortSignal.abort(new Error("never mind"));
  await expect(a.announce(utf8("topic"), gone)).rejects.toThrow("never mind");
  await expect(findAll(b, "topic", gone)).rejects.toThrow("never mind");
  for await (const addrs of b.find(utf8("topic"), never)) {
    expect(addrs).toEqual([addrOf(a)]);
    break;
  }
});

test("an idle connection is kept and says nothing", async () => {
  vi.useFakeTimers({ toFake: ["setInterval", "clearInterval"] });
  await startPair();
  const sockets = openSockets();
  expect(sockets.length).toBe(2);
  // No limit on idle time, and small messages leave at once.
  expect(sockets.map(({ timeout }) => timeout ?? 0)).toEqual([0, 0]);
  expect(sockets.map(sendsAtOnce)).toEqual([true, true]);

  const written = (): string => sockets.map(({ bytesWritten }) => bytesWritten).join();
  let before = "";
  while (before !== written()) {
    before = written();
    await pause(300);
  }
  vi.advanceTimersByTime(60_000);
  await pause(300);
  expect(written()).toBe(before);
});

test("nobody dials again by himself after one side hung up", async () => {
  vi.useFakeTimers({ toFake: ["setInterval", "clearInterval"] });
  const [a, b] = await startPair();
  await a.announce(utf8("topic"), never);
  // By now the DHT has marked the other as a neighbour to keep.
  vi.advanceTimersByTime(6_000);
  await pause(100);
  await a.disconnect(b.self);
  await until(() => b.peers().length === 0);
  await pause(500);
  expect([a.peers(), b.peers()]).toEqual([[], []]);

  expect(await a.connect(addrOf(b), never)).toBe(b.self);
});

test("the bootstrap addresses are reported at the start, and again to a node left alone", async () => {
  const b = await startNetwork();
  const a = await startNetwork({ bootstrap: [addrOf(b)] });
  const found: string[][] = [];
  a.onFound((addrs) => found.push([...addrs]));
  await until(() => found.length === 1);
  expect(found).toEqual([[addrOf(b)]]);
  await a.connect(addrOf(b), never);
  // Longer than until the first retry.
  await pause(2_300);
  expect(found.length).toBe(1);
  await a.disconnect(b.self);
  await until(() => found.length === 2);
  expect(found[1]).toEqual([addrOf(b)]);
});

const multicast = await multicastWorks();
if (!multicast) console.log("skipped: multicast, for discovery on the LAN");

test.skipIf(!multicast)("members find each other on the LAN, and other meshes do not", async () => {
  const found: Record<string, string[]> = { a: [], b: [], stranger: [] };
  const [a, b, stranger] = await Promise.all([
    startNetwork({ mdns: true }),
    startNetwork({ mdns: true }),
    startNetwork({ mdns: true, meshKey: new Uint8Array(32).fill(9) }),
  ]);
  a.onFound((addrs) => found.a?.push(...addrs));
  b.onFound((addrs) => found.b?.push(...addrs));
  stranger.onFound((addrs) => found.stranger?.push(...addrs));
  const late = await startNetwork({ mdns: true });
  late.onFound((addrs) => found.a?.push(...addrs));
  await until(() => found.a?.includes(addrOf(b)) ?? false);
  await pause(200);
  expect(found.stranger).toEqual([]);
  expect([...(found.a ?? []), ...(found.b ?? [])]).not.toContain(addrOf(stranger));
});

const namespaces = spawnSync("unshare", ["-rn", "ip", "link", "set", "lo", "up"]).status === 0;
if (!namespaces) console.log("skipped: unshare and ip, for a machine with a public address");

test.skipIf(!namespaces)("a node tells others its public address", () => {
  const program = `
    import { createNetwork } from ${JSON.stringify(new URL("./network.ts", import.meta.url).href)};
    import { generateIdentity } from ${JSON.stringify(new URL("./network-identity.ts", import.meta.url).href)};
    const never = new AbortController().signal;
    const start = (listen) => createNetwork({
      identity: generateIdentity(), meshKey: new Uint8Array(32), listen: [listen],
      bootstrap: [], mdns: false, name: "test",
    }, never);
    const [a, b, c] = await Promise.all(["/ip4/44.1.2.3/tcp/0", "/ip4/44.1.2.3/tcp/0", "/ip4/44.1.2.3/tcp/0"].map(start));
    await a.connect(b.listenAddrs()[0], never);
    await a.announce(new Uint8Array(1), never);
    await c.connect(b.listenAddrs()[0], never);
    const found = [];
    for await (const addrs of c.find(new Uint8Array(1), never)) found.push(addrs);
    console.log(JSON.stringify(found) === JSON.stringify([a.listenAddrs()]));
    process.exit();`;
  const script = `ip link set lo up && ip addr add 44.1.2.3/32 dev lo && exec "$0" --input-type=module -e "$1"`;
  const { stdout, stderr } = spawnSync(
    "unshare",
    ["-rn", "sh", "-c", script, process.execPath, program],
    { encoding: "utf8" },
  );
  expect(stderr + stdout).toBe("true\n");
});

async function findAll(
  network: Network,
  topic: string,
  signal: AbortSignal = never,
): Promise<readonly (readonly string[])[]> {
  const found: (readonly string[])[] = [];
  for await (const addrs of network.find(utf8(topic), signal)) found.push(addrs);
  return found;
}

/** The connected sockets of this process. Node offers no other way to see their settings. */
function openSockets(): readonly Socket[] {
  const handles: unknown =
    "_getActiveHandles" in process && typeof process._getActiveHandles === "function"
      ? process._getActiveHandles()
      : [];
  return Array.isArray(handles)
    ? handles.filter((handle) => handle instanceof Socket && handle.remotePort !== undefined)
    : [];
}

function sendsAtOnce(socket: Socket): unknown {
  const key = Object.getOwnPropertySymbols(socket).find(
    ({ description }) => description === "kSetNoDelay",
  );
  return key === undefined ? undefined : Reflect.get(socket, key);
}

async function multicastWorks(): Promise<boolean> {
  const { createSocket } = await import("node:dgram");
  const socket = createSocket({ type: "udp4", reuseAddr: true });
  try {
    const heard = new Promise<boolean>((resolve) => {
      socket.on("message", () => resolve(true));
      socket.on("error", () => resolve(false));
      socket.bind(0, () => {
        socket.addMembership("224.0.0.251");
        socket.send("?", socket.address().port, "224.0.0.251");
      });
    });
    return await Promise.race([heard, pause(1_000).then(() => false)]);
  } catch {
    return false;
  } finally {
    socket.close();
  }
}
