/**
 * From a steal request to the task in the thief's hands, over real libp2p between two processes, as
 * the thief sees it; against a bare TCP echo between two processes of as many bytes each way.
 *
 * The owner's only slot is held, so every task is stolen. The tasks do nothing, so that steals
 * follow each other as fast as they can. The echo runs between the batches of steals.
 */
import { spawn } from "node:child_process";
import { connect, type Socket } from "node:net";
import { create, toBinary } from "@bufbuild/protobuf";
import { createWorld, type LiveNode } from "../../chaos-tests/live/nodes.ts";
import { asTaskId } from "../../src/base/ids.ts";
import type { OpenNode } from "../../src/node/open.ts";
import { platformsOf } from "../../src/peer/capability.ts";
import { StealGrantSchema, StealRequestSchema } from "../../src/wire/gen/mesh/v1/mesh_pb.ts";
import { toGrant } from "../../src/work/grant.ts";
import type { Task } from "../../src/work/task.ts";
import { atMost, type Bench, rowOf } from "../bench.ts";
import { holdSlot, inviteOf, openOwner, peersKnown } from "../owner.ts";
import { createNoOps } from "./wasm-tasks.ts";

const batchesDefault = 10;
const tasksPerBatch = 120;
const echoesPerBatch = 100;
const p50MaxMs = 1;
const p99MaxMs = 10;

export const steal: Bench = {
  name: "steal",
  about: "steal request to task received between two processes, against a bare TCP echo",
  async run({ runs = batchesDefault, say, signal }) {
    const world = await createWorld();
    let node: OpenNode | undefined;
    let echo: Echo | undefined;
    try {
      node = await openOwner(world, "owner", 1, signal);
      const free = await holdSlot(node);
      const noOp = await createNoOps(node);
      const thief = await world.start({ invite: inviteOf(node), slots: 1 });
      await peersKnown(node, 1);
      const sizes = sizesOf(await noOp(0), node);
      echo = await startEcho(sizes);
      const echoes: number[] = [];
      const quiet: number[] = [];
      let made = 0;
      let warm = 0;
      for (let batch = 0; batch <= runs; batch += 1) {
        signal.throwIfAborted();
        const from = thief.events.length;
        await Promise.all(
          Array.from({ length: tasksPerBatch }, async () => {
            // Of an unknown kind: what is known to take a moment is given in batches.
            const task = { ...(await noOp(++made)), kind: `steal-${made}` };
            await node?.owner.submit(task, signal);
          }),
        );
        // The first batch moves the module and warms both processes up.
        if (batch === 0) warm = thief.events.length;
        else echoes.push(...(await echoMs(echo, sizes)));
        const asked = grantedMs(thief, from);
        const [first] = asked;
        if (batch > 0 && first !== undefined) quiet.push(first);
        say(`batch ${batch} of ${runs}: ${asked.length} steals`);
      }
      free();
      const steals = grantedMs(thief, warm);
      const bare = rowOf("bare TCP echo", "ms", echoes);
      const stolen = rowOf("steal", "ms", steals, bare);
      return {
        rows: [bare, stolen, rowOf("steal, first of a batch", "ms", quiet, bare)],
        checks: [
          atMost("steal, p50", stolen.median, p50MaxMs, "ms"),
          atMost("steal, p99", stolen.p99, p99MaxMs, "ms"),
        ],
        notes: [
          `a request of ${sizes.requestBytes} bytes, a grant of ${sizes.grantBytes}; ` +
            `${tasksPerBatch} tasks a batch, one slot at the thief`,
        ],
      };
    } finally {
      echo?.stop();
      await node?.stop();
      await world.close();
    }
  },
};

/** How long each steal took that brought a task, among the events from `from` on. */
function grantedMs({ events }: LiveNode, from: number): readonly number[] {
  return events
    .slice(from)
    .filter(({ event, granted }) => event === "steal-asked" && Number(granted) > 0)
    .map(({ rttMs }) => Number(rttMs));
}

interface Sizes {
  readonly requestBytes: number;
  readonly grantBytes: number;
}

/** What a steal of one task puts on the wire, without framing and encryption. */
function sizesOf(task: Task, node: OpenNode): Sizes {
  if (task.action === undefined) throw new Error("the task has no action");
  const request = create(StealRequestSchema, {
    room: 1,
    idle: 1,
    platforms: [...platformsOf(node.own, "foreign")],
  });
  const grant = toGrant(asTaskId("0123456789abcdef-1000"), 1, 2000, 1, task, task.action);
  return {
    requestBytes: toBinary(StealRequestSchema, request).byteLength,
    grantBytes: toBinary(StealGrantSchema, create(StealGrantSchema, { grants: [grant] }))
      .byteLength,
  };
}

interface Echo {
  readonly socket: Socket;
  stop(): void;
}

/** A process that answers every request with as many bytes as a grant has. */
async function startEcho({ requestBytes, grantBytes }: Sizes): Promise<Echo> {
  const code = `
    const answer = Buffer.alloc(${grantBytes});
    require("node:net").createServer((socket) => {
      socket.setNoDelay(true);
      let got = 0;
      socket.on("data", (bytes) => {
        for (got += bytes.length; got >= ${requestBytes}; got -= ${requestBytes}) socket.write(answer);
      });
    }).listen(0, "127.0.0.1", function () { console.log(this.address().port); });`;
  const child = spawn(process.execPath, ["-e", code], { stdio: ["ignore", "pipe", "inherit"] });
  const stop = () => void child.kill("SIGKILL");
  const port = await new Promise<number>((resolve, reject) => {
    child.once("error", reject);
    child.stdout.once("data", (bytes: Buffer) => resolve(Number(bytes.toString())));
  });
  const socket = connect(port, "127.0.0.1");
  socket.setNoDelay(true);
  await new Promise<void>((resolve, reject) => {
    socket.once("connect", () => resolve());
    socket.once("error", reject);
  });
  return {
    socket,
    stop() {
      socket.destroy();
      stop();
    },
  };
}

async function echoMs({ socket }: Echo, { requestBytes, grantBytes }: Sizes): Promise<number[]> {
  const request = Buffer.alloc(requestBytes);
  const walls: number[] = [];
  for (let at = 0; at < echoesPerBatch; at += 1) {
    const startMs = performance.now();
    await new Promise<void>((resolve) => {
      let got = 0;
      const onData = (bytes: Buffer) => {
        got += bytes.byteLength;
        if (got < grantBytes) return;
        socket.off("data", onData);
        resolve();
      };
      socket.on("data", onData);
      socket.write(request);
    });
    walls.push(performance.now() - startMs);
  }
  return walls;
}
