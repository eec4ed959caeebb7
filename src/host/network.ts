/**
 * The network port on libp2p: authenticated peers of one mesh, and streams between them.
 *
 * Decides neither whom to dial nor when to give a peer up; that is for `peer/`. A last-resort
 * handler for errors that libp2p throws outside every call belongs to the program that starts it.
 */
import assert from "node:assert/strict";
import type { PeerId as Libp2pPeerId, Stream as Libp2pStream, PeerInfo } from "@libp2p/interface";
import type { Multiaddr } from "@multiformats/multiaddr";
import { isMeshError, MeshError } from "../base/errors.ts";
import { asPeerId, type PeerId } from "../base/ids.ts";
import { createClock } from "./clock.ts";
import type { Clock, Network, Stream } from "./host.ts";
import { nearestFirst, ownInterfaces, withoutPeer, withPeer } from "./network-addresses.ts";
import {
  type ConnectionTable,
  createConnectionTable,
  createRest,
  type Rest,
} from "./network-connections.ts";
import { createDiscovery, type Discovery } from "./network-discovery.ts";
import { dialFailure, openFailure } from "./network-errors.ts";
import { type Identity, mdnsTag, meshKeyBytes, noisePrologue } from "./network-identity.ts";
import type { Libp2pNode, NodeOptions } from "./network-libp2p.ts";
import { createStream } from "./network-stream.ts";

export interface NetworkOptions {
  readonly identity: Identity;
  /** 32 random bytes that every member of the mesh holds. */
  readonly meshKey: Uint8Array;
  /** Where to listen, as multiaddrs. Default: a free port on every IPv4 interface. */
  readonly listen?: readonly string[];
  /** What to tell others instead of the addresses it listens on, as multiaddrs with a port. */
  readonly announce?: readonly string[];
  /** Addresses that `onFound` reports at the start and again while this node is alone. */
  readonly bootstrap: readonly string[];
  /** Whether to look for members on the LAN, and be found there. */
  readonly mdns: boolean;
  /** What people call this node. */
  readonly name: string;
}

const connectMaxMs = 10_000;
const openMaxMs = 10_000;
const disconnectMaxMs = 1_000;
const closeMaxMs = 3_000;
/** For how long libp2p must not dial a peer by itself after it went. */
const restMs = 60_000;

/** Starts listening. Codes: "usage", "in-use", "refused", "io". */
export async function createNetwork(
  options: NetworkOptions,
  signal: AbortSignal,
): Promise<Network> {
  assert.equal(options.meshKey.byteLength, meshKeyBytes, "a mesh key has 32 bytes");
  // Loaded now, and not before: libp2p takes longer to load than the rest of the program.
  const [{ parseAddr, protocolStreamsMax, startLibp2p }, { createRendezvous }] = await Promise.all([
    import("./network-libp2p.ts"),
    import("./network-dht.ts"),
  ]);
  signal.throwIfAborted();
  const listen = options.listen ?? ["/ip4/0.0.0.0/tcp/0"];
  for (const addr of [...listen, ...options.bootstrap]) parseAddr(addr);
  for (const addr of options.announce ?? []) checkAnnounced(parseAddr(addr));

  const self = options.identity.peerId;
  const clock = createClock();
  const table = createConnectionTable();
  const rest = createRest();
  const discovery = createDiscovery(
    { self, isConnected: (peer) => table.has(asPeerId(peer)), isAlone: () => table.isEmpty() },
    options.bootstrap,
  );
  const node = await startLibp2p(nodeOptions(options, listen, rest, discovery.found));
  const { libp2p } = node;
  const onChange = watchConnections(libp2p, table, rest, discovery);
  if (signal.aborted) {
    await libp2p.stop();
    signal.throwIfAborted();
  }
  onDhtPeer(libp2p.services.dht, discovery.found);
  const parts: Parts = { libp2p, table, rest, clock, parseAddr, streamsMax: protocolStreamsMax };
  const served = new Set<string>();
  let closing: Promise<void> | undefined;

  return {
    self,
    listenAddrs: () => ownAddrs(options.announce ?? node.listenAddrs(), self),
    connect: (addr, until) => connectTo(parts, addr, until),
    open: (peer, protocol, until) => openStream(parts, peer, protocol, until),
    serve(protocol, onStream) {
      assert(!served.has(protocol), `${protocol} is served already`);
      served.add(protocol);
      serveProtocol(parts, protocol, onStream);
    },
    peers: () => table.peers(),
    addrOf: (peer) => withoutPeerOrNothing(table.best(peer)?.remoteAddr),
    onChange,
    onFound: (listener) => discovery.onFound(listener),
    async disconnect(peer) {
      const connection = table.best(peer);
      rest.begin(peer, Number.POSITIVE_INFINITY);
      if (connection !== undefined) await hangUp(libp2p, connection.remotePeer);
    },
    ...createRendezvous({ dht: libp2p.services.dht, self, hasPeers: () => !table.isEmpty() }),
    close() {
      closing ??= stop(libp2p, discovery.close);
      return closing;
    },
  };
}

/** Keeps the table true from now on, and tells the port's listeners. */
function watchConnections(
  libp2p: Libp2pNode["libp2p"],
  table: ConnectionTable,
  rest: Rest,
  discovery: Discovery,
): Network["onChange"] {
  libp2p.addEventListener("connection:open", ({ detail }) => table.add(detail));
  libp2p.addEventListener("connection:close", ({ detail }) => table.remove(detail));
  table.onChange(({ peer, at }) => {
    if (at === "disconnected") rest.begin(peer, performance.now() + restMs);
    discovery.companyChanged();
  });
  for (const connection of libp2p.getConnections()) table.add(connection);
  const early = [...table.peers()];
  return (listener) => {
    table.onChange(listener);
    // Peers that came before anybody could be told, while this node was still starting.
    for (const peer of early.splice(0)) {
      queueMicrotask(() => table.has(peer) && listener({ peer, at: "connected" }));
    }
  };
}

interface Parts {
  readonly libp2p: Libp2pNode["libp2p"];
  readonly table: ConnectionTable;
  readonly rest: Rest;
  readonly clock: Clock;
  readonly parseAddr: (text: string) => Multiaddr;
  readonly streamsMax: number;
}

async function connectTo(parts: Parts, addr: string, signal: AbortSignal): Promise<PeerId> {
  const target = parts.parseAddr(addr);
  const named = target.getComponents().find(({ name }) => name === "p2p")?.value;
  if (named !== undefined) parts.rest.end(named);
  try {
    const connection = await parts.clock.withDeadline(signal, connectMaxMs, (until) =>
      parts.libp2p.dial(target, { signal: until }),
    );
    const peer = asPeerId(connection.remotePeer.toString());
    parts.rest.end(peer);
    return peer;
  } catch (error) {
    signal.throwIfAborted();
    throw dialFailure(error, addr);
  }
}

async function openStream(
  parts: Parts,
  peer: PeerId,
  protocol: string,
  signal: AbortSignal,
): Promise<Stream> {
  const connection = parts.table.best(peer);
  if (connection === undefined) throw new MeshError("peer-gone", `${peer} is not connected`);
  const isOwn = (raw: Libp2pStream): boolean =>
    raw.direction === "outbound" && raw.protocol === protocol;
  // The peer counts too, and resets what is too much, without a reason.
  if (connection.streams.filter(isOwn).length >= parts.streamsMax) {
    throw new MeshError("limit", `${parts.streamsMax} ${protocol} streams to ${peer} are open`);
  }
  try {
    return await parts.clock.withDeadline(signal, openMaxMs, async (until) => {
      const raw = await connection.newStream(protocol, {
        signal: until,
        maxOutboundStreams: parts.streamsMax,
      });
      if (until.aborted) raw.abort(new Error("nobody waits for this stream any more"));
      if (raw.status !== "open") throw new MeshError("peer-gone", `${peer} refused the stream`);
      return createStream(raw);
    });
  } catch (error) {
    signal.throwIfAborted();
    throw openFailure(error, protocol);
  }
}

function serveProtocol(
  { libp2p, streamsMax }: Parts,
  protocol: string,
  onStream: (peer: PeerId, stream: Stream) => void,
): void {
  // Takes effect at once; the promise is about libp2p's record of its own protocols.
  void libp2p.handle(
    protocol,
    (raw, connection) => {
      onStream(asPeerId(connection.remotePeer.toString()), createStream(raw));
    },
    { maxInboundStreams: streamsMax, maxOutboundStreams: streamsMax },
  );
}

function nodeOptions(
  options: NetworkOptions,
  listen: readonly string[],
  rest: Rest,
  onFound: (peer: PeerInfo) => void,
): NodeOptions {
  return {
    seed: options.identity.seed,
    prologue: noisePrologue(options.meshKey),
    mdnsTag: options.mdns ? mdnsTag(options.meshKey) : undefined,
    listen,
    announce: options.announce ?? [],
    name: options.name,
    mayDial: (peer) => !rest.lasts(peer),
    onFound,
  };
}

function withoutPeerOrNothing(addr: Multiaddr | undefined): string | undefined {
  return addr === undefined ? undefined : withoutPeer(addr.toString());
}

function ownAddrs(told: readonly string[], self: PeerId): readonly string[] {
  const addrs = told.map((addr) => withPeer(withoutPeer(addr), self));
  return nearestFirst(addrs, ownInterfaces());
}

/** Only the system knows what port 0 becomes, and nobody can dial it. Code "usage". */
function checkAnnounced(addr: Multiaddr): void {
  const port = addr.getComponents().find(({ name }) => name === "tcp")?.value;
  if (port !== "0") return;
  throw new MeshError("usage", `"${addr}" has no port that others could dial`);
}

/** Peers that came up in the answers of other peers; in a small mesh all of them are known. */
function onDhtPeer(dht: unknown, found: (peer: PeerInfo) => void): void {
  if (!(dht instanceof EventTarget)) return;
  dht.addEventListener("peer", (event) => {
    if (event instanceof CustomEvent) found(event.detail);
  });
}

async function hangUp(libp2p: Libp2pNode["libp2p"], peer: Libp2pPeerId): Promise<void> {
  try {
    await libp2p.hangUp(peer, { signal: AbortSignal.timeout(disconnectMaxMs) });
  } catch {
    // It did not close in good order, and was aborted instead.
  }
}

async function stop(libp2p: Libp2pNode["libp2p"], closeDiscovery: () => void): Promise<void> {
  closeDiscovery();
  const never = new AbortController().signal;
  try {
    await createClock().withDeadline(never, closeMaxMs, async () => libp2p.stop());
  } catch (error) {
    // Sockets that outlast the deadline die with the process; nobody is helped by waiting.
    if (!isMeshError(error, "deadline")) throw error;
  }
}
