import { expect, test } from "vitest";
import { MeshError } from "../base/errors.ts";
import { type Stream, sendMaxBytes } from "./host.ts";
import {
  drain,
  never,
  pause,
  pump,
  startNetwork,
  startPair,
  startRemote,
  startStreams,
  until,
} from "./network-fixture.ts";

const mebibyte = 1024 * 1024;

test("a reader that stops holds the sender back, and nothing is lost when it goes on", async () => {
  const [network, remote] = await Promise.all([startNetwork(), startRemote()]);
  const peer = await network.connect(remote.addr, never);
  const stream = await network.open(peer, "/test/count/1", never);
  let counted = "";
  stream.receive((bytes) => {
    counted += new TextDecoder().decode(bytes);
  });
  await pump(stream, mebibyte);

  remote.process.kill("SIGSTOP");
  let sentBytes = mebibyte;
  let blocked: Promise<void> | undefined;
  while (sentBytes < 100 * mebibyte) {
    sentBytes += sendMaxBytes;
    if (stream.send(new Uint8Array(sendMaxBytes))) continue;
    // Whatever the kernel's buffers take, it takes at once.
    const waiting = stream.drained(never);
    const first = await Promise.race([waiting, pause(500).then(() => "blocked")]);
    if (first !== "blocked") continue;
    blocked = waiting;
    break;
  }
  expect(blocked, "the sender was never held back").toBeDefined();
  remote.process.kill("SIGCONT");
  await blocked;
  await pump(stream, 8 * mebibyte);
  stream.send(new Uint8Array([1]));
  await until(() => counted !== "");
  expect(Number(counted)).toBe(sentBytes + 8 * mebibyte + 1);
});

test("many streams that saturate one connection all finish", async () => {
  const [a, b] = await startPair();
  const totals: number[] = [];
  b.serve("/test/1", (_peer, stream) => {
    void drain(stream).then(({ sizeBytes }) => totals.push(sizeBytes));
  });
  await Promise.all(
    Array.from({ length: 8 }, async () => {
      const stream = await a.open(b.self, "/test/1", never);
      await pump(stream, 6 * mebibyte + 1);
      await stream.close();
    }),
  );
  await until(() => totals.length === 8);
  expect(new Set(totals)).toEqual(new Set([6 * mebibyte + 1]));
});

test("bytes that come before anybody listens are kept", async () => {
  const [sender, receiver] = await startStreams();
  await pump(sender, 12 * mebibyte);
  // The last of them are on their way still.
  await pause(200);
  const result = drain(receiver);
  await sender.close();
  expect(await result).toMatchObject({ end: { how: "closed" }, sizeBytes: 12 * mebibyte });
});

test("a peer that floods a stream nobody reads loses the stream, not our memory", async () => {
  const [sender, receiver] = await startStreams();
  await expect(pump(sender, 64 * mebibyte)).rejects.toMatchObject({ code: "peer-gone" });
  expect((await receiver.ended).how).toBe("reset");
});

test("a sender that does not wait for room loses the stream, not our memory", async () => {
  const [network, remote] = await Promise.all([startNetwork(), startRemote()]);
  const peer = await network.connect(remote.addr, never);
  const stream = await network.open(peer, "/test/count/1", never);
  remote.process.kill("SIGSTOP");
  const sends = (64 * mebibyte) / sendMaxBytes;
  expect(() => {
    for (let i = 0; i < sends; i++) stream.send(new Uint8Array(sendMaxBytes));
  }).toThrow(expect.objectContaining({ code: "peer-gone" }));
  expect((await stream.ended).how).toBe("reset");
});

test("close sends what is queued and ends both directions", async () => {
  const [a, b] = await startStreams();
  const result = drain(b);
  for (let i = 0; i < 40; i++) a.send(new Uint8Array(sendMaxBytes));
  await a.close();
  expect(await result).toEqual({
    end: { how: "closed", reason: "the peer closed the stream" },
    sizeBytes: 40 * sendMaxBytes,
  });
  expect((await a.ended).how).toBe("closed");
  for (const stream of [a, b]) {
    expect(() => stream.send(new Uint8Array(1))).toThrow(
      expect.objectContaining({ code: "peer-gone" }),
    );
  }
});

test("a stream that one side closed is freed on both", async () => {
  const [a, b] = await startPair();
  b.serve("/test/1", (_peer, stream) => stream.receive(() => {}));
  // More than may be open at a time.
  for (let i = 0; i < 300; i++) {
    const stream = await a.open(b.self, "/test/1", never);
    stream.receive(() => {});
    await stream.close();
  }
  expect((await a.open(b.self, "/test/1", never)).protocol).toBe("/test/1");
});

test("reset drops the stream at once, and the other side knows it was no ordinary end", async () => {
  const [a, b] = await startStreams();
  b.receive(() => {});
  a.reset("enough");
  expect(await a.ended).toEqual({ how: "reset", reason: "enough" });
  expect(await b.ended).toEqual({ how: "reset", reason: "the peer reset the stream" });
});

test("a lost connection is no ordinary end of a stream either", async () => {
  const [network, remote] = await Promise.all([startNetwork(), startRemote()]);
  const peer = await network.connect(remote.addr, never);
  const stream = await network.open(peer, "/test/count/1", never);
  stream.receive(() => {});
  remote.process.kill("SIGKILL");
  expect((await stream.ended).how).toBe("reset");
});

test("a message that makes no sense costs its stream", async () => {
  const [a, b] = await startStreams();
  b.receive(() => {
    throw new MeshError("malformed", "no such message");
  });
  a.send(new Uint8Array(1));
  expect(await b.ended).toEqual({ how: "reset", reason: "no such message" });
  expect((await a.ended).how).toBe("reset");
});

test("a send above the limit is a bug of the sender", async () => {
  const [a] = await startStreams();
  expect(() => a.send(new Uint8Array(sendMaxBytes + 1))).toThrow("too large");
  expect(a.send(new Uint8Array(sendMaxBytes))).toBe(true);
});

test("waiting for room ends with the caller's reason, or with the stream", async () => {
  const [network, remote] = await Promise.all([startNetwork(), startRemote()]);
  const peer = await network.connect(remote.addr, never);
  const stream = await network.open(peer, "/test/count/1", never);
  remote.process.kill("SIGSTOP");
  await fill(stream);
  const stop = new AbortController();
  const aborted = stream.drained(stop.signal);
  const ended = stream.drained(never);
  stop.abort(new Error("no more time"));
  await expect(aborted).rejects.toThrow("no more time");
  remote.process.kill("SIGKILL");
  await expect(ended).rejects.toMatchObject({ code: "peer-gone" });
});

test("room for more is there at once on an idle stream", async () => {
  const [a, b] = await startStreams();
  b.receive(() => {});
  await a.drained(never);
  a.send(new Uint8Array(10));
  await a.drained(never);
});

/** Sends until there is no room, and none comes. */
async function fill(stream: Stream): Promise<void> {
  for (;;) {
    if (stream.send(new Uint8Array(sendMaxBytes))) continue;
    const room = stream.drained(never).then(
      () => true,
      () => false,
    );
    if (!(await Promise.race([room, pause(300).then(() => false)]))) return;
  }
}
