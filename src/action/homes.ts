/**
 * Result homes: the few members, chosen by an action's digest, that are told its result and asked
 * for it (protocols/ac.md).
 *
 * Every node works out the same homes from the members it sees, so nobody has to be asked where a
 * result is. A home that does not answer costs one short wait and is then left out for a while. It
 * does not know what a record says: whoever made it judges.
 */
import { createRecentMap } from "../base/bounded.ts";
import { utf8 } from "../base/bytes.ts";
import { type Digest, digestOf } from "../base/digest.ts";
import { isMeshError, MeshError } from "../base/errors.ts";
import type { PeerId } from "../base/ids.ts";
import { createStanding } from "../blob/standing.ts";
import type { Clock, Network, Stream } from "../host/host.ts";
import type { Peer } from "../peer/directory.ts";
import { acProtocol } from "./ac.ts";
import { type AcLink, createAcLink, type Found } from "./ac-link.ts";
import { type AcServeDeps, createAcServing } from "./ac-serve.ts";

export interface Homes<T> {
  /**
   * Asks the action's homes at once. The first answer that `judge` takes wins; undefined when
   * there is none in time, and at once when nobody is there. Rejects only with `signal.reason`.
   */
  ask(action: Digest, judge: Judge<T>, signal: AbortSignal): Promise<T | undefined>;
  /** Tells the action's homes, in a while and together with others. */
  tell(action: Digest, record: Uint8Array): void;
  /** A peer sent what is not right. Twice, and it is neither asked nor listened to for a while. */
  blame(peer: PeerId): void;
  /** Tells what is still to be told, as far as that takes half a second, and ends. */
  close(): Promise<void>;
}

/** Undefined: the record is of no use, and whoever sent it is to blame for that. */
export type Judge<T> = (found: Found) => T | undefined;

export interface HomesDeps extends Omit<AcServeDeps, "allowed"> {
  readonly network: Pick<Network, "self" | "open" | "serve">;
  readonly directory: {
    admitted(peer: PeerId): boolean;
    peers(): readonly Peer[];
    onJoined(listener: (peer: Peer) => void): void;
    onLeft(listener: (peer: Peer) => void): void;
  };
  readonly clock: Clock;
}

export interface HomesOptions {
  /** Homes of one action. */
  readonly copies: number;
  readonly askMs: number;
  /** What is told within this time travels together. */
  readonly tellPauseMs: number;
}

/** How long a home that did not answer is left out, at first and in the end. */
const skipMinMs = 1000;
const skipMaxMs = 30_000;
/** A peer that sent two wrong records is left out for this long. */
const ignoreMs = 600_000;
/** Records that wait to be told; of more, the oldest is told to nobody. */
const tellMax = 4096;
const closeMs = 500;
const peersRemembered = 1024;

interface Skipped {
  readonly count: number;
  readonly untilMs: number;
}

/** Answers and asks until `signal` aborts. */
export function createHomes<T>(
  deps: HomesDeps,
  options: HomesOptions,
  signal: AbortSignal,
): Homes<T> {
  const { network, clock, directory } = deps;
  const members = new Map<PeerId, Place>([[network.self, placeOf(network.self)]]);
  const links = new Map<PeerId, AcLink>();
  const skipped = createRecentMap<PeerId, Skipped>(peersRemembered);
  const standing = createStanding({ clock }, { ignoreMs });
  const untold = new Map<Digest, Uint8Array>();
  let isTelling = false;

  for (const { id } of directory.peers()) members.set(id, placeOf(id));
  directory.onJoined(({ id }) => {
    members.set(id, placeOf(id));
    skipped.delete(id);
  });
  directory.onLeft(({ id }) => {
    members.delete(id);
    links.get(id)?.reset("the peer has left");
  });
  const serving = createAcServing({
    ...deps,
    allowed: (peer) => directory.admitted(peer) && !standing.isIgnored(peer),
  });
  network.serve(acProtocol, (peer: PeerId, stream: Stream) => serving.accept(peer, stream));

  /** Other nodes among the homes that may be asked now. */
  function readyHomes(action: Digest): readonly PeerId[] {
    const nowMs = clock.nowMs();
    return chooseHomes(action, members, options.copies).filter(
      (peer) =>
        peer !== network.self &&
        (skipped.get(peer)?.untilMs ?? 0) <= nowMs &&
        !standing.isIgnored(peer),
    );
  }

  function skip(peer: PeerId): void {
    const count = (skipped.get(peer)?.count ?? 0) + 1;
    const skipMs = Math.min(skipMaxMs, skipMinMs * 2 ** (count - 1));
    skipped.set(peer, { count, untilMs: clock.nowMs() + skipMs });
  }

  function linkTo(peer: PeerId): AcLink {
    const known = links.get(peer);
    if (known !== undefined) return known;
    const link: AcLink = createAcLink(
      {
        network,
        clock,
        onEnd(fault) {
          if (links.get(peer) === link) links.delete(peer);
          if (fault !== undefined) standing.blame(peer);
        },
      },
      peer,
      signal,
    );
    links.set(peer, link);
    return link;
  }

  /** Resolves with the first answer that is of use. `waiting` holds those who have not answered. */
  function firstOf(
    action: Digest,
    judge: Judge<T>,
    waiting: Set<PeerId>,
    inTime: AbortSignal,
  ): Promise<T | undefined> {
    return new Promise((resolve) => {
      let isOver = false;
      const end = (taken: T | undefined): void => {
        isOver = true;
        resolve(taken);
      };
      const hear = (peer: PeerId, answer: Found | undefined | MeshError): void => {
        waiting.delete(peer);
        // Its stream is over, or it does not speak of results at all: the others are there.
        if (answer instanceof MeshError && answer.code === "peer-gone") skip(peer);
        if (!(answer instanceof MeshError)) skipped.delete(peer);
        // A second answer to the same question is not worth a look at its signature.
        if (isOver || inTime.aborted) return;
        const found = answer instanceof MeshError ? undefined : answer;
        const taken = found && judge(found);
        if (found !== undefined && taken === undefined) blame(peer);
        if (taken !== undefined || waiting.size === 0) end(taken);
      };
      for (const peer of [...waiting]) linkTo(peer).ask(action, (answer) => hear(peer, answer));
    });
  }

  function blame(peer: PeerId): void {
    if (standing.blame(peer)) links.get(peer)?.reset("it sent wrong records twice");
  }

  function tellAll(): void {
    const byHome = new Map<PeerId, Uint8Array[]>();
    for (const [action, record] of untold) {
      for (const peer of readyHomes(action)) {
        const records = byHome.get(peer) ?? [];
        records.push(record);
        byHome.set(peer, records);
      }
    }
    untold.clear();
    for (const [peer, records] of byHome) linkTo(peer).tell(records);
  }

  async function tellSoon(): Promise<void> {
    await clock.sleep(options.tellPauseMs, signal).catch(() => {});
    isTelling = false;
    if (!signal.aborted) tellAll();
  }

  return {
    async ask(action, judge, until) {
      until.throwIfAborted();
      const homes = readyHomes(action);
      if (homes.length === 0) return undefined;
      const waiting = new Set(homes);
      try {
        return await clock.withDeadline(until, options.askMs, (inTime) =>
          firstOf(action, judge, waiting, inTime),
        );
      } catch (error) {
        until.throwIfAborted();
        if (!isMeshError(error, "deadline")) throw error;
        for (const peer of waiting) skip(peer);
        return undefined;
      }
    },
    tell(action, record) {
      if (members.size === 1 || signal.aborted) return;
      untold.set(action, record);
      if (untold.size > tellMax) {
        for (const oldest of untold.keys()) {
          untold.delete(oldest);
          break;
        }
      }
      if (isTelling) return;
      isTelling = true;
      void tellSoon();
    },
    blame,
    async close() {
      tellAll();
      const closing = Promise.all([...links.values()].map((link) => link.close()));
      const never = new AbortController().signal;
      // A peer that does not read is not waited for.
      await clock.withDeadline(never, closeMs, () => closing).catch(() => {});
    },
  };
}

/** Where a peer stands in the choice: two words of the BLAKE3 of its id. */
export interface Place {
  readonly high: number;
  readonly low: number;
}

export function placeOf(peer: PeerId): Place {
  const hash = digestOf(utf8(peer));
  return { high: wordOf(hash, 0), low: wordOf(hash, 8) };
}

/**
 * The `copies` members with the highest scores for this action, highest first; of two with the
 * same score the lower id. A member that comes or goes changes nothing for the others
 * (rendezvous hashing: Thaler and Ravishankar, 1998).
 */
export function chooseHomes(
  action: Digest,
  members: Iterable<readonly [PeerId, Place]>,
  copies: number,
): readonly PeerId[] {
  const high = wordOf(action, 0);
  const low = wordOf(action, 8);
  const best: { readonly peer: PeerId; readonly score: number }[] = [];
  for (const [peer, place] of members) {
    const score = mix(mix(place.high ^ high) ^ place.low ^ low) >>> 0;
    let at = best.length;
    while (at > 0 && isBefore(peer, score, best[at - 1])) at -= 1;
    if (at >= copies) continue;
    best.splice(at, 0, { peer, score });
    best.length = Math.min(best.length, copies);
  }
  return best.map(({ peer }) => peer);
}

function isBefore(
  peer: PeerId,
  score: number,
  other: { readonly peer: PeerId; readonly score: number } | undefined,
): boolean {
  if (other === undefined) return false;
  return score > other.score || (score === other.score && peer < other.peer);
}

/** Spreads a difference in any bit over all of them: the finalizer of MurmurHash3, 32 bits. */
function mix(word: number): number {
  let mixed = word ^ (word >>> 16);
  mixed = Math.imul(mixed, 0x85ebca6b);
  mixed ^= mixed >>> 13;
  mixed = Math.imul(mixed, 0xc2b2ae35);
  return mixed ^ (mixed >>> 16);
}

/** Eight hex digits of a hash as a number. */
function wordOf(hash: Digest, at: number): number {
  return Number.parseInt(hash.slice(at, at + 8), 16);
}
