/** The command line: what it prints depends on the seeds alone. */
import { execFileSync, spawnSync } from "node:child_process";
import { join } from "node:path";
import { expect, test } from "vitest";

const script = join(import.meta.dirname, "run.ts");
const run = (...args: readonly string[]): string =>
  execFileSync(process.execPath, [script, ...args], {
    encoding: "utf8",
    timeout: 120_000,
    stdio: ["ignore", "pipe", "ignore"],
  });

test("one process or several print the same, and the last line says how many passed", () => {
  const alone = run("--seeds", "6", "--from", "10", "--jobs", "1");
  expect(run("--seeds", "6", "--from", "10", "--jobs", "3")).toBe(alone);
  expect(alone.trimEnd().split("\n").at(-1)).toBe("6 passed, 0 failed");
}, 120_000);

test("one seed ends with the hash of its trace, the same every time", () => {
  const last = () => run("--seed", "12", "--hash").trimEnd().split("\n").at(-1);
  const hash = last();
  expect(hash).toMatch(/^[0-9a-f]{64}-\d+$/);
  expect(last()).toBe(hash);
}, 120_000);

test("a number that is none is said to be none", () => {
  const { status, stderr } = spawnSync(process.execPath, [script, "--seeds", "many"], {
    encoding: "utf8",
    timeout: 60_000,
  });
  expect(status).toBe(2);
  expect(stderr).toContain("--seeds takes a whole number");
});

test.each([
  ["sim", script],
  ["fuzz", join(import.meta.dirname, "../fuzz/run.ts")],
  ["chaos", join(import.meta.dirname, "../live/chaos/run.ts")],
])(
  "%s --help says how to call it, and so does a wrong option",
  (name, path) => {
    const call = (option: string) =>
      spawnSync(process.execPath, [path, option], { encoding: "utf8", timeout: 60_000 });
    const asked = call("--help");
    expect(asked.status).toBe(0);
    expect(asked.stdout).toContain(`npm run ${name} -- [--`);
    const wrong = call("--sneed");
    expect(wrong.status).toBe(2);
    expect(wrong.stderr).toContain("--sneed");
    expect(wrong.stderr).toContain(asked.stdout.trim());
    expect(wrong.stderr).not.toContain("    at ");
  },
  120_000,
);
