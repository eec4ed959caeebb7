import { dirname } from "node:path";
import { expect, test } from "vitest";
import { controlSocketPath, nodePaths, socketPathMaxBytes, socketsLieElsewhere } from "./paths.ts";

test("everything lies in the data directory, made absolute", () => {
  const paths = nodePaths("/home/u/.mesh-node/");
  expect(paths.dataDir).toBe("/home/u/.mesh-node");
  expect(paths.controlSocket).toBe("/home/u/.mesh-node/control.sock");
  expect(paths.shimSocket).toBe("/home/u/.mesh-node/shim.sock");
  expect(paths.identity).toBe("/home/u/.mesh-node/identity.key");
  expect(socketsLieElsewhere(paths)).toBe(false);
  expect(nodePaths("x").dataDir.startsWith("/")).toBe(true);
});

test("a socket path that the system would cut off moves to a short folder, for both sockets", () => {
  // 87 + "/control.sock" (13) is the last that fits.
  const longest = `/${"d".repeat(86)}`;
  expect(controlSocketPath(longest)).toBe(`${longest}/control.sock`);
  const paths = nodePaths(`${longest}d`);
  expect(socketsLieElsewhere(paths)).toBe(true);
  expect(dirname(paths.shimSocket)).toBe(dirname(paths.controlSocket));
  expect(paths.blobs).toBe(`${longest}d/blobs`);
  expect(Buffer.byteLength(nodePaths(`/${"é".repeat(500)}`).controlSocket)).toBeLessThan(
    socketPathMaxBytes,
  );
});

test("two data directories never share a socket, and TMPDIR does not matter", () => {
  const long = `/${"d".repeat(120)}`;
  const before = controlSocketPath(long);
  const tmpdir = process.env.TMPDIR;
  process.env.TMPDIR = "/elsewhere";
  try {
    expect(controlSocketPath(long)).toBe(before);
  } finally {
    if (tmpdir === undefined) delete process.env.TMPDIR;
    else process.env.TMPDIR = tmpdir;
  }
  expect(controlSocketPath(`${long}2`)).not.toBe(before);
});
