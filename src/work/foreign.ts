/**
 * One stolen task from its grant to its outcome:
 *
 * 1. read the grant and check that its parts belong together;
 * 2. a result that is known here is the answer;
 * 3. else fetch every input that neither the store nor this machine's own disk has;
 * 4. wait for a slot;
 * 5. run, with inputs pinned, and sign what came of it;
 * 6. pin the outputs until the owner has them.
 */
import {
  type ActionOutcome,
  type ActionSpec,
  blobsOf,
  type Execute,
  type Progress,
} from "../action/action.ts";
import { decodeAction } from "../action/encode.ts";
import type { Results } from "../action/results.ts";
import { type Digest, digestOf, sizeBytesOf } from "../base/digest.ts";
import { MeshError } from "../base/errors.ts";
import type { PeerId } from "../base/ids.ts";
import type { Exchange } from "../blob/exchange.ts";
import type { BlobStore, Pin } from "../blob/store.ts";
import type { TreeEntry } from "../blob/tree.ts";
import type { Clock } from "../host/host.ts";
import type { Grant } from "../wire/gen/mesh/v1/mesh_pb.ts";
import { digestFromProto } from "../wire/messages.ts";
import type { Answer } from "./answer.ts";
import { heavyOf } from "./heavy.ts";
import type { Slots } from "./slots.ts";

export interface ForeignDeps {
  readonly clock: Clock;
  readonly store: Pick<BlobStore, "has" | "put" | "read" | "pin">;
  readonly exchange: Pick<Exchange, "fetch">;
  /** Takes what this machine's own disk has of the inputs; gives back what is still missing. */
  readonly ingestTwins: (
    inputs: readonly TreeEntry[],
    signal: AbortSignal,
  ) => Promise<readonly Digest[]>;
  readonly slots: Slots;
  readonly execute: Execute;
  readonly results: Pick<Results, "find" | "sign" | "refuse">;
  /** Whether a run of this here depends on nothing but the action, so that its result may be signed. */
  readonly isSealed: (spec: ActionSpec) => boolean;
}

export interface ForeignRun extends Answer {
  /** The owner has taken the answer: its result may be remembered. */
  readonly keep: () => void;
  /** Lets go of the outputs. */
  readonly release: () => void;
}

/** A tree larger than this is refused: no compile has it, and it is held in memory. */
const treeMaxBytes = 32 * 1024 * 1024;

export interface ForeignListener {
  readonly onRunning: () => void;
  readonly onProgress: (progress: Progress) => void;
  /** It has run; its slot comes free in this turn. */
  readonly onRan: () => void;
  /** Its large inputs lie here now. */
  readonly onInputs: (heavy: readonly Digest[]) => void;
}

export async function runForeign(
  deps: ForeignDeps,
  owner: PeerId,
  grant: Grant,
  listener: ForeignListener,
  signal: AbortSignal,
): Promise<ForeignRun> {
  const { clock, store, slots } = deps;
  const startMs = clock.nowMs();
  const spec = await readGrant(deps, owner, grant, signal);
  const known = grant.fresh ? undefined : knownRun(deps, grant, spec);
  if (known !== undefined) {
    listener.onRunning();
    return known;
  }
  const inputs = pinInputs(store, spec);
  try {
    const missing = await deps.ingestTwins(spec.inputs, signal);
    if (missing.length > 0) await deps.exchange.fetch(missing, [owner], signal);
    listener.onInputs(heavyOf(spec));
    const fetchedMs = clock.nowMs();
    const slot = await slots.takeForeign(signal);
    const slotMs = clock.nowMs();
    try {
      listener.onRunning();
      const outcome = await deps.execute(spec, listener.onProgress, signal);
      const pin = store.pin(blobsOf(outcome));
      const timings = {
        fetchMs: fetchedMs - startMs,
        queueMs: slotMs - fetchedMs,
        runMs: clock.nowMs() - slotMs,
        storeMs: 0,
      };
      return {
        outcome,
        timings,
        ...signed(deps, grant, spec, outcome, timings.runMs),
        release: () => pin.release(),
      };
    } finally {
      listener.onRan();
      slot();
    }
  } finally {
    inputs.release();
  }
}

/** The answer at once, when this node knows it. */
function knownRun(
  { results, store }: ForeignDeps,
  { action: actionBytes }: Grant,
  { outputPaths }: ActionSpec,
): ForeignRun | undefined {
  const action = digestOf(actionBytes);
  const known = results.find(action);
  if (known === undefined) return undefined;
  const { outcome, record } = known;
  // A record may be genuine and wrong: its signer is no better than anybody else.
  if (!outcome.outputs.every(({ path }) => outputPaths.includes(path))) {
    results.refuse(action, "other-outputs");
    return undefined;
  }
  const pin = store.pin(blobsOf(outcome));
  const timings = { queueMs: 0, fetchMs: 0, runMs: 0, storeMs: 0 };
  return { outcome, timings, record, keep: () => {}, release: () => pin.release() };
}

function signed(
  { results, isSealed }: ForeignDeps,
  { action, forget }: Grant,
  spec: ActionSpec,
  outcome: ActionOutcome,
  runMs: number,
): Pick<ForeignRun, "record" | "keep"> {
  const mayBe = outcome.exitCode === 0 && !forget && isSealed(spec);
  const made = mayBe ? results.sign(digestOf(action), outcome, runMs) : undefined;
  return made ?? { record: new Uint8Array(), keep: () => {} };
}

async function readGrant(
  { store, exchange }: ForeignDeps,
  owner: PeerId,
  grant: Grant,
  signal: AbortSignal,
): Promise<ActionSpec> {
  const tree = digestFromProto(grant.tree);
  if (sizeBytesOf(tree) > treeMaxBytes) {
    throw new MeshError("limit", `the input tree is over ${treeMaxBytes} bytes`);
  }
  const inline = grant.inlineBlobs.find((bytes) => digestOf(bytes) === tree);
  if (inline !== undefined) return decodeAction(grant.action, grant.command, inline);
  if (!store.has(tree)) await exchange.fetch([tree], [owner], signal);
  return decodeAction(grant.action, grant.command, await store.read(tree));
}

function pinInputs(store: Pick<BlobStore, "pin">, spec: ActionSpec): Pin {
  return store.pin(spec.inputs.flatMap((entry) => (entry.kind === "file" ? [entry.digest] : [])));
}
