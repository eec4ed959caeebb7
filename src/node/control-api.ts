/**
 * What is said on a node's control socket: one JSON value a line, both ways.
 *
 * A client sends one request. The node answers any number of `{"event":…}` lines and then exactly
 * one `{"ok":true,…}` or `{"ok":false,"error":{code,message}}`, and closes. Only "build" takes a
 * second line, "build-end"; a client that goes away before it cancels that build's tasks.
 * This file knows the shapes and their bounds, not the socket.
 */
import type { FailureCode } from "../base/errors.ts";
import type { MeshEvent, OutputDifference, Phases } from "../base/events.ts";
import { asPeerId, asTaskId } from "../base/ids.ts";
import {
  absolutePath,
  anything,
  array,
  boolean,
  checked,
  malformed,
  map,
  number,
  object,
  oneOf,
  optional,
  orNull,
  type Read,
  record,
  type Shape,
  text,
  union,
  whole,
} from "./shapes.ts";

/** A longer line, either way, is malformed: 200 peers with all their labels stay far below. */
export const controlLineMaxChars: number = 1024 * 1024;

export type ControlRequest =
  | { readonly call: PlainCall }
  | { readonly call: "invite"; readonly expiresMs: number }
  | { readonly call: "cache"; readonly what: CacheCall }
  | BuildRequest
  | RunRequest;

/** "history": the node writes what it remembers of finished tasks to its folder, and says so. */
type PlainCall = "status" | "peers" | "doctor" | "leave" | "build-end" | "history";

export type CacheCall = "stats" | "verify" | "gc";

export interface BuildRequest {
  readonly call: "build";
  /** Absolute. */
  readonly dir: string;
  /** What the user asked for; null: as many as the mesh can take. */
  readonly jobs: number | null;
  readonly steal: boolean;
  /** Whether known results are used. */
  readonly cacheRead: boolean;
  /** Whether results are remembered. */
  readonly cacheWrite: boolean;
  /** Whether what a peer did or a cache gave is done again here, and held against it. */
  readonly compare: boolean;
}

export interface RunRequest {
  readonly call: "run";
  /** Absolute path of the WASM module. */
  readonly module: string;
  /** The job file as it stands; the job door reads it. */
  readonly manifest: Readonly<Record<string, unknown>>;
  /** Absolute paths. */
  readonly input: string;
  readonly output: string;
}

export interface PeerLoad {
  readonly peerId: string;
  readonly name: string;
  readonly slots: number;
  readonly busy: number;
  readonly queued: number;
  /** Null until the first answer. */
  readonly rttMs: number | null;
}

export interface PeerDetail extends PeerLoad {
  readonly platform: string;
  readonly sandbox: string;
  readonly addrs: readonly string[];
  readonly labels: Readonly<Record<string, string>>;
}

export interface NodeStatus {
  readonly peerId: string;
  readonly name: string;
  readonly slots: number;
  readonly busy: number;
  readonly queued: number;
  readonly peers: readonly PeerLoad[];
  readonly counters: Readonly<Record<string, number>>;
}

export interface InviteReply {
  readonly invite: string;
  readonly expiresUnixMs: number;
}

/** One thing `mesh doctor` looked at. */
export interface Check {
  readonly name: string;
  readonly ok: boolean;
  readonly level: "ok" | "warn" | "fail";
  readonly message: string;
  /** What to do about it. */
  readonly fix?: string | undefined;
}

/** First answer to "build": how to start the native tool. */
export interface BuildStarted {
  readonly event: "build-started";
  readonly build: string;
  readonly shimSocket: string;
  readonly shim: string;
  /** For the front of PATH: compiler names that lead to the shim. */
  readonly shimDir: string;
  readonly shimKind: "c" | "node";
  readonly slots: number;
  /** Own slots and twice those of the peers; own slots when alone. */
  readonly jobs: number;
  readonly peers: number;
}

export interface BuildSummary {
  readonly tasks: number;
  readonly local: number;
  readonly stolen: number;
  readonly cachedLocal: number;
  readonly cachedMesh: number;
  readonly fallback: readonly { readonly reason: string; readonly count: number }[];
  readonly wallMs: number;
  readonly clientCpuMs: number;
  /** Tasks by the peer that did them. */
  readonly byPeer: Readonly<Record<string, number>>;
  /** Tasks that `compare` did a second time, and those among them that came out differently. */
  readonly compared?: number | undefined;
  readonly differing?: number | undefined;
}

/** What a node keeps of earlier work. */
export interface CacheStats {
  readonly blobs: number;
  readonly bytes: number;
  readonly quotaBytes: number;
  readonly pinned: number;
  readonly quarantined: number;
  /** Known results. */
  readonly records: number;
  readonly recordBytes: number;
  /** Since the node started: look-ups answered from its own records, from the mesh, not at all. */
  readonly hitsHere: number;
  readonly hitsMesh: number;
  readonly misses: number;
  /** Records that were refused since then, by why. */
  readonly refused: Readonly<Record<string, number>>;
}

export interface CacheVerified {
  readonly checked: number;
  /** Digests of blobs that were not what they said; they are in quarantine now. */
  readonly corrupt: readonly string[];
  readonly recordsChecked: number;
  /** Known results that are forgotten now: damaged, forged, or without their blobs. */
  readonly badRecords: readonly { readonly action: string; readonly why: string }[];
}

export interface CacheCollected {
  readonly freedBytes: number;
  /** Of the known results. */
  readonly freedRecordBytes: number;
  readonly stats: CacheStats;
}

/** How far a job is: one line a person can read, and numbers where they are known. */
export interface JobProgress {
  readonly event: "progress";
  readonly id?: string | undefined;
  readonly message?: string | undefined;
  readonly done?: number | undefined;
  readonly total?: number | undefined;
}

/** First line of `join --json`. Other keys may follow. */
export interface Ready {
  readonly event: "ready";
  readonly peerId: string;
  readonly addrs: readonly string[];
  /** Empty when this node has no address that another could dial. */
  readonly invite: string;
  readonly slots: number;
  readonly sandbox: string;
}

export type ControlEvent = MeshEvent | BuildStarted | JobProgress | Ready;

export type ControlLine =
  | { readonly at: "event"; readonly event: ControlEvent }
  | { readonly at: "done"; readonly reply: Readonly<Record<string, unknown>> }
  | { readonly at: "failed"; readonly code: FailureCode; readonly message: string }
  /** An event of a newer node. */
  | { readonly at: "unknown" };

/** Reads the value of a client's line. @throws MeshError "malformed". */
export function parseControlRequest(value: unknown): ControlRequest {
  return checked(request, value, "control request");
}

/** Reads a node's line. @throws MeshError "malformed". */
export function parseControlLine(line: string): ControlLine {
  const value = parseJson(line);
  if (typeof value !== "object" || value === null) throw malformed("control answer", "no object");
  if ("event" in value) {
    if (typeof value.event !== "string" || !eventNames.has(value.event)) return { at: "unknown" };
    return { at: "event", event: checked(controlEvent, value, `"${value.event}" event`) };
  }
  if ("ok" in value && value.ok === true) return { at: "done", reply: { ...value } };
  const { error } = checked(failed, value, "control answer");
  const code = Object.hasOwn(knownCodes, error.code) ? error.code : "io";
  return { at: "failed", code, message: error.message };
}

function parseJson(line: string): unknown {
  try {
    return JSON.parse(line);
  } catch {
    throw malformed("line", `no JSON: ${line.slice(0, 80)}`);
  }
}

const words = text(65_536);
const count = whole(0);
const peer = map(words, asPeerId);
const somePeer = optional(peer);
const task = map(words, asTaskId);
const yearMs = 366 * 86_400_000;

const plainCall = object<{ call: PlainCall }>({
  call: oneOf("status", "peers", "doctor", "leave", "build-end", "history"),
});
const request: Read<ControlRequest> = union<ControlRequest>("call", {
  status: plainCall,
  peers: plainCall,
  doctor: plainCall,
  leave: plainCall,
  "build-end": plainCall,
  history: plainCall,
  cache: object<Extract<ControlRequest, { call: "cache" }>>({
    call: oneOf("cache"),
    what: oneOf("stats", "verify", "gc"),
  }),
  invite: object<Extract<ControlRequest, { call: "invite" }>>({
    call: oneOf("invite"),
    expiresMs: whole(1000, yearMs),
  }),
  build: object<BuildRequest>({
    call: oneOf("build"),
    dir: absolutePath,
    jobs: orNull(whole(1, 100_000)),
    steal: boolean,
    cacheRead: boolean,
    cacheWrite: boolean,
    compare: boolean,
  }),
  run: object<RunRequest>({
    call: oneOf("run"),
    module: absolutePath,
    manifest: record(anything),
    input: absolutePath,
    output: absolutePath,
  }),
});

/** A record, so that a code that is added to the union is missed here. */
const knownCodes: Readonly<Record<FailureCode, true>> = {
  deadline: true,
  cancelled: true,
  "peer-gone": true,
  "blob-missing": true,
  "blob-corrupt": true,
  limit: true,
  malformed: true,
  refused: true,
  "wrong-mesh": true,
  "no-mesh": true,
  "in-use": true,
  "no-space": true,
  io: true,
  unsupported: true,
  usage: true,
};
const code = map(words, (name) => name as FailureCode);
const failed = object<{ ok: false; error: { code: FailureCode; message: string } }>({
  ok: oneOf(false),
  error: object<{ code: FailureCode; message: string }>({ code, message: words }),
});

type EventName = ControlEvent["event"];
type Fields<E extends EventName> = Omit<Shape<Extract<ControlEvent, { event: E }>>, "event">;

const inBuild = { task, build: words };
/** One entry for each event there is. */
const fields: { readonly [E in EventName]: Fields<E> } = {
  "peer-joined": { peer, name: words, slots: count },
  "peer-left": { peer, name: words, reason: words },
  "peer-refused": { peer, code, reason: words },
  "task-queued": { ...inBuild, kind: words, label: words, stealable: boolean },
  "task-started": { ...inBuild, peer: somePeer, attempt: count, backup: boolean },
  "task-released": { ...inBuild, peer, attempt: count, reason: words },
  "task-requeued": { ...inBuild, peer, attempt: count, reason: words },
  "task-stale": { task, peer, attempt: count },
  "task-done": {
    ...inBuild,
    label: words,
    source: oneOf("here", "there", "cached-here", "cached-mesh"),
    peer: somePeer,
    exitCode: whole(Number.MIN_SAFE_INTEGER),
    wallMs: number,
    phases: object<Phases>({ queueMs: number, fetchMs: number, runMs: number, returnMs: number }),
  },
  "task-fallback": { ...inBuild, label: words, reason: words },
  "task-cancelled": inBuild,
  "task-compared": {
    ...inBuild,
    label: words,
    equal: boolean,
    differs: array(object<OutputDifference>({ path: words, atByte: count })),
  },
  "foreign-started": { task, owner: peer, label: words },
  "foreign-done": {
    task,
    owner: peer,
    label: words,
    outcome: oneOf("accepted", "refused", "failed", "cancelled"),
  },
  "steal-asked": { peer, granted: count, rttMs: number },
  log: { level: oneOf("info", "warn"), message: words },
  "build-started": {
    build: words,
    shimSocket: absolutePath,
    shim: absolutePath,
    shimDir: absolutePath,
    shimKind: oneOf("c", "node"),
    slots: count,
    jobs: whole(1),
    peers: count,
  },
  progress: {
    id: optional(words),
    message: optional(words),
    done: optional(number),
    total: optional(number),
  },
  ready: { peerId: words, addrs: array(words), invite: words, slots: count, sandbox: words },
};
const controlEvent: Read<ControlEvent> = union<ControlEvent>(
  "event",
  Object.fromEntries(
    Object.entries(fields).map(([event, rest]) => {
      // Each entry fits its own event, which `fields` has checked; together they lose that.
      const shape = { event: oneOf(event), ...rest } as unknown as Shape<ControlEvent>;
      return [event, object(shape)];
    }),
  ),
);
const eventNames: ReadonlySet<string> = new Set(Object.keys(fields));
