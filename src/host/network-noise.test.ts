import { Socket } from "node:net";
import { expect, onTestFinished, test } from "vitest";
import { never, pause, startPair, startStreams, until } from "./network-fixture.ts";
import { packetLength } from "./network-noise.ts";

const messages = 50;

/** Counts what this process hands to its sockets, which here is what both ends send. */
function countWrites(): () => number {
  const { write } = Socket.prototype;
  let count = 0;
  Socket.prototype.write = function counted(this: Socket, ...args: Parameters<typeof write>) {
    count += 1;
    return write.apply(this, args);
  } as typeof write;
  onTestFinished(() => {
    Socket.prototype.write = write;
  });
  return () => count;
}

test("a packet is as long as its first two bytes say, and too long while there are none", () => {
  expect(packetLength(Uint8Array.of(1, 2, 3))).toBe(258);
  expect(packetLength(Uint8Array.of(0, 0))).toBe(0);
  for (const arrived of [[], [1]]) {
    expect(packetLength(Uint8Array.from(arrived)) + 2).toBeGreaterThan(arrived.length);
  }
});

test("what is sent in one turn leaves together", async () => {
  const [sender, receiver] = await startStreams();
  const got: number[] = [];
  receiver.receive((bytes) => got.push(...bytes));
  const writes = countWrites();
  const sent = Array.from({ length: messages }, (_, at) => at);
  for (const at of sent) sender.send(Uint8Array.of(at));
  await until(() => got.length === messages);
  expect(got).toEqual(sent);
  expect(writes()).toBeLessThan(messages / 2);
});

test("what is sent before the connection is closed arrives", async () => {
  const [a, b] = await startPair();
  let received = 0;
  b.serve("/test/1", (_peer, stream) => {
    stream.receive((bytes) => {
      received += bytes.byteLength;
    });
  });
  const stream = await a.open(b.self, "/test/1", never);
  stream.send(new Uint8Array(1000));
  void stream.close();
  await until(() => received === 1000);
  await a.disconnect(b.self);
  await until(() => b.peers().length === 0);
});

test("small messages are not answered one by one", async () => {
  const [sender, receiver] = await startStreams();
  let got = 0;
  receiver.receive((bytes) => {
    got += bytes.byteLength;
  });
  const writes = countWrites();
  for (let at = 0; at < messages; at += 1) {
    sender.send(Uint8Array.of(at));
    await until(() => got > at);
    await pause(1);
  }
  expect(writes()).toBeLessThan(messages * 1.5);
});
