import { expect, test } from "vitest";
import { parseControlLine, parseControlRequest } from "./control-api.ts";
import { parseBuildReply, parsePeersReply, parseStatusReply } from "./control-replies.ts";

test("a request is read whole, and nothing of it is guessed", () => {
  expect(parseControlRequest({ call: "status" })).toEqual({ call: "status" });
  const invite = { call: "invite", expiresMs: 60_000 };
  expect(parseControlRequest(invite)).toEqual(invite);
  const how = { steal: true, cacheRead: false, cacheWrite: true, compare: false };
  const build = { call: "build", dir: "/w", jobs: null, ...how };
  expect(parseControlRequest(build)).toEqual(build);
  const run = { call: "run", module: "/m", manifest: { a: 1 }, input: "/i", output: "/o" };
  expect(parseControlRequest(run)).toEqual(run);
});

test.each([
  ["no object", "7", /request/],
  ["an unknown call", '{"call":"reboot"}', /call/],
  ["a call that does nothing", '{"call":"cancel","id":"b1"}', /call/],
  ["a relative folder", '{"call":"build","dir":"w","jobs":1,"steal":true}', /dir/],
  ["no jobs", '{"call":"build","dir":"/w","jobs":0,"steal":true}', /jobs/],
  ["half a build", '{"call":"build","dir":"/w","jobs":1,"steal":true}', /cacheRead/],
  ["a cache call that does nothing", '{"call":"cache","what":"clear"}', /what/],
  ["an endless invite", '{"call":"invite","expiresMs":1e15}', /expiresMs/],
])("a request with %s is malformed and says where", (_what, line, message) => {
  expect(() => parseControlRequest(JSON.parse(line))).toThrow(message);
});

test("an event keeps its shape, also where JSON dropped an undefined", () => {
  const event = { event: "task-started", task: "t1", build: "b", attempt: 0, backup: false };
  expect(parseControlLine(JSON.stringify(event))).toEqual({
    at: "event",
    event: { ...event, peer: undefined },
  });
});

test("an event that this version does not know is passed over, a broken one is not", () => {
  expect(parseControlLine('{"event":"moon-phase"}')).toEqual({ at: "unknown" });
  expect(() => parseControlLine('{"event":"peer-joined"}')).toThrow(/peer-joined/);
});

test("an answer is done or failed, and an unknown code reads as io", () => {
  expect(parseControlLine('{"ok":true,"x":1}')).toEqual({ at: "done", reply: { ok: true, x: 1 } });
  expect(
    parseControlLine('{"ok":false,"error":{"code":"no-space","message":"disk full"}}'),
  ).toEqual({ at: "failed", code: "no-space", message: "disk full" });
  expect(parseControlLine('{"ok":false,"error":{"code":"new","message":"m"}}')).toMatchObject({
    code: "io",
  });
  expect(() => parseControlLine('{"ok":"yes"}')).toThrow(/malformed/);
});

test("status, peers and build answers are checked", () => {
  const load = { peerId: "p", name: "n", slots: 2, busy: 0, queued: 0 };
  const status = { ...load, peers: [{ ...load, rttMs: null }], counters: { stolen: 3 } };
  expect(parseStatusReply({ ok: true, status })).toEqual(status);
  expect(() => parseStatusReply({ ok: true })).toThrow(/status/);
  const peer = { ...load, rttMs: 0.4, platform: "linux/x64", sandbox: "bwrap", addrs: [] };
  expect(parsePeersReply({ peers: [{ ...peer, labels: { gpu: "1" } }] })[0]?.labels.gpu).toBe("1");
  expect(() => parseBuildReply({ summary: { tasks: -1 } })).toThrow(/tasks/);
});
