/**
 * Looks for a result that is known already, here and then at its homes in the mesh, and puts it in
 * place. One that turns out to be of no use is forgotten, said, and counts as none.
 */
import { blobsOf } from "../action/action.ts";
import type { KnownResult, Results } from "../action/results.ts";
import { isMeshError } from "../base/errors.ts";
import type { Emit } from "../base/events.ts";
import type { PeerId } from "../base/ids.ts";
import type { Exchange } from "../blob/exchange.ts";
import type { BlobStore } from "../blob/store.ts";
import type { Clock } from "../host/host.ts";
import type { Work } from "./course.ts";
import type { Portable } from "./plan.ts";

export interface KnownDeps {
  readonly self: PeerId;
  readonly results: Results;
  readonly exchange: Pick<Exchange, "fetch">;
  readonly store: Pick<BlobStore, "pin">;
  readonly clock: Clock;
  readonly emit: Emit;
}

export interface Hit extends KnownResult {
  readonly source: "cached-here" | "cached-mesh";
}

export interface Attempted {
  /** Until the answer was known. */
  readonly lookupMs: number;
  /** Until the outputs were in place. */
  readonly wallMs: number;
  readonly hit: Hit | undefined;
}

export interface Known {
  /** Rejects only with `signal.reason`. */
  use(work: Work, signal: AbortSignal): Promise<Attempted>;
}

export function createKnown(deps: KnownDeps): Known {
  const { results, exchange, store, clock, emit } = deps;

  /** Undefined when nothing is known, or nothing that could be put in place. */
  async function findKnown(work: Work, signal: AbortSignal): Promise<Hit | undefined> {
    const { plan, options } = work;
    if (plan.at === "here" || !options.cacheRead) return undefined;
    const { action, portable, portableAction } = plan;
    const here = results.find(action.digest);
    if (here !== undefined) return { ...here, source: "cached-here" };
    const portableHere = portableAction && results.find(portableAction.digest);
    if (portableHere !== undefined && portable !== undefined)
      return arrive(portableHere, portable, "cached-here", signal);
    const [there, portableThere] = await Promise.all([
      results.findInMesh(action.digest, signal),
      portableAction && results.findInMesh(portableAction.digest, signal),
    ]);
    if (there !== undefined) return { ...there, source: "cached-mesh" };
    if (portableThere === undefined || portable === undefined) return undefined;
    return arrive(portableThere, portable, "cached-mesh", signal);
  }

  async function arrive(
    known: KnownResult,
    portable: Portable,
    source: Hit["source"],
    signal: AbortSignal,
  ): Promise<Hit> {
    await exchange.fetch(blobsOf(known.outcome), known.providers, signal);
    return { ...known, outcome: await portable.fromPortable(known.outcome), source };
  }

  /** Puts a known result in place. False: it is of no use, and forgotten if that is its fault. */
  async function useKnown(work: Work, hit: Hit, signal: AbortSignal): Promise<boolean> {
    const { plan, delivery } = work;
    if (plan.at === "here" || delivery === undefined) return false;
    const pin = store.pin(blobsOf(hit.outcome));
    try {
      if (!work.options.compare)
        await delivery.commit(hit.outcome, hit.providers, hit.signer === deps.self, signal);
      else await exchange.fetch(blobsOf(hit.outcome), hit.providers, signal);
      return true;
    } catch (error) {
      signal.throwIfAborted();
      if (!isMeshError(error)) throw error;
      const { code } = error;
      const why = `${code}: ${error.message}`;
      // A folder that cannot be written to says nothing about the result.
      if (code !== "io" && code !== "no-space") {
        results.refuse(plan.action.digest, code);
        if (plan.portableAction) results.refuse(plan.portableAction.digest, code);
      }
      const message = `${plan.label}: a known result of ${hit.signer} is of no use: ${why}`;
      emit({ event: "log", level: "warn", message });
      return false;
    } finally {
      pin.release();
    }
  }

  async function use(work: Work, signal: AbortSignal): Promise<Attempted> {
    const startMs = clock.nowMs();
    let hit: Hit | undefined;
    try {
      hit = await findKnown(work, signal);
    } catch (error) {
      signal.throwIfAborted();
      if (!isMeshError(error)) throw error;
    }
    const lookupMs = clock.nowMs() - startMs;
    const isOfUse = hit !== undefined && (await useKnown(work, hit, signal));
    return { lookupMs, wallMs: clock.nowMs() - startMs, hit: isOfUse ? hit : undefined };
  }

  return { use };
}
