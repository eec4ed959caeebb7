import { expect, test } from "vitest";
import { utf8 } from "../base/bytes.ts";
import { digestOf } from "../base/digest.ts";
import { asPeerId } from "../base/ids.ts";
import type { StoredRecord } from "../compile/history.ts";
import type { Difference, Miss } from "../compile/why.ts";
import { painter } from "./terminal.ts";
import { agoText, timeOf, whyList, whyText } from "./why-text.ts";

const nowMs = 1_700_000_100_000;
const record: StoredRecord = {
  task: "ab-7",
  build: "b1",
  kind: "c++",
  label: "src/a.cc",
  outputs: ["/w/a.o", "/w/a.d"],
  action: digestOf(utf8("a")),
  source: "here",
  peer: undefined,
  signer: undefined,
  exitCode: 0,
  whyHere: undefined,
  fallback: undefined,
  wallMs: 1234,
  phases: { queueMs: 12, fetchMs: 0, runMs: 1222, returnMs: 0 },
  planMs: 3.21,
  lookupMs: 0.8,
  endedWallMs: nowMs - 40_000,
  kept: undefined,
  path: "/w/src/a.cc",
  peerName: undefined,
  signerName: undefined,
};
const peer = asPeerId("12D3beta");
const text = (more: Partial<StoredRecord>, miss: Miss = { at: "first" }) =>
  whyText({ record: { ...record, ...more }, miss }, nowMs, painter(false));

test("a run here says when, where, how long and why not elsewhere", () => {
  const said = text({ whyHere: "slot-free" });
  expect(said).toMatch(/^src\/a\.cc \(c\+\+\)\n/);
  expect(said).toMatch(/when .* \(40 s ago\), task ab-7 of build b1\n/);
  expect(said).toMatch(/ran +here, exit code 0\n/);
  expect(said).toMatch(
    /time +1\.24 s: planned 3\.2 ms, looked up 0\.8 ms, queued 12 ms, ran 1\.22 s\n/,
  );
  expect(said).toMatch(/here +because a slot here was free at once \[slot-free\]\n/);
  expect(said).toMatch(/miss +nothing like it is remembered/);
  expect(said).toMatch(/kept +yes\n/);
});

test("a stolen task names its thief, a hit its signer, by name and id", () => {
  const phases = { queueMs: 1, fetchMs: 2, runMs: 3, returnMs: 4 };
  expect(text({ source: "there", peer, peerName: "beta", phases })).toMatch(
    /ran +on beta \(12D3beta\)[^\n]*\n.*fetched 2\.0 ms, ran 3\.0 ms, returned 4\.0 ms/s,
  );
  const hit = { source: "cached-mesh", signer: peer, wallMs: 4, lookupMs: 1 } as const;
  const said = text(hit, { at: "hit" });
  expect(said).toMatch(/ran +not at all: .* in the mesh, signed by 12D3beta\n/);
  expect(said).toMatch(/time +7\.2 ms: planned 3\.2 ms, looked up 1\.0 ms, put in place 3\.0 ms\n/);
  expect(said).not.toMatch(/miss|here +because/);
});

test("what went wrong elsewhere comes before the run here", () => {
  const said = text({ fallback: "remote exit 2" });
  expect(said).toMatch(/before +elsewhere first: it ended with exit code 2 there/);
  expect(said).not.toMatch(/ here {3,}/);
});

test.each<[Miss, RegExp]>([
  [{ at: "same", earlier: { ...record, kept: "input-changed" } }, /not kept: an input was touched/],
  [{ at: "same", earlier: { ...record, exitCode: 1 } }, /and ended with exit code 1/],
  [{ at: "same", earlier: record }, /its result has gone since/],
  [
    { at: "forgotten", earlier: record },
    /what the compile of 40 s ago \(task ab-7\) was made from/,
  ],
  [{ at: "differs", earlier: record, differences: [] }, /what differs is not remembered/],
])("a miss is told as what it is", (miss, message) => {
  expect(text({}, miss)).toMatch(message);
});

test("ten differences are named, the rest is a number", () => {
  const differences: readonly Difference[] = [
    { what: "argument", change: "added", name: "-DX" },
    { what: "variable", change: "changed", name: "LANG", before: "C", after: "de\nDE" },
    { what: "folder", change: "changed", name: "working directory", before: "/a", after: "/b" },
    ...Array.from({ length: 10 }, (_, at): Difference => {
      return { what: "input", change: "changed", name: `/w/h${at}.h` };
    }),
  ];
  const said = text({}, { at: "differs", earlier: record, differences });
  expect(said).toContain("the nearest one before was 40 s ago (task ab-7); since then:\n");
  expect(said).toContain("  argument added: -DX\n");
  expect(said).toContain("  variable changed: LANG: C → de DE\n");
  expect(said).toContain("  working directory: /a → /b\n");
  expect(said).toContain("  input changed: /w/h6.h\n");
  expect(said).not.toContain("h7.h");
  expect(said).toContain("and 3 more\n");
});

test("several files are a list, cut at a bound", () => {
  const found = Array.from({ length: 23 }, (_, at) => ({
    record: { ...record, path: `/w/${at}/a.cc` },
    miss: { at: "first" } as const,
  }));
  const said = whyList(found, "a.cc", nowMs);
  expect(said).toMatch(/^23 files fit a\.cc:\nFILE +KIND +RAN +WHEN +TASK\n\/w\/0\/a\.cc /);
  expect(said).toContain("… and 3 more\n");
  expect(said).not.toContain("/w/20/a.cc");
});

test.each([
  [9.94, "9.9 ms"],
  [140.4, "140 ms"],
  [1_234, "1.23 s"],
  [75_400, "75 s"],
])("%d ms is told as %s", (ms, said) => {
  expect(timeOf(ms)).toBe(said);
});

test.each([
  [-5, "just now"],
  [40_000, "40 s ago"],
  [300_000, "5 min ago"],
  [10_800_000, "3 h ago"],
  [400_000_000, "5 days ago"],
])("%d ms back is %s", (ms, said) => {
  expect(agoText(ms)).toBe(said);
});
