import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";

const folder = mkdtempSync(join(tmpdir(), "mesh-last-"));
afterAll(() => rmSync(folder, { recursive: true }));

/** `later(what)` of a package: runs it when nobody is there to catch what it throws. */
beforeAll(() => {
  for (const name of ["@libp2p/utils", "@chainsafe/yamux", "leftish", "mesh-node"]) {
    const path = join(folder, "node_modules", name, "index.mjs");
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(
      path,
      `export const later = (what) => setTimeout(() => what(), 0);
export const fail = () => { throw new Error("write after close"); };
export const reject = () => { void (async () => fail())(); };\n`,
    );
  }
});

/** A program with the handlers; it prints "alive" after a while, if it still is. */
function run(body: string) {
  const file = join(folder, "program.mjs");
  const from = (name: string) => JSON.stringify(join(folder, "node_modules", name, "index.mjs"));
  writeFileSync(
    file,
    `import { installLastResort } from ${JSON.stringify(join(import.meta.dirname, "last-resort.ts"))};
import * as libp2p from ${from("@libp2p/utils")};
import * as yamux from ${from("@chainsafe/yamux")};
import * as other from ${from("leftish")};
import * as installed from ${from("mesh-node")};
let end = async () => console.log("handed back");
installLastResort({
  warn: (message) => console.log("warn: " + message),
  say: (message) => console.log("say: " + message),
  end: () => end(),
});
${body}
setTimeout(() => { console.log("alive"); }, 200);
`,
  );
  const { status, stdout } = spawnSync(process.execPath, [file], { encoding: "utf8" });
  return { status, lines: stdout.trim().split("\n") };
}

test.each(["libp2p.later(libp2p.fail)", "setTimeout(libp2p.reject)", "yamux.later(other.fail)"])(
  "what the network throws past everybody is survived: %s",
  (body) => {
    const { status, lines } = run(body);
    expect(lines).toEqual([expect.stringMatching(/^warn: .*write after close/), "alive"]);
    expect(status).toBe(0);
  },
);

test.each([
  ["ours", "setTimeout(function ours() { throw new Error('of\\nours'); })", "of ours"],
  ["a rejection of ours", "void Promise.reject(new Error('unheard'))", "unheard"],
  ["ours, called by the network", "libp2p.later(() => { throw new Error('called'); })", "called"],
  ["ours, installed", "libp2p.later(installed.fail)", "write after close"],
  ["another package's", "other.later(other.fail)", "write after close"],
  ["no error at all", "setTimeout(() => { throw 7; })", "7"],
])("anything else ends the node in order, with one line: %s", (_what, body, message) => {
  const { status, lines } = run(body);
  expect(lines).toHaveLength(2);
  expect(lines[0]).toMatch(/^say: this is a bug/);
  expect(lines[0]).toContain(message);
  expect(lines[1]).toBe("handed back");
  expect(status).toBe(1);
});

test("the line names the place in our own code", () => {
  const { lines } = run("setTimeout(function ours() { other.fail(); })");
  expect(lines[0]).toMatch(/write after close \(at .*ours.*program\.mjs:\d+:\d+\)+$/);
});

test("a node that cannot end in order ends all the same", () => {
  const stuck = "end = () => new Promise(() => setInterval(() => {}, 1000));";
  expect(run(`${stuck}\nsetTimeout(() => { throw new Error("x"); });`).status).toBe(1);
});
