import { mkdtempSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from "node:fs";
import { connect, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { afterAll, afterEach, expect, test } from "vitest";
import { MeshError } from "../base/errors.ts";
import { type Answer, type ControlServer, isAlive, serveControl } from "./control-server.ts";

const folder = mkdtempSync(join(tmpdir(), "mesh-control-"));
const path = join(folder, "control.sock");
let server: ControlServer | undefined;

afterEach(async () => {
  await server?.close();
  server = undefined;
});

afterAll(() => rmSync(folder, { recursive: true }));

const echo: Answer = async (request, session) => {
  session.send({ event: "heard", request });
  return { more: await session.next() };
};

async function talk(...lines: string[]): Promise<unknown[]> {
  const socket = connect(path);
  socket.write(lines.map((line) => `${line}\n`).join(""));
  const answer = await text(socket);
  return answer
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => JSON.parse(line));
}

test("a session is one request, events, and one closing line", async () => {
  server = await serveControl(path, echo);
  expect(await talk('{"call":"a"}', "2")).toEqual([
    { event: "heard", request: { call: "a" } },
    { ok: true, more: 2 },
  ]);
});

test("a failure is told with its code", async () => {
  server = await serveControl(path, async () => {
    throw new MeshError("no-mesh", "nothing here");
  });
  expect(await talk("{}")).toEqual([
    { ok: false, error: { code: "no-mesh", message: "nothing here" } },
  ]);
});

test("a line that is no JSON is refused, not fatal", async () => {
  server = await serveControl(path, echo);
  expect(await talk("what?")).toMatchObject([{ ok: false, error: { code: "malformed" } }]);
  expect(await talk("1", "2")).toHaveLength(2);
});

test("the client's leaving aborts what it asked for", async () => {
  const left = new Promise<unknown>((resolve) => {
    void serveControl(path, (_, { signal }) => {
      return new Promise((_, reject) => {
        signal.addEventListener("abort", () => {
          resolve(signal.reason);
          reject(signal.reason);
        });
      });
    }).then((started) => {
      server = started;
      const socket = connect(path, () => {
        socket.write("1\n");
        setTimeout(() => socket.destroy(), 50);
      });
    });
  });
  expect(await left).toMatchObject({ code: "peer-gone" });
});

/** The socket file of a process that was killed. */
async function leaveDeadSocket(): Promise<void> {
  const dead = createServer();
  await new Promise<void>((resolve) => dead.listen(`${path}.dead`, resolve));
  renameSync(`${path}.dead`, path);
  await new Promise<void>((resolve) => dead.close(() => resolve()));
}

test("a second node is refused, and a dead one's socket is taken over", async () => {
  server = await serveControl(path, echo);
  await expect(serveControl(path, echo)).rejects.toMatchObject({ code: "in-use" });
  await server.close();
  await leaveDeadSocket();
  server = await serveControl(path, echo);
  expect(statSync(path).mode & 0o777).toBe(0o600);
});

test("of many that find a dead one's socket at once, one gets it and the others are refused", async () => {
  await leaveDeadSocket();
  const all = await Promise.allSettled(Array.from({ length: 8 }, () => serveControl(path, echo)));
  const got = all.filter((one) => one.status === "fulfilled");
  server = got[0]?.value;
  await Promise.all(got.slice(1).map(({ value }) => value.close()));
  expect(got).toHaveLength(1);
  expect(all.filter((one) => one.status === "rejected").map(({ reason }) => reason.code)).toEqual(
    Array.from({ length: 7 }, () => "in-use"),
  );
  expect(await talk("1", "2")).toHaveLength(2);
});

test("a file of somebody's in the socket's place is not removed", async () => {
  writeFileSync(path, "precious");
  await expect(serveControl(path, echo)).rejects.toMatchObject({ code: "io" });
  expect(readFileSync(path, "utf8")).toBe("precious");
  rmSync(path);
});

test("only a refusal or nothing there means that nobody listens", async () => {
  expect(await isAlive(path)).toBe(false);
  await leaveDeadSocket();
  expect(await isAlive(path)).toBe(false);
  rmSync(path);
  // ENOTDIR stands for all that says nothing: too many waiting, no right to look.
  writeFileSync(path, "");
  expect(await isAlive(join(path, "socket"))).toBe(true);
  rmSync(path);
});
