/**
 * One stolen task from its grant to its outcome:
 *
 * 1. read the grant and check that its parts belong together;
 * 2. fetch the tree, then every input that neither the store nor this machine's own disk has;
 * 3. wait for a slot;
 * 4. run, with inputs pinned;
 * 5. pin the outputs until the owner has them.
 */
import type { ActionOutcome, ActionSpec, Execute, Progress } from "../action/action.ts";
import { decodeAction } from "../action/encode.ts";
import { type Digest, digestOf, sizeBytesOf } from "../base/digest.ts";
import { MeshError } from "../base/errors.ts";
import type { PeerId } from "../base/ids.ts";
import type { Exchange } from "../blob/exchange.ts";
import type { BlobStore, Pin } from "../blob/store.ts";
import type { TreeEntry } from "../blob/tree.ts";
import type { Clock } from "../host/host.ts";
import type { Grant } from "../wire/gen/mesh/v1/mesh_pb.ts";
import { digestFromProto } from "../wire/messages.ts";
import type { TaskTimings } from "./answer.ts";
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
}

export interface ForeignRun {
  readonly outcome: ActionOutcome;
  readonly timings: TaskTimings;
  /** Lets go of the outputs. */
  readonly release: () => void;
}

/** A tree larger than this is refused: no compile has it, and it is held in memory. */
const treeMaxBytes = 32 * 1024 * 1024;

export async function runForeign(
  deps: ForeignDeps,
  owner: PeerId,
  grant: Grant,
  listener: { readonly onRunning: () => void; readonly onProgress: (progress: Progress) => void },
  signal: AbortSignal,
): Promise<ForeignRun> {
  const { clock, store, slots } = deps;
  const startMs = clock.nowMs();
  const spec = await readGrant(deps, owner, grant, signal);
  const inputs = pinInputs(store, spec);
  try {
    const missing = await deps.ingestTwins(spec.inputs, signal);
    if (missing.length > 0) await deps.exchange.fetch(missing, [owner], signal);
    const fetchedMs = clock.nowMs();
    const slot = await slots.takeForeign(signal);
    const slotMs = clock.nowMs();
    try {
      listener.onRunning();
      const outcome = await deps.execute(spec, listener.onProgress, signal);
      const pin = store.pin([
        outcome.stdout,
        outcome.stderr,
        ...outcome.outputs.map(({ digest }) => digest),
      ]);
      const timings = {
        fetchMs: fetchedMs - startMs,
        queueMs: slotMs - fetchedMs,
        runMs: clock.nowMs() - slotMs,
        storeMs: 0,
      };
      return { outcome, timings, release: () => pin.release() };
    } finally {
      slot();
    }
  } finally {
    inputs.release();
  }
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
