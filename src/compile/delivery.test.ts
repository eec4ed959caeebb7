import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { utf8 } from "../base/bytes.ts";
import { emptyDigest, makeDigest } from "../base/digest.ts";
import { asPeerId } from "../base/ids.ts";
import { createBlobStore } from "../blob/store.ts";
import { createClock } from "../host/clock.ts";
import { createDisk } from "../host/disk.ts";
import { createRandom } from "../host/random.ts";
import { createDelivery, type Delivery } from "./delivery.ts";

const never = new AbortController().signal;
const peer = asPeerId("p");
const disk = createDisk();
let folder: string;
let delivery: Delivery;
let said: string[];
let put: (text: string) => Promise<ReturnType<typeof makeDigest>>;

beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), "mesh-delivery-"));
  const options = { directory: join(folder, "data"), quotaBytes: 1e9, sync: "never" } as const;
  const store = await createBlobStore({ disk, clock: createClock() }, options, never);
  put = (text) => store.put(utf8(text));
  said = [];
  const spec = {
    argv: ["/cc"],
    env: {},
    cwd: folder,
    outputPaths: [join(folder, "a.o")],
    inputs: [],
    platform: {},
    timeoutMs: 1000,
  };
  delivery = createDelivery(
    { disk, store, random: createRandom(), exchange: { fetch: async () => {} } },
    { at: "anywhere", kind: "c", label: "a.c", spec },
    0o022,
    {
      run: () => Promise.reject(new Error("not asked for")),
      write: (fd, bytes) => void said.push(`write ${fd} ${Buffer.from(bytes)}`),
      exit: async (code) => void said.push(`exit ${code}`),
    },
    never,
  );
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const outcome = { exitCode: 0, outputs: [], stdout: emptyDigest, stderr: emptyDigest };
const output = async (name: string) => ({
  path: join(folder, name),
  digest: await put("x"),
  executable: false,
});

test("an output that the plan does not name is refused and not written", async () => {
  const outputs = [await output("a.o"), await output(".bashrc")];
  const delivered = delivery.commit({ ...outcome, outputs }, peer, never);
  await expect(delivered).rejects.toMatchObject({ code: "refused" });
  expect([existsSync(join(folder, "a.o")), existsSync(join(folder, ".bashrc"))]).toEqual([
    false,
    false,
  ]);
  expect(said).toEqual([]);
});

test("nor is one that is announced early, and its announcement is not shown", async () => {
  delivery.onProgress({ stderr: utf8("here"), outputs: [await output(".bashrc")] }, peer);
  await delivery.commit({ ...outcome, outputs: [await output("a.o")] }, peer, never);
  expect(existsSync(join(folder, ".bashrc"))).toBe(false);
  expect(said).toEqual(["exit 0"]);
});

test("an output named twice is refused", async () => {
  const outputs = [await output("a.o"), await output("a.o")];
  const delivered = delivery.commit({ ...outcome, outputs }, peer, never);
  await expect(delivered).rejects.toMatchObject({ code: "malformed" });
});

test("diagnostics beyond the bound are not fetched", async () => {
  const stderr = makeDigest("ab".repeat(32), 17 * 1024 * 1024);
  const delivered = delivery.commit({ ...outcome, stderr }, peer, never);
  await expect(delivered).rejects.toMatchObject({ code: "limit" });
});
