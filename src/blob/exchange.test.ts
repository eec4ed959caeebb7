import { existsSync, mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { type Digest, digestOf, sizeBytesOf } from "../base/digest.ts";
import type { MeshEvent } from "../base/events.ts";
import { createClock } from "../host/clock.ts";
import { createDisk } from "../host/disk.ts";
import type { Disk, Network } from "../host/host.ts";
import { addrOf, startNetwork, until } from "../host/network-fixture.ts";
import { createChannel } from "../wire/channel.ts";
import { type Frame, frameOf } from "../wire/frame.ts";
import { packDigests, unpackDigests } from "../wire/messages.ts";
import { aheadMaxBytes } from "./assembly.ts";
import { blk, blkProtocol, creditMaxBytes, frameMaxBytes, packRange, unpackRange } from "./blk.ts";
import { createExchange, type Exchange, type ExchangeOptions } from "./exchange.ts";
import { createLink, type Link } from "./link.ts";
import { bytesOf } from "./store.contract.ts";
import { type BlobStore, createBlobStore } from "./store.ts";

/** In memory where there is such a folder: this is not about the disk. */
const scratch = existsSync("/dev/shm") ? "/dev/shm" : tmpdir();
const forever = new AbortController().signal;
const clock = createClock();
const disk = createDisk();

interface Node {
  readonly network: Network;
  readonly store: BlobStore;
  readonly exchange: Exchange;
  readonly directory: string;
  readonly events: MeshEvent[];
  readonly strangers: Set<string>;
}

async function startStore(
  on: Disk,
): Promise<{ readonly store: BlobStore; readonly directory: string }> {
  const directory = mkdtempSync(join(scratch, "mesh-exchange-"));
  onTestFinished(() => rmSync(directory, { recursive: true, force: true }));
  const options = { directory, quotaBytes: 1e9, sync: "never" } as const;
  return { store: await createBlobStore({ disk: on, clock }, options, forever), directory };
}

async function startNode(options: ExchangeOptions = {}, on: Disk = disk): Promise<Node> {
  const network = await startNetwork();
  const { store, directory } = await startStore(on);
  const events: MeshEvent[] = [];
  const strangers = new Set<string>();
  const life = new AbortController();
  onTestFinished(() => life.abort());
  const exchange = createExchange(
    {
      network,
      store,
      clock,
      peers: () => network.peers(),
      allowed: (peer) => !strangers.has(peer),
      emit: (event) => events.push(event),
    },
    options,
    life.signal,
  );
  return { network, store, exchange, directory, events, strangers };
}

async function connect(from: { network: Network }, ...to: { network: Network }[]): Promise<void> {
  for (const { network } of to) {
    await from.network.connect(addrOf(network), forever);
    await until(() => network.peers().includes(from.network.self));
  }
}

/** A peer that answers frames as the test pleases. */
async function startScripted(
  onFrame: (frame: Frame, send: (frame: Frame) => void) => void,
): Promise<{ readonly network: Network; readonly frames: Frame[] }> {
  const network = await startNetwork();
  const frames: Frame[] = [];
  network.serve(blkProtocol, (_peer, stream) => {
    const channel = createChannel(stream, { frameMaxBytes: 1e6, queueMaxBytes: 64e6 }, (frame) => {
      frames.push(frame);
      onFrame(frame, channel.send);
    });
  });
  return { network, frames };
}

/** Answers wants with `change` of the right bytes. */
const answering =
  (blobs: readonly Uint8Array[], change: (bytes: Uint8Array) => Uint8Array) =>
  (frame: Frame, send: (frame: Frame) => void): void => {
    const { requestId } = frame;
    if (frame.type === blk.want) {
      for (const [index, digest] of unpackDigests(frame.payload, 4096).entries()) {
        const bytes = blobs.find((blob) => digestOf(blob) === digest);
        if (bytes === undefined) continue;
        send(frameOf(blk.blob, { requestId, aux: index, payload: change(bytes) }));
      }
    }
    if (frame.type === blk.range) {
      const { digest, offset, lengthBytes } = unpackRange(frame.payload);
      const bytes = blobs.find((blob) => digestOf(blob) === digest) ?? new Uint8Array();
      for (let at = 0; at < lengthBytes; at += frameMaxBytes) {
        const end = Math.min(offset + lengthBytes, offset + at + frameMaxBytes);
        const payload = change(bytes.slice(offset + at, end));
        send(frameOf(blk.piece, { requestId, aux: at, payload }));
      }
    }
  };

const flipped = (bytes: Uint8Array): Uint8Array => {
  const copy = bytes.slice();
  copy[0] = (copy[0] ?? 0) ^ 1;
  return copy;
};

async function putAll(store: BlobStore, blobs: readonly Uint8Array[]): Promise<Digest[]> {
  return Promise.all(blobs.map((bytes) => store.put(bytes)));
}

async function expectAll(store: BlobStore, blobs: readonly Uint8Array[]): Promise<void> {
  for (const bytes of blobs) {
    expect(Buffer.compare(await store.read(digestOf(bytes)), bytes)).toBe(0);
  }
}

const temporaries = (directory: string): string[] => readdirSync(join(directory, "tmp"));

test("2,000 small blobs come over, each verified, in few sends", async () => {
  const [near, far] = await Promise.all([startNode(), startNode()]);
  await connect(near, far);
  const blobs = Array.from({ length: 2000 }, (_, at) => bytesOf(100 + ((at * 37) % 9000), at));
  const digests = await putAll(far.store, blobs);
  await near.exchange.fetch(digests, [far.network.self], forever);
  await expectAll(near.store, blobs);
  const receivedBytes = blobs.reduce((sum, bytes) => sum + bytes.byteLength, 0);
  expect(near.exchange.stats()).toMatchObject({ receivedBlobs: 2000, receivedBytes });
  expect(far.exchange.stats()).toMatchObject({ sentBlobs: 2000, sentBytes: receivedBytes });
  // Nothing is fetched twice, and nothing is left open.
  await near.exchange.fetch(digests, [far.network.self], forever);
  expect(far.exchange.stats().sentBlobs).toBe(2000);
  expect(temporaries(near.directory)).toEqual([]);
});

test.each([frameMaxBytes - 1, frameMaxBytes, frameMaxBytes + 1, 1024 * 1024, 20_000_000])(
  "a blob of %i bytes comes over",
  async (sizeBytes) => {
    const [near, far] = await Promise.all([startNode(), startNode()]);
    await connect(near, far);
    const bytes = bytesOf(sizeBytes, 1);
    await near.exchange.fetch([await far.store.put(bytes)], [far.network.self], forever);
    await expectAll(near.store, [bytes]);
    expect(temporaries(near.directory)).toEqual([]);
  },
);

test("several providers share the segments of one large blob", async () => {
  const nodes = await Promise.all([startNode(), startNode(), startNode()]);
  const [near, left, right] = nodes as [Node, Node, Node];
  await connect(near, left, right);
  const bytes = bytesOf(30_000_000, 1);
  const digest = await left.store.put(bytes);
  await right.store.put(bytes);
  await near.exchange.fetch([digest], [left.network.self, right.network.self], forever);
  await expectAll(near.store, [bytes]);
  const [fromLeft, fromRight] = [left, right].map((node) => node.exchange.stats().sentBytes);
  expect((fromLeft ?? 0) + (fromRight ?? 0)).toBe(30_000_000);
  expect(Math.min(fromLeft ?? 0, fromRight ?? 0)).toBeGreaterThan(3_000_000);
});

test("a large blob goes on where it stopped when its provider dies", async () => {
  const bytes = bytesOf(30_000_000, 1);
  const [near, spare] = await Promise.all([startNode(), startNode()]);
  let given = 0;
  const dying = await startScripted((frame, send) => {
    answering([bytes], (piece) => {
      given += piece.byteLength;
      return piece;
    })(frame, send);
    if (given > 8_000_000) void dying.network.close();
  });
  await connect(near, dying, spare);
  const digest = await spare.store.put(bytes);
  await near.exchange.fetch([digest], [dying.network.self], forever);
  await expectAll(near.store, [bytes]);
  expect(given).toBeGreaterThan(8_000_000);
  const { sentBytes } = spare.exchange.stats();
  expect(sentBytes).toBeGreaterThan(0);
  // The spare one does not start from the beginning: what had arrived is kept.
  expect(sentBytes).toBeLessThan(30_000_000);
  expect(temporaries(near.directory)).toEqual([]);
});

test("blobs that the named provider lacks come from whoever has them", async () => {
  const nodes = await Promise.all([startNode(), startNode(), startNode()]);
  const [near, empty, full] = nodes as [Node, Node, Node];
  await connect(near, empty, full);
  const blobs = [bytesOf(10, 1), bytesOf(2_000_000, 2)];
  const digests = await putAll(full.store, blobs);
  await near.exchange.fetch(digests, [empty.network.self], forever);
  await expectAll(near.store, blobs);
});

test("a blob that nobody has is missing, and says which", async () => {
  const nodes = await Promise.all([startNode(), startNode(), startNode()]);
  const [near, left, right] = nodes as [Node, Node, Node];
  await connect(near, left, right);
  const absent = Array.from({ length: 5 }, (_, at) => digestOf(bytesOf(10, at)));
  const large = digestOf(bytesOf(2_000_000, 1));
  await expect(near.exchange.fetch(absent, [left.network.self], forever)).rejects.toMatchObject({
    code: "blob-missing",
    message: `no reachable peer has ${absent.slice(0, 3).join(", ")} and 2 more`,
  });
  await expect(near.exchange.fetch([large], [], forever)).rejects.toMatchObject({
    code: "blob-missing",
  });
});

test("with no peer at all everything is missing at once", async () => {
  const near = await startNode();
  const fetching = near.exchange.fetch([digestOf(bytesOf(10, 1))], [], forever);
  await expect(fetching).rejects.toMatchObject({ code: "blob-missing" });
});

test("wrong bytes are dropped and fetched from another; the second time the peer is ignored", async () => {
  const blobs = Array.from({ length: 4 }, (_, at) => bytesOf(1000, at));
  const liar = await startScripted(answering(blobs, flipped));
  const [near, honest] = await Promise.all([startNode(), startNode()]);
  await connect(near, liar, honest);
  const digests = await putAll(honest.store, blobs);
  const wantsSeen = (): number => liar.frames.filter(({ type }) => type === blk.want).length;
  for (const [turn, digest] of digests.entries()) {
    await near.exchange.fetch([digest], [liar.network.self], forever);
    expect(near.exchange.stats().corruptBlobs).toBe(Math.min(turn + 1, 2));
    expect(wantsSeen()).toBe(Math.min(turn + 1, 2));
  }
  await expectAll(near.store, blobs);
  const warnings = near.events.filter(({ event }) => event === "log");
  expect(warnings).toHaveLength(2);
  expect(warnings[1]).toMatchObject({ message: expect.stringContaining("10 minutes") });
});

test("a large blob of which one provider sends wrong parts still comes over", async () => {
  const bytes = bytesOf(12_000_000, 1);
  const liar = await startScripted(answering([bytes], flipped));
  const [near, honest] = await Promise.all([startNode(), startNode()]);
  await connect(near, liar, honest);
  const digest = await honest.store.put(bytes);
  const providers = [liar.network.self, honest.network.self];
  await near.exchange.fetch([digest], providers, forever);
  await expectAll(near.store, [bytes]);
  expect(near.exchange.stats().corruptBlobs).toBeGreaterThan(0);
  expect(temporaries(near.directory)).toEqual([]);
});

test("a provider that says nothing does not keep the others from helping", async () => {
  const silent = await startScripted(() => {});
  const [near, helpful] = await Promise.all([startNode(), startNode()]);
  await connect(near, silent, helpful);
  const blobs = [bytesOf(1000, 1), bytesOf(5_000_000, 2)];
  const digests = await putAll(helpful.store, blobs);
  await near.exchange.fetch(digests, [silent.network.self], forever);
  await expectAll(near.store, blobs);
  // The question to the silent one is taken back.
  await until(() => silent.frames.some(({ type }) => type === blk.cancel));
});

test("a silent provider alone costs its stream, and the blob is missing", async () => {
  const silent = await startScripted(() => {});
  const near = await startNode({ hedgeMinMs: 20, demoteMs: 50, resetMs: 300 });
  await connect(near, silent);
  const fetching = near.exchange.fetch([digestOf(bytesOf(9, 1))], [silent.network.self], forever);
  await expect(fetching).rejects.toMatchObject({ code: "blob-missing" });
});

test("a blob wanted by many at once is fetched once, and leaves with the last who waits", async () => {
  const [near, far] = await Promise.all([startNode(), startNode()]);
  await connect(near, far);
  const bytes = bytesOf(5_000_000, 1);
  const digest = await far.store.put(bytes);
  const impatient = new AbortController();
  const left = near.exchange.fetch([digest], [far.network.self], impatient.signal);
  const stayed = Array.from({ length: 5 }, () =>
    near.exchange.fetch([digest], [far.network.self], forever),
  );
  impatient.abort(new Error("enough"));
  await expect(left).rejects.toThrow("enough");
  await Promise.all(stayed);
  expect(far.exchange.stats().sentBytes).toBe(5_000_000);
});

test("a fetch that everybody left is taken back and leaves nothing behind", async () => {
  const bytes = bytesOf(12_000_000, 1);
  let pieces = 0;
  const slow = await startScripted((frame, send) => {
    answering([bytes], (piece) => {
      pieces += 1;
      return piece;
    })(frame, (answer) => pieces <= 3 && send(answer));
  });
  const near = await startNode();
  await connect(near, slow);
  const impatient = new AbortController();
  const fetching = near.exchange.fetch([digestOf(bytes)], [slow.network.self], impatient.signal);
  await until(() => temporaries(near.directory).length > 0);
  impatient.abort(new Error("enough"));
  await expect(fetching).rejects.toThrow("enough");
  await until(() => temporaries(near.directory).length === 0);
  await until(() => slow.frames.some(({ type }) => type === blk.cancel));
});

test("nothing is served to who is no member", async () => {
  const [near, far] = await Promise.all([startNode(), startNode()]);
  await connect(near, far);
  const digest = await far.store.put(bytesOf(10, 1));
  far.strangers.add(near.network.self);
  await expect(near.exchange.fetch([digest], [far.network.self], forever)).rejects.toMatchObject({
    code: "blob-missing",
  });
  expect(far.exchange.stats().sentBlobs).toBe(0);
});

test("a provider never sends more than it has credit for", async () => {
  const far = await startNode();
  const network = await startNetwork();
  await connect({ network }, far);
  const bytes = bytesOf(5_000_000, 1);
  const digest = await far.store.put(bytes);
  const small = await putAll(
    far.store,
    Array.from({ length: 50 }, (_, at) => bytesOf(20_000, at)),
  );
  const stream = await network.open(far.network.self, blkProtocol, forever);
  let gotBytes = 0;
  const channel = createChannel(stream, { frameMaxBytes: 1e6, queueMaxBytes: 1e6 }, (frame) => {
    gotBytes += 16 + frame.payload.byteLength;
  });
  channel.send(frameOf(blk.want, { requestId: 1, payload: packDigests(small) }));
  const range = packRange({ digest, offset: 0, lengthBytes: sizeBytesOf(digest) });
  channel.send(frameOf(blk.range, { requestId: 2, payload: range }));
  await clock.sleep(100, forever);
  expect(gotBytes).toBe(0);
  let granted = 0;
  for (const credit of [30_000, 100_000, 262_144, 600_000, 500_000]) {
    granted += credit;
    channel.send(frameOf(blk.credit, { aux: credit }));
    await until(() => granted - gotBytes < 262_144 + 16);
    await clock.sleep(50, forever);
    expect(gotBytes).toBeLessThanOrEqual(granted);
  }
});

/** Asks `provider` for blobs without ever being done with one, so that credit is granted once. */
async function startHoarder(provider: Network, digests: readonly Digest[]) {
  const network = await startNetwork();
  await connect({ network }, { network: provider });
  const got: number[] = [];
  const ended = Promise.withResolvers<number>();
  const link: Link<undefined> = createLink(
    {
      network,
      clock,
      events: {
        onBlob: (_link, _ask, bytes) => void got.push(bytes.byteLength),
        onPiece: (_link, _ask, _offset, bytes) => void got.push(bytes.byteLength),
        onMiss: () => {},
        onEnd: (_link, asks) => ended.resolve(asks.length),
      },
    },
    provider.self,
    { openDeadlineMs: 5000, windowMaxBytes: () => 16 * 1024 * 1024 },
    forever,
  );
  for (const digest of digests) {
    const lengthBytes = sizeBytesOf(digest);
    const whole = lengthBytes <= frameMaxBytes;
    link.ask({ digest, offset: 0, lengthBytes, whole, unit: undefined });
  }
  return { link, got, ended: ended.promise };
}

test("a requester that is not done with what it has gets no more", async () => {
  const far = await startNode();
  const digest = await far.store.put(bytesOf(5_000_000, 1));
  const { link, got } = await startHoarder(far.network, [digest]);
  await until(() => got.length === 4);
  await clock.sleep(100, forever);
  expect(got.reduce((sum, sizeBytes) => sum + sizeBytes, 0)).toBeLessThanOrEqual(1024 * 1024);
  expect(link.isHeldUp()).toBe(true);
});

test("a provider that sends more than it has credit for loses its stream", async () => {
  const blobs = Array.from({ length: 40 }, (_, at) => bytesOf(100_000, at));
  const flood = await startScripted(answering(blobs, (bytes) => bytes));
  const { got, ended } = await startHoarder(flood.network, blobs.map(digestOf));
  expect(await ended).toBe(40 - got.length);
  expect(got.length).toBe(Math.floor((1024 * 1024) / 100_016));
});

test.each([
  ["bytes that nobody asked for", frameOf(blk.blob, { requestId: 99, payload: bytesOf(9, 1) })],
  [
    "a place that was not asked for",
    frameOf(blk.blob, { requestId: 1, aux: 7, payload: bytesOf(9, 1) }),
  ],
  ["a piece of a whole blob", frameOf(blk.piece, { requestId: 1, payload: bytesOf(9, 1) })],
  ["a question", frameOf(blk.want, { requestId: 1 })],
])("%s costs a provider its stream", async (_what, answer) => {
  const odd = await startScripted((frame, send) => frame.type === blk.want && send(answer));
  const { got, ended } = await startHoarder(odd.network, [digestOf(bytesOf(9, 1))]);
  expect(await ended).toBe(1);
  expect(got).toEqual([]);
});

test.each([
  ["too short", { aux: 0, payload: bytesOf(5, 1) }],
  ["out of place", { aux: 1, payload: bytesOf(frameMaxBytes - 1, 1) }],
])("a piece that is %s costs a provider its stream", async (_what, answer) => {
  const odd = await startScripted((frame, send) => {
    const { requestId } = frame;
    if (frame.type === blk.range) send(frameOf(blk.piece, { requestId, ...answer }));
  });
  const { got, ended } = await startHoarder(odd.network, [digestOf(bytesOf(300_000, 1))]);
  expect(await ended).toBe(1);
  expect(got).toEqual([]);
});

test("a disk that stands still stops the sender within the bound", async () => {
  const opened = Promise.withResolvers<void>();
  const gated: Disk = {
    ...disk,
    async createFile(path, mode) {
      const file = await disk.createFile(path, mode);
      return { ...file, write: (bytes) => opened.promise.then(() => file.write(bytes)) };
    },
  };
  const [near, far] = await Promise.all([startNode({}, gated), startNode()]);
  await connect(near, far);
  const bytes = bytesOf(40_000_000, 1);
  const digest = await far.store.put(bytes);
  const fetching = near.exchange.fetch([digest], [far.network.self], forever);
  await until(() => far.exchange.stats().sentBytes > 1_000_000);
  await clock.sleep(700, forever);
  expect(far.exchange.stats().sentBytes).toBeLessThanOrEqual(aheadMaxBytes + creditMaxBytes);
  opened.resolve();
  await fetching;
  await expectAll(near.store, [bytes]);
});

test.each([
  [
    "a want of a blob too large",
    frameOf(blk.want, { requestId: 1, payload: new Uint8Array(40).fill(255) }),
  ],
  ["half a digest", frameOf(blk.want, { requestId: 1, payload: new Uint8Array(41) })],
  ["a range of nothing", frameOf(blk.range, { requestId: 1, payload: new Uint8Array(56) })],
  ["a short range", frameOf(blk.range, { requestId: 1, payload: new Uint8Array(5) })],
  ["too much credit", frameOf(blk.credit, { aux: 0xffffffff })],
  ["an odd cancel", frameOf(blk.cancel, { requestId: 1, payload: new Uint8Array(3) })],
  ["an answer", frameOf(blk.blob, { requestId: 1 })],
])("%s costs a requester its stream", async (_what, frame) => {
  const far = await startNode();
  const network = await startNetwork();
  await connect({ network }, far);
  const stream = await network.open(far.network.self, blkProtocol, forever);
  const channel = createChannel(stream, { frameMaxBytes: 1e6, queueMaxBytes: 1e6 }, () => {});
  channel.send(frame);
  expect((await channel.ended).how).toBe("reset");
});

test("fetches end when the node goes down", async () => {
  const silent = await startScripted(() => {});
  const network = await startNetwork();
  const { store } = await startStore(disk);
  const life = new AbortController();
  const exchange = createExchange(
    { network, store, clock, peers: () => network.peers(), allowed: () => true },
    {},
    life.signal,
  );
  await connect({ network }, silent);
  const fetching = exchange.fetch([digestOf(bytesOf(9, 1))], [silent.network.self], forever);
  life.abort(new Error("going down"));
  await expect(fetching).rejects.toThrow("going down");
});
