/**
 * Known results: what running an action gave, remembered here and at its result homes in the mesh.
 *
 * A result is kept as a record that names the action, its outputs by digest, and the node that ran
 * it, signed by that node (protocols/ac.md). A record that cannot be verified, or whose blobs
 * cannot be had, counts as a miss.
 */
import type { Digest } from "../base/digest.ts";
import { isMeshError } from "../base/errors.ts";
import type { PeerId } from "../base/ids.ts";
import type { BlobStore } from "../blob/store.ts";
import type { Clock } from "../host/host.ts";
import type { Found } from "./ac-link.ts";
import { type ActionOutcome, blobsOf } from "./action.ts";
import { createHomes, type Homes, type HomesDeps, type HomesOptions } from "./homes.ts";
import {
  actionOfRecord,
  isGenuine,
  type Recorded,
  readRecord,
  runMaxMs,
  writeRecord,
} from "./record.ts";
import type { Records } from "./records.ts";

export interface KnownResult {
  /** Its exit code is 0. */
  readonly outcome: ActionOutcome;
  /** Who ran the action. */
  readonly signer: PeerId;
  readonly runMs: number;
  /** Nodes that are likely to have its blobs, for `exchange.fetch`. */
  readonly providers: readonly PeerId[];
  /** The signed record itself. */
  readonly record: Uint8Array;
}

export interface Results {
  /**
   * A result known to this node, all of whose blobs are in its store. Answers from memory. Whoever
   * uses it reads or copies the blobs, which keeps them from eviction; until then, pin them.
   */
  find(action: Digest): KnownResult | undefined;
  /**
   * Asks the action's result homes. Undefined when none of them knows in time or nobody is there.
   * Rejects only with `signal.reason`. The blobs may have to be fetched. To be called after `find`
   * found nothing: misses are counted here.
   */
  findInMesh(action: Digest, signal: AbortSignal): Promise<KnownResult | undefined>;
  /**
   * Remembers what this node saw its own run give, signs it, and tells the result homes in the
   * background. The blobs are in the store.
   */
  keep(action: Digest, outcome: ActionOutcome, runMs: number): void;
  /** Signs what this node ran for somebody else. Undefined: it is no result to be remembered. */
  sign(action: Digest, outcome: ActionOutcome, runMs: number): Signed | undefined;
  /**
   * Remembers a record that came with an answer; its blobs are in the store. It may be of another
   * signer than the peer that answered, who then knew the result from there. Its signature is
   * checked when it is first of use. False: it was refused, because it is none or does not say
   * what is `expected`.
   */
  accept(record: Uint8Array, expected?: Expected): boolean;
  /** A record turned out to be of no use (a blob is missing or wrong): it is forgotten here. */
  refuse(action: Digest, why: string): void;
  stats(): ResultStats;
  /**
   * Checks every record's signature anew, and that the blobs of what ran here or was used here are
   * in the store. What is bad is forgotten. For `mesh cache verify`, after the store's own.
   */
  verify(signal: AbortSignal): Promise<ResultsVerified>;
  /**
   * Forgets records of what ran or was used here whose blobs are gone, and writes the file of
   * records anew. Returns the bytes that it saves. For `mesh cache gc`, after the store's own.
   */
  collect(signal: AbortSignal): Promise<number>;
  /** Writes and tells what is still to be written and told, as far as that takes half a second. */
  close(): Promise<void>;
}

export interface Signed {
  readonly record: Uint8Array;
  /** Remembers it here, and tells the result homes. */
  readonly keep: () => void;
}

/** What the record of an answer has to say. */
export interface Expected {
  readonly action: Digest;
  readonly outcome: ActionOutcome;
}

export interface ResultStats {
  readonly records: number;
  readonly bytes: number;
  /** Look-ups answered from here, from the mesh, and not at all. */
  readonly hitsHere: number;
  readonly hitsMesh: number;
  readonly misses: number;
  /** Records that were refused, by why: "signature", "malformed", "blob-missing" and the like. */
  readonly refused: Readonly<Record<string, number>>;
}

export interface ResultsVerified {
  readonly checked: number;
  readonly bad: readonly { readonly action: Digest; readonly why: string }[];
}

export interface ResultsDeps {
  readonly records: Records;
  readonly store: Pick<BlobStore, "has">;
  readonly clock: Clock;
  readonly network: HomesDeps["network"];
  readonly directory: HomesDeps["directory"];
}

export const resultsDefaults: HomesOptions = { copies: 3, askMs: 250, tellPauseMs: 100 };

/** Records checked in one turn. */
const verifyStep = 32;

export function createResults(deps: ResultsDeps, options: HomesOptions = resultsDefaults): Results {
  const { records, store, clock, directory } = deps;
  const counts = { hitsHere: 0, hitsMesh: 0, misses: 0 };
  const closed = new AbortController();

  const hasBlobs = ({ outcome }: Recorded): boolean =>
    blobsOf(outcome).every((digest) => store.has(digest));

  const homes: Homes<KnownResult> = createHomes(
    {
      ...deps,
      lookUp(action) {
        const recorded = records.trusted(action);
        const record = records.bytesOf(action);
        if (recorded === undefined || record === undefined) return undefined;
        return { record, hasBlobs: hasBlobs(recorded) };
      },
      onTold,
      onTooMuch: () => records.count("too-much"),
    },
    options,
    closed.signal,
  );

  /** A record of which a peer thinks that this node should have it. */
  function onTold(shared: Uint8Array, peer: PeerId): void {
    const action = actionOfRecord(shared);
    if (action !== undefined && records.has(action)) return;
    try {
      const record = shared.slice();
      records.add(readRecord(record).action, { record, told: true });
    } catch (error) {
      if (!isMeshError(error, "malformed")) throw error;
      records.count("malformed");
      homes.blame(peer);
    }
  }

  /** Whether what a home sent is a genuine record of this action; then it is remembered. */
  function judge(
    action: Digest,
    { record: shared, peer, hasBlobs }: Found,
  ): KnownResult | undefined {
    if (actionOfRecord(shared) !== action) {
      records.count(actionOfRecord(shared) === undefined ? "malformed" : "other-action");
      return undefined;
    }
    try {
      const record = shared.slice();
      const recorded = readRecord(record);
      if (!isGenuine(records.keys, record, recorded.signer)) {
        records.count("signature");
        return undefined;
      }
      records.add(action, { record, told: true, recorded });
      return resultOf(recorded, record, hasBlobs ? [peer] : []);
    } catch (error) {
      if (!isMeshError(error, "malformed")) throw error;
      records.count("malformed");
      return undefined;
    }
  }

  function resultOf(
    { outcome, signer, runMs }: Recorded,
    record: Uint8Array,
    holders: readonly PeerId[],
  ): KnownResult {
    const isThere = directory.admitted(signer) && !holders.includes(signer);
    return { outcome, signer, runMs, record, providers: isThere ? [...holders, signer] : holders };
  }

  /** What is known here, with or without its blobs. */
  function ownOf(action: Digest): { known: KnownResult; isWhole: boolean } | undefined {
    const recorded = records.trusted(action);
    const record = records.bytesOf(action);
    if (recorded === undefined || record === undefined) return undefined;
    return { known: resultOf(recorded, record, []), isWhole: hasBlobs(recorded) };
  }

  function sign(action: Digest, outcome: ActionOutcome, runMs: number): Signed | undefined {
    const { keys } = records;
    const madeAtSeconds = Math.max(0, Math.floor(clock.wallMs() / 1000));
    const wholeMs = Math.min(runMaxMs, Math.max(0, Math.round(runMs)));
    const recorded: Recorded = {
      ...{ action, outcome, madeAtSeconds },
      ...{ runMs: wholeMs, signer: keys.signing.self },
    };
    try {
      const record = writeRecord(keys, recorded);
      const keep = (): void => {
        records.add(action, { record, told: false, recorded });
        homes.tell(action, record);
      };
      return { record, keep };
    } catch (error) {
      if (!isMeshError(error, "limit", "malformed")) throw error;
      records.count("not-recordable");
      return undefined;
    }
  }

  async function findInMesh(action: Digest, signal: AbortSignal): Promise<KnownResult | undefined> {
    signal.throwIfAborted();
    const own = ownOf(action);
    if (own?.isWhole) {
      counts.hitsHere += 1;
      return own.known;
    }
    const isAlone = directory.peers().length === 0;
    if (own !== undefined && isAlone) records.count("blob-missing");
    const found = isAlone
      ? undefined
      : (own?.known ?? (await homes.ask(action, (one) => judge(action, one), signal)));
    if (found === undefined) counts.misses += 1;
    else counts.hitsMesh += 1;
    return found;
  }

  return {
    find(action) {
      const own = ownOf(action);
      if (own?.isWhole !== true) return undefined;
      counts.hitsHere += 1;
      return own.known;
    },
    findInMesh,
    keep(action, outcome, runMs) {
      const before = records.trusted(action);
      if (before !== undefined && !records.isTold(action) && isSame(before.outcome, outcome))
        return;
      sign(action, outcome, runMs)?.keep();
    },
    sign,
    accept(shared, expected) {
      const why = objectionTo(shared, expected);
      if (why !== undefined) {
        records.count(why);
        return false;
      }
      const action = actionOfRecord(shared);
      // What was known before stays, unless its blobs are gone by now.
      if (action !== undefined && (records.isTold(action) || ownOf(action)?.isWhole !== true)) {
        records.add(action, { record: shared.slice(), told: false });
      }
      return true;
    },
    refuse: records.refuse,
    stats: () => ({
      records: records.size,
      bytes: records.bytes,
      ...counts,
      refused: records.refusals(),
    }),
    ...createUpkeep(deps, hasBlobs),
    async close() {
      await Promise.all([homes.close(), records.flush()]);
      closed.abort(new DOMException("the node is stopping", "AbortError"));
      // What was told in the last moment.
      await records.flush();
    },
  };
}

/** Why a record that came with an answer is not taken. */
function objectionTo(record: Uint8Array, expected: Expected | undefined): string | undefined {
  try {
    const { action, outcome } = readRecord(record);
    if (expected === undefined) return undefined;
    if (action !== expected.action) return "other-action";
    return isSame(outcome, expected.outcome) ? undefined : "other-outcome";
  } catch (error) {
    if (!isMeshError(error, "malformed")) throw error;
    return "malformed";
  }
}

function isSame(left: ActionOutcome, right: ActionOutcome): boolean {
  return (
    left.exitCode === right.exitCode &&
    left.stdout === right.stdout &&
    left.stderr === right.stderr &&
    left.outputs.length === right.outputs.length &&
    left.outputs.every(({ path, digest, executable }, index) => {
      const other = right.outputs[index];
      return other?.path === path && other.digest === digest && other.executable === executable;
    })
  );
}

function createUpkeep(
  { records, clock }: ResultsDeps,
  hasBlobs: (recorded: Recorded) => boolean,
): Pick<Results, "verify" | "collect"> {
  /** In steps, so that the node goes on meanwhile. */
  async function eachAction(run: (action: Digest) => void, signal: AbortSignal): Promise<number> {
    const actions = records.actions();
    for (const [index, action] of actions.entries()) {
      if (index % verifyStep === 0) await clock.sleep(0, signal);
      run(action);
    }
    return actions.length;
  }

  /** Told records count as whole: their blobs are elsewhere. */
  const isWhole = (action: Digest, recorded: Recorded): boolean =>
    records.isTold(action) || hasBlobs(recorded);

  return {
    async verify(signal) {
      const bad: { action: Digest; why: string }[] = [];
      const stop = records.onRefused((action, why) => void bad.push({ action, why }));
      try {
        const checked = await eachAction((action) => {
          const recorded = records.trusted(action, "again");
          if (recorded === undefined || isWhole(action, recorded)) return;
          records.refuse(action, "blob-missing");
          bad.push({ action, why: "blob-missing" });
        }, signal);
        return { checked, bad };
      } finally {
        stop();
      }
    },
    async collect(signal) {
      await eachAction((action) => {
        const recorded = records.trusted(action, "again");
        if (recorded !== undefined && !isWhole(action, recorded)) records.forget(action);
      }, signal);
      return records.compact();
    },
  };
}
