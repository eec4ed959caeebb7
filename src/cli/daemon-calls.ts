/**
 * What a running node answers on its control socket (node/control-api.ts).
 *
 * It knows what each call means for the node's parts, not how the node starts or ends.
 */
import { readFile, rename, rm, stat, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { isMeshError, MeshError } from "../base/errors.ts";
import type { MeshEvent } from "../base/events.ts";
import type { Build, CompileDoor } from "../compile/door.ts";
import type { History } from "../compile/history.ts";
import type { Shim } from "../compile/shim-build.ts";
import type { JobDoor } from "../job/job.ts";
import type {
  BuildRequest,
  Check,
  ControlRequest,
  InviteReply,
  NodeStatus,
  PeerDetail,
  Ready,
  RunRequest,
} from "../node/control-api.ts";
import type { Session } from "../node/control-server.ts";
import type { OpenNode } from "../node/open.ts";
import type { Peer } from "../peer/directory.ts";
import { encodeInvite } from "../peer/invite.ts";
import { answerCache, type Cache, cacheChecks, cacheCounters } from "./cache-calls.ts";
import type { Masquerade } from "./masquerade.ts";
import { countOf } from "./summary.ts";

const firstInviteMs = 24 * 60 * 60 * 1000;
const dayMs = 24 * 60 * 60 * 1000;
/** What one call of a module may be given. */
const jobFileMaxBytes = 1024 * 1024 * 1024;

/** Less than a client waits for the summary. */
const settleMaxMs = 2_000;

export interface Daemon {
  readonly node: OpenNode;
  readonly history: Pick<History, "flush">;
  readonly door: CompileDoor;
  readonly jobs: JobDoor;
  readonly shim: Shim;
  readonly masquerade: Masquerade;
  readonly leave: () => void;
}

export async function answer(
  daemon: Daemon,
  request: ControlRequest,
  session: Session,
): Promise<object> {
  const { node } = daemon;
  switch (request.call) {
    case "status":
      return { status: statusOf(daemon) };
    case "peers":
      return { peers: node.directory.peers().map(detailOf) };
    case "invite":
      return inviteOf(node, request.expiresMs);
    case "doctor":
      return { checks: checksOf(daemon) };
    case "build":
      return build(daemon, request, session);
    case "run":
      return runJob(daemon, request, session);
    case "cache":
      return answerCache(cacheOf(daemon), request.what, session);
    case "history":
      await daemon.history.flush();
      return {};
    case "leave":
      setImmediate(daemon.leave);
      return {};
    case "build-end":
      throw new MeshError("malformed", "build-end without a build");
  }
}

/** One build session: opens the build, passes on what happens, ends with the summary. */
async function build(
  { node, door, shim, masquerade }: Daemon,
  request: BuildRequest,
  session: Session,
): Promise<object> {
  const id = `b${Buffer.from(node.host.random.bytes(6)).toString("hex")}`;
  const { steal, cacheRead, cacheWrite, compare } = request;
  const shimDir = await masquerade();
  const opened = door.openBuild(id, { steal, cacheRead, cacheWrite, compare });
  const peers = node.directory.peers();
  session.send({
    event: "build-started",
    build: id,
    shimSocket: node.paths.shimSocket,
    shim: shim.program,
    shimDir,
    shimKind: shim.kind,
    slots: node.own.slots,
    jobs: request.jobs ?? capacity(node.own.slots, peers),
    peers: peers.length,
  });
  const unlisten = node.events.listen((event) => {
    if (!("build" in event) || event.build === id) session.send(event);
  });
  try {
    await session.next();
    await settle(node, opened, session.signal);
    return { summary: opened.summary() };
  } finally {
    unlisten();
    opened.cancel();
    opened.close();
  }
}

/** The last compile of a build may not be counted yet when the build is over. */
async function settle({ host }: OpenNode, build: Build, signal: AbortSignal): Promise<void> {
  try {
    await host.clock.withDeadline(signal, settleMaxMs, (during) => build.settled(during));
  } catch (error) {
    // Somebody's compiler runs on behind the build: it is not waited for.
    if (!isMeshError(error, "deadline")) throw error;
  }
}

/** Enough that every slot of the mesh finds a task waiting when it comes free. */
function capacity(own: number, peers: readonly Peer[]): number {
  const theirs = peers.reduce((sum, { slots, sandbox }) => sum + (sandbox === "" ? 0 : slots), 0);
  return own + 2 * theirs;
}

async function runJob(
  { node, jobs }: Daemon,
  request: RunRequest,
  session: Session,
): Promise<object> {
  // Loaded for a job only: most nodes never run one.
  const { parseManifest } = await import("../job/manifest.ts");
  const manifest = parseManifest(JSON.stringify(request.manifest), "the job");
  const startedMs = node.host.clock.nowMs();
  const id = `j${Buffer.from(node.host.random.bytes(6)).toString("hex")}`;
  let total: number | undefined;
  let done = 0;
  // The result names peers by their ids; these events say what people call them.
  for (const event of joinedBefore(node.directory.peers())) session.send(event);
  const unlisten = node.events.listen((event) => {
    if (event.event === "peer-joined") session.send(event);
    if (!("build" in event) || event.build !== id) return;
    session.send(event);
    if (event.event !== "task-done" || total === undefined) return;
    done = Math.min(done + 1, total);
    session.send({ event: "progress", id, done, total });
  });
  session.send({ event: "progress", id, message: "split" });
  try {
    const result = await jobs.run(
      {
        id,
        manifest,
        module: await readBounded(request.module),
        input: await readBounded(request.input),
      },
      (count) => {
        total = count;
        session.send({ event: "progress", id, done: 0, total });
      },
      session.signal,
    );
    await writeWhole(request.output, id, result.output);
    const wallMs = Math.round(node.host.clock.nowMs() - startedMs);
    const { chunks, byPeer } = result;
    return { result: { id, chunks, byPeer, outputBytes: result.output.byteLength, wallMs } };
  } finally {
    unlisten();
  }
}

/** Code "limit" for a file that no job could take, before it is in memory. @internal */
export async function readBounded(path: string): Promise<Uint8Array> {
  const { size } = await stat(path);
  if (size > jobFileMaxBytes) {
    throw new MeshError(
      "limit",
      `${path} has ${size} bytes, a job takes at most ${jobFileMaxBytes}`,
    );
  }
  return readFile(path);
}

/** Whole or not at all, also when the disk is full. Other jobs may be writing beside `path`. */
export async function writeWhole(path: string, job: string, bytes: Uint8Array): Promise<void> {
  const temporary = join(dirname(path), `.mesh-output-${job}`);
  try {
    await writeFile(temporary, bytes);
    await rename(temporary, path);
  } catch (error) {
    await rm(temporary, { force: true });
    throw error;
  }
}

/** For who listens only now: the peers that are here, as if they came at this moment. */
export function joinedBefore(
  peers: readonly Pick<Peer, "id" | "name" | "slots">[],
): readonly MeshEvent[] {
  return peers.map(({ id, name, slots }) => ({ event: "peer-joined", peer: id, name, slots }));
}

export function readyOf(node: OpenNode): Ready {
  const addrs = node.host.network.listenAddrs();
  return {
    event: "ready",
    peerId: node.self,
    addrs,
    invite: addrs.length === 0 ? "" : inviteOf(node, firstInviteMs).invite,
    slots: node.own.slots,
    sandbox: node.sandbox.tier,
  };
}

function inviteOf(node: OpenNode, expiresMs: number): InviteReply {
  if (!node.inMesh)
    throw new MeshError("no-mesh", "this node belongs to no mesh: run mesh-node join");
  const expiresUnixMs = node.host.clock.wallMs() + Math.min(expiresMs, 366 * dayMs);
  const invite = encodeInvite({
    meshKey: node.membership.meshKey,
    inviter: node.self,
    addrs: node.host.network.listenAddrs(),
    expiresAtSeconds: Math.ceil(expiresUnixMs / 1000),
  });
  return { invite, expiresUnixMs };
}

function cacheOf({ node: { store, results, host } }: Daemon): Cache {
  return { store, results, clock: host.clock };
}

function statusOf(daemon: Daemon): NodeStatus {
  const { node } = daemon;
  const { queued, slots, busy } = node.owner.load();
  const { receivedBlobs, receivedBytes, sentBlobs, sentBytes, corruptBlobs } =
    node.exchange.stats();
  const { sends: messages = 0 } = node.control.sent();
  const { here, leased, committing } = node.owner.counts();
  const counters = {
    tasksHere: here,
    tasksLeased: leased,
    tasksCommitting: committing,
    foreignHeld: node.thief.held(),
    controlMessagesSent: messages,
    receivedBlobs,
    receivedBytes,
    sentBlobs,
    sentBytes,
    corruptBlobs,
    ...cacheCounters(cacheOf(daemon)),
  };
  const peers = node.directory
    .peers()
    .map(detailOf)
    .map(({ platform, sandbox, addrs, labels, ...load }) => load);
  return { peerId: node.self, name: node.own.name, slots, busy, queued, peers, counters };
}

function detailOf({
  id,
  name,
  slots,
  load,
  rttMs,
  platform,
  sandbox,
  addrs,
  labels,
}: Peer): PeerDetail {
  return {
    peerId: id,
    name,
    slots,
    busy: load?.busy ?? 0,
    queued: load?.queued ?? 0,
    rttMs: rttMs === undefined ? null : Math.round(rttMs * 100) / 100,
    platform,
    sandbox,
    addrs,
    labels,
  };
}

/** What only the node itself knows about its health. */
function checksOf(daemon: Daemon): readonly Check[] {
  const { node, shim } = daemon;
  const peers = node.directory.peers().length;
  return [
    {
      name: "node",
      ok: true,
      level: "ok",
      message: `running as ${node.own.name} with ${countOf(peers, "peer")}`,
    },
    node.sandbox.tier === ""
      ? { name: "sandbox", ok: false, level: "warn", message: node.sandbox.why }
      : { name: "sandbox", ok: true, level: "ok", message: node.sandbox.tier },
    shim.kind === "c"
      ? { name: "shim", ok: true, level: "ok", message: shim.program }
      : {
          name: "shim",
          ok: false,
          level: "warn",
          message: `the slower Node shim is used: ${shim.why}`,
          fix: "install a C compiler (cc) and restart the node",
        },
    ...cacheChecks(cacheOf(daemon)),
  ];
}
