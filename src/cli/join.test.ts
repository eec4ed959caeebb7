import { PassThrough } from "node:stream";
import { expect, test } from "vitest";
import { MeshError } from "../base/errors.ts";
import { createEvents, type MeshEvent } from "../base/events.ts";
import { asPeerId, asTaskId } from "../base/ids.ts";
import {
  createEventLines,
  type JoinDeps,
  type JoinedNode,
  joinCommand,
  readyText,
} from "./join.ts";
import { painter } from "./terminal.ts";

const ready = {
  event: "ready",
  peerId: "12D3a",
  addrs: ["/ip4/10.0.0.1/tcp/4001/p2p/12D3a", "/ip4/127.0.0.1/tcp/4001/p2p/12D3a"],
  invite: "mesh1-abc",
  slots: 4,
  sandbox: "bwrap",
} as const;
const about = { ready, name: "node-a", sandboxWhy: "", created: true };
const plain = painter(false);

test("a node's first words say who it is, where, and how another machine gets in", () => {
  expect(readyText(about, "/d", plain)).toBe(
    [
      "node-a is in a new mesh with 4 slots",
      "  peer     12D3a",
      "  address  /ip4/10.0.0.1/tcp/4001/p2p/12D3a",
      "           /ip4/127.0.0.1/tcp/4001/p2p/12D3a",
      "  state    /d",
      "  sandbox  bwrap",
      "",
      "Run this on another machine to bring it in (whoever has this line can join):",
      "  npx mesh-node join mesh1-abc",
      "",
      "Build with it from any folder: mesh build",
      "Ctrl-C leaves the mesh.",
      "",
      "",
    ].join("\n"),
  );
});

test("a node without a sandbox says plainly what it will not do, and why", () => {
  const bare = { ...about, ready: { ...ready, sandbox: "" }, sandboxWhy: "bwrap: not installed" };
  const text = readyText(bare, "/d", plain);
  expect(text).toContain("none is usable, so this node takes no native tasks from others");
  expect(text).toContain("bwrap: not installed");
  const asked = { ...about, ready: { ...ready, sandbox: "none" } };
  expect(readyText(asked, "/d", plain)).toContain("other members' tasks can read all your files");
});

test("a node that nobody could dial offers no invite", () => {
  const alone = { ...about, ready: { ...ready, addrs: [], invite: "" } };
  expect(readyText(alone, "/d", plain)).toContain("Nobody can be invited yet");
});

test("peers are told as they come and go, tasks for others once a burst", () => {
  const lines = createEventLines();
  const peer = asPeerId("12D3b");
  expect(lines.see({ event: "peer-joined", peer, name: "node-b", slots: 1 })).toEqual([
    "node-b joined: 1 slot",
  ]);
  for (const id of ["1", "2"]) {
    const task = asTaskId(id);
    expect(lines.see({ event: "foreign-started", task, owner: peer, label: "a.c" })).toEqual([]);
    lines.see({ event: "foreign-done", task, owner: peer, label: "a.c", outcome: "accepted" });
  }
  expect(lines.pending()).toBe(true);
  expect(lines.flush()).toEqual(["ran 2 tasks for node-b"]);
  expect(lines.pending()).toBe(false);
  expect(lines.see({ event: "peer-left", peer, name: "node-b", reason: "it left" })).toEqual([
    "node-b left: it left",
  ]);
});

interface Stage {
  readonly deps: JoinDeps;
  readonly stdin: PassThrough;
  readonly printed: () => string;
  readonly interrupt: AbortController;
  readonly hurry: AbortController;
  stops: number;
  sessions: number;
  met: readonly MeshEvent[];
}

function stage(start?: JoinDeps["start"], stop: () => Promise<void> = async () => {}): Stage {
  let printed = "";
  const interrupt = new AbortController();
  const hurry = new AbortController();
  const stdin = new PassThrough();
  const events = createEvents();
  const write = (text: string | Uint8Array) => {
    printed += text;
  };
  const node: JoinedNode = {
    ...about,
    events,
    met: () => self.met,
    sessions: () => self.sessions,
    stop: () => {
      self.stops += 1;
      return stop();
    },
    done: new Promise(() => {}),
  };
  const terminal = {
    out: write,
    err: write,
    outTty: false,
    errTty: false,
    outColor: false,
    errColor: false,
    columns: () => 80,
  };
  const interrupts = {
    signal: interrupt.signal,
    hurry: hurry.signal,
    received: undefined,
    close() {},
  };
  const deps = { start: start ?? (async () => node), terminal, interrupts, stdin };
  const self: Stage = {
    deps,
    stdin,
    printed: () => printed,
    interrupt,
    hurry,
    stops: 0,
    sessions: 0,
    met: [],
  };
  return self;
}

test("with --json the first line is the ready event, and a Ctrl-C leaves in order with 0", async () => {
  const { deps, interrupt, printed } = stage();
  const code = joinCommand(deps, { dataDir: "/d", json: true, embedded: false, drainMs: 0 });
  interrupt.abort();
  expect(await code).toBe(0);
  const lines = printed().trim().split("\n");
  expect(lines.map((line) => JSON.parse(line))).toEqual([ready, { event: "left" }]);
});

test.each([
  [true, '{"event":"peer-joined","peer":"12D3b","name":"node-b","slots":2}\n'],
  [false, "node-b joined: 2 slots\n"],
])("peers that were met during the start are told after it (json: %s)", async (json, line) => {
  const on = stage();
  on.met = [{ event: "peer-joined", peer: asPeerId("12D3b"), name: "node-b", slots: 2 }];
  const code = joinCommand(on.deps, { dataDir: "/d", json, embedded: false, drainMs: 0 });
  on.interrupt.abort();
  await code;
  expect(on.printed()).toContain(line);
  expect(on.printed().indexOf(line)).toBeGreaterThan(on.printed().indexOf("12D3a"));
});

test("a second Ctrl-C does not wait for a node that cannot leave", async () => {
  const on = stage(undefined, () => new Promise(() => {}));
  const code = joinCommand(on.deps, { dataDir: "/d", json: false, embedded: false, drainMs: 0 });
  on.interrupt.abort();
  on.hurry.abort();
  expect(await code).toBe(0);
  expect(on.printed()).toContain("ended without waiting");
});

test("an embedded node ends with its command's stdin, but not under another command's build", async () => {
  const on = stage();
  on.sessions = 1;
  const code = joinCommand(on.deps, { dataDir: "/d", json: true, embedded: true, drainMs: 0 });
  on.stdin.end();
  await expect.poll(on.printed).toContain('{"event":"staying"}');
  expect(on.stops).toBe(0);
  on.sessions = 0;
  expect(await code).toBe(0);
  expect(on.stops).toBe(1);
});

test("a node in the foreground does not care about its stdin", async () => {
  const on = stage();
  const code = joinCommand(on.deps, { dataDir: "/d", json: true, embedded: false, drainMs: 0 });
  on.stdin.end();
  await new Promise((resolve) => setImmediate(resolve));
  expect(on.stops).toBe(0);
  on.interrupt.abort();
  await code;
});

test("a start that fails is told to scripts as well", async () => {
  const failing = stage(async () => {
    throw new MeshError("in-use", "port 4001 is taken");
  });
  const code = joinCommand(failing.deps, {
    dataDir: "/d",
    json: true,
    embedded: false,
    drainMs: 0,
  });
  await expect(code).rejects.toThrow("port 4001 is taken");
  expect(JSON.parse(failing.printed())).toEqual({
    event: "failed",
    code: "in-use",
    message: "port 4001 is taken",
  });
});
