/**
 * Announce and find over the DHT: which nodes belong to a topic.
 *
 * Takes tens to hundreds of milliseconds, so nothing that a task waits for comes here. Knows
 * nothing of what a topic means.
 */
import { createHash } from "node:crypto";
import type { PeerInfo } from "@libp2p/interface";
import type { KadDHT } from "@libp2p/kad-dht";
import { pipe } from "it-pipe";
import { CID } from "multiformats/cid";
import { create as createDigest } from "multiformats/hashes/digest";
import { utf8 } from "../base/bytes.ts";
import { isMeshError, MeshError, messageOf } from "../base/errors.ts";
import { createClock } from "./clock.ts";
import type { Network } from "./host.ts";
import { withPeer } from "./network-addresses.ts";

const announceMaxMs = 10_000;
const findMaxMs = 5_000;
/** Enough to join a mesh; more would only be more dials. */
const findMaxPeers = 20;
/** How long a fresh connection may take to show up in the DHT's table. */
const tableWaitMaxMs = 2_000;

const rawCodec = 0x55;
const sha256Code = 0x12;

export interface DhtDeps {
  readonly dht: KadDHT;
  readonly self: string;
  /** Whether any peer is connected, so that an empty table will not stay so. */
  readonly hasPeers: () => boolean;
}

type QueryEvent = ReturnType<KadDHT["findProviders"]> extends AsyncIterable<infer E> ? E : never;

export function createRendezvous(deps: DhtDeps): Pick<Network, "announce" | "find"> {
  const clock = createClock();
  const { dht, self } = deps;

  return {
    async announce(topic, signal) {
      await waitForTable(deps, signal);
      await clock.withDeadline(signal, announceMaxMs, async (until) => {
        try {
          for await (const _event of dht.provide(keyOf(topic), { signal: until })) {
            // Each event is a step of the walk; only its end matters.
          }
        } catch (error) {
          until.throwIfAborted();
          throw new MeshError("io", `announcing failed: ${messageOf(error)}`, { cause: error });
        }
      });
    },

    async *find(topic, signal) {
      await waitForTable(deps, signal);
      const query = new AbortController();
      const stop = (): void => query.abort();
      const timer = setTimeout(stop, findMaxMs);
      signal.addEventListener("abort", stop);
      try {
        yield* pipe(
          dht.findProviders(keyOf(topic), { signal: query.signal }),
          providersIn,
          (peers) => firstPeers(peers, self),
        );
      } catch (error) {
        signal.throwIfAborted();
        // Out of time: who was found by then is the answer.
        if (query.signal.aborted) return;
        throw new MeshError("io", `searching failed: ${messageOf(error)}`, { cause: error });
      } finally {
        clearTimeout(timer);
        signal.removeEventListener("abort", stop);
        query.abort();
      }
    },
  };
}

/**
 * The DHT's key of a topic. SHA2-256 and nothing else: its servers read the key as a bare
 * multihash, which works for this function by accident and for BLAKE3 not at all.
 */
export function keyOf(topic: Uint8Array): CID {
  const hash = createHash("sha256").update(utf8("mesh/1/")).update(topic).digest();
  return CID.createV1(rawCodec, createDigest(sha256Code, new Uint8Array(hash)));
}

async function* providersIn(events: AsyncIterable<QueryEvent>): AsyncGenerator<PeerInfo> {
  for await (const event of events) {
    if (event.name === "PROVIDER") yield* event.providers;
  }
}

/** Each peer with an address once, this node left out; ends the walk as soon as there are enough. */
async function* firstPeers(
  peers: AsyncIterable<PeerInfo>,
  self: string,
): AsyncGenerator<readonly string[]> {
  const seen = new Set([self]);
  for await (const { id, multiaddrs } of peers) {
    const peer = id.toString();
    if (seen.has(peer) || multiaddrs.length === 0) continue;
    seen.add(peer);
    yield [...new Set(multiaddrs.map((addr) => withPeer(addr.toString(), peer)))];
    if (seen.size > findMaxPeers) return;
  }
}

/**
 * A new connection enters the table a few round trips after it is up. A walk from an empty table
 * asks nobody and reports success, so give it that time.
 */
async function waitForTable({ dht, hasPeers }: DhtDeps, signal: AbortSignal): Promise<void> {
  signal.throwIfAborted();
  const table = tableOf(dht);
  if (table === undefined || table.size > 0 || !hasPeers()) return;
  let onAdd: (() => void) | undefined;
  try {
    await createClock().withDeadline(
      signal,
      tableWaitMaxMs,
      () =>
        new Promise<void>((resolve) => {
          onAdd = resolve;
          table.addEventListener("peer:add", onAdd);
        }),
    );
  } catch (error) {
    // Still nobody: walk anyway, and find what is known here.
    if (!isMeshError(error, "deadline") || signal.aborted) throw error;
  } finally {
    if (onAdd !== undefined) table.removeEventListener("peer:add", onAdd);
  }
}

type Table = EventTarget & { readonly size: number };

/** The routing table, which the DHT has but its interface does not name. */
function tableOf(dht: KadDHT): Table | undefined {
  const table: unknown = "routingTable" in dht ? dht.routingTable : undefined;
  return isTable(table) ? table : undefined;
}

function isTable(value: unknown): value is Table {
  return value instanceof EventTarget && "size" in value && typeof value.size === "number";
}
