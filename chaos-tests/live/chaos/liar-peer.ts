/**
 * A member that can be made to lie: it holds the mesh key, says hello as it should, and has a control
 * stream to every node. What it says there, and on every other protocol, is for the lie to decide.
 */

import type { PeerId } from "../../../src/base/ids.ts";
import type { Network, Stream } from "../../../src/host/host.ts";
import { createNetwork } from "../../../src/host/network.ts";
import { generateIdentity } from "../../../src/host/network-identity.ts";
import {
  controlFrame,
  decodeGrant,
  encodeLoad,
  pongFrame,
  splitLoad,
} from "../../../src/peer/control-frames.ts";
import { encodeHello, encodeKnown } from "../../../src/peer/hello-message.ts";
import { type Channel, createChannel } from "../../../src/wire/channel.ts";
import { type Frame, frameOf } from "../../../src/wire/frame.ts";

export const protocols = {
  hello: "/mesh/hello/1",
  control: "/mesh/ctl/1",
  blobs: "/mesh/blk/1",
  results: "/mesh/ac/1",
} as const;

export interface LiarHooks {
  /** Says something else than hello; undefined: the proper thing. */
  readonly hello?: (stream: Stream) => void;
  /** A control stream to this peer is open. */
  readonly onControl?: (peer: PeerId, channel: Channel) => void;
  readonly onFrame?: (peer: PeerId, channel: Channel, frame: Frame) => void;
  /** Said on a stream of its own to every node with a control stream. */
  readonly speak?: {
    readonly protocol: "blobs" | "results";
    readonly say: (stream: Stream) => void;
  };
  /** Somebody wants blobs, or results. */
  readonly onBlobs?: (peer: PeerId, stream: Stream) => void;
  readonly onResults?: (peer: PeerId, stream: Stream) => void;
}

export interface Lie {
  /** `refused`: whoever hears it has to turn the liar away. `borne`: it only must not harm. */
  readonly end: "refused" | "borne";
  readonly hooks: LiarHooks;
  /** Told at least this long. */
  readonly minMs?: number;
}

export interface LiarPeer {
  readonly self: PeerId;
  readonly network: Network;
  /** Nodes that it got a word to. */
  readonly met: ReadonlySet<PeerId>;
  /** Tasks that it was given. */
  taken(): number;
  close(): Promise<void>;
}

const never = new AbortController().signal;
const frameMaxBytes = 4 * 1024 * 1024;
const queueMaxBytes = 256 * 1024 * 1024;
const platform = "linux/x86_64";

export async function startLiar(
  meshKey: Uint8Array,
  addrs: readonly string[],
  hooks: LiarHooks,
): Promise<LiarPeer> {
  const network = await createNetwork(
    {
      identity: generateIdentity(),
      meshKey,
      listen: ["/ip4/127.0.0.1/tcp/0"],
      bootstrap: [],
      mdns: false,
      name: "liar",
    },
    never,
  );
  const { self } = network;
  const met = new Set<PeerId>();
  let taken = 0;
  const session = BigInt(Math.floor(Math.random() * 2 ** 48));

  function greet(peer: PeerId, stream: Stream): void {
    if (hooks.hello !== undefined) {
      met.add(peer);
      hooks.hello(stream);
      return;
    }
    const channel: Channel = createChannel(stream, { frameMaxBytes, queueMaxBytes }, (whole) => {
      const { rest: frame } = splitLoad(whole);
      if (frame.type === 1) channel.send(frameOf(2, { payload: encodeKnown([]) }));
      if (frame.type === 2) void channel.close().catch(() => {});
    });
    const own = {
      name: "liar",
      roles: ["member"],
      slots: 4,
      sandbox: "unshare" as const,
      platform,
      labels: {},
    };
    channel.send(frameOf(1, { payload: encodeHello(own, network.listenAddrs(), session) }));
    void channel.ended.then(() => {
      if (self < peer) void control(peer);
    });
  }

  async function control(peer: PeerId): Promise<void> {
    const stream = await network.open(peer, protocols.control, never).catch(() => undefined);
    if (stream !== undefined) talk(peer, stream);
  }

  function talk(peer: PeerId, stream: Stream): void {
    const channel: Channel = createChannel(stream, { frameMaxBytes, queueMaxBytes }, (whole) => {
      const { rest: frame } = splitLoad(whole);
      if (frame.type === controlFrame.ping) channel.send(pongFrame(frame.requestId));
      if (frame.type === controlFrame.stealGrant) taken += decodeGrant(frame).grants.length;
      hooks.onFrame?.(peer, channel, frame);
    });
    met.add(peer);
    channel.send(encodeLoad({ queued: 0, stealable: 0, slots: 4, busy: 0, hot: 0n, sequence: 1n }));
    hooks.onControl?.(peer, channel);
    if (hooks.speak !== undefined) void speak(peer, hooks.speak);
  }

  async function speak(peer: PeerId, { protocol, say }: NonNullable<LiarHooks["speak"]>) {
    const name = protocols[protocol];
    const stream = await network.open(peer, name, never).catch(() => undefined);
    if (stream !== undefined) say(stream);
  }

  network.serve(protocols.hello, greet);
  network.serve(protocols.control, talk);
  network.serve(protocols.blobs, (peer, stream) => {
    if (hooks.onBlobs === undefined) stream.reset("nothing here");
    else hooks.onBlobs(peer, stream);
  });
  network.serve(protocols.results, (peer, stream) => {
    if (hooks.onResults === undefined) stream.reset("nothing here");
    else hooks.onResults(peer, stream);
  });
  await Promise.all(
    addrs.map(async (addr) => {
      try {
        const peer = await network.connect(addr, never);
        greet(peer, await network.open(peer, protocols.hello, never));
      } catch {
        // Dead, stopped or behind bad weather: the others will do.
      }
    }),
  );
  return { self, network, met, taken: () => taken, close: () => network.close() };
}
