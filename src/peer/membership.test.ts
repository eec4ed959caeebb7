import { chmod, mkdtemp, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { createEvents, type MeshEvent } from "../base/events.ts";
import { asPeerId, type PeerId } from "../base/ids.ts";
import { createDisk } from "../host/disk.ts";
import { createRandom } from "../host/random.ts";
import type { Invite } from "./invite.ts";
import { createMembership, type Membership, type MembershipOptions } from "./membership.ts";
import { createTestClock, type TestClock } from "./mesh.fixture.ts";

const dayMs = 24 * 60 * 60 * 1000;
let clock: TestClock;
let dataDir: string;
let path: string;
let events: MeshEvent[];

beforeEach(async () => {
  clock = createTestClock();
  dataDir = await mkdtemp(join(tmpdir(), "mesh-member-"));
  path = join(dataDir, "mesh.json");
  events = [];
});

afterEach(() => rm(dataDir, { recursive: true }));

function open(options: Partial<MembershipOptions> = {}): Promise<Membership> {
  const { emit, listen } = createEvents();
  listen((event) => void events.push(event));
  const deps = { disk: createDisk(), clock, random: createRandom(), emit };
  const none = { dataDir, invite: undefined, name: undefined, nameDefault: "box" };
  return createMembership(deps, { ...none, ...options });
}

const peer = (number: number): PeerId => asPeerId(`peer${number}`);
const addr = (number: number): string => `/ip4/10.0.0.1/tcp/${number + 1}/p2p/peer${number}`;
const invite: Invite = {
  meshKey: new Uint8Array(32).fill(7),
  inviter: peer(1),
  addrs: [addr(1)],
  expiresAtSeconds: 2_000_000_000,
};

test("a node with neither file nor invite makes a mesh, and keeps it", async () => {
  const first = await open();
  expect(first.created).toBe(true);
  expect(first.meshKey.byteLength).toBe(32);
  const again = await open();
  expect(again.created).toBe(false);
  expect(again.meshKey).toEqual(first.meshKey);
});

test("the file with the mesh key can be read by nobody else", async () => {
  const membership = await open();
  expect((await stat(path)).mode & 0o777).toBe(0o600);
  await chmod(path, 0o644);
  membership.seen(peer(1), [addr(1)]);
  await membership.close();
  expect((await stat(path)).mode & 0o777).toBe(0o600);
});

test("an invite brings the mesh key and a first peer to dial", async () => {
  const membership = await open({ invite });
  expect(membership.created).toBe(false);
  expect(membership.meshKey).toEqual(invite.meshKey);
  expect(membership.peers()).toMatchObject([{ peer: peer(1), addrs: [addr(1)] }]);
  const again = await open({ invite });
  expect(again.peers().length).toBe(1);
});

test("an invite of another mesh is refused, and nothing changes", async () => {
  await open();
  const before = await readFile(path, "utf8");
  await expect(open({ invite })).rejects.toMatchObject({
    code: "wrong-mesh",
    message: expect.stringContaining(dataDir),
  });
  expect(await readFile(path, "utf8")).toBe(before);
});

test.each([
  ["half of it", (text: string) => text.slice(0, text.length / 2)],
  ["nothing in it", () => ""],
  ["a wrong key", (text: string) => text.replace(/"meshKey": "../, '"meshKey": "')],
  ["a field nobody knows", (text: string) => text.replace("{", '{"extra":1,')],
  ["another version", (text: string) => text.replace('"version": 1', '"version": 9')],
])("a damaged file (%s) is named, explained and never replaced", async (_, damage) => {
  await open();
  const damaged = damage(await readFile(path, "utf8"));
  await writeFile(path, damaged);
  await expect(open()).rejects.toMatchObject({
    code: "malformed",
    message: expect.stringMatching(/mesh\.json is damaged \(.*\): restore it .* join again/),
  });
  await expect(open({ invite })).rejects.toMatchObject({ code: "malformed" });
  expect(await readFile(path, "utf8")).toBe(damaged);
});

test("a name that was given once is kept, and is made fit for a terminal", async () => {
  expect((await open()).name).toBe("box");
  expect((await open({ name: "builder\u001b[2J 7" })).name).toBe("builder[2J 7");
  expect((await open()).name).toBe("builder[2J 7");
  const emoji = (await open({ name: "\u{1f680}".repeat(64) })).name;
  expect(emoji.length).toBeLessThanOrEqual(64);
  expect((await open()).name).toBe(emoji);
});

test("peers are remembered by how recently they were seen, at most 256", async () => {
  const membership = await open();
  for (let number = 0; number < 300; number += 1) {
    membership.seen(peer(number), [addr(number)]);
    await clock.advance(1);
  }
  membership.seen(peer(50), []);
  await membership.close();
  const reopened = await open();
  expect(reopened.peers().length).toBe(256);
  expect(reopened.peers()[0]?.peer).toBe(peer(50));
  expect(reopened.peers().some((known) => known.peer === peer(44))).toBe(true);
  expect(reopened.peers().some((known) => known.peer === peer(43))).toBe(false);
});

test("an address that names another peer is not remembered, and no address keeps the old ones", async () => {
  const membership = await open();
  membership.seen(peer(1), [addr(2), addr(1), "rubbish"]);
  expect(membership.peers()[0]?.addrs).toEqual([addr(1)]);
  membership.seen(peer(1), []);
  expect(membership.peers()[0]?.addrs).toEqual([addr(1)]);
  await membership.close();
});

test("peers unseen for 30 days are forgotten, save the newest four", async () => {
  const membership = await open();
  for (let number = 0; number < 8; number += 1) {
    membership.seen(peer(number), [addr(number)]);
    await clock.advance(1000);
  }
  await membership.close();
  await clock.advance(29 * dayMs);
  expect((await open()).peers().length).toBe(8);
  await clock.advance(2 * dayMs);
  const late = await open();
  expect(late.peers().map((known) => known.peer)).toEqual([7, 6, 5, 4].map(peer));
});

test("what was noted is on the disk a moment later, in few writes, and again after an hour", async () => {
  const membership = await open();
  const onDisk = async () => JSON.parse(await readFile(path, "utf8")).peers.length;
  for (let number = 0; number < 20; number += 1) membership.seen(peer(number), [addr(number)]);
  await until(async () => (await onDisk()) === 20);
  const before = await readFile(path, "utf8");
  await clock.advance(3_700_000);
  membership.seen(peer(3), []);
  await until(async () => (await readFile(path, "utf8")) !== before);
  await membership.close();
});

test("a disk that refuses is reported, and the node goes on with what it remembers", async () => {
  const membership = await open();
  await rm(dataDir, { recursive: true });
  membership.seen(peer(1), [addr(1)]);
  await membership.close();
  expect(events).toContainEqual(
    expect.objectContaining({
      event: "log",
      level: "warn",
      message: expect.stringContaining(path),
    }),
  );
  expect(membership.peers().length).toBe(1);
  await createDisk().makeDirectory(dataDir);
});

/** The real disk takes real time, and the pause between two writes the clock's. */
async function until(holds: () => Promise<boolean>): Promise<void> {
  for (let tries = 0; tries < 1000; tries += 1) {
    if (await holds()) return;
    await clock.advance(100);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  expect.fail("it never came true");
}
