import * as fs from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, expect, test } from "vitest";
import { createDisk } from "../../host/disk.ts";
import { createProcesses } from "../../host/processes.ts";
import { never, whyNoTier } from "../sandbox-world.contract.ts";
import { explainFailure, probeSandbox } from "./probe.ts";

const disk = createDisk();
const processes = createProcesses();
const dir = fs.mkdtempSync(join(tmpdir(), "mesh-probe-"));
afterAll(async () => {
  await processes.close();
  fs.rmSync(dir, { recursive: true, force: true });
});

const whyNoBwrap = await whyNoTier("bwrap");
const whyNoUnshare = await whyNoTier("unshare");

test("no sandbox at all is only what was asked for by name", async () => {
  const options = { wanted: "none", tmpDir: dir } as const;
  expect((await probeSandbox({ processes, disk }, options, never)).tier).toBe("none");
  const best = await probeSandbox({ processes, disk }, { wanted: undefined, tmpDir: dir }, never);
  expect(best.tier).not.toBe("none");
});

test.skipIf(whyNoBwrap !== undefined)(
  `bubblewrap comes first where it works (${whyNoBwrap ?? "it does here"})`,
  async () => {
    const options = { wanted: undefined, tmpDir: join(dir, "best") };
    const found = await probeSandbox({ processes, disk }, options, never);
    expect([found.tier, found.why]).toEqual(["bwrap", ""]);
    expect(fs.readdirSync(options.tmpDir).filter((name) => name.includes("probe"))).toEqual([]);
  },
);

test("a tier that is not installed is not used, and the reason says so", async () => {
  // A disk on which no program is found: the probe looks for them there.
  const bare = { ...disk, statFollowNow: () => undefined };
  const options = { wanted: undefined, tmpDir: dir };
  const found = await probeSandbox({ processes, disk: bare }, options, never);
  expect(found).toMatchObject({ tier: "", why: "bwrap: not installed; unshare: not installed" });
});

test("a refusal by the system is explained", () => {
  const said = new TextEncoder().encode("bwrap: No permissions to create new namespace\nmore");
  expect(explainFailure(said)).toBe(
    "user namespaces are refused here (bwrap: No permissions to create new namespace)",
  );
});

const asNobody = process.getuid?.() === 0 && fs.existsSync("/usr/bin/setpriv");
const whyNot = asNobody ? (whyNoBwrap ?? whyNoUnshare) : "needs root and setpriv to become nobody";

test.skipIf(whyNot !== undefined)(
  `an ordinary user's node has both sandboxes, and compiles in them (${whyNot ?? "tried as 65534"})`,
  async () => {
    const own = join(dir, "nobody");
    fs.mkdirSync(own);
    fs.chmodSync(dir, 0o755);
    fs.chownSync(own, 65_534, 65_534);
    const script = fileURLToPath(new URL("../unprivileged.contract.ts", import.meta.url));
    const result = await processes.run(
      {
        argv: [
          "/usr/bin/setpriv",
          ...["--reuid=65534", "--regid=65534", "--clear-groups", process.execPath, script],
        ],
        env: { PATH: "/usr/bin:/bin", TMPDIR: own },
        ...{ cwd: own, timeoutMs: 25_000, outputMaxBytes: 1e6 },
      },
      never,
    );
    expect(new TextDecoder().decode(result.stderr)).toBe("");
    const ran = { out: "1000\nrefused\n", outputs: 1 };
    expect(JSON.parse(new TextDecoder().decode(result.stdout))).toEqual({
      bwrap: ran,
      unshare: ran,
    });
  },
);
