/**
 * `/mesh/hello/1`: who gets past the door (protocols/hello.md).
 *
 * Keeps one session for each connected peer, from its connection to its loss, and says which peers
 * are admitted: those whose hello has been read and found good. Streams of every other protocol
 * wait for that (`admittedOnly`), so that a peer that was quicker than we are loses nothing.
 * Knows nothing about why peers are connected or what happens after the hello.
 */
import { textOf, utf8 } from "../base/bytes.ts";
import { isMeshError, MeshError } from "../base/errors.ts";
import type { PeerId } from "../base/ids.ts";
import type { Clock, Network, Random, Stream } from "../host/host.ts";
import { type Channel, createChannel } from "../wire/channel.ts";
import { type Frame, frameOf } from "../wire/frame.ts";
import {
  type Description,
  encodeHello,
  encodeKnown,
  type Greeting,
  type KnownMember,
  parseHello,
  parseKnown,
} from "./hello-message.ts";
import { plainName } from "./name.ts";
import { watch } from "./watched.ts";

const helloProtocol = "/mesh/hello/1";

export interface Hello {
  /** Whether the peer's hello was found good and it is still connected. */
  admitted(peer: PeerId): boolean;
  /** Waits for the hello of a connected peer: at most its 5 s. */
  whenAdmitted(peer: PeerId): Promise<boolean>;
  /** Ends the session and the connection. `onOver` is not called. */
  drop(peer: PeerId): void;
  /** Ends every session; connections that come later are not greeted. */
  stop(): void;
}

export interface HelloDeps {
  readonly network: Network;
  readonly clock: Clock;
  readonly random: Random;
  readonly own: () => Description;
  /** Members to tell this peer of. */
  readonly known: (peer: PeerId) => readonly KnownMember[];
  /** A reason to turn this peer away before any hello. */
  readonly objection: (peer: PeerId) => MeshError | undefined;
  /** `rttMs` is a first guess, and known only to the side that spoke first. */
  readonly onAdmitted: (peer: PeerId, greeting: Greeting, rttMs: number | undefined) => void;
  readonly onKnown: (members: readonly KnownMember[]) => void;
  /** Connected but not admitted; the connection is being closed. */
  readonly onRefused: (peer: PeerId, error: MeshError) => void;
  /** An admitted peer is gone, or has begun anew and will be admitted again. */
  readonly onOver: (peer: PeerId, reason: string) => void;
}

interface Session {
  readonly id: bigint;
  state: "greeting" | "admitted" | "closing";
  theirs: bigint | undefined;
  readonly over: AbortController;
  readonly admitted: Promise<boolean>;
  readonly settle: (admitted: boolean) => void;
  streams: number;
}

/** Frame types. */
const hello = 1;
const known = 2;
const refused = 3;

const helloMaxBytes = 256 * 1024;
const helloDeadlineMs = 5000;
/** The side that waits for the other's hello speaks up after this: the other may hold an old connection. */
const patienceMs = 1000;
const retryMs = 250;
const goodbyeMs = 1000;
const streamsMax = 4;
const reasonMaxChars = 200;

export function createHello(deps: HelloDeps): Hello {
  const { network, clock, random } = deps;
  const sessions = new Map<PeerId, Session>();
  const stopped = new AbortController();

  function begin(peer: PeerId): Session {
    const present = sessions.get(peer);
    if (present !== undefined) return present;
    const { promise, resolve } = Promise.withResolvers<boolean>();
    const session: Session = {
      id: Buffer.from(random.bytes(8)).readBigUInt64LE(),
      state: "greeting",
      theirs: undefined,
      over: new AbortController(),
      admitted: promise,
      settle: resolve,
      streams: 0,
    };
    sessions.set(peer, session);
    void greet(peer, session);
    return session;
  }

  /** Sees to it that a hello is exchanged in time, whoever speaks first. */
  async function greet(peer: PeerId, session: Session): Promise<void> {
    const speak = async (signal: AbortSignal): Promise<void> => {
      if (network.self > peer) await clock.sleep(patienceMs, signal);
      while (session.state === "greeting") {
        await open(peer, session, signal).catch(() => {});
        await clock.sleep(retryMs, signal);
      }
    };
    try {
      await clock.withDeadline(session.over.signal, helloDeadlineMs, async (signal) => {
        const spoken = speak(signal);
        // Whatever it rejects with, the outcome is in the session.
        spoken.catch(() => {});
        await Promise.race([session.admitted, spoken]);
      });
    } catch (error) {
      if (!isMeshError(error, "deadline")) return;
      refuse(
        peer,
        session,
        new MeshError("deadline", "it did not say hello within 5 s"),
        undefined,
      );
    }
  }

  async function open(peer: PeerId, session: Session, signal: AbortSignal): Promise<void> {
    const stream = await network.open(peer, helloProtocol, signal);
    await exchange(peer, session, stream, "mine");
  }

  /** One hello stream, either side's. Resolves when it has ended. */
  async function exchange(
    peer: PeerId,
    session: Session,
    stream: Stream,
    opener: "mine" | "theirs",
  ): Promise<void> {
    const startedMs = clock.nowMs();
    let got: "nothing" | "hello" | "known" = "nothing";
    const watched = watch(stream);
    const channel = createChannel(
      watched.stream,
      { frameMaxBytes: helloMaxBytes, queueMaxBytes: 4 * helloMaxBytes, knownTypes },
      (frame) => {
        if (session.state === "closing") return;
        try {
          got = take(frame);
        } catch (error) {
          if (!isMeshError(error)) throw error;
          const mutual = error.code === "refused" && frame.type === hello;
          refuse(peer, session, error, mutual ? channel : undefined);
        }
      },
    );
    function take(frame: Frame): "hello" | "known" {
      if (frame.type === refused) {
        const reason = plainName(textOf(frame.payload), reasonMaxChars);
        throw new MeshError("refused", `it turned this node away: ${reason}`);
      }
      if (frame.type === hello && got === "nothing") {
        const greeting = parseHello(peer, frame.payload);
        admit(peer, session, greeting, opener === "mine" ? clock.nowMs() - startedMs : undefined);
        // Only now: of two peers that come at the same time, the later one must hear of the first.
        channel.send(frameOf(known, { payload: encodeKnown(deps.known(peer)) }));
        return "hello";
      }
      if (frame.type === known && got === "hello") {
        deps.onKnown(parseKnown(frame.payload));
        channel.close().catch(() => {});
        return "known";
      }
      throw new MeshError("malformed", `it sent frame ${frame.type} out of turn`);
    }
    const objection = session.state === "admitted" ? undefined : deps.objection(peer);
    if (objection === undefined) {
      const own = encodeHello(deps.own(), network.listenAddrs(), session.id);
      channel.send(frameOf(hello, { payload: own }));
    } else {
      channel.send(frameOf(refused, { payload: utf8(objection.message) }));
      refuse(peer, session, objection, channel);
    }
    await channel.ended;
    const fault = watched.resetReason();
    if (fault !== undefined) refuse(peer, session, new MeshError("malformed", fault), undefined);
  }

  function admit(
    peer: PeerId,
    session: Session,
    greeting: Greeting,
    rttMs: number | undefined,
  ): void {
    if (session.state === "closing") return;
    if (session.state === "admitted") {
      if (session.theirs === greeting.session) return;
      // The peer restarted, or lost a connection that we still thought whole.
      deps.onOver(peer, "it reconnected");
    }
    session.state = "admitted";
    session.theirs = greeting.session;
    deps.onAdmitted(peer, greeting, rttMs);
    session.settle(true);
  }

  function refuse(
    peer: PeerId,
    session: Session,
    error: MeshError,
    channel: Channel | undefined,
  ): void {
    if (session.state === "closing") return;
    const wasAdmitted = session.state === "admitted";
    close(peer, session, channel);
    if (wasAdmitted) deps.onOver(peer, error.message);
    deps.onRefused(peer, error);
  }

  /** Ends a session; with `channel`, the peer has a moment to read on it why. */
  function close(peer: PeerId, session: Session, channel: Channel | undefined): void {
    session.state = "closing";
    session.settle(false);
    void (async () => {
      if (channel !== undefined) {
        channel.close().catch(() => {});
        // It disconnects by itself once it has read that; closing first might lose it.
        await clock.sleep(goodbyeMs, session.over.signal).catch(() => {});
      }
      // Lost meanwhile: what is connected now, if anything, is another session's.
      if (sessions.get(peer) !== session) return;
      session.over.abort();
      await network.disconnect(peer).catch(() => {});
      if (sessions.get(peer) === session) sessions.delete(peer);
    })();
  }

  function end(peer: PeerId): void {
    const session = sessions.get(peer);
    if (session === undefined) return;
    const wasAdmitted = session.state === "admitted";
    session.state = "closing";
    sessions.delete(peer);
    session.over.abort();
    session.settle(false);
    if (wasAdmitted) deps.onOver(peer, "the connection was lost");
  }

  network.onChange(({ peer, at }) => {
    if (at === "disconnected") end(peer);
    else if (!stopped.signal.aborted) begin(peer);
  });
  // The network listens already: somebody may have been quicker than this line.
  for (const peer of network.peers()) begin(peer);
  network.serve(helloProtocol, (peer, stream) => {
    if (stopped.signal.aborted) return stream.reset("this node is stopping");
    const session = begin(peer);
    if (session.state === "closing" || session.streams >= streamsMax) {
      return stream.reset("no hello now");
    }
    session.streams += 1;
    void exchange(peer, session, stream, "theirs").finally(() => {
      session.streams -= 1;
    });
  });

  return {
    admitted: (peer) => sessions.get(peer)?.state === "admitted",
    whenAdmitted: (peer) => begin(peer).admitted,
    drop(peer) {
      const session = sessions.get(peer);
      if (session !== undefined && session.state !== "closing") close(peer, session, undefined);
    },
    stop() {
      stopped.abort();
      for (const session of sessions.values()) {
        session.over.abort();
        session.settle(false);
      }
    },
  };
}

const knownTypes: ReadonlySet<number> = new Set([hello, known, refused]);

/** Streams of one peer that may wait for its hello; more are reset. */
const heldMax = 16;

/**
 * The same network, but streams of peers that have not said hello are held back until they have,
 * and reset if they do not. Every protocol but the hello itself is served through this.
 */
export function admittedOnly(
  network: Network,
  hello: Pick<Hello, "admitted" | "whenAdmitted">,
): Network {
  const held = new Map<PeerId, number>();
  async function hold(
    peer: PeerId,
    stream: Stream,
    onStream: (peer: PeerId, stream: Stream) => void,
  ): Promise<void> {
    const before = held.get(peer) ?? 0;
    if (before >= heldMax) return stream.reset("too many streams before hello");
    held.set(peer, before + 1);
    const admitted = await hello.whenAdmitted(peer);
    const left = (held.get(peer) ?? 1) - 1;
    if (left === 0) held.delete(peer);
    else held.set(peer, left);
    if (admitted) onStream(peer, stream);
    else stream.reset("no hello");
  }
  return {
    self: network.self,
    listenAddrs: () => network.listenAddrs(),
    connect: (addr, signal) => network.connect(addr, signal),
    open: (peer, protocol, signal) => network.open(peer, protocol, signal),
    serve(protocol, onStream) {
      network.serve(protocol, (peer, stream) => {
        if (hello.admitted(peer)) onStream(peer, stream);
        else void hold(peer, stream, onStream);
      });
    },
    peers: () => network.peers(),
    addrOf: (peer) => network.addrOf(peer),
    onChange: (listener) => network.onChange(listener),
    onFound: (listener) => network.onFound(listener),
    disconnect: (peer) => network.disconnect(peer),
    announce: (topic, signal) => network.announce(topic, signal),
    find: (topic, signal) => network.find(topic, signal),
    close: () => network.close(),
  };
}
