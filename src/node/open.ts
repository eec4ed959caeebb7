/**
 * Opens a data directory as a node on this machine: its key, its mesh, its blobs, its sandbox.
 *
 * Everything that can be wrong with a directory, a port or an invite is found out here, before
 * anything is announced to anybody.
 */

import type { Execute } from "../action/action.ts";
import { loneTag, meshTagOf } from "../action/record.ts";
import { openRecords, recordsDefaults } from "../action/records.ts";
import { isMeshError, MeshError, messageOf } from "../base/errors.ts";
import { createEvents, type Emit } from "../base/events.ts";
import { type BlobStore, createBlobStore } from "../blob/store.ts";
import type { TreeEntry } from "../blob/tree.ts";
import { ingestTwins } from "../blob/twin.ts";
import { createExecutor } from "../exec/executor.ts";
import { createNativeExecutor, type NativeExecutor, nativeDefaults } from "../exec/native.ts";
import { probeSandbox, type Sandbox } from "../exec/sandbox/probe.ts";
import { cleanLeftovers } from "../exec/sandbox/root.ts";
import { createWasmExecutor } from "../exec/wasm.ts";
import { createClock } from "../host/clock.ts";
import { createDisk } from "../host/disk.ts";
import type { Clock, Disk, Host, Network, Processes, Random } from "../host/host.ts";
import { createNetwork } from "../host/network.ts";
import {
  decodeIdentity,
  encodeIdentity,
  generateIdentity,
  type Identity,
} from "../host/network-identity.ts";
import { createNoNetwork } from "../host/network-none.ts";
import { createProcesses } from "../host/processes.ts";
import { createRandom } from "../host/random.ts";
import { createSigning } from "../host/signing.ts";
import { createUnfinished } from "../host/unfinished.ts";
import { createWasmPool, type WasmPool } from "../host/wasm-pool.ts";
import { platformName } from "../peer/capability.ts";
import { decodeInvite, type Invite } from "../peer/invite.ts";
import { createMembership, type Membership } from "../peer/membership.ts";
import { openLearned } from "../work/learned.ts";
import { claimDirectory } from "./claim.ts";
import type { Answer } from "./control-server.ts";
import { createNode, labelsMax, type MeshNode, type NodeOptions, nodeDefaults } from "./node.ts";
import { type NodePaths, nodePaths } from "./paths.ts";

export interface OpenOptions {
  readonly dataDir: string;
  /** Multiaddrs; undefined: a free port on every interface. */
  readonly listen: readonly string[] | undefined;
  /** Multiaddrs to tell others instead; undefined: where it listens. */
  readonly announce?: readonly string[] | undefined;
  readonly bootstrap: readonly string[];
  readonly mdns: boolean;
  readonly slots: number;
  /** Undefined: the name it had before, else `nameDefault`. */
  readonly name: string | undefined;
  readonly nameDefault: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly cacheSizeBytes: number;
  /** See `NodeOptions`. */
  readonly lend: NodeOptions["lend"];
  readonly strategy: NodeOptions["strategy"];
  readonly drainMs: number;
  /** Undefined: the best there is. */
  readonly sandbox: "bwrap" | "unshare" | "none" | undefined;
  readonly invite: string | undefined;
  /** Folders whose files may stand in for a peer's inputs of the same path and digest. */
  readonly twinPrefixes: readonly string[];
  /** A node for one build: without a mesh of its own, it makes none and listens nowhere. */
  readonly embedded: boolean;
}

export interface OpenNode extends MeshNode {
  readonly paths: NodePaths;
  readonly sandbox: Sandbox;
  /**
   * Runs one of this node's own actions behind real walls, which are looked for when first needed.
   * Code "unsupported" where there are none.
   */
  readonly boxed: Execute;
  readonly platform: string;
  /** False for an embedded node without a mesh. */
  readonly inMesh: boolean;
  /**
   * Answers the control socket from now on. It has been open since the start, so that no other node
   * takes the directory; commands that called meanwhile have been waiting.
   */
  serve(answer: Answer): void;
}

const wasmMemoryMaxBytes = 4096 * 1024 * 1024;
const wasmOutputMaxBytes = 1024 * 1024 * 1024;
const hourMs = 3_600_000;

/**
 * Codes: "in-use" (another node has the directory, or the port), "io" and "no-space" (it cannot be
 * written), "malformed", "refused" and "wrong-mesh" (the invite or a file in it), "usage".
 */
export async function openNode(options: OpenOptions, signal: AbortSignal): Promise<OpenNode> {
  const paths = nodePaths(options.dataDir);
  const unfinished = createUnfinished(paths.unfinished, paths.tmp);
  const disk = createDisk(unfinished.note);
  const clock = createClock();
  const invite =
    options.invite === undefined ? undefined : decodeInvite(options.invite, clock.wallMs());
  const claim = await claimDirectory(disk, paths);
  const opened: (() => Promise<void>)[] = [];
  try {
    opened.push(() => unfinished.end(disk));
    await unfinished.begin(disk);
    const node = await openClaimed({ options, invite, paths, disk, clock, opened }, signal);
    return {
      ...node,
      serve: claim.serve,
      async stop() {
        await node.stop();
        await closeAll(opened);
        await claim.release(new MeshError("cancelled", "the node has stopped"));
      },
    };
  } catch (error) {
    await closeAll(opened);
    const code = isMeshError(error) ? error.code : "io";
    await claim.release(
      new MeshError(code, `the node could not start: ${messageOf(error)}`, { cause: error }),
    );
    throw error;
  }
}

interface Opening {
  readonly options: OpenOptions;
  readonly invite: Invite | undefined;
  readonly paths: NodePaths;
  readonly disk: Disk;
  readonly clock: Clock;
  /** Gets what has to be closed, also when the rest fails. */
  readonly opened: (() => Promise<void>)[];
}

async function openClaimed(
  { options, invite, paths, disk, clock, opened }: Opening,
  signal: AbortSignal,
): Promise<Omit<OpenNode, "serve">> {
  const random = createRandom();
  const events = createEvents();
  const { name, nameDefault, slots } = options;
  const identity = await readIdentity(disk, paths.identity);
  const inMesh =
    !options.embedded || invite !== undefined || (await disk.stat(paths.meshFile)) !== undefined;
  const membership = inMesh
    ? await createMembership(
        { disk, clock, random, emit: events.emit },
        { dataDir: paths.dataDir, invite, name, nameDefault },
      )
    : loner(random, name ?? nameDefault);
  const processes = createProcesses({ runMax: 1024, startNow: inMesh });
  opened.push(() => processes.close());
  const cleanUp = (until: AbortSignal) => cleanLeftovers({ disk, processes }, paths.tmp, until);
  await cleanUp(signal);
  // The device files of the sandbox stay for as long as the node runs.
  opened.push(async () => void (await cleanUp(new AbortController().signal).catch(() => {})));
  const store = await createBlobStore(
    { disk, clock },
    { directory: paths.dataDir, quotaBytes: options.cacheSizeBytes, sync: "never" },
    signal,
  );
  const records = await openRecords(
    {
      keys: {
        signing: createSigning(identity),
        tag: inMesh ? meshTagOf(membership.meshKey) : loneTag,
      },
      disk,
      clock,
      emit: events.emit,
    },
    { ...recordsDefaults, directory: paths.results },
    signal,
  );
  // Nobody steals from a node without a mesh, or is stolen from by it: no walls are needed.
  const sandbox: Sandbox = inMesh
    ? await probeSandbox(
        { processes, disk },
        { wanted: options.sandbox, tmpDir: paths.tmp },
        signal,
      )
    : { tier: "", why: "this node belongs to no mesh", walls: undefined };
  const network = inMesh
    ? await joinNetwork(options, identity, membership, signal)
    : createNoNetwork(identity.peerId);
  const host: Host = { clock, random, disk, network, processes };
  const platform = platformName(process.platform, process.arch);
  const executors = createExecutors(host, store, sandbox, events.emit, paths, platform, slots);
  opened.push(executors.close);
  const boxed = createBoxed(
    { processes, disk, store, emit: events.emit, opened },
    { wanted: options.sandbox, tmpDir: paths.tmp, sandbox, execute: executors.execute },
  );
  const learned = await openLearned(disk, { path: paths.learned, labelsMax });
  opened.push(() => learned.save());
  const { roles } = membership;
  const tier = sandbox.tier;
  const node = createNode(
    {
      host,
      events,
      membership,
      store,
      records,
      learned,
      execute: executors.execute,
      ingestTwins: oneAtATime((inputs: readonly TreeEntry[], inner: AbortSignal) =>
        ingestTwins({ store, disk }, inputs, { prefixes: options.twinPrefixes }, inner),
      ),
    },
    {
      ...nodeDefaults,
      ...{ lend: options.lend, strategy: options.strategy, drainMs: options.drainMs },
      bootstrap: [...options.bootstrap, ...(invite?.addrs ?? [])],
      own: { name: membership.name, roles, slots, sandbox: tier, platform, labels: options.labels },
    },
  );
  return { ...node, paths, sandbox, boxed, platform, inMesh };
}

/** Two tasks often miss the same compiler: the second finds what the first took in. */
function oneAtATime<A extends readonly unknown[], T>(
  run: (...args: A) => Promise<T>,
): (...args: A) => Promise<T> {
  let last: Promise<unknown> = Promise.resolve();
  return (...args) => {
    const next = last.then(
      () => run(...args),
      () => run(...args),
    );
    last = next;
    return next;
  };
}

async function closeAll(opened: readonly (() => Promise<void>)[]): Promise<void> {
  for (const close of opened.toReversed()) await close();
}

async function readIdentity(disk: Disk, path: string): Promise<Identity> {
  if ((await disk.stat(path)) !== undefined) {
    try {
      return decodeIdentity(await disk.read(path));
    } catch (error) {
      throw new MeshError(
        "malformed",
        `${path} is damaged (${messageOf(error)}); restore it, or remove it to become a new node`,
        { cause: error },
      );
    }
  }
  const identity = generateIdentity();
  await disk.writeAtomic(path, encodeIdentity(identity), { mode: 0o600, sync: true });
  return identity;
}

function joinNetwork(
  { listen, announce, mdns }: OpenOptions,
  identity: Identity,
  { meshKey, name }: Membership,
  signal: AbortSignal,
): Promise<Network> {
  const where = {
    ...(listen === undefined ? {} : { listen }),
    ...(announce === undefined ? {} : { announce }),
  };
  return createNetwork({ identity, meshKey, bootstrap: [], mdns, name, ...where }, signal);
}

/** The membership of a node that belongs nowhere and leaves no trace of it. */
function loner(random: Random, name: string): Membership {
  return {
    meshKey: random.bytes(32),
    name,
    roles: ["member"],
    created: false,
    peers: () => [],
    seen: () => {},
    close: async () => {},
  };
}

/** Also for a node without a mesh, which has walls for itself only, and starts without them. */
function createBoxed(
  deps: {
    readonly processes: Processes;
    readonly disk: Disk;
    readonly store: BlobStore;
    readonly emit: Emit;
    readonly opened: (() => Promise<void>)[];
  },
  {
    wanted,
    tmpDir,
    sandbox,
    execute,
  }: Pick<OpenNode, "sandbox" | "execute"> & {
    readonly wanted: OpenOptions["sandbox"];
    readonly tmpDir: string;
  },
): Execute {
  let found: Promise<NativeExecutor | undefined> | undefined;
  async function look(): Promise<NativeExecutor | undefined> {
    const own = await probeSandbox(deps, { wanted, tmpDir }, new AbortController().signal);
    if (own.walls === undefined) return undefined;
    const native = createNativeExecutor({ ...deps, sandbox: own }, { ...nativeDefaults, tmpDir });
    deps.opened.push(() => native.close());
    return native;
  }
  return async (spec, onProgress, signal) => {
    if (sandbox.walls !== undefined) return execute(spec, onProgress, signal);
    found ??= look();
    const native = await found;
    if (native === undefined) throw new MeshError("unsupported", "this node has no sandbox");
    return native.execute(spec, onProgress, signal);
  };
}

interface Executors {
  readonly execute: MeshNode["execute"];
  readonly close: () => Promise<void>;
}

function createExecutors(
  { clock, disk, processes }: { clock: Clock; disk: Disk; processes: Processes },
  store: BlobStore,
  sandbox: Sandbox,
  emit: Emit,
  { tmp }: NodePaths,
  platform: string,
  slots: number,
): Executors {
  const pool: WasmPool = createWasmPool(clock, slots);
  const native: NativeExecutor | undefined =
    sandbox.tier === ""
      ? undefined
      : createNativeExecutor(
          { processes, disk, store, emit, sandbox },
          { ...nativeDefaults, tmpDir: tmp },
        );
  const wasm = createWasmExecutor(
    { store, pool },
    {
      memoryMaxBytes: wasmMemoryMaxBytes,
      timeoutMaxMs: hourMs,
      outputMaxBytes: wasmOutputMaxBytes,
    },
  );
  return {
    execute: createExecutor({ native: native?.execute, wasm }, { platform }),
    async close() {
      await native?.close();
      await pool.close();
    },
  };
}
