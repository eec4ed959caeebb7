import { expect, test } from "vitest";
import type { ActionSpec, Execute } from "../action/action.ts";
import { emptyDigest } from "../base/digest.ts";
import { createExecutor } from "./executor.ts";
import { never } from "./sandbox-world.contract.ts";

const spec: ActionSpec = {
  argv: ["/bin/true"],
  env: {},
  cwd: "/",
  outputPaths: [],
  inputs: [],
  platform: { platform: "linux/x86_64" },
  timeoutMs: 1000,
};

/** Says which executor was asked by its exit code. */
const answering =
  (exitCode: number): Execute =>
  async () => ({ exitCode, outputs: [], stdout: emptyDigest, stderr: emptyDigest });

const execute = createExecutor(
  { native: answering(1), wasm: answering(2) },
  { platform: "linux/x86_64" },
);

test("an action goes to the executor of its platform", async () => {
  expect((await execute(spec, () => {}, never)).exitCode).toBe(1);
  const wasm = { ...spec, platform: { platform: "wasm" } };
  expect((await execute(wasm, () => {}, never)).exitCode).toBe(2);
});

test.each([{ platform: "linux/aarch64" }, {}])(
  "a platform of %o is not supported",
  async (platform) => {
    await expect(execute({ ...spec, platform }, () => {}, never)).rejects.toMatchObject({
      code: "unsupported",
    });
  },
);

test("a node without a sandbox runs no commands", async () => {
  const bare = createExecutor({ native: undefined, wasm: undefined }, { platform: "linux/x86_64" });
  await expect(bare(spec, () => {}, never)).rejects.toMatchObject({ code: "unsupported" });
});

test("a bad shape is refused before anything runs", async () => {
  const bad = { ...spec, outputPaths: ["../a"] };
  await expect(execute(bad, () => {}, never)).rejects.toMatchObject({ code: "malformed" });
});

test("an aborted action does not start", async () => {
  const reason = new Error("no");
  await expect(execute(spec, () => {}, AbortSignal.abort(reason))).rejects.toBe(reason);
});
