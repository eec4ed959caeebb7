/**
 * Wires the parts of a node to one host: who is out there, the bytes, and both halves of the work.
 *
 * It runs the same on a real host (`open.ts`) and on a simulated one. It knows no door: whoever
 * turns outside requests into tasks gets the owner from here.
 */
import type { ActionSpec, Execute } from "../action/action.ts";
import type { Records } from "../action/records.ts";
import { createResults, type Results } from "../action/results.ts";
import type { Digest } from "../base/digest.ts";
import { MeshError } from "../base/errors.ts";
import type { Events } from "../base/events.ts";
import type { PeerId } from "../base/ids.ts";
import { createExchange, type Exchange } from "../blob/exchange.ts";
import type { BlobStore } from "../blob/store.ts";
import type { TreeEntry } from "../blob/tree.ts";
import type { Host } from "../host/host.ts";
import { platformsOf } from "../peer/capability.ts";
import { createControl, type LiveControl } from "../peer/control.ts";
import { createDirectory, type LiveDirectory } from "../peer/directory.ts";
import type { Description } from "../peer/hello-message.ts";
import type { Membership } from "../peer/membership.ts";
import { createDurations } from "../work/durations.ts";
import { createOwner, type OwnerParts } from "../work/owner.ts";
import { createSlots, type Slots } from "../work/slots.ts";
import { createThief, type Thief } from "../work/thief.ts";

export interface NodeDeps {
  readonly host: Host;
  readonly events: Events;
  readonly membership: Membership;
  readonly store: BlobStore;
  /** What this node knows of earlier results, with the keys of its mesh. */
  readonly records: Records;
  /** Runs actions, this node's own and stolen ones. */
  readonly execute: Execute;
  /** See `ForeignDeps`. */
  readonly ingestTwins: (
    inputs: readonly TreeEntry[],
    signal: AbortSignal,
  ) => Promise<readonly Digest[]>;
}

export interface NodeOptions {
  readonly own: Description;
  readonly bootstrap: readonly string[];
  readonly leaseMs: number;
  readonly beatMs: number;
  readonly prefetchTasks: number;
}

export const nodeDefaults: Pick<NodeOptions, "leaseMs" | "beatMs" | "prefetchTasks"> = {
  leaseMs: 2000,
  beatMs: 500,
  prefetchTasks: 1,
};

const tasksMax = 100_000;
const retryMs = 100;
const retryMaxMs = 2500;
const keepAnsweredMs = 60_000;
const labelsMax = 50_000;

export interface MeshNode {
  readonly self: PeerId;
  readonly own: Description;
  readonly host: Host;
  readonly events: Events;
  readonly membership: Membership;
  readonly store: BlobStore;
  readonly exchange: Exchange;
  readonly results: Results;
  readonly directory: LiveDirectory;
  readonly control: LiveControl;
  readonly slots: Slots;
  readonly owner: OwnerParts;
  readonly thief: Thief;
  readonly execute: Execute;
  /** Ends stealing, says goodbye and lets go of the network. The host's other ports stay. */
  stop(): Promise<void>;
}

export function createNode(deps: NodeDeps, options: NodeOptions): MeshNode {
  const { host, events, membership, store, execute } = deps;
  const { clock, random } = host;
  const { emit } = events;
  const { own } = options;
  const stopped = new AbortController();
  const { signal } = stopped;

  const directory = createDirectory(
    { network: host.network, clock, random, membership, emit, own: () => own },
    { bootstrap: options.bootstrap },
  );
  const control = createControl({ directory, clock, emit });
  const exchange = createExchange(
    {
      network: directory.network,
      store,
      clock,
      peers: () => directory.peers().map(({ id }) => id),
      allowed: (peer) => directory.admitted(peer),
      emit,
    },
    {},
    signal,
  );
  const { network } = directory;
  const results = createResults({ records: deps.records, store, clock, network, directory });
  const slots = createSlots(own.slots);
  const durations = createDurations(labelsMax);
  const idPrefix = hexOf(random.bytes(8));
  const owner = createOwner(
    { clock, control, store, slots, durations, emit, idPrefix },
    { leaseMs: options.leaseMs, tasksMax },
  );
  const thief = createThief(
    {
      clock,
      random,
      control,
      directory,
      slots,
      emit,
      store,
      exchange,
      execute: (spec: ActionSpec, onProgress, inner) => execute(spec, onProgress, inner),
      ingestTwins: deps.ingestTwins,
      results,
      isSealed: ({ platform: { platform } }) => platform === "wasm" || own.sandbox !== "none",
      ownQueued: () => owner.load().queued,
      platforms: platformsOf(own, "foreign"),
    },
    {
      beatMs: options.beatMs,
      prefetchTasks: options.prefetchTasks,
      retryMs,
      retryMaxMs,
      keepAnsweredMs,
    },
    signal,
  );
  connect(control, directory, owner, thief);
  control.start(signal);
  directory.start(signal);

  return {
    self: host.network.self,
    own,
    host,
    events,
    membership,
    store,
    exchange,
    results,
    directory,
    control,
    slots,
    owner,
    thief,
    execute,
    async stop() {
      stopped.abort(new DOMException("the node is stopping", "AbortError"));
      owner.stop(new MeshError("cancelled", "this node is stopping"));
      // Results that nobody was told of yet, while there is somebody to be told.
      await results.close();
      // Then the directory: peers that hear the goodbye must not be dialled again.
      await directory.stop();
      await control.stop();
      await host.network.close();
    },
  };
}

/** Both halves of the work hear what comes over the wire. */
function connect(
  control: LiveControl,
  directory: LiveDirectory,
  owner: OwnerParts,
  thief: Thief,
): void {
  control.attach({
    load: owner.load,
    onSteal: owner.onSteal,
    onLoad: () => thief.wake(),
    onMessage(peer, { type, value }) {
      switch (type) {
        case "beat":
          return owner.onBeat(peer, value);
        case "progress":
          return owner.onProgress(peer, value);
        case "done":
          return owner.onDone(peer, value);
        case "failed":
          return owner.onFailed(peer, value);
        case "closed":
          return thief.onClosed(peer, value.task, value.attempt, value.accepted);
        case "cancel":
          return thief.onCancel(peer, value.task, value.attempt);
      }
    },
  });
  directory.onJoined(() => thief.wake());
  directory.onLeft(({ id }) => {
    owner.onPeerLeft(id);
    thief.onPeerLeft(id);
  });
}

function hexOf(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString("hex");
}
