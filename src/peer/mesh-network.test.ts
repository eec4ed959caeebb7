/** The whole row on the real network: several nodes on loopback, with everything real below. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { create } from "@bufbuild/protobuf";
import { afterEach, expect, onTestFinished, test } from "vitest";
import { createEvents, type MeshEvent } from "../base/events.ts";
import { createClock } from "../host/clock.ts";
import { createDisk } from "../host/disk.ts";
import type { Network } from "../host/host.ts";
import { createNetwork } from "../host/network.ts";
import { generateIdentity, type Identity } from "../host/network-identity.ts";
import { createRandom } from "../host/random.ts";
import { StealGrantSchema, StealRequestSchema } from "../wire/gen/mesh/v1/mesh_pb.ts";
import { createControl, type LiveControl } from "./control.ts";
import { createDirectory, type LiveDirectory } from "./directory.ts";
import { decodeInvite, encodeInvite, type Invite } from "./invite.ts";
import { createMembership, type Membership } from "./membership.ts";

const clock = createClock();
const random = createRandom();
const never = new AbortController().signal;

interface Node {
  readonly identity: Identity;
  readonly dataDir: string;
  readonly network: Network;
  readonly membership: Membership;
  readonly directory: LiveDirectory;
  readonly control: LiveControl;
  readonly events: readonly MeshEvent[];
  invite(): Invite;
  stop(): Promise<void>;
}

const running = new Set<Node>();
afterEach(async () => {
  for (const node of running) await node.stop();
});

interface NodeOptions {
  readonly dataDir?: string;
  readonly identity?: Identity;
  readonly listen?: string;
  readonly bootstrap?: readonly string[];
  readonly invite?: Invite;
}

async function folder(): Promise<string> {
  const path = await mkdtemp(join(tmpdir(), "mesh-real-"));
  onTestFinished(() => rm(path, { recursive: true }));
  return path;
}

async function start(options: NodeOptions = {}): Promise<Node> {
  const { identity = generateIdentity(), dataDir = await folder(), bootstrap = [] } = options;
  const log: MeshEvent[] = [];
  const { emit, listen } = createEvents();
  listen((event) => void log.push(event));
  const membership = await createMembership(
    { disk: createDisk(), clock, random, emit },
    { dataDir, invite: options.invite, name: undefined, nameDefault: "real" },
  );
  const network = await createNetwork(
    {
      identity,
      meshKey: membership.meshKey,
      listen: [options.listen ?? "/ip4/127.0.0.1/tcp/0"],
      bootstrap: [],
      mdns: false,
      name: membership.name,
    },
    never,
  );
  const own = {
    name: membership.name,
    slots: 2,
    sandbox: "",
    platform: "linux/x86_64",
    labels: {},
    roles: membership.roles,
  } as const;
  const deps = { network, clock, random, membership, emit, own: () => own };
  const directory = createDirectory(deps, { bootstrap });
  const control = createControl({ directory, clock, emit });
  const stopped = new AbortController();
  control.attach({
    load: () => ({ queued: 3, stealable: 1, slots: 2, busy: 2, hot: 0n }),
    onSteal: () => create(StealGrantSchema, { grants: [{ task: "t-1", attempt: 1 }] }),
    onPush: () => {},
    onLifeline: () => {},
    onMessage: () => {},
    onLoad: () => {},
  });
  directory.start(stopped.signal);
  control.start(stopped.signal);
  const node: Node = {
    identity,
    dataDir,
    network,
    membership,
    directory,
    control,
    events: log,
    invite: () => ({
      meshKey: membership.meshKey,
      inviter: network.self,
      addrs: network.listenAddrs(),
      expiresAtSeconds: Math.floor(clock.wallMs() / 1000) + 3600,
    }),
    async stop() {
      running.delete(node);
      stopped.abort();
      await directory.stop();
      await control.stop();
      await network.close();
    },
  };
  running.add(node);
  return node;
}

const peersOf = (node: Node) => node.directory.peers().map(({ id }) => id);
const throughText = (invite: Invite) => decodeInvite(encodeInvite(invite), clock.wallMs());

/** The test's own time limit is the bound. */
async function until(fact: () => boolean): Promise<void> {
  while (!fact()) await clock.sleep(10, never);
}

test("three nodes that were given one invite form a full mesh, and can steal from each other", async () => {
  const first = await start();
  const invite = throughText(first.invite());
  const others = await Promise.all([start({ invite }), start({ invite })]);
  const all = [first, ...others];
  await until(() => all.every((node) => peersOf(node).length === 2));
  await until(() => all.every((node) => node.directory.peers().every(({ load }) => load)));
  const request = create(StealRequestSchema, { room: 1 });
  for (const node of all) {
    for (const peer of peersOf(node)) {
      const { grants } = await node.control.steal(peer, request, never);
      expect(grants.map(({ task }) => task)).toEqual(["t-1"]);
    }
    expect(node.directory.peers().every(({ rttMs }) => rttMs !== undefined && rttMs > 0)).toBe(
      true,
    );
  }
});

test("a node that restarts finds its mesh again without flags", async () => {
  const first = await start();
  const second = await start({ invite: throughText(first.invite()) });
  await until(() => peersOf(first).length === 1);
  await second.stop();
  await until(() => peersOf(first).length === 0);
  const again = await start({ dataDir: second.dataDir, identity: second.identity });
  await until(() => peersOf(again).length === 1 && peersOf(first).length === 1);
  expect(again.membership.created).toBe(false);
});

test("a member that comes back at its old address is dialled by those who stayed", async () => {
  const first = await start();
  const second = await start({ invite: throughText(first.invite()) });
  await until(() => peersOf(second).length === 1);
  const listen = first.network.listenAddrs()[0]?.replace(/\/p2p\/.*/, "") ?? "";
  await first.stop();
  await until(() => peersOf(second).length === 0);
  // It has forgotten everybody: only the others can find it.
  await rm(join(first.dataDir, "mesh.json"));
  const { identity } = first;
  const invite = { ...second.invite(), addrs: [], inviter: identity.peerId };
  const again = await start({ dataDir: first.dataDir, identity, listen, invite });
  await until(() => peersOf(again).length === 1 && peersOf(second).length === 1);
});

test("a node of another mesh is refused before any hello, and the user is told why", async () => {
  const first = await start();
  const stranger = await start({ bootstrap: first.network.listenAddrs() });
  await expect(stranger.directory.reach(first.network.listenAddrs(), never)).rejects.toMatchObject({
    code: "wrong-mesh",
  });
  await until(() => stranger.events.some(({ event }) => event === "log"));
  expect(stranger.events).toContainEqual(
    expect.objectContaining({
      level: "warn",
      message: expect.stringContaining("another mesh key"),
    }),
  );
  expect(peersOf(first)).toEqual([]);
});
