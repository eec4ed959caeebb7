import { existsSync, mkdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { connect } from "node:net";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { utf8 } from "../base/bytes.ts";
import { createClock } from "../host/clock.ts";
import { createDisk } from "../host/disk.ts";
import { createShimServer } from "./shim-server.ts";
import { createWorld, hasCc, type World } from "./shim-world.contract.ts";

const nothing = new Uint8Array(0);
const never = new AbortController().signal;
let world: World;
beforeEach(() => {
  world = createWorld(hasCc ? "c" : "node");
});
afterEach(() => world.close());

const deps = () => ({
  disk: createDisk(),
  clock: createClock(),
  onInvocation: async () => {},
  onTrouble: (reason: string) => void world.troubles.push(reason),
});

test("the socket is for its user alone, and is removed at the end", async () => {
  const server = await world.serve(async () => {});
  expect(statSync(world.socketPath).mode & 0o777).toBe(0o600);
  await server.close();
  expect(existsSync(world.socketPath)).toBe(false);
});

test("a socket file that a dead node left is replaced", async () => {
  const listen = `require("net").createServer().listen(${JSON.stringify(world.socketPath)}, () => process.kill(process.pid, "SIGKILL"))`;
  await world.run([process.execPath, "-e", listen]);
  expect(existsSync(world.socketPath)).toBe(true);
  world.compiler("gcc", "echo never");
  await world.serve((_, link) => link.exit(0, utf8("served"), nothing));
  expect((await world.run([world.shim, "gcc"])).stdout).toBe("served");
});

test("a file that is no socket is left alone", async () => {
  writeFileSync(world.socketPath, "precious");
  await expect(world.serve(async () => {})).rejects.toMatchObject({ code: "io" });
  expect(readFileSync(world.socketPath, "utf8")).toBe("precious");
});

test("the socket of a live node is left to it", async () => {
  await world.serve(async () => {});
  await expect(world.serve(async () => {})).rejects.toMatchObject({ code: "in-use" });
  expect(existsSync(world.socketPath)).toBe(true);
});

test("a folder that is not there is named", async () => {
  const socketPath = join(world.folder, "no", "sock");
  await expect(createShimServer(deps(), { socketPath }, never)).rejects.toMatchObject({
    code: "io",
    message: expect.stringContaining(socketPath),
  });
});

test("aborting the signal hangs up on every shim", async () => {
  world.compiler("gcc", "echo mine");
  const stop = new AbortController();
  const asked = Promise.withResolvers<void>();
  const onInvocation = (): Promise<void> => {
    asked.resolve();
    return new Promise(() => {});
  };
  const { socketPath } = world;
  await createShimServer({ ...deps(), onInvocation }, { socketPath }, stop.signal);
  const running = world.start([world.shim, "gcc"]);
  await asked.promise;
  stop.abort();
  expect(await running.ended).toMatchObject({ code: 0, stdout: "mine\n" });
});

test("somebody who does not speak the protocol is turned away with a reason", async () => {
  await world.serve(async () => {});
  const socket = connect(world.socketPath);
  await new Promise((resolve) => {
    socket.on("error", () => {}).once("close", resolve);
    socket.resume().write("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
  });
  expect(world.troubles).toEqual(["bad request from a shim: not a shim"]);
});

test("somebody who never finishes a request is turned away", async () => {
  const { socketPath } = world;
  const server = await createShimServer(deps(), { socketPath, requestMaxMs: 20 }, never);
  try {
    const socket = connect(socketPath);
    await new Promise((resolve) =>
      socket
        .on("error", () => {})
        .once("close", resolve)
        .resume(),
    );
    expect(world.troubles).toHaveLength(1);
  } finally {
    await server.close();
  }
});

test("one shim more than the bound compiles by itself", async () => {
  world.compiler("gcc", "echo mine");
  const { socketPath } = world;
  const onInvocation = () => new Promise<void>(() => {});
  const server = await createShimServer(
    { ...deps(), onInvocation },
    { socketPath, shimsMax: 1 },
    never,
  );
  try {
    const waiting = connect(socketPath);
    await new Promise((resolve) => waiting.once("connect", resolve));
    expect((await world.run([world.shim, "gcc"])).stdout).toBe("mine\n");
    expect(world.troubles).toEqual(["more than 1 compiler invocations at once"]);
    waiting.destroy();
  } finally {
    await server.close();
  }
});

describe.skipIf(!hasCc)("with the C shim", () => {
  test("a hundred thousand arguments arrive", async () => {
    world.compiler("gcc", "echo $#");
    let sum = 0;
    await world.serve(async (invocation, link) => {
      sum = invocation.args.length;
      await link.run([], false, never);
    });
    const args = Array.from({ length: 100_000 }, (_, i) => `-D${i}`);
    expect((await world.run([world.shim, "gcc", ...args])).stdout).toBe("100000\n");
    expect(sum).toBe(100_000);
  });

  test("two hundred shims at once are all served", async () => {
    world.compiler("gcc", "exit 9");
    await world.serve(async (invocation, link) => {
      await link.exit(0, utf8(`out ${invocation.args[0]}`), nothing);
    });
    const all = Array.from({ length: 200 }, (_, i) => world.run([world.shim, "gcc", `${i}`]));
    const outs = (await Promise.all(all)).map(({ code, stdout }) => `${code} ${stdout}`);
    expect(outs).toEqual(all.map((_, i) => `0 out ${i}`));
  });

  test("when the node dies, its shims share the slots of this machine", async () => {
    const log = join(world.folder, "log");
    writeFileSync(log, "");
    world.compiler("gcc", `echo + >>${log}; sleep 0.02; echo - >>${log}; exit 4`);
    let asked = 0;
    const server = await world.serve(() => {
      asked += 1;
      if (asked === 40) void server.close();
      return new Promise(() => {});
    });
    const env = { ...world.env, MESH_SLOTS: "3" };
    const all = Array.from({ length: 40 }, () => world.run([world.shim, "gcc"], { env }));
    expect(new Set((await Promise.all(all)).map(({ code }) => code))).toEqual(new Set([4]));
    let now = 0;
    const most = readFileSync(log, "utf8")
      .trim()
      .split("\n")
      .reduce((max, line) => {
        now += line === "+" ? 1 : -1;
        return Math.max(max, now);
      }, 0);
    expect(most).toBeGreaterThan(1);
    expect(most).toBeLessThanOrEqual(3);
  });

  test("a build goes on without limit where the lock file cannot be made", async () => {
    world.compiler("gcc", "echo done");
    mkdirSync(`${world.socketPath}.slots`);
    const env = { ...world.env, MESH_SLOTS: "1" };
    expect((await world.run([world.shim, "gcc"], { env })).stdout).toBe("done\n");
  });

  test("what a compiler leaves running in the background holds nobody up", async () => {
    const flag = join(world.folder, "flag");
    // It holds the shim's pipe until the flag is there, which is set only after the shim ended.
    world.compiler("gcc", `(while [ ! -e ${flag} ]; do sleep 0.02; done) & echo early >&2`);
    await world.serve(async (_, link) => {
      link.write(2, utf8("ear"));
      await link.run([], false, never);
    });
    const running = world.start([world.shim, "gcc"]);
    const code = await new Promise((resolve) => running.child.once("exit", resolve));
    writeFileSync(flag, "");
    expect({ ...(await running.ended), code }).toMatchObject({ code: 0, stderr: "early\n" });
  });
});
