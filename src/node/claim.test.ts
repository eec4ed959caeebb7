import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { text } from "node:stream/consumers";
import { afterEach, beforeEach, expect, test } from "vitest";
import { MeshError } from "../base/errors.ts";
import { createDisk } from "../host/disk.ts";
import { type Claim, claimDirectory } from "./claim.ts";
import { nodePaths } from "./paths.ts";

const disk = createDisk();
const over = new MeshError("cancelled", "the test is over");
let folder = "";
let claim: Claim | undefined;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "mesh-claim-"));
  chmodSync(folder, 0o755);
});

afterEach(async () => {
  await claim?.release(over);
  claim = undefined;
  rmSync(folder, { recursive: true, force: true });
});

const modeOf = (path: string) => statSync(path).mode & 0o777;

async function call(dataDir: string): Promise<unknown> {
  const socket = connect(nodePaths(dataDir).controlSocket);
  socket.write('{"call":"status"}\n');
  return JSON.parse(await text(socket));
}

test("of several claims on one directory, one gets it", async () => {
  const dataDir = join(folder, "new");
  const all = await Promise.allSettled(
    Array.from({ length: 4 }, () => claimDirectory(disk, nodePaths(dataDir))),
  );
  const got = all.filter((one) => one.status === "fulfilled");
  claim = got[0]?.value;
  expect(got).toHaveLength(1);
  expect(all.filter((one) => one.status === "rejected").map(({ reason }) => reason.code)).toEqual([
    "in-use",
    "in-use",
    "in-use",
  ]);
  expect(modeOf(dataDir)).toBe(0o700);
});

test("a command that calls during the start is answered after it", async () => {
  claim = await claimDirectory(disk, nodePaths(folder));
  const answer = call(folder);
  await new Promise((resolve) => setTimeout(resolve, 20));
  claim.serve(async (request) => ({ request }));
  expect(await answer).toEqual({ ok: true, request: { call: "status" } });
  expect(await call(folder)).toMatchObject({ ok: true });
});

test("a start that fails tells those who wait, and lets the directory go", async () => {
  const first = await claimDirectory(disk, nodePaths(folder));
  const answer = call(folder);
  await new Promise((resolve) => setTimeout(resolve, 20));
  await first.release(new MeshError("in-use", "port 4001 is taken"));
  expect(await answer).toEqual({
    ok: false,
    error: { code: "in-use", message: "port 4001 is taken" },
  });
  claim = await claimDirectory(disk, nodePaths(folder));
});

test("a directory with something else in it stays as it is", async () => {
  writeFileSync(join(folder, "letter.txt"), "");
  mkdirSync(join(folder, "tmp"));
  await expect(claimDirectory(disk, nodePaths(folder))).rejects.toMatchObject({
    code: "usage",
    message: `${folder} is not empty and is not a node's data directory; choose another with --data-dir`,
  });
  expect(modeOf(folder)).toBe(0o755);
  expect(readdirSync(folder)).toEqual(["letter.txt", "tmp"]);
});

test.each([
  ["an empty one", () => {}],
  ["a node's", () => writeFileSync(join(folder, "identity.key"), "")],
  [
    "one whose node was killed before it had a key",
    () => {
      writeFileSync(join(folder, ".write-test"), "");
      writeFileSync(join(folder, ".mesh-tmp-1"), "");
    },
  ],
])("a directory that may be taken becomes private: %s", async (_what, prepare) => {
  prepare();
  claim = await claimDirectory(disk, nodePaths(folder));
  expect(modeOf(folder)).toBe(0o700);
});

test("a symlink to a node's directory is as good as the directory", async () => {
  const real = join(folder, "real");
  mkdirSync(real);
  writeFileSync(join(real, "identity.key"), "");
  symlinkSync(real, join(folder, "link"));
  claim = await claimDirectory(disk, nodePaths(join(folder, "link")));
  expect(modeOf(real)).toBe(0o700);
});

test.skipIf(process.getuid?.() !== 0)(
  "an empty directory of another user's is not taken",
  async () => {
    const { chownSync } = await import("node:fs");
    chownSync(folder, 12_345, 12_345);
    await expect(claimDirectory(disk, nodePaths(folder))).rejects.toMatchObject({ code: "usage" });
    expect(modeOf(folder)).toBe(0o755);
  },
);

test("sockets that lie elsewhere lie in a folder of this user's own, or nowhere", async () => {
  const paths = nodePaths(join(folder, "d".repeat(120)));
  const sockets = dirname(paths.controlSocket);
  const target = join(folder, "target");
  mkdirSync(target);
  try {
    symlinkSync(target, sockets);
    await expect(claimDirectory(disk, paths)).rejects.toMatchObject({ code: "refused" });
    expect(existsSync(join(target, "control.sock"))).toBe(false);
    expect(modeOf(target)).not.toBe(0o700);
    rmSync(sockets);

    mkdirSync(sockets);
    chmodSync(sockets, 0o777);
    await expect(claimDirectory(disk, paths)).rejects.toThrow(/has mode 777/);
    rmSync(sockets, { recursive: true });

    claim = await claimDirectory(disk, paths);
    expect(modeOf(sockets)).toBe(0o700);
    await claim.release(over);
    claim = undefined;
    if (process.getuid?.() !== 0) return;
    const { chownSync } = await import("node:fs");
    chownSync(sockets, 12_345, 12_345);
    await expect(claimDirectory(disk, paths)).rejects.toThrow(/another user \(uid 12345\)/);
  } finally {
    rmSync(sockets, { recursive: true, force: true });
  }
});
