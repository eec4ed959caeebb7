/** Nodes whose control streams a test plays on: what each was given, pushed and told. */
import { create } from "@bufbuild/protobuf";
import { afterEach, beforeEach, expect } from "vitest";
import type { MeshEvent } from "../base/events.ts";
import { type Channel, createChannel } from "../wire/channel.ts";
import { type Frame, frameOf } from "../wire/frame.ts";
import { CancelSchema, StealGrantSchema } from "../wire/gen/mesh/v1/mesh_pb.ts";
import type { ControlHandlers, ControlMessage, OwnLoad } from "./control.ts";
import { encodeHello } from "./hello-message.ts";
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

export interface Worker {
  readonly node: TestNode;
  load: OwnLoad;
  grant: () => string[];
  readonly heard: ControlMessage[];
  readonly pushed: string[];
  readonly lifelines: number[];
  hints: number;
}

/** A peer of the test's own making, which opens its control stream by hand. */
export interface RawPeer {
  readonly network: TestNetwork;
  readonly channel: Channel;
  readonly frames: Frame[];
}

export interface ControlStage {
  readonly clock: TestClock;
  readonly wire: TestWire;
  work(number: number, bootstrap?: readonly string[]): Promise<Worker>;
  pair(): Promise<readonly [Worker, Worker]>;
  /** What the node answers to a good hello. */
  rawHello(to: Worker, network: TestNetwork): Promise<readonly Frame[]>;
  joinRaw(to: Worker, number: number): Promise<RawPeer>;
}

const signal = new AbortController().signal;
const limits = { frameMaxBytes: 1e7, queueMaxBytes: 1e9 };

/** Set up anew for each test of the file that calls this; after it, every node is stopped. */
export function useControlStage(): ControlStage {
  let clock: TestClock;
  let wire: TestWire;
  let workers: Worker[];

  beforeEach(() => {
    clock = createTestClock();
    wire = createTestWire(clock);
    workers = [];
  });

  afterEach(async () => {
    let stopped = false;
    const stopping = Promise.all(workers.map(({ node }) => node.stop()));
    void stopping.finally(() => {
      stopped = true;
    });
    while (!stopped) await clock.advance(100);
    await stopping;
  });

  async function work(number: number, bootstrap: readonly string[] = []): Promise<Worker> {
    const node = await startTestNode(wire.node(number), clock, { bootstrap });
    const worker: Worker = {
      node,
      load: { queued: 0, stealable: 0, slots: 2, busy: 0, hot: 0n },
      grant: () => [],
      heard: [],
      pushed: [],
      lifelines: [],
      hints: 0,
    };
    const handlers: ControlHandlers = {
      load: () => worker.load,
      onSteal: () =>
        create(StealGrantSchema, {
          grants: worker.grant().map((task) => ({ task, attempt: 1, leaseMs: 2000 })),
        }),
      onPush: (_, { grants }) => void worker.pushed.push(...grants.map(({ task }) => task)),
      onLifeline: (_, { room }) => void worker.lifelines.push(room),
      onMessage: (_, message) => void worker.heard.push(message),
      onLoad: () => {
        worker.hints += 1;
      },
    };
    node.control.attach(handlers);
    workers.push(worker);
    return worker;
  }

  async function pair(): Promise<readonly [Worker, Worker]> {
    const low = await work(1);
    const high = await work(2, [low.node.network.addr]);
    await clock.advance(100);
    expect(low.node.names()).toEqual(["node-002"]);
    return [low, high];
  }

  /** What the node answers to a good hello. */
  async function rawHello(to: Worker, network: TestNetwork): Promise<readonly Frame[]> {
    const frames: Frame[] = [];
    const stream = await network.open(to.node.network.self, "/mesh/hello/1", signal);
    const channel = createChannel(stream, limits, (frame) => void frames.push(frame));
    const own = {
      name: "raw",
      slots: 1,
      sandbox: "",
      platform: "x",
      labels: {},
      roles: [],
    } as const;
    channel.send(frameOf(1, { payload: encodeHello(own, [], 1n) }));
    await settle();
    return frames;
  }

  async function joinRaw(to: Worker, number: number): Promise<RawPeer> {
    const network = wire.node(number);
    await network.connect(to.node.network.addr, signal);
    await rawHello(to, network);
    const frames: Frame[] = [];
    const stream = await network.open(to.node.network.self, "/mesh/ctl/1", signal);
    const channel = createChannel(stream, limits, (frame) => void frames.push(frame));
    await settle();
    expect(to.node.names()).toEqual(["raw"]);
    return { network, channel, frames };
  }

  return {
    get clock() {
      return clock;
    },
    get wire() {
      return wire;
    },
    ...{ work, pair, rawHello, joinRaw },
  };
}

export const cancel = (task: string): ControlMessage => ({
  type: "cancel",
  value: create(CancelSchema, { task, attempt: 1 }),
});
export const lefts = ({ node }: Worker): readonly string[] =>
  node.events.flatMap((event) => (event.event === "peer-left" ? [event.reason] : []));
export const refusals = ({
  node,
}: Worker): readonly Extract<MeshEvent, { event: "peer-refused" }>[] =>
  node.events.flatMap((event) => (event.event === "peer-refused" ? [event] : []));
