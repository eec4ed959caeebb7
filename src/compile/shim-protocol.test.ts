import fc from "fast-check";
import { expect, test } from "vitest";
import { concatBytes, utf8 } from "../base/bytes.ts";
import {
  captureMaxBytes,
  createShimParser,
  encodeExit,
  encodeRun,
  encodeStop,
  encodeWrite,
  freeFrame,
  pongFrame,
  requestMaxBytes,
} from "./shim-protocol.ts";
import { encodeDone, encodeRequest, pingFrame, readReplies } from "./shim-replies.ts";

const bare = {
  pid: 1,
  umask: 0o22,
  stderrIsTty: false,
  wantsColour: false,
  build: "",
  cwd: "/w",
  compiler: "/usr/bin/cc",
  args: [],
  env: [],
};

function request(over: Partial<Parameters<typeof encodeRequest>[0]>): Uint8Array {
  const bytes = encodeRequest({ ...bare, ...over });
  if (bytes === undefined) throw new Error("too long");
  return bytes;
}

const text = fc.string({ unit: "binary", maxLength: 20 }).filter((t) => !t.includes("\0"));

test("a request survives the way, in pieces of any size", () => {
  fc.assert(
    fc.property(
      fc.record({
        pid: fc.nat(),
        umask: fc.nat(0o777),
        stderrIsTty: fc.boolean(),
        wantsColour: fc.boolean(),
        build: text,
        cwd: text,
        compiler: text,
        args: fc.array(text),
      }),
      fc.array(fc.nat(40), { minLength: 1 }),
      (said, cuts) => {
        const bytes = request({ ...said, env: ["A=1", "B==", "A=2", "=odd", "none"] });
        const parser = createShimParser();
        let offset = 0;
        for (const cut of cuts) {
          parser.push(bytes.subarray(offset, offset + cut));
          offset = Math.min(bytes.byteLength, offset + cut);
          if (offset < bytes.byteLength) expect(parser.request().at).toBe("more");
        }
        parser.push(bytes.subarray(offset));
        const env = { A: "1", B: "=" };
        expect(parser.request()).toEqual({ at: "value", value: { ...said, env, inexact: false } });
      },
    ),
  );
});

test("frames after the request are read one by one", () => {
  const killed = { exitCode: 139, wallMs: 12, cpuMs: 7, output: undefined };
  const output = { stdout: utf8("out"), stderr: utf8("err") };
  const captured = { exitCode: 0, wallMs: 1, cpuMs: 2, output };
  const dones = [encodeDone(killed, false), encodeDone(captured, true)];
  const parser = createShimParser();
  parser.push(concatBytes([request({}), pingFrame, ...dones, pingFrame.subarray(0, 3)]));
  expect(parser.request().at).toBe("value");
  expect(parser.frame()).toEqual({ at: "value", value: { type: "ping" } });
  const first = { type: "done", run: killed, waits: false };
  expect(parser.frame()).toEqual({ at: "value", value: first });
  const second = { type: "done", run: captured, waits: true };
  expect(parser.frame()).toEqual({ at: "value", value: second });
  expect(parser.frame()).toEqual({ at: "more" });
  parser.push(pingFrame.subarray(3));
  expect(parser.frame()).toEqual({ at: "value", value: { type: "ping" } });
});

test.each([
  ["more output than the bound", new Uint8Array(captureMaxBytes + 1), {}],
  ["an exit code that does not exist", new Uint8Array(0), { 0: 256 }],
  ["output that was not captured", utf8("x"), { 16: 0 }],
  ["a length past the end", utf8("x"), { 20: 2 }],
])("the end of a run with %s is refused", (_, stdout, changes) => {
  const output = { stdout, stderr: new Uint8Array(0) };
  const frame = encodeDone({ exitCode: 0, wallMs: 1, cpuMs: 2, output }, false);
  const view = new DataView(frame.buffer, frame.byteOffset + 5);
  for (const [at, value] of Object.entries(changes)) view.setUint32(Number(at), value, true);
  const parser = createShimParser();
  parser.push(concatBytes([request({}), frame]));
  expect(parser.request().at).toBe("value");
  expect(parser.frame().at).toBe("bad");
});

test("bytes that are no UTF-8 make a request inexact, and are shown as far as they can be", () => {
  const bytes = request({ args: ["caf\u00e9"] });
  const at = bytes.lastIndexOf(0xc3);
  bytes[at] = 0xff;
  const parser = createShimParser();
  parser.push(bytes);
  const parsed = parser.request();
  expect(parsed).toMatchObject({ at: "value", value: { inexact: true } });
});

test("random bytes are refused with a reason, and never crash the parser", () => {
  const prologue = request({}).subarray(0, 12);
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 300 }), fc.boolean(), (noise, afterPrologue) => {
      const parser = createShimParser();
      const bytes = afterPrologue ? concatBytes([prologue, noise]) : noise;
      parser.push(bytes);
      const parsed = parser.request();
      if (parsed.at === "bad") expect(parsed.reason).not.toBe("");
      if (parsed.at === "value") expect(["more", "bad", "value"]).toContain(parser.frame().at);
    }),
  );
});

test("a flipped byte anywhere in a request is harmless", () => {
  const bytes = request({ args: ["-c", "a.c"], env: ["PATH=/bin"] });
  fc.assert(
    fc.property(fc.nat(bytes.byteLength - 1), fc.integer({ min: 1, max: 255 }), (at, flip) => {
      const parser = createShimParser();
      const flipped = bytes.slice();
      flipped[at] = (flipped[at] ?? 0) ^ flip;
      parser.push(flipped);
      expect(["more", "bad", "value"]).toContain(parser.request().at);
    }),
    { numRuns: 500 },
  );
});

test("a request that claims to be too long is cut off before its bytes are kept", () => {
  const parser = createShimParser();
  const bytes = request({});
  new DataView(bytes.buffer).setUint32(8, requestMaxBytes + 1, true);
  parser.push(bytes.subarray(0, 12));
  expect(parser.request()).toMatchObject({ at: "bad", reason: expect.stringContaining("bytes") });
});

test("a shim that sends without end is cut off", () => {
  const parser = createShimParser();
  const bytes = request({});
  new DataView(bytes.buffer).setUint32(8, requestMaxBytes, true);
  parser.push(bytes);
  const piece = new Uint8Array(1024 * 1024);
  for (let i = 0; i < 12; i += 1) parser.push(piece);
  expect(parser.request().at).toBe("bad");
});

test("another version of the protocol is refused by its number", () => {
  const parser = createShimParser();
  const bytes = request({});
  bytes[4] = 9;
  parser.push(bytes);
  expect(parser.request()).toMatchObject({ reason: "protocol version 9, not 2" });
});

test("replies read back as what was written", () => {
  const all = concatBytes([
    encodeRun(["-a", "é"], false),
    encodeRun([], true),
    freeFrame,
    encodeWrite(2, utf8("early")),
    encodeStop(15),
    pongFrame,
    encodeExit(3, utf8("out"), utf8("err")),
    Uint8Array.of(1),
  ]);
  const { replies, rest, bad } = readReplies(all);
  expect(replies).toEqual([
    { type: "run", extraArgs: ["-a", "é"], capture: false },
    { type: "run", extraArgs: [], capture: true },
    { type: "free" },
    { type: "write", fd: 2, bytes: utf8("early") },
    { type: "stop", signalNumber: 15 },
    { type: "pong" },
    { type: "exit", code: 3, stdout: utf8("out"), stderr: utf8("err") },
  ]);
  expect(rest.byteLength).toBe(1);
  expect(bad).toBe(false);
});

test("random replies never crash the reader", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), (noise) => {
      expect(readReplies(noise).rest.byteLength).toBeLessThanOrEqual(noise.byteLength);
    }),
  );
});
