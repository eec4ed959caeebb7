import { expect, test } from "vitest";
import type { BuildSummary } from "../node/control-api.ts";
import { duration, type SummaryContext, summaryText } from "./summary.ts";

const names = new Map([
  ["p1", "node-b"],
  ["p2", "node-c"],
]);
const context: SummaryContext = {
  verb: "built",
  exitCode: 0,
  tool: "make",
  kinds: new Map([
    ["c", 40],
    ["c++", 103],
  ]),
  nameOf: (peer) => names.get(peer) ?? peer,
  whyNone: "everything was up to date",
  meshed: true,
};
const none: BuildSummary = {
  tasks: 0,
  local: 0,
  stolen: 0,
  cachedLocal: 0,
  cachedMesh: 0,
  fallback: [],
  wallMs: 12_345,
  clientCpuMs: 0,
  byPeer: {},
};
const some: BuildSummary = {
  ...none,
  tasks: 143,
  local: 47,
  stolen: 96,
  byPeer: { p2: 45, p1: 51 },
};

test("a build over peers says who did how much, the busiest first", () => {
  expect(summaryText(some, context)).toBe(
    "built in 12.3 s: 143 compiles, 96 on 2 peers (node-b 51, node-c 45), 47 here",
  );
});

test("what had to run here is told with the commonest reasons", () => {
  const fallback = [
    { reason: "peer-gone", count: 1 },
    { reason: "remote exit 2", count: 3 },
    { reason: "unknown-flag", count: 2 },
    { reason: "time macros", count: 1 },
  ];
  expect(summaryText({ ...some, fallback }, context)).toMatch(
    /; 7 had to run here \(remote exit 2 ×3, unknown-flag ×2, peer-gone ×1, …\)$/,
  );
  expect(summaryText({ ...some, fallback: fallback.slice(2, 3) }, context)).toMatch(
    /; 2 had to run here \(unknown-flag\)$/,
  );
});

test.each([
  "link",
  "links",
  "rustc-query",
  "query",
  "verbose",
  "preprocess-only",
  "no-c-flag",
  "no-peers",
  "no-steal",
  "slot-free",
])("ordinary work is not what had to run here: %s", (reason) => {
  const plain = summaryText(some, context);
  const fallback = [{ reason, count: 9 }];
  expect(summaryText({ ...some, fallback }, context)).toBe(plain);
  const real = { reason: "remote exit 2", count: 1 };
  expect(summaryText({ ...some, fallback: [...fallback, real] }, context)).toBe(
    `${plain}; 1 had to run here (remote exit 2)`,
  );
});

test("known results are told apart from compiles", () => {
  const cached = { ...none, tasks: 10, cachedLocal: 8, cachedMesh: 2 };
  expect(summaryText(cached, context)).toBe(
    "built in 12.3 s: 10 compiles, 10 known already (2 from peers)",
  );
});

test("a build with links in it counts tasks", () => {
  const kinds = new Map([["link", 1]]);
  expect(summaryText({ ...none, tasks: 1, local: 1 }, { ...context, kinds })).toBe(
    "built in 12.3 s: 1 task, 1 here",
  );
});

test("many peers are not all named", () => {
  const byPeer = Object.fromEntries(Array.from({ length: 9 }, (_, at) => [`n${at}`, 9 - at]));
  expect(summaryText({ ...some, byPeer }, context)).toContain(
    "96 on 9 peers (n0 9, n1 8, n2 7, n3 6, n4 5, 4 others)",
  );
});

test("no task at all is explained, but not when the tool failed or there is no mesh", () => {
  expect(summaryText(none, context)).toBe(
    "built in 12.3 s; no compiler came through the mesh: everything was up to date",
  );
  expect(summaryText(none, { ...context, exitCode: 2 })).toBe(
    "make failed (exit code 2) after 12.3 s",
  );
  expect(summaryText(none, { ...context, meshed: false })).toBe("built in 12.3 s");
});

test.each([
  [0, "0.0 s"],
  [59_949, "59.9 s"],
  [59_990, "1 min 00 s"],
  [125_400, "2 min 05 s"],
  [3_725_000, "1 h 02 min"],
])("%d ms is %s", (wallMs, text) => {
  expect(duration(wallMs)).toBe(text);
});
