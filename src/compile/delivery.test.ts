import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import type { OutputBlob } from "../action/action.ts";
import { textOf, utf8 } from "../base/bytes.ts";
import { emptyDigest, makeDigest } from "../base/digest.ts";
import { MeshError } from "../base/errors.ts";
import type { PeerId } from "../base/ids.ts";
import type { Exchange } from "../blob/exchange.ts";
import { type BlobStore, createBlobStore } from "../blob/store.ts";
import { createClock } from "../host/clock.ts";
import { createDisk } from "../host/disk.ts";
import { createDelivery, type Delivery } from "./delivery.ts";
import type { ActionPlan } from "./plan.ts";

const never = new AbortController().signal;
const peer = "somebody" as PeerId;
let folder = "";
let store: BlobStore;
let shown = "";
beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), "mesh-delivery-"));
  shown = "";
  const deps = { disk: createDisk(), clock: createClock() };
  const options = { directory: join(folder, "store"), quotaBytes: 2 ** 30, sync: "never" } as const;
  store = await createBlobStore(deps, options, never);
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

/** A unit that writes `x.d` and then `x.rmeta`, whose answer is good if `x.d` says so. */
function deliver(fetch: Exchange["fetch"] = async () => {}): Delivery {
  const [facts, metadata] = ["x.d", "x.rmeta"].map((name) => join(folder, name));
  const plan: ActionPlan = {
    ...{ at: "anywhere", kind: "rustc", label: "x" },
    spec: {
      ...{ argv: ["/bin/rustc"], env: {}, cwd: folder, inputs: [], platform: {}, timeoutMs: 1 },
      outputPaths: [facts ?? "", metadata ?? ""],
    },
    required: [metadata ?? ""],
    facts: { files: [], asked: [], versions: [] },
    async check(read) {
      const text = await read(facts ?? "");
      if (text === undefined || textOf(text) !== "good") throw new MeshError("refused", "bad");
    },
  };
  const link = {
    run: () => Promise.reject(new Error("nobody asked")),
    write: (_: 1 | 2, bytes: Uint8Array) => {
      shown += textOf(bytes);
    },
    exit: async () => {},
  };
  const deps = {
    disk: createDisk(),
    store,
    exchange: { fetch },
  };
  return createDelivery(deps, plan, 0o022, link, never);
}

async function output(name: string, text: string): Promise<OutputBlob> {
  return { path: join(folder, name), digest: await store.put(utf8(text)), executable: false };
}

/** Tells both outputs early, then ends; says what was there before the end. */
async function tell(facts: string): Promise<{ readonly early: boolean; readonly end: unknown }> {
  const delivery = deliver();
  const outputs = [await output("x.d", facts), await output("x.rmeta", "metadata")] as const;
  delivery.onProgress({ stderr: utf8("first\n"), outputs: [outputs[0]] }, peer);
  delivery.onProgress({ stderr: utf8("second\n"), outputs: [outputs[1]] }, peer);
  const deadline = createClock().nowMs() + 5000;
  while (!shown.endsWith("second\n") && createClock().nowMs() < deadline && facts === "good")
    await createClock().sleep(5, never);
  const printed = await store.put(utf8("first\nsecond\n"));
  const early = existsSync(outputs[1].path);
  const outcome = { exitCode: 0, outputs, stdout: await store.put(utf8("")), stderr: printed };
  const end = await delivery.commit(outcome, [peer], false, never).catch((why: unknown) => why);
  return { early, end };
}

test("what is announced as complete is put in place at once", async () => {
  expect(await tell("good")).toEqual({ early: true, end: undefined });
  expect(readFileSync(join(folder, "x.rmeta"), "utf8")).toBe("metadata");
  expect(shown).toBe("first\nsecond\n");
});

test("an answer that will be refused is not put in place early either", async () => {
  expect(await tell("bad")).toMatchObject({ early: false, end: { code: "refused" } });
  expect(existsSync(join(folder, "x.rmeta"))).toBe(false);
  expect(shown).toBe("");
});

const sized = (name: string, bytes: number): OutputBlob => ({
  path: join(folder, name),
  digest: makeDigest("ab".repeat(32), bytes),
  executable: false,
});

test.each([
  ["files of 3 GiB in all", 2 ** 20, 3 * 2 ** 30, 0],
  ["17 MiB of words", 10, 10, 17 * 2 ** 20],
])("an answer that claims %s is not fetched", async (_, facts, metadata, words) => {
  const asked: unknown[] = [];
  const delivery = deliver(async (digests) => void asked.push(...digests));
  const outcome = {
    exitCode: 0,
    outputs: [sized("x.d", facts), sized("x.rmeta", metadata)],
    stdout: emptyDigest,
    stderr: words === 0 ? emptyDigest : makeDigest("cd".repeat(32), words),
  };
  const { outputs } = outcome;
  if (words === 0) delivery.onProgress({ stderr: utf8("early\n"), outputs }, peer);
  await createClock().sleep(1, never);
  await expect(delivery.commit(outcome, [peer], false, never)).rejects.toMatchObject({
    code: "limit",
  });
  expect(asked).toEqual([]);
});

test("a dependency file too large to be one is not taken into memory", async () => {
  const outputs = [sized("x.d", 65 * 2 ** 20), await output("x.rmeta", "metadata")];
  const outcome = { exitCode: 0, outputs, stdout: emptyDigest, stderr: emptyDigest };
  await expect(deliver().commit(outcome, [peer], false, never)).rejects.toMatchObject({
    code: "limit",
  });
});

test("success without the main output is refused", async () => {
  const outputs = [await output("x.d", "good")];
  const outcome = { exitCode: 0, outputs, stdout: emptyDigest, stderr: emptyDigest };
  const end = deliver().commit(outcome, [peer], false, never);
  await expect(end).rejects.toMatchObject({ code: "refused", message: /did not write .*x.rmeta/ });
});

test.each([
  ["large", 40, "x".repeat(2 ** 19)],
  ["many", 10_001, "x"],
])("parts of an answer that are too %s to wait are not kept", async (_, count, text) => {
  const first = Promise.withResolvers<void>();
  const begun = Promise.withResolvers<void>();
  const delivery = deliver(() => {
    begun.resolve();
    return first.promise;
  });
  const facts = await output("x.d", "good");
  delivery.onProgress({ stderr: utf8("first\n"), outputs: [facts] }, peer);
  await begun.promise;
  for (let part = 0; part < count; part += 1)
    delivery.onProgress({ stderr: utf8(text), outputs: [] }, peer);
  first.resolve();
  const deadline = createClock().nowMs() + 5000;
  while (shown === "" && createClock().nowMs() < deadline) await createClock().sleep(5, never);
  await createClock().sleep(20, never);
  expect(shown).toBe("first\n");
  const said = await store.put(utf8(`first\n${text.repeat(count)}`.slice(0, 2 ** 20)));
  const outputs = [facts, await output("x.rmeta", "metadata")];
  await delivery.commit(
    { exitCode: 0, outputs, stdout: emptyDigest, stderr: said },
    [peer],
    false,
    never,
  );
  expect(readFileSync(join(folder, "x.rmeta"), "utf8")).toBe("metadata");
});
