/**
 * What is said on a node's control socket: one JSON value a line, both ways.
 *
 * A client sends one request. The node answers any number of `{"event":…}` lines and then exactly
 * one `{"ok":true,…}` or `{"ok":false,"error":{code,message}}`, and closes. Only "build" takes a
 * second line, "build-end"; a client that goes away before it cancels that build's tasks.
 * This file knows the shapes and their bounds, not the socket.
 */
import { z } from "zod";
import { type FailureCode, MeshError } from "../base/errors.ts";
import type { MeshEvent } from "../base/events.ts";
import { asPeerId, asTaskId } from "../base/ids.ts";

/** A longer line, either way, is malformed: 200 peers with all their labels stay far below. */
export const controlLineMaxChars: number = 1024 * 1024;

export type ControlRequest =
  | { readonly call: "status" | "peers" | "doctor" | "leave" | "build-end" }
  | { readonly call: "invite"; readonly expiresMs: number }
  | BuildRequest
  | RunRequest;

export interface BuildRequest {
  readonly call: "build";
  /** Absolute. */
  readonly dir: string;
  /** What the user asked for; null: as many as the mesh can take. */
  readonly jobs: number | null;
  readonly steal: boolean;
  readonly cache: boolean;
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
  return check(request, value, "control request");
}

/** Reads a node's line. @throws MeshError "malformed". */
export function parseControlLine(line: string): ControlLine {
  const value = parseJson(line);
  if (typeof value !== "object" || value === null) throw malformed("control answer", "no object");
  if ("event" in value) {
    if (typeof value.event !== "string" || !eventNames.has(value.event)) return { at: "unknown" };
    return { at: "event", event: check(controlEvent, value, `"${value.event}" event`) };
  }
  if ("ok" in value && value.ok === true) return { at: "done", reply: { ...value } };
  const { error } = check(failed, value, "control answer");
  const code = Object.hasOwn(knownCodes, error.code) ? error.code : "io";
  return { at: "failed", code, message: error.message };
}

export function parseStatusReply(reply: unknown): NodeStatus {
  return check(z.object({ status: nodeStatus }), reply, "status answer").status;
}

export function parsePeersReply(reply: unknown): readonly PeerDetail[] {
  return check(z.object({ peers: z.array(peerDetail) }), reply, "peers answer").peers;
}

export function parseInviteReply(reply: unknown): InviteReply {
  return check(z.object({ invite: text, expiresUnixMs: z.number() }), reply, "invite answer");
}

export function parseDoctorReply(reply: unknown): readonly Check[] {
  return check(z.object({ checks: z.array(oneCheck) }), reply, "doctor answer").checks;
}

export function parseBuildReply(reply: unknown): BuildSummary {
  return check(z.object({ summary }), reply, "build answer").summary;
}

function parseJson(line: string): unknown {
  try {
    return JSON.parse(line);
  } catch {
    throw malformed("line", `no JSON: ${line.slice(0, 80)}`);
  }
}

function check<T>(schema: z.ZodType<T>, value: unknown, what: string): T {
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  const issue = parsed.error.issues[0];
  throw malformed(what, `${issue?.path.join(".") || "it"}: ${issue?.message ?? "wrong"}`);
}

function malformed(what: string, why: string): MeshError {
  return new MeshError("malformed", `malformed ${what}: ${why}`);
}

const text = z.string().max(65_536);
const path = text.regex(/^\//, "has to be an absolute path");
const count = z.number().int().min(0);
const peer = text.transform(asPeerId);
const somePeer = text.optional().transform((id) => (id === undefined ? undefined : asPeerId(id)));
const task = text.transform(asTaskId);

const request: z.ZodType<ControlRequest> = z.discriminatedUnion("call", [
  z.object({ call: z.enum(["status", "peers", "doctor", "leave", "build-end"]) }),
  z.object({
    call: z.literal("invite"),
    expiresMs: z
      .number()
      .int()
      .min(1_000)
      .max(366 * 86_400_000),
  }),
  z.object({
    call: z.literal("build"),
    dir: path,
    jobs: z.number().int().min(1).max(100_000).nullable(),
    steal: z.boolean(),
    cache: z.boolean(),
  }),
  z.object({
    call: z.literal("run"),
    module: path,
    manifest: z.record(z.string(), z.unknown()),
    input: path,
    output: path,
  }),
]);

const peerLoad = z.object({
  peerId: text,
  name: text,
  slots: count,
  busy: count,
  queued: count,
  rttMs: z.number().nullable(),
});
const peerDetail = peerLoad.extend({
  platform: text,
  sandbox: text,
  addrs: z.array(text),
  labels: z.record(z.string(), text),
});
const nodeStatus = z.object({
  peerId: text,
  name: text,
  slots: count,
  busy: count,
  queued: count,
  peers: z.array(peerLoad),
  counters: z.record(z.string(), z.number()),
});
const oneCheck = z.object({
  name: text,
  ok: z.boolean(),
  level: z.enum(["ok", "warn", "fail"]),
  message: text,
  fix: text.optional(),
});
const summary = z.object({
  tasks: count,
  local: count,
  stolen: count,
  cachedLocal: count,
  cachedMesh: count,
  fallback: z.array(z.object({ reason: text, count })),
  wallMs: z.number(),
  clientCpuMs: z.number(),
  byPeer: z.record(z.string(), count),
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
const code = text.transform((name) => name as FailureCode);
const failed = z.object({ ok: z.literal(false), error: z.object({ code, message: text }) });

const inBuild = { task, build: text };
const events = [
  z.object({ event: z.literal("peer-joined"), peer, name: text, slots: count }),
  z.object({ event: z.literal("peer-left"), peer, name: text, reason: text }),
  z.object({ event: z.literal("peer-refused"), peer, code, reason: text }),
  z.object({
    event: z.literal("task-queued"),
    ...inBuild,
    kind: text,
    label: text,
    stealable: z.boolean(),
  }),
  z.object({ event: z.literal("task-started"), ...inBuild, peer: somePeer, attempt: count }),
  z.object({ event: z.literal("task-requeued"), ...inBuild, peer, attempt: count, reason: text }),
  z.object({ event: z.literal("task-stale"), task, peer, attempt: count }),
  z.object({
    event: z.literal("task-done"),
    ...inBuild,
    label: text,
    source: z.enum(["here", "there", "cached-here", "cached-mesh"]),
    peer: somePeer,
    exitCode: z.number().int(),
    wallMs: z.number(),
  }),
  z.object({ event: z.literal("task-fallback"), ...inBuild, label: text, reason: text }),
  z.object({ event: z.literal("task-cancelled"), ...inBuild }),
  z.object({ event: z.literal("foreign-started"), task, owner: peer, label: text }),
  z.object({
    event: z.literal("foreign-done"),
    task,
    owner: peer,
    label: text,
    outcome: z.enum(["accepted", "refused", "failed", "cancelled"]),
  }),
  z.object({ event: z.literal("steal-asked"), peer, granted: count, rttMs: z.number() }),
  z.object({ event: z.literal("log"), level: z.enum(["info", "warn"]), message: text }),
  z.object({
    event: z.literal("build-started"),
    build: text,
    shimSocket: path,
    shim: path,
    shimDir: path,
    shimKind: z.enum(["c", "node"]),
    slots: count,
    jobs: count.min(1),
    peers: count,
  }),
  z.object({
    event: z.literal("progress"),
    id: text.optional(),
    message: text.optional(),
    done: z.number().optional(),
    total: z.number().optional(),
  }),
  z.object({
    event: z.literal("ready"),
    peerId: text,
    addrs: z.array(text),
    invite: text,
    slots: count,
    sandbox: text,
  }),
] as const;
const controlEvent: z.ZodType<ControlEvent> = z.discriminatedUnion("event", events);
const eventNames: ReadonlySet<string> = new Set(events.map((one) => one.shape.event.value));
