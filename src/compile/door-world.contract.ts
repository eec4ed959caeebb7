/**
 * A compile door with everything real behind it but peers: shims, an owner, a store, known results
 * and a history, in a folder of its own. For the tests of the door and of what planners decide.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { encodeAction } from "../action/encode.ts";
import { loneTag } from "../action/record.ts";
import { openRecords, recordsDefaults } from "../action/records.ts";
import { createResults, type Results } from "../action/results.ts";
import { MeshError } from "../base/errors.ts";
import { createEvents, type MeshEvent } from "../base/events.ts";
import type { PeerId } from "../base/ids.ts";
import { type BlobStore, createBlobStore } from "../blob/store.ts";
import { createFileView, type FileView, fileViewDefaults } from "../exec/file-view.ts";
import { createClock } from "../host/clock.ts";
import { createDisk } from "../host/disk.ts";
import type { Clock, Disk } from "../host/host.ts";
import { generateIdentity, type Identity } from "../host/network-identity.ts";
import { createSigning } from "../host/signing.ts";
import { createDurations } from "../work/durations.ts";
import { createOwner, type OwnerParts } from "../work/owner.ts";
import { createSlots, type Slots } from "../work/slots.ts";
import { createUrgency } from "../work/urgency.ts";
import { createCourse } from "./course.ts";
import type { DecideDeps } from "./decide.ts";
import { type CompileDoor, createCompileDoor } from "./door.ts";
import type { TaskRecord } from "./history.ts";
import { createWorld, hasCc, type World } from "./shim-world.contract.ts";

/** What planners are made of. */
export interface PlannerParts {
  readonly disk: Disk;
  readonly clock: Clock;
  readonly store: BlobStore;
  readonly view: FileView;
  /** An existing folder. */
  readonly scratch: string;
}

export interface DoorWorld {
  /** The shims' side; its folder is where compiles happen. */
  readonly world: World;
  readonly parts: PlannerParts;
  readonly door: CompileDoor;
  readonly self: PeerId;
  readonly owner: OwnerParts;
  readonly slots: Slots;
  readonly results: Results;
  readonly events: readonly MeshEvent[];
  /** Finished tasks, oldest first. */
  readonly records: readonly TaskRecord[];
  /** Whether somebody seems to be there who could steal; nobody is at first. */
  peersPresent: boolean;
  /** What the door believes of the slots; undefined: how it is. */
  slotFree: boolean | undefined;
  /** Resolves when the next task is queued. */
  nextQueued(): Promise<void>;
  close(): Promise<void>;
}

/** A data directory and who it belongs to: what a node is, from one start to the next. */
export interface DoorHome {
  readonly data: string;
  readonly identity: Identity;
  /** Whether whoever made it removes it. */
  readonly isKept: boolean;
}

export interface DoorWorldOptions {
  readonly slotsCount?: number;
  readonly tasksMax?: number;
  readonly home?: DoorHome;
  /** See `FileViewOptions`. */
  readonly settleMs?: number;
  /** Stands between the shims and the door. */
  readonly between?: (serve: CompileDoor["onInvocation"]) => CompileDoor["onInvocation"];
}

export function createHome(isKept = false): DoorHome {
  const data = mkdtempSync(join(tmpdir(), "mesh-door-"));
  return { data, identity: generateIdentity(), isKept };
}

const forever = new AbortController().signal;
const nobody = {
  network: {
    open: async () => {
      throw new MeshError("peer-gone", "nobody is there");
    },
    serve() {},
  },
  directory: { admitted: () => false, peers: () => [], onJoined() {}, onLeft() {} },
};

export async function createDoorWorld(
  plannersOf: (parts: PlannerParts) => DecideDeps["plannerFor"],
  {
    slotsCount = 1,
    tasksMax = 1000,
    home = createHome(),
    settleMs = fileViewDefaults.settleMs,
    between = (serve) => serve,
  }: DoorWorldOptions = {},
): Promise<DoorWorld> {
  const world = createWorld(hasCc ? "c" : "node");
  const { data, identity } = home;
  const disk = createDisk();
  const clock = createClock();
  const events = createEvents();
  const { emit } = events;
  const self = identity.peerId;
  const quota = { directory: data, quotaBytes: 1e9, sync: "never" } as const;
  const store = await createBlobStore({ disk, clock }, quota, forever);
  const keys = { signing: createSigning(identity), tag: loneTag };
  const recordsOptions = { ...recordsDefaults, directory: join(data, "results") };
  const records = await openRecords({ keys, disk, clock, emit }, recordsOptions, forever);
  const { network, directory } = nobody;
  const results = createResults({
    ...{ records, store, clock, directory },
    network: { ...network, self },
  });
  const slots = createSlots(slotsCount);
  const control = { send: () => {}, push: () => {}, hint: () => {} };
  const durations = createDurations(10);
  const owner = createOwner(
    {
      self,
      clock,
      control,
      store,
      slots,
      durations,
      urgency: createUrgency(durations),
      emit,
      idPrefix: "t",
      onSpare: () => {},
      peerOf: () => ({ slots: 1, rttMs: 1 }),
    },
    { leaseMs: 60_000, tasksMax, order: "critical-path" },
  );
  const view = createFileView({ disk, store, clock }, { ...fileViewDefaults, settleMs });
  const scratch = join(data, "lists");
  await disk.remove(scratch);
  await disk.makeDirectory(scratch);
  const parts = { disk, clock, store, view, scratch };
  // The peers of these tests put their blobs into the same store.
  const exchange = {
    async fetch(digests: readonly Parameters<BlobStore["has"]>[0][]) {
      const missing = digests.filter((digest) => !store.has(digest));
      if (missing.length > 0) throw new MeshError("blob-missing", `${missing}`);
    },
  };
  const seen: MeshEvent[] = [];
  const finished: TaskRecord[] = [];
  let queued = Promise.withResolvers<void>();
  events.listen((event) => {
    seen.push(event);
    if (event.event !== "task-queued") return;
    queued.resolve();
    queued = Promise.withResolvers<void>();
  });
  const history = { add: (record: TaskRecord) => void finished.push(record) };
  const course = createCourse({
    ...{ self, owner, exchange, results, emit, history, store, disk, clock, view },
    ...{ execute: undefined, idPrefix: "c" },
  });
  const door = createCompileDoor(
    {
      ...{ course, clock, disk, store, exchange, emit, view, encodeAction },
      plannerFor: plannersOf(parts),
      peersPresent: () => made.peersPresent,
      slotFree: () => made.slotFree ?? slots.busy < slots.count,
      cpuMs: () => 0,
    },
    { buildsMax: 2 },
  );
  await world.serve(between(door.onInvocation));
  const made: DoorWorld = {
    ...{ self, world, parts, door, owner, slots, results, events: seen, records: finished },
    peersPresent: false,
    slotFree: undefined,
    nextQueued: () => queued.promise,
    async close() {
      await world.close();
      await results.close();
      if (!home.isKept) rmSync(data, { recursive: true, force: true });
    },
  };
  return made;
}
