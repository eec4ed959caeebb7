/**
 * A running node with its doors open: what `join` keeps in the foreground, and what a build without
 * one starts for itself.
 *
 * It answers the control socket (node/control-api.ts) and the compilers' shims. It prints nothing.
 */
import { readFile, rename, rm, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { encodeAction } from "../action/encode.ts";
import { MeshError } from "../base/errors.ts";
import { type BuildOptions, type CompileDoor, createCompileDoor } from "../compile/door.ts";
import { createGccPlanner } from "../compile/gcc.ts";
import { createInputFiles } from "../compile/inputs.ts";
import { createRustcPlanner } from "../compile/rustc.ts";
import { createRustToolchains } from "../compile/rustc-toolchain.ts";
import { buildShim, makeMasquerade, type Shim } from "../compile/shim-build.ts";
import { createShimServer } from "../compile/shim-server.ts";
import { createFileView } from "../exec/file-view.ts";
import { createToolchains } from "../exec/toolchain.ts";
import { createJobDoor, type JobDoor } from "../job/job.ts";
import { parseManifest } from "../job/manifest.ts";
import {
  type BuildRequest,
  type Check,
  type ControlRequest,
  type InviteReply,
  type NodeStatus,
  type PeerDetail,
  parseControlRequest,
  type Ready,
  type RunRequest,
} from "../node/control-api.ts";
import { type Session, serveControl } from "../node/control-server.ts";
import { type OpenNode, type OpenOptions, openNode } from "../node/open.ts";
import type { Peer } from "../peer/directory.ts";
import { encodeInvite } from "../peer/invite.ts";

export interface RunningNode {
  readonly node: OpenNode;
  readonly ready: Ready;
  /** Builds and jobs that clients have open now. */
  sessions(): number;
  /** Resolves when the node has stopped, whoever asked for it. */
  readonly done: Promise<void>;
  stop(): Promise<void>;
}

const compileMaxMs = 60 * 60 * 1000;
const buildsMax = 64;
const chunksMax = 100_000;
const firstInviteMs = 24 * 60 * 60 * 1000;
const dayMs = 24 * 60 * 60 * 1000;

/** The search path of the user, where compilers and tools are looked for. */
export interface DaemonOptions extends OpenOptions {
  readonly path: string;
}

/** Codes as `openNode`, and "in-use" when another process took the sockets first. */
export async function startDaemon(
  options: DaemonOptions,
  signal: AbortSignal,
): Promise<RunningNode> {
  const node = await openNode(options, signal);
  const { host, owner, store, exchange, execute, paths } = node;
  const stopping = new AbortController();
  try {
    const door = createDoor(node);
    const jobs = createJobDoor({ owner, store, exchange, execute }, { chunksMax });
    const shim = await buildShim(
      host,
      { folder: paths.shim, path: options.path, nodePath: process.execPath },
      signal,
    );
    const shims = await createShimServer(
      {
        disk: host.disk,
        clock: host.clock,
        onInvocation: door.onInvocation,
        onTrouble: (message) => node.events.emit({ event: "log", level: "warn", message }),
      },
      { socketPath: paths.shimSocket },
      stopping.signal,
    );
    let stopped: Promise<void> | undefined;
    let sessions = 0;
    const finished = Promise.withResolvers<void>();
    const daemon = { node, door, jobs, shim, leave: () => void stop(), path: options.path };
    const control = await serveControl(paths.controlSocket, async (value, session) => {
      const request = parseControlRequest(value);
      const lasts = request.call === "build" || request.call === "run";
      if (lasts) sessions += 1;
      try {
        return await answer(daemon, request, session);
      } finally {
        if (lasts) sessions -= 1;
      }
    });
    function stop(): Promise<void> {
      stopped ??= (async () => {
        stopping.abort();
        await shims.close();
        await node.stop();
        await control.close();
        finished.resolve();
      })();
      return stopped;
    }
    return { node, ready: readyOf(node), sessions: () => sessions, done: finished.promise, stop };
  } catch (error) {
    stopping.abort();
    await node.stop();
    throw error;
  }
}

function createDoor(node: OpenNode): CompileDoor {
  const { host, store, exchange, owner, events, directory, platform, slots } = node;
  const { disk, clock, processes } = host;
  const view = createFileView({ disk, store, clock });
  const files = createInputFiles(view);
  const toolchains = createToolchains({ disk, processes, store, clock, view });
  const options = { platform, timeoutMs: compileMaxMs };
  return createCompileDoor(
    {
      owner,
      clock,
      disk,
      store,
      exchange,
      random: host.random,
      emit: events.emit,
      planGcc: createGccPlanner({ disk, processes, store, toolchains, clock, view }, options),
      planRustc: createRustcPlanner(
        {
          disk,
          clock,
          files,
          toolchains: createRustToolchains({
            disk,
            processes,
            files,
            elfClosure: toolchains.elfClosure,
          }),
        },
        options,
      ),
      encodeAction,
      peersPresent: () => directory.peers().length > 0,
      slotFree: () => slots.busy < slots.count && owner.load().queued === 0,
      cpuMs() {
        const { user, system } = process.cpuUsage();
        return (user + system) / 1000;
      },
    },
    { buildsMax },
  );
}

interface Daemon {
  readonly node: OpenNode;
  readonly door: CompileDoor;
  readonly jobs: JobDoor;
  readonly shim: Shim;
  readonly path: string;
  readonly leave: () => void;
}

async function answer(daemon: Daemon, request: ControlRequest, session: Session): Promise<object> {
  const { node } = daemon;
  switch (request.call) {
    case "status":
      return { status: statusOf(node) };
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
    case "leave":
      setImmediate(daemon.leave);
      return {};
    case "build-end":
      throw new MeshError("malformed", "build-end without a build");
    case "cancel":
      throw new MeshError(
        "unsupported",
        "cancel: close the connection of the build or job instead",
      );
  }
}

/** One build session: opens the build, passes on what happens, ends with the summary. */
async function build(
  { node, door, shim, path }: Daemon,
  request: BuildRequest,
  session: Session,
): Promise<object> {
  const id = `b${Buffer.from(node.host.random.bytes(6)).toString("hex")}`;
  const options: BuildOptions = { steal: request.steal };
  const shimDir = await makeMasquerade(node.host, shim, path);
  const opened = door.openBuild(id, options);
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
    return { summary: opened.summary() };
  } finally {
    unlisten();
    opened.cancel();
    opened.close();
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
  const manifest = parseManifest(JSON.stringify(request.manifest), "the job");
  const startedMs = node.host.clock.nowMs();
  const id = `j${Buffer.from(node.host.random.bytes(6)).toString("hex")}`;
  let total: number | undefined;
  let done = 0;
  const unlisten = node.events.listen((event) => {
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
        module: await readFile(request.module),
        input: await readFile(request.input),
      },
      (count) => {
        total = count;
        session.send({ event: "progress", id, done: 0, total });
      },
      session.signal,
    );
    await writeWhole(request.output, result.output);
    const wallMs = Math.round(node.host.clock.nowMs() - startedMs);
    const { chunks, byPeer } = result;
    return { result: { id, chunks, byPeer, outputBytes: result.output.byteLength, wallMs } };
  } finally {
    unlisten();
  }
}

/** Whole or not at all, also when the disk is full. */
async function writeWhole(path: string, bytes: Uint8Array): Promise<void> {
  const temporary = join(dirname(path), `.mesh-output-${process.pid}`);
  try {
    await writeFile(temporary, bytes);
    await rename(temporary, path);
  } catch (error) {
    await rm(temporary, { force: true });
    throw error;
  }
}

function readyOf(node: OpenNode): Ready {
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

function statusOf(node: OpenNode): NodeStatus {
  const { queued, slots, busy } = node.owner.load();
  const { receivedBlobs, receivedBytes, sentBlobs, sentBytes, corruptBlobs } =
    node.exchange.stats();
  const { blobs, bytes } = node.store.stats();
  const messages = Object.values(node.control.sent()).reduce((sum, count) => sum + count, 0);
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
    storedBlobs: blobs,
    storedBytes: bytes,
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
function checksOf({ node, shim }: Daemon): readonly Check[] {
  const { blobs, bytes, quotaBytes, quarantined } = node.store.stats();
  const peers = node.directory.peers().length;
  const corrupt: Check = {
    name: "store",
    ok: quarantined === 0,
    level: quarantined === 0 ? "ok" : "warn",
    message: `${blobs} blobs, ${bytes} of ${quotaBytes} bytes, ${quarantined} in quarantine`,
  };
  return [
    {
      name: "node",
      ok: true,
      level: "ok",
      message: `running as ${node.own.name} with ${peers} peers`,
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
    corrupt,
  ];
}
