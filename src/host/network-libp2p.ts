/**
 * The libp2p node under the network port: every setting that a LAN full of busy machines needs.
 *
 * The one file that imports libp2p itself. It takes about half a second to load, so `network.ts`
 * loads it when a network is wanted and not before. What is set here and why: protocols/network.md.
 */
import { yamux } from "@chainsafe/libp2p-yamux";
import { generateKeyPairFromSeed } from "@libp2p/crypto/keys";
import { identify } from "@libp2p/identify";
import {
  type Connection,
  type Libp2p,
  type PeerDiscovery,
  type PeerInfo,
  serviceCapabilities,
  type Transport,
} from "@libp2p/interface";
import { type KadDHT, kadDHT } from "@libp2p/kad-dht";
import { mdns } from "@libp2p/mdns";
import { type TCPComponents, tcp } from "@libp2p/tcp";
import { type Multiaddr, multiaddr } from "@multiformats/multiaddr";
import { createLibp2p } from "libp2p";
import { MeshError } from "../base/errors.ts";
import { compareReach, isLoopbackAddr, ownInterfaces, worthTelling } from "./network-addresses.ts";
import { listenFailure } from "./network-errors.ts";
import { thriftyNoise } from "./network-noise.ts";

export const kadProtocol: string = "/mesh/kad/1.0.0";

/** Streams of one protocol that one peer may have open at a time, each way. One more is reset. */
export const protocolStreamsMax: number = 256;

/** A host that has not answered the first packet by then is taken for dead. */
const answerMaxMs = 1_000;
/** An address that answers has this long for the whole handshake: builds keep machines busy. */
const handshakeMaxMs = 3_000;

/** Connections this node keeps; further ones are refused. */
const connectionsMax = 1_000;
/** Bytes of one stream that wait for `receive`, or for a socket. More resets the stream. */
const streamBufferMaxBytes = 32 * 1024 * 1024;
/** How often to measure a round trip for yamux, which sizes its windows by it. */
const rttIntervalMs = 300_000;
/** First probe on a silent socket: by the kernel, so that a vanished host is noticed in the end. */
const socketProbeAfterMs = 15_000;
/** Everybody answers everybody's query, so that this bounds the chatter of a large LAN. */
const mdnsIntervalMs = 120_000;
/** As long as the DHT keeps provider records: one without addresses finds nobody. */
const addressMaxAgeMs = 48 * 3_600_000;

export interface NodeOptions {
  readonly seed: Uint8Array;
  readonly prologue: Uint8Array;
  /** Undefined: no discovery on the LAN. */
  readonly mdnsTag: string | undefined;
  readonly listen: readonly string[];
  /** Told to others instead of `listen`; empty: `listen` itself. */
  readonly announce: readonly string[];
  readonly name: string;
  /** Whether libp2p may dial this peer by itself. */
  readonly mayDial: (peer: string) => boolean;
  readonly onFound: (peer: PeerInfo) => void;
}

export interface Libp2pNode {
  readonly libp2p: Libp2p<{ readonly dht: KadDHT }>;
  /** Every address it listens on, wildcards spelled out, without the peer id. */
  listenAddrs(): readonly string[];
}

/** What is used of libp2p's inside, which its public interface does not offer. */
interface Inside {
  readonly connectionManager: {
    openConnection(peer: unknown, options?: object): Promise<Connection>;
  };
  readonly transportManager: { getAddrs(): Multiaddr[] };
  readonly addressManager: {
    confirmObservedAddr(addr: Multiaddr, options: { type: "transport"; ttl: number }): void;
  };
}

/** Makes a node and starts it. Codes: "in-use", "usage", "refused", "io". */
export async function startLibp2p(options: NodeOptions): Promise<Libp2pNode> {
  let inside: Inside | undefined;
  const addrs = (): Multiaddr[] => inside?.transportManager.getAddrs() ?? [];
  const listenAddrs = (): readonly string[] => {
    // libp2p tells nobody its public addresses until a service on the internet has dialled them
    // back. A mesh has no such service, and a wrong address costs a failed dial.
    for (const addr of addrs()) {
      inside?.addressManager.confirmObservedAddr(addr, { type: "transport", ttl: addressMaxAgeMs });
    }
    return addrs().map(String);
  };
  const libp2p = await createLibp2p({
    start: false,
    privateKey: await generateKeyPairFromSeed("Ed25519", options.seed),
    nodeInfo: { name: "mesh-node", userAgent: `mesh-node (${options.name})` },
    addresses: {
      listen: [...options.listen],
      announce: [...options.announce],
      announceFilter: (all) => {
        // Somebody who names an address knows better what is worth telling.
        if (options.announce.length > 0) return all;
        const told = new Set(worthTelling(all.map(String), ownInterfaces()));
        return all.filter((addr) => told.has(addr.toString()));
      },
    },
    transports: [impatientTcp],
    connectionEncrypters: [thriftyNoise({ prologueBytes: options.prologue })],
    streamMuxers: [muxer],
    connectionGater: { denyDialPeer: (peer) => !options.mayDial(peer.toString()) },
    connectionManager: connectionLimits,
    // It pings every 10 s and hangs up on a machine that is too busy to answer one. The mesh's own
    // beats decide who is gone.
    connectionMonitor: { enabled: false },
    peerStore: { maxAddressAge: addressMaxAgeMs, maxPeerAge: addressMaxAgeMs },
    peerDiscovery: options.mdnsTag === undefined ? [] : [lanDiscovery(options.mdnsTag, options)],
    services: {
      identify: identify({ protocolPrefix: "mesh" }),
      ping: (components: Inside) => {
        inside = components;
        return reachability(components);
      },
      dht: dhtWith(() => addrs().every((addr) => isLoopbackAddr(addr.toString()))),
    },
  });
  try {
    await libp2p.start();
  } catch (error) {
    throw listenFailure(error);
  }
  listenAddrs();
  return { libp2p, listenAddrs };
}

/** Reads an address to dial or to listen on. Code "usage". */
export function parseAddr(text: string): Multiaddr {
  const usage = (why: string): MeshError =>
    new MeshError(
      "usage",
      `"${text}" is not an address: ${why}; write it like /ip4/192.168.1.7/tcp/4001`,
    );
  let parsed: Multiaddr;
  try {
    parsed = multiaddr(text);
  } catch (error) {
    throw usage(error instanceof Error ? error.message : String(error));
  }
  const kinds = parsed.getComponents().map(({ name }) => name);
  if (!/^(ip4|ip6|dns|dns4|dns6) tcp( p2p)?$/.test(kinds.join(" "))) {
    throw usage("only TCP over IP or a host name is supported");
  }
  return parsed;
}

/**
 * Defaults made for the open internet refuse the sixth connection a second from one address: a
 * machine with a few nodes, or a mesh behind one router, would lock itself out.
 */
const connectionLimits = {
  maxConnections: connectionsMax,
  inboundConnectionThreshold: 1_000,
  maxIncomingPendingConnections: 1_000,
  // The answer to the first packet has a shorter limit of its own, in `impatientTcp`.
  addressDialTimeout: handshakeMaxMs,
  dialTimeout: 10_000,
  inboundUpgradeTimeout: 10_000,
  // The DHT has its neighbours dialled again when they go. That is for `peer/` to decide.
  reconnectRetries: 0,
  addressSorter: (a: { multiaddr: Multiaddr }, b: { multiaddr: Multiaddr }): -1 | 0 | 1 =>
    compareReach(a.multiaddr.toString(), b.multiaddr.toString(), ownInterfaces()),
};

const muxer: ReturnType<typeof yamux> = yamux({
  enableKeepAlive: true,
  keepAliveInterval: rttIntervalMs,
  maxInboundStreams: 4 * protocolStreamsMax,
  maxOutboundStreams: 4 * protocolStreamsMax,
  // Streams that arrive before this side has finished the handshake. One more aborts the connection.
  maxEarlyStreams: 4 * protocolStreamsMax,
  streamOptions: {
    maxReadBufferLength: streamBufferMaxBytes,
    maxWriteBufferLength: streamBufferMaxBytes,
  },
});

/**
 * TCP that gives up on a silent host after `answerMaxMs`, but lets one that answers take its time:
 * libp2p has one limit for both, and tries a peer's addresses one after the other.
 */
function impatientTcp(components: TCPComponents): Transport {
  const socket = {
    noDelay: true,
    keepAlive: true,
    keepAliveInitialDelay: socketProbeAfterMs,
  };
  const transport = tcp({
    dialOpts: socket,
    listenOpts: socket,
    // By default a connection that is idle for two minutes is cut.
    inboundSocketInactivityTimeout: 0,
    outboundSocketInactivityTimeout: 0,
  })(components);
  const dial: Transport["dial"] = transport.dial.bind(transport);
  transport.dial = async (addr, options) => {
    const silent = new AbortController();
    const timer = setTimeout(() => silent.abort(), answerMaxMs);
    try {
      return await dial(addr, {
        ...options,
        signal: AbortSignal.any([options.signal, silent.signal]),
        onProgress: (event) => {
          // Everything after this first step means that the host has answered.
          if (event.type !== "tcp:open-connection") clearTimeout(timer);
          options.onProgress?.(event);
        },
      });
    } catch (error) {
      if (!silent.signal.aborted) throw error;
      throw new MeshError("deadline", `${addr}: the host did not answer within ${answerMaxMs} ms`);
    } finally {
      clearTimeout(timer);
    }
  };
  return transport;
}

function lanDiscovery(
  serviceTag: string,
  options: NodeOptions,
): (components: Parameters<ReturnType<typeof mdns>>[0]) => PeerDiscovery {
  return (components) => {
    const discovery = mdns({ serviceTag, interval: mdnsIntervalMs })(components);
    discovery.addEventListener("peer", ({ detail }) => options.onFound(detail));
    return discovery;
  };
}

/**
 * What the DHT takes for its ping service. A peer with a connection is alive; no packet is needed
 * to tell, and a busy one does not fall out of the table for answering late.
 */
function reachability(components: Inside): Reachability {
  return {
    [serviceCapabilities]: ["@libp2p/ping"],
    async ping(peer, options) {
      await components.connectionManager.openConnection(peer, options);
      return 0;
    },
  };
}

interface Reachability {
  readonly [serviceCapabilities]: readonly string[];
  ping(peer: unknown, options?: object): Promise<number>;
}

function dhtWith(isLoopbackOnly: () => boolean): ReturnType<typeof kadDHT> {
  return kadDHT({
    protocol: kadProtocol,
    // Left alone, a node without a public address only asks and never answers.
    clientMode: false,
    // The default mapper drops private addresses, which on a LAN is everybody.
    peerInfoMapper: (peer) =>
      isLoopbackOnly()
        ? peer
        : {
            ...peer,
            multiaddrs: peer.multiaddrs.filter((addr) => !isLoopbackAddr(addr.toString())),
          },
    allowQueryWithZeroPeers: true,
    initialQuerySelfInterval: 50,
    maxInboundStreams: protocolStreamsMax,
    maxOutboundStreams: protocolStreamsMax,
  });
}
