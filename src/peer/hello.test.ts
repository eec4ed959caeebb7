import { create } from "@bufbuild/protobuf";
import { afterEach, beforeEach, expect, test } from "vitest";
import type { MeshEvent } from "../base/events.ts";
import type { Stream } from "../host/host.ts";
import { type Channel, createChannel } from "../wire/channel.ts";
import { type Frame, frameOf } from "../wire/frame.ts";
import { HelloSchema } from "../wire/gen/mesh/v1/mesh_pb.ts";
import { encodeMessage } from "../wire/messages.ts";
import { type Description, encodeHello, encodeKnown, parseHello } from "./hello-message.ts";
import {
  createTestClock,
  createTestWire,
  settle,
  startTestNode,
  type TestClock,
  type TestNetwork,
  type TestNode,
  type TestWire,
} from "./mesh.fixture.ts";

let clock: TestClock;
let wire: TestWire;
let node: TestNode;
let raw: TestNetwork;

const signal = new AbortController().signal;
const own: Description = {
  name: "raw",
  slots: 1,
  sandbox: "",
  platform: "linux/x86_64",
  labels: {},
  roles: [],
};

beforeEach(async () => {
  clock = createTestClock();
  wire = createTestWire(clock);
  node = await startTestNode(wire.node(5), clock);
  raw = wire.node(9);
  raw.serve("/mesh/ctl/1", () => {});
});

afterEach(() => node.stop());

const refusals = (): readonly Extract<MeshEvent, { event: "peer-refused" }>[] =>
  node.events.flatMap((event) => (event.event === "peer-refused" ? [event] : []));

/** Takes what the node says on a hello stream; answers nothing by itself. */
function listen(stream: Stream): { readonly channel: Channel; readonly frames: Frame[] } {
  const frames: Frame[] = [];
  const limits = { frameMaxBytes: 1e6, queueMaxBytes: 1e7 };
  const channel = createChannel(stream, limits, (frame) => void frames.push(frame));
  return { channel, frames };
}

async function connect(): Promise<void> {
  await raw.connect(node.network.addr, signal);
  await settle();
}

async function sayHello(payload: Uint8Array): Promise<Frame[]> {
  const { channel, frames } = listen(await raw.open(node.network.self, "/mesh/hello/1", signal));
  channel.send(frameOf(1, { payload }));
  await settle();
  return frames;
}

test("a peer that says a good hello is admitted, and hears the node's own", async () => {
  await connect();
  expect(node.directory.admitted(raw.self)).toBe(false);
  const [hello, known] = await sayHello(encodeHello(own, [], 1n));
  expect(node.directory.admitted(raw.self)).toBe(true);
  expect(parseHello(node.network.self, hello?.payload ?? new Uint8Array())).toMatchObject({
    name: "node-005",
    slots: 2,
  });
  expect(known?.type).toBe(2);
});

test("no other protocol answers before the hello, and a stream that came early loses nothing", async () => {
  const served: string[] = [];
  node.directory.network.serve("/echo/1", (peer, stream) => {
    served.push(peer);
    stream.receive((bytes) => void stream.send(bytes));
  });
  await connect();
  const early = await raw.open(node.network.self, "/echo/1", signal);
  const heard: number[] = [];
  early.receive((bytes) => void heard.push(...bytes));
  early.send(Uint8Array.of(1, 2, 3));
  await clock.advance(4000);
  expect(served).toEqual([]);
  await sayHello(encodeHello(own, [], 1n));
  await settle();
  expect(served).toEqual([raw.self]);
  expect(heard).toEqual([1, 2, 3]);
});

test("a peer that says nothing for 5 s is disconnected, and its waiting streams are reset", async () => {
  await connect();
  const early = await raw.open(node.network.self, "/mesh/ctl/1", signal);
  await clock.advance(4900);
  expect(raw.peers()).toEqual([node.network.self]);
  await clock.advance(200);
  expect(raw.peers()).toEqual([]);
  expect((await early.ended).how).toBe("reset");
  expect(refusals()).toMatchObject([
    { code: "deadline", reason: "it did not say hello within 5 s" },
  ]);
});

test("no more than sixteen streams wait for a hello", async () => {
  await connect();
  const ended: number[] = [];
  for (let count = 0; count < 20; count += 1) {
    const stream = await raw.open(node.network.self, "/mesh/ctl/1", signal);
    void stream.ended.then(() => ended.push(count));
  }
  await settle();
  expect(ended).toEqual([16, 17, 18, 19]);
});

test("another version is refused, naming both, and the other side learns this one's", async () => {
  await connect();
  const payload = encodeMessage(HelloSchema, create(HelloSchema, { version: 2, name: "new" }));
  const [hello] = await sayHello(payload);
  expect(hello?.type).toBe(1);
  await clock.advance(1100);
  expect(raw.peers()).toEqual([]);
  expect(node.names()).toEqual([]);
  expect(refusals()).toMatchObject([
    { code: "refused", reason: expect.stringMatching(/version 2 .* version 1: install/) },
  ]);
});

test.each([
  ["bytes that are no hello", frameOf(1, { payload: Uint8Array.of(255, 255, 255) })],
  ["a hello of more than 256 KiB", frameOf(1, { payload: new Uint8Array(256 * 1024 + 1) })],
  ["what it knows before its hello", frameOf(2, { payload: encodeKnown([]) })],
  ["an unknown frame", frameOf(77)],
  ["a million labels", frameOf(1, { payload: manyLabels() })],
])("%s gets a peer disconnected and kept out for a while", async (_, frame) => {
  await connect();
  const { channel } = listen(await raw.open(node.network.self, "/mesh/hello/1", signal));
  channel.send(frame);
  await clock.advance(1100);
  expect(raw.peers()).toEqual([]);
  expect(refusals()).toMatchObject([{ code: "malformed" }]);
  await connect();
  const [answer] = await sayHello(encodeHello(own, [], 1n));
  expect(answer?.type).toBe(3);
  expect(node.names()).toEqual([]);
});

function manyLabels(): Uint8Array {
  const labels = Array.from({ length: 33 }, (_, index) => ({ key: `k${index}`, value: "v" }));
  return encodeMessage(HelloSchema, create(HelloSchema, { version: 1, labels }));
}

test("a name cannot reach the terminal's controls, and is never longer than 64", async () => {
  await connect();
  const name = `\u001b[31mevil\r\n\u202e${"x".repeat(300)}`;
  const payload = encodeMessage(HelloSchema, create(HelloSchema, { version: 1, name }));
  await sayHello(payload);
  const shown = node.directory.get(raw.self)?.name ?? "";
  expect(shown).toBe(`[31mevil${"x".repeat(56)}`);
});

test("the higher peer speaks up when the lower does not, so that a hello is never left to one side", async () => {
  const low = wire.node(1);
  low.serve("/mesh/ctl/1", () => {});
  let heard: Frame[] = [];
  low.serve("/mesh/hello/1", (_, stream) => {
    const { channel, frames } = listen(stream);
    heard = frames;
    channel.send(frameOf(1, { payload: encodeHello(own, [], 1n) }));
  });
  await low.connect(node.network.addr, signal);
  await clock.advance(900);
  expect(heard).toEqual([]);
  await clock.advance(200);
  expect(heard[0]?.type).toBe(1);
  expect(node.directory.admitted(low.self)).toBe(true);
});

test("addresses in a hello or in gossip that name somebody else are not believed", async () => {
  await connect();
  const foreign = "/ip4/10.0.0.77/tcp/1/p2p/peer077";
  await sayHello(
    encodeHello(own, [foreign, "not an address", "/ip4/10.0.0.9/tcp/1/p2p/peer009"], 1n),
  );
  expect(node.directory.get(raw.self)?.addrs).toEqual(["/ip4/10.0.0.9/tcp/1/p2p/peer009"]);
});
