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
import { type ControlHandlers, createControl, type LiveControl } from "../peer/control.ts";
import { createDirectory, type LiveDirectory } from "../peer/directory.ts";
import type { Description } from "../peer/hello-message.ts";
import type { Membership } from "../peer/membership.ts";
import { createDurations } from "../work/durations.ts";
import type { Learned } from "../work/learned.ts";
import { createLending } from "../work/lending.ts";
import { createOwner, type OwnerOptions, type OwnerParts } from "../work/owner.ts";
import { createSlots, type Slots } from "../work/slots.ts";
import type { Strategy } from "../work/strategy.ts";
import { createThief, type Thief } from "../work/thief.ts";
import { createUrgency } from "../work/urgency.ts";
import { aroundSelf } from "./own-peer.ts";

export interface NodeDeps {
  readonly host: Host;
  readonly events: Events;
  readonly membership: Membership;
  readonly store: BlobStore;
  /** What this node knows of earlier results, with the keys of its mesh. */
  readonly records: Records;
  /** What was learned of tasks before; by default nothing. */
  readonly learned?: Pick<Learned, "durations" | "urgency"> | undefined;
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
  /** Members that it connects to by itself, and those that it lets in. */
  readonly peersWantedMax?: number;
  readonly peersMax?: number;
  /** How victims are chosen; all but the default are for comparison. */
  readonly strategy: Strategy;
  /** Which of this node's own tasks go first. */
  readonly order: OwnerOptions["order"];
  /** How long a leaving node lets foreign tasks run to their end. */
  readonly drainMs: number;
  /** "spare": no more than whoever uses this machine leaves free. */
  readonly lend: "spare" | "always";
}

export const nodeDefaults: Omit<NodeOptions, "own" | "bootstrap"> = {
  leaseMs: 2000,
  beatMs: 750,
  prefetchTasks: 16,
  strategy: "power-of-two",
  order: "critical-path",
  drainMs: 5000,
  lend: "spare",
};

const tasksMax = 100_000;
/** Of a peer that has not said how many it has. */
const slotsMax = 1024;
/** On a local network, until it has been measured. */
const rttGuessMs = 0.5;
const retryMs = 100;
const retryMaxMs = 2500;
/** As long as an owner may take to put an answer in place. */
const keepAnsweredMs = 300_000;
export const labelsMax: number = 50_000;

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
  /**
   * Hands back what was stolen and does not run, lets what runs end within `drainMs`, says goodbye
   * and lets go of the network. The host's other ports stay.
   */
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
    {
      bootstrap: options.bootstrap,
      ...(options.peersWantedMax && { peersWantedMax: options.peersWantedMax }),
      ...(options.peersMax && { peersMax: options.peersMax }),
    },
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
  const { durations, urgency } = deps.learned ?? learnNothing();
  const idPrefix = hexOf(random.bytes(8));
  const platforms = platformsOf(own, "foreign");
  const around = aroundSelf(host.network.self, own, control, directory);
  const owner = createOwner(
    {
      ...{
        self: host.network.self,
        clock,
        control: around.control,
        store,
        slots,
        durations,
        urgency,
        emit,
      },
      idPrefix,
      peerOf: (peer) => {
        if (peer === host.network.self) return { slots: own.slots, rttMs: 0 };
        const { slots: count = slotsMax, rttMs = rttGuessMs } = directory.get(peer) ?? {};
        return { slots: count, rttMs };
      },
      onSpare: () => thief.wake(),
    },
    { leaseMs: options.leaseMs, tasksMax, order: options.order },
  );
  const thief: Thief = createThief(
    {
      self: host.network.self,
      clock,
      random,
      ...around,
      slots,
      emit,
      store,
      exchange,
      execute: (spec: ActionSpec, onProgress, inner) => execute(spec, onProgress, inner),
      ingestTwins: deps.ingestTwins,
      results,
      isSealed: ({ platform: { platform } }) => platform === "wasm" || own.sandbox !== "none",
      ownQueued: () => owner.load().queued,
      platforms,
      lent:
        options.lend === "always"
          ? () => slots.count
          : createLending({ processes: host.processes, clock, slots }),
    },
    {
      beatMs: options.beatMs,
      prefetchTasks: options.prefetchTasks,
      strategy: options.strategy,
      retryMs,
      retryMaxMs,
      keepAnsweredMs,
    },
    signal,
  );
  const handlers = handlersOf(owner, thief);
  around.attach(handlers);
  control.attach(handlers);
  directory.onJoined(() => thief.wake());
  directory.onLeft(({ id }) => {
    owner.onPeerLeft(id);
    thief.onPeerLeft(id);
  });
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
      owner.stop(new MeshError("cancelled", "this node is stopping"));
      await thief.drain(options.drainMs);
      stopped.abort(new DOMException("the node is stopping", "AbortError"));
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
function handlersOf(owner: OwnerParts, thief: Thief): ControlHandlers {
  return {
    load: owner.load,
    onSteal: owner.onSteal,
    onPush: thief.onPush,
    onLifeline: owner.onLifeline,
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
  };
}

function learnNothing(): Pick<Learned, "durations" | "urgency"> {
  const durations = createDurations(labelsMax);
  return { durations, urgency: createUrgency(durations) };
}

function hexOf(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString("hex");
}
